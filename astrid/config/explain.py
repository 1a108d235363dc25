"""Turn what Hydra and OmegaConf say about a mistake into one message with the key, the value, the rule and a remedy."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args, get_origin, get_type_hints

Schemas = Mapping[str, Mapping[str, type]]
"""The dataclass behind each choice of each group."""

NOISE = re.compile(
    r"full_key:|object_type=|reference_type=|To append to|Set the env|See https|Config search path|provider="
)
"""Lines that help Hydra's developers and not the user; the hint to append with `+` would hide a mistyped key."""

_OF_TYPES = re.compile("could not be converted to|is not a ListConfig")
"""What OmegaConf says where the type is wrong, which is said in our words."""

PLUGINS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""Extra of the package that brings each launcher."""


def explain(error: BaseException, schemas: Schemas) -> str:
    """Condense an error of Hydra or OmegaConf.

    Parameters
    ----------
    error : BaseException
    schemas : mapping
        The dataclass behind each choice of each group.
    """
    lines = _lines(error)
    text = "\n".join(lines)
    if (launcher := re.search(r"Could not (?:find|load) 'hydra/launcher/(\w+)'", text)) and launcher[1] in PLUGINS:
        rule = f"hydra/launcher={launcher[1]} must be installed, but its plugin isn't"
        return f"{rule}; try pip install -e '.[{PLUGINS[launcher[1]]}]'"
    if choice := re.search(r"Could not find '([\w/]+)/([^'/]+)'", text):
        return _explain_choice(*choice.groups(), options=_options(lines))
    if unknown := re.search(r"Could not override '([^']+)'", text):
        return _explain_owner(unknown.group(1), schemas) or explain_unknown_key(unknown.group(1), known_keys(schemas))
    if value := re.search(r"Error merging override \+*([^=\s]+)=(.*)", text):
        return _explain_value(*value.groups(), reason=lines[-1], schemas=schemas)
    if malformed := re.search(r"Error when parsing index: \d+, string: (.*) out of \[", text):
        written = (
            f"the command line must consist of options and of overrides like group.knob=value, got {malformed[1]!r}"
        )
        return f"{written} ({lines[-1]}); quote what holds brackets, commas or spaces"
    return ": ".join(lines)


def _lines(error: BaseException) -> list[str]:
    lines: list[str] = []
    link: BaseException | None = error
    while link is not None:
        lines += [line.strip() for line in str(link).splitlines() if line.strip() and not NOISE.search(line)]
        link = link.__cause__
    return list(dict.fromkeys(lines))


def _options(lines: Sequence[str]) -> list[str]:
    """Return the names that Hydra lists, one a line, after it says that a choice doesn't exist."""
    starts = [number for number, line in enumerate(lines) if line.startswith("Available options")]
    return [] if not starts else [line for line in lines[starts[0] + 1 :] if re.fullmatch(r"\w+", line)]


def _explain_choice(group: str, name: str, *, options: Sequence[str]) -> str:
    rule = f"one of {', '.join(options)}" if options else f"the name of a file in conf/{group}/"
    close = difflib.get_close_matches(name, options, n=1)
    return f"{group} must be {rule}, got {name!r}; " + (f"did you mean {close[0]}?" if close else "choose one of them")


def _explain_value(key: str, value: str, *, reason: str, schemas: Schemas) -> str:
    found = _find(key, schemas)
    if found is None:
        return f"{key} must be a value, got {value!r} ({reason})"
    kind, default = _kind(*found), _default(found[1])
    if "is not a ListConfig" in reason:
        return f"{key} must be a value {kind}, got {value!r}; put it in brackets and quotes: '{key}=[{value}]'"
    why = "" if _OF_TYPES.search(reason) else f" ({reason})"
    remedy = "" if dataclasses.is_dataclass(default) else f"; its default is {default}"
    return f"{key} must be a value {kind}, got {value!r}{why}{remedy}"


def _find(key: str, schemas: Schemas) -> tuple[type, dataclasses.Field[object]] | None:
    """Return the dataclass that has a knob, be it one within another, and its field."""
    group, *inner, knob = key.split(".")
    owners = list(schemas.get(group, {}).values())
    for part in inner:
        held = [_default(field) for owner in owners for field in dataclasses.fields(owner) if field.name == part]
        owners = [type(value) for value in held if dataclasses.is_dataclass(value)]
    return next(((owner, field) for owner in owners for field in dataclasses.fields(owner) if field.name == knob), None)


def _kind(owner: type, field: dataclasses.Field[object]) -> str:
    """Say what a knob takes: its choices, or else its type as it is declared."""
    hint = get_type_hints(owner)[field.name]
    if get_origin(hint) is Literal:
        return f"that is one of {', '.join(str(choice) for choice in get_args(hint))}"
    return f"of type {field.type}".replace(" | Auto", " or auto")


def _default(field: dataclasses.Field[object]) -> object:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _explain_owner(key: str, schemas: Schemas) -> str | None:
    """Say whose knob it is, where another choice of the group has it."""
    group, *path = key.split(".")
    if not path or _find(key, schemas) is None:
        return None
    owners = [
        f"{group}={name}"
        for name, choice in schemas[group].items()
        if path[0] in {field.name for field in dataclasses.fields(choice)}
    ]
    rule = f"{key} must be a knob of the chosen {group}, but it belongs to {' and '.join(owners)}"
    return f"{rule}; choose {' or '.join(owners)}" if owners else None


def explain_unknown_key(name: str, known: Sequence[str]) -> str:
    """Say that a key doesn't exist and which ones come close, or else which ones its group has."""
    return f"{name} must be a key of the configuration, but there is none of that name; {suggest_keys(name, known)}"


def suggest_keys(name: str, known: Sequence[str]) -> str:
    """Return the keys that may be meant: those that end alike, those that come close, or else those of the group."""
    same = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]]
    if close := same[:3] or difflib.get_close_matches(name, known, n=3):
        return f"did you mean {' or '.join(close)}?"
    group = name.rpartition(".")[0]
    siblings = [key for key in known if key.rpartition(".")[0] == group]
    return f"known there: {', '.join(siblings)}" if siblings else "see --help"


def known_keys(schemas: Schemas) -> list[str]:
    """Return the names of all groups and of all their knobs, as written on the command line."""
    keys = list(schemas)
    for group, choices in schemas.items():
        keys += [key for choice in choices.values() for key in _knobs(choice, group)]
    return list(dict.fromkeys(keys))


def _knobs(schema: type, prefix: str) -> Iterator[str]:
    """Yield the names of all knobs of a dataclass, those of the dataclasses inside too."""
    for knob in dataclasses.fields(schema):
        yield f"{prefix}.{knob.name}"
        default = _default(knob)
        if dataclasses.is_dataclass(default):
            yield from _knobs(type(default), f"{prefix}.{knob.name}")
