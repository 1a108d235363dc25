"""What README and docs say works: their commands are accepted, their links lead somewhere."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import pytest

from astrid.cli import parse
from astrid.config.command_line import check_command_line
from astrid.config.compose import PROJECT_ROOT, load
from astrid.config.resume import save_config

PAGES = [PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").glob("*.md"))]


def commands(program: str) -> list[str]:
    """Return what follows the program in every line of the pages' blocks; a backslash goes on in the next line."""
    found: list[str] = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.removeprefix(program).strip() for line in lines if line.startswith(f"{program} ")]
    return list(dict.fromkeys(re.sub(r"\s+#\s.*", "", command) for command in found))


def filled(command: str, run: Path) -> str:
    """Put a run and names of files in place of what stands for the user's own."""
    command = re.sub(r"outputs/(runs|sweeps)/<\w+>", str(run), command)
    for knob in ("data.root", "data.packets"):
        command = command.replace(f"{knob}=DIR", f"{knob}={run}")
    return command.replace("<id or name>", "name").replace("FILE.csv", "fields.csv")


def train_commands() -> list[str]:
    text = (PROJECT_ROOT / "README.md").read_text()
    return [*commands("python train.py"), *re.findall(r'make train ARGS="([^"]*)"', text)]


@pytest.mark.parametrize("command", train_commands())
def test_every_training_command_composes(command: str, tmp_path: Path) -> None:
    save_config(load(), tmp_path)
    combinations = math.prod(
        override.count(",") + 1 for override in command.split() if re.match(r"model.\w+=\d", override)
    )
    assert check_command_line(shlex.split(filled(command, tmp_path))) == combinations


@pytest.mark.parametrize("command", commands("astrid"))
def test_every_astrid_command_parses(command: str, tmp_path: Path) -> None:
    assert callable(parse(shlex.split(filled(command, tmp_path))).call)


def test_there_are_commands_to_check() -> None:
    assert len(train_commands()) >= 30 and len(commands("astrid")) >= 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
