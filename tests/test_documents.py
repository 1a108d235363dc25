"""What README and docs say is accepted: their commands compose and parse, their links lead somewhere.

`test_page_commands.py` runs them.
"""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import pytest
from page_commands import PAGES, all_commands, strange_lines, unknown_mentions

from astrid.cli import parse
from astrid.config.command_line import check_command_line
from astrid.config.compose import load
from astrid.config.resume import save_config


def commands(program: str) -> list[str]:
    """Return what follows the program in every command of the pages."""
    return [text.removeprefix(program).strip() for text in all_commands() if text.startswith(program)]


def filled(command: str, run: Path) -> str:
    """Put a run and names of files in place of what stands for the user's own."""
    command = re.sub(r"outputs/(runs|sweeps)/<\w+>", str(run), command).replace("KNOB=VALUE", "loss=focal")
    for knob in ("data.root", "data.packets"):
        command = command.replace(f"{knob}=DIR", f"{knob}={run}")
    return command.replace("<id or name>", "name").replace("FILE.csv", "fields.csv")


def train_commands() -> list[str]:
    made = [found[1] for text in all_commands() if (found := re.fullmatch(r'make train ARGS="([^"]*)"', text))]
    return [*commands("python train.py"), *made]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_config(load(), folder)
    return folder


@pytest.mark.parametrize("command", train_commands())
def test_every_training_command_composes(command: str, run: Path) -> None:
    if "hydra/launcher=ray" in command or "--help" in command:
        command = re.sub(r"hydra[/.]launcher\S+|--help", "", command)  # Ray is an extra
    combinations = math.prod(
        override.count(",") + 1 for override in command.split() if re.match(r"model.\w+=\d", override)
    )
    assert check_command_line(shlex.split(filled(command, run))) == combinations


@pytest.mark.parametrize("command", commands("astrid"))
def test_every_astrid_command_parses(command: str, tmp_path: Path) -> None:
    assert callable(parse(shlex.split(filled(command, tmp_path))).call)


def test_every_line_of_a_block_is_a_command_or_known_to_be_none() -> None:
    assert strange_lines() == []
    assert unknown_mentions() == set()
    assert len(train_commands()) >= 50 and len(commands("astrid")) >= 35


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
