"""The commands that README, docs and the headers of `conf/` give, found by rule, and what their blocks hold else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from astrid.cli import COMMANDS
from astrid.config.compose import PROJECT_ROOT

PAGES = [PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").glob("*.md"))]
RECIPES = sorted((PROJECT_ROOT / "conf").rglob("*.yaml"))
PROGRAMS = (
    *("python train.py", "astrid", "make", "pip install", "docker compose", "optuna-dashboard"),
    *("cp", "source", "export"),
)
NOT_COMMANDS = {
    "22:52:43 INFO": "what a run prints",
    "astrid/    ": "where things are",
}
"""How those blocks begin that are neither commands nor code."""
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, "" where none is named, and its text."""

    page: str
    language: str
    text: str


def blocks() -> list[Block]:
    """Return every fenced block of all pages."""
    return [Block(page.name, language, text) for page in PAGES for language, text in FENCED.findall(page.read_text())]


def is_command(line: str) -> bool:
    """Tell whether a line begins with a program that the pages use."""
    return line.startswith(tuple(f"{program} " for program in PROGRAMS)) or line in PROGRAMS


def lines_of(text: str) -> list[str]:
    """Return the lines with those joined that a backslash continues, without what follows a #."""
    joined = re.sub(r"\s*\\\n[#\s]*", " ", text)
    return [line for line in (re.sub(r"\s+#\s.*", "", line).strip() for line in joined.splitlines()) if line]


def fenced_commands() -> Iterator[str]:
    """Yield the commands of blocks without a language."""
    for block in blocks():
        if block.language == "":
            yield from filter(is_command, lines_of(block.text))


def inline_commands() -> Iterator[str]:
    """Yield the commands in running text; a name alone, as `astrid quality`, is a mention."""
    for page in PAGES:
        for text in re.findall(r"`([^`\n]+)`", FENCED.sub("", page.read_text())):
            if is_command(text) and not is_mention(text):
                yield text


def is_mention(text: str) -> bool:
    """Tell whether a text names a program or one of its subcommands, with at most an option and no value."""
    return text in PROGRAMS or re.fullmatch(r"astrid \w+( --\w+)?|make", text) is not None


def mentions() -> set[str]:
    """Return what pages call subcommands of `astrid`."""
    return {name for page in PAGES for name in re.findall(r"`astrid (\w+)[ `]", page.read_text())}


def header_commands() -> Iterator[str]:
    """Yield the commands in comments of the recipes."""
    for path in RECIPES:
        comment = "".join(f"{line[1:].lstrip()}\n" for line in path.read_text().splitlines() if line.startswith("#"))
        yield from filter(is_command, lines_of(comment))


def all_commands() -> list[str]:
    """Return each command once."""
    return list(dict.fromkeys([*fenced_commands(), *inline_commands(), *header_commands()]))


def strange_lines() -> list[str]:
    """Return the lines of blocks that nobody knows how to check."""
    return [
        f"{block.page}: {line}"
        for block in blocks()
        if block.language == "" and not block.text.startswith(tuple(NOT_COMMANDS))
        for line in lines_of(block.text)
        if not is_command(line)
    ] + [f"{block.page}: ```{block.language}" for block in blocks() if block.language not in ("", "python", "bash")]


def unknown_mentions() -> set[str]:
    """Return subcommands that pages name and that don't exist."""
    return mentions() - set(COMMANDS)


def code_blocks(language: str) -> list[Block]:
    """Return the blocks of a language."""
    return [block for block in blocks() if block.language == language]
