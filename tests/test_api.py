"""Runs started from Python are those of the command line, and one that is awaited leaves the event loop free."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from astrid import api
from astrid.api import CONSOLE, FinishedRun, analyse_energy, train, train_async, watch_epochs
from astrid.config import ConfigError, RunError
from astrid.tracking.journal import FILE_NAME
from astrid.tracking.stored_runs import read_folder

QUICK = ("tracking=off", "energy=off", "metrics=fast", "data.workers=0")


def what_was_learned(run: FinishedRun) -> dict[str, float]:
    timed = ("latency", "throughput", "energy", "seconds", "system", "per_second", "overhead")
    return {name: value for name, value in run.metrics.items() if not any(word in name for word in timed)}


def has_trained(folder: Path) -> bool:
    return (folder / "checkpoints" / "last.pt").exists() and "train/loss" in read_folder(folder).histories


@pytest.mark.slow
def test_a_run_here_and_one_awaited_in_a_process_of_its_own_learn_the_same_bits(
    tiny: list[str], tmp_path: Path
) -> None:
    overrides = [*tiny, *QUICK]
    here = train(overrides, folder=tmp_path / "here")
    awaited = asyncio.run(train_async(overrides, folder=tmp_path / "awaited"))
    assert here.folder == tmp_path / "here" and (here.folder / "config.yaml").is_file()
    assert what_was_learned(here) == what_was_learned(awaited)
    assert "test/auprc" in here.metrics and here.objective == awaited.objective == here.metrics["objective"]
    assert "epoch   2/2" in (awaited.folder / CONSOLE).read_text()


def test_an_event_loop_goes_on_while_a_run_is_awaited_and_cancelling_saves_the_run(
    tiny: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"

    async def cancel_once_it_trains() -> int:
        task = asyncio.create_task(train_async([*tiny, *QUICK, "training.epochs=500"], folder=folder))
        beats = 0
        while not has_trained(folder):
            assert not task.done(), task.exception()
            await asyncio.sleep(0.05)
            beats += 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return beats

    assert asyncio.run(cancel_once_it_trains()) > 10
    done = read_folder(folder)
    assert done.status == "KILLED"
    assert "SIGTERM received: saving, then stopping" in (folder / CONSOLE).read_text()
    begun = max(step for step, _ in done.histories["train/loss"])
    finished = train([f"training.resume={folder}", f"training.epochs={begun + 1}"])
    assert finished.folder == folder
    assert [step for step, _ in read_folder(folder).histories["train/loss"]] == list(range(1, begun + 2))


def test_epochs_are_told_as_they_end(tiny: list[str], tmp_path: Path) -> None:
    async def lengths() -> list[int]:
        task = asyncio.create_task(train_async([*tiny, *QUICK, "training.epochs=3"], folder=tmp_path / "run"))
        told = [history async for history in watch_epochs(task, tmp_path / "run", interval_seconds=0.05)]
        run = await task
        assert told[-1][-1]["val/auprc"] == run.metrics["val/auprc"]
        assert [record["epoch"] for record in told[-1]] == [1, 2, 3]
        return [len(history) for history in told]

    seen = asyncio.run(lengths())
    assert seen == sorted(set(seen)) and len(seen) > 1


@pytest.mark.parametrize("written", [None, b"", b'{"type": "run_st'])
def test_a_run_whose_journal_has_no_line_yet_has_no_epochs(written: bytes | None, tmp_path: Path) -> None:
    if written is not None:
        (tmp_path / FILE_NAME).write_bytes(written)

    async def told() -> list[list[dict[str, float]]]:
        run = asyncio.create_task(asyncio.sleep(0.05, result=FinishedRun(tmp_path, 0.0, {})))
        return [history async for history in watch_epochs(run, tmp_path, interval_seconds=0.01)]

    assert asyncio.run(told()) == []


def test_a_mistake_is_found_before_a_process_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(asyncio, "create_subprocess_exec", lambda *command, **_: started.append(command))
    with pytest.raises(ConfigError, match=r"model\.dpeth"):
        asyncio.run(train_async(["model.dpeth=3"], folder=tmp_path / "run"))
    assert not (tmp_path / "run").exists() and not started


@pytest.mark.parametrize("name", ["a,b", "(a(b)", "a=b", "it's", "{x}", "[1]", "a b", "b\\", "\\'", "$a", "a:b#c", '"'])
def test_a_run_gets_the_folder_that_was_named_whatever_its_name(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    said: list[str] = []

    async def note(arguments: Sequence[str], _: IO[bytes]) -> int:
        said.extend(arguments)
        return 1

    monkeypatch.setattr(api, "_call", note)
    with pytest.raises(RunError):
        asyncio.run(train_async(tiny, folder=tmp_path / name))
    override = OverridesParser.create().parse_override(said[-1])
    assert not override.is_sweep_override() and override.key_or_group == "hydra.run.dir"
    assert str(override.value()) == str(tmp_path / name)


def test_a_folder_that_is_taken_or_cannot_be_said_is_refused_before_a_process_starts(
    tiny: list[str], tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match=r"folder must be a new one, got '.*taken'; give another"):
        asyncio.run(train_async(tiny, folder=tmp_path / "taken"))
    with pytest.raises(ConfigError, match=r"folder must be a path without \$\{"):
        asyncio.run(train_async(tiny, folder=tmp_path / "${oc.env:HOME}"))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_run_that_fails_raises_what_it_said(tiny: list[str], tmp_path: Path) -> None:
    overrides = [*tiny, *QUICK, "optimizer.lr=1e30", "training.precision=fp32"]
    with pytest.raises(RunError, match=r"exit code 1:(.|\n)*loss"):
        asyncio.run(train_async(overrides, folder=tmp_path / "run"))


def test_energy_of_runs_is_ready_for_questions(tiny: list[str], tmp_path: Path) -> None:
    watts = ["energy.cpu_watts=50", "training.epochs=1", "tracking=off", "data.workers=0", "metrics=fast"]
    run = train([*tiny, *watts], folder=tmp_path / "run")
    analyzer = analyse_energy([run.folder])
    (only,) = analyzer.runs
    assert only.total_joules == pytest.approx(50 * only.summary.seconds)
    assert only.summary.seconds >= run.metrics["energy/seconds"] > 0
    assert sum(analyzer.shares(only.name).values()) == pytest.approx(1)
