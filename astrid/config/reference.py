"""The reference of every knob, from the schema: `python -m astrid.config.reference > docs/reference.md`."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from omegaconf import MISSING, OmegaConf

from . import Config
from .compose import CHOICES, CONF

INTRODUCTION = """\
# Every knob

Made from the schema in `astrid/config/` by `make reference`. A knob is changed as `python train.py KNOB=VALUE`; a group
takes one of its choices, as `python train.py model=unet_deep`. `python train.py --cfg job` shows what a command line
comes to. `null` is nothing, `auto` is settled when the run starts and stated on it.
"""
HEAD = "| knob | default | meaning |\n| --- | --- | --- |"


@dataclass(frozen=True)
class Knob:
    """One knob: its key, the text of its type, its default as YAML, and what it does."""

    key: str
    kind: str
    default: str
    meaning: str

    def row(self) -> str:
        """Return it as a row of a table."""
        kind = self.kind.replace("|", "\\|")
        return f"| `{self.key}`<br>{kind} | `{self.default}` | {' '.join(self.meaning.split())} |"


def reference() -> str:
    """Return the page, in Markdown."""
    groups = [_group(group.name) for group in fields(Config)]
    return "\n".join([INTRODUCTION, *groups])


def _group(name: str) -> str:
    """Describe a group: the knobs that all its choices share, then those of each."""
    schemas = list(CHOICES.get(name, {"": _type_of(Config, name)}).items())
    files = sorted((CONF / name).glob("*.yaml"))
    lines = [f"## {name}", "", *(f"- `{name}={path.stem}`{_changes(path)}" for path in files), ""]
    shared = {knob.key: knob for knob in knobs(schemas[0][1], name)}
    for _, schema in schemas[1:]:
        own = {knob.key: knob for knob in knobs(schema, name)}
        shared = {key: knob for key, knob in shared.items() if own.get(key) == knob}
    lines += [HEAD, *(knob.row() for knob in shared.values()), ""] if shared else []
    for choice, schema in schemas if len(schemas) > 1 else []:
        own_rows = [knob.row() for knob in knobs(schema, name) if knob.key not in shared]
        lines += [f"### {name}={choice}", "", _first_line(schema), ""]
        lines += [HEAD, *own_rows, ""] if own_rows else []
    return "\n".join(lines)


def _changes(path: Path) -> str:
    """Return what a file of `conf/` changes in its schema."""
    values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    changes = [f"`{key}={json.dumps(value)}`" for key, value in _flat(values) if not key.startswith("hydra.")]
    return f": {', '.join(changes)}" if changes else ""


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif key != "defaults":
            yield f"{prefix}{key}", value


def knobs(schema: type, prefix: str) -> Iterator[Knob]:
    """Yield the knobs of a dataclass by their full keys, those of the dataclasses in it too, as it declares them."""
    said = _said(schema)
    for knob in fields(schema):
        inner = _type_of(schema, knob.name)
        if is_dataclass(inner):
            yield from knobs(inner, f"{prefix}.{knob.name}")
        else:
            kind, meaning = said[knob.name]
            yield Knob(f"{prefix}.{knob.name}", _spelled(schema, knob.name, kind), _default(knob), meaning)


def _type_of(schema: type, name: str) -> type:
    """Return the class of a field, by the default that its factory makes; `object` for a plain value."""
    factory = next(knob.default_factory for knob in fields(schema) if knob.name == name)
    return factory if isinstance(factory, type) and is_dataclass(factory) else object


def _spelled(schema: type, name: str, kind: str) -> str:
    """Return the text of a type, with the choices in place of a name that only the code knows them by."""
    hint = get_type_hints(schema)[name]
    named = kind.isidentifier() and get_origin(hint) is Literal
    return f"Literal[{', '.join(repr(choice) for choice in get_args(hint))}]" if named else kind


def _said(schema: type) -> dict[str, tuple[str, str]]:
    """Return the text of the type and the docstring of each field, those of base classes included."""
    found: dict[str, tuple[str, str]] = {}
    for owner in reversed([base for base in schema.__mro__ if is_dataclass(base)]):
        (declared,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(declared, ast.ClassDef)
        for knob, after in zip(declared.body, [*declared.body[1:], None], strict=True):
            if isinstance(knob, ast.AnnAssign) and isinstance(knob.target, ast.Name):
                inherited = found.get(knob.target.id, ("", ""))[1]
                found[knob.target.id] = (ast.unparse(knob.annotation), _text(after) or inherited)
    return found


def _text(statement: ast.stmt | None) -> str:
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return str(statement.value.value) if is_text else ""  # type: ignore[union-attr]


def _default(knob: Field[Any]) -> str:
    factory = knob.default_factory
    value = factory() if factory is not NO_DEFAULT else knob.default
    if value == MISSING or value is NO_DEFAULT:
        return "required"
    return json.dumps(value.value if isinstance(value, Enum) else value).strip('"') or '""'


def _first_line(schema: type) -> str:
    return (inspect.getdoc(schema) or "").partition("\n\n")[0]


if __name__ == "__main__":
    print(reference(), end="")
