"""The `astrid` command: exit codes, help, and `sync`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mirrored_runs import MLFLOW_WARNINGS

from astrid.cli import COMMANDS, build_parser, main, parse
from astrid.config.compose import PROJECT_ROOT, load
from astrid.config.resume import save_config
from astrid.tracking import Journal

pytestmark = MLFLOW_WARNINGS


@pytest.mark.parametrize("flag", ["-q", "--quiet", "-v", "--verbose"])
def test_loudness_may_be_said_before_the_command_and_behind_it(flag: str) -> None:
    before, behind, unsaid = (parse(words) for words in ([flag, "doctor"], ["doctor", flag], ["doctor"]))
    assert (before.quiet, before.verbose) == (behind.quiet, behind.verbose) == ("q" in flag, "v" in flag)
    assert not (unsaid.quiet or unsaid.verbose)


def test_every_subcommand_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0
        assert f"usage: astrid {name}" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from astrid.cli import build_parser; build_parser();"
        "heavy = {'torch', 'mlflow', 'matplotlib', 'scipy', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_unknown_subcommand_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        build_parser().parse_args(["snyc"])
    assert left.value.code == 2
    assert "snyc" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["a=1", "b=2", "--split", "all"],
        ["--split", "all", "a=1", "b=2"],
        ["a=1", "--split", "all", "b=2"],
    ],
)
def test_overrides_may_stand_on_either_side_of_options(given: list[str]) -> None:
    parsed = parse(["evaluate", "model", *given])
    assert (parsed.model, parsed.overrides, parsed.split) == ("model", ["a=1", "b=2"], "all")


@pytest.mark.parametrize("given", [["plan", "a=1", "--sptil", "all"], ["promote", "3", "4"], ["evaluate", "m", "-x"]])
def test_what_is_no_override_is_refused_still(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(given)
    assert left.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_all_runs_are_those_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "outputs" / "runs" / "mine"
    run.mkdir(parents=True)
    save_config(load(["tracking=off"]), run)
    Journal.create(run, name="unet", experiment="astrid").write_end("FINISHED")
    monkeypatch.chdir(tmp_path)
    assert main(["sync"]) == 0
    assert capsys.readouterr().out == "outputs/runs/mine: not reported anywhere (tracking=off)\n"


def test_a_run_that_is_still_going_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_config(load(), tmp_path)
    Journal.create(tmp_path, name="unet", experiment="astrid")
    assert main(["sync", str(tmp_path)]) == 2
    assert "is still being written" in capsys.readouterr().err


def test_one_run_that_cannot_be_sent_keeps_no_other_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good"
    good.mkdir()
    save_config(load([f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]), good)
    Journal.create(good, name="unet", experiment="astrid").write_end("FINISHED")
    assert main(["sync", str(tmp_path), str(good)]) == 2
    said = capsys.readouterr()
    assert "3 records sent" in said.out
    assert f"{tmp_path}" in said.err
