"""`astrid watch` tells from the journal alone how a run stands, and leaves when it ends."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from astrid.cli import main
from astrid.config import DataError
from astrid.config.compose import PROJECT_ROOT
from astrid.tracking import Journal
from astrid.tracking.records import Attached, Metrics, Params, RunStarted, encode
from astrid.watch import follow, show_once
from astrid.watch.state import Reader, RunState, newest_run
from astrid.watch.view import ASCII_BLOCKS, BLOCKS, page, sparkline

HOUR_MS = 3_600_000
ASTRID = [sys.executable, "-m", "astrid.cli"]


def begin(run_dir: Path, *, epochs: int = 0, plan: int = 4) -> Journal:
    journal = Journal.create(run_dir, name="unet-d3-f16", experiment="astrid")
    journal.write_params({"training.epochs": str(plan), "training.monitor": "val/auprc"})
    for epoch in range(1, epochs + 1):
        add_epoch(journal, epoch)
    return journal


def add_epoch(journal: Journal, epoch: int) -> None:
    values = {"train/loss": 1 / epoch, "val/loss": 2 / epoch, "val/auprc": 0.25 * epoch}
    speed = {"train/images_per_second": 52.0, "train/seconds": 8.0, "val/seconds": 2.0}
    journal.write_metrics(values | speed, step=epoch)


def console(*, terminal: bool = False) -> tuple[Console, Callable[[], str]]:
    """Return a console and what reads its output, without the codes of a terminal."""
    written = io.StringIO()
    made = Console(file=written, force_terminal=terminal, width=100, _environ={})
    return made, lambda: re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())


def shown(run_dir: Path) -> tuple[int, str]:
    made, text = console()
    return show_once(run_dir, console=made), text()


def dead_process() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process


def test_the_page_shows_progress_curves_load_alerts_and_energy(tmp_path: Path) -> None:
    journal = begin(tmp_path, epochs=3)
    journal.write_metrics(
        {"system/cpu_percent": 97.0, "system/gpu_percent": 88.0, "system/gpu_memory_gib": 5.3}, step=1
    )
    journal.write_metrics({"train/gpu_joules": 100.0, "train/loss": 0.3}, step=4)
    journal.write_tags({"alert.memory": "97 % [bold]used", "host": "here"})
    code, text = shown(tmp_path)
    assert code == 0
    for line in (
        "unet-d3-f16  RUNNING  0:00:0",
        f"process {os.getpid()} on ",
        "epoch 4/4",
        "train/loss               █▃▁▁      0.3      0.3",
        "val/auprc *              ▁▅█       0.75     0.75",
        "CPU 97 %, GPU 88 %, GPU memory 5.3 GiB; 0:00:0",
        "energy of training so far: GPU 100 J",
        "alert memory: 97 % [bold]used",
    ):
        assert re.sub(r" +", " ", line) in re.sub(r" +", " ", text)
    assert "host" not in text.replace(journal.owner.host if journal.owner else "", "")


def test_the_time_left_is_that_of_the_epochs_to_come_less_what_has_passed() -> None:
    state = RunState(params={"training.epochs": "10"})
    assert state.seconds_left(0) is None
    for epoch, seconds in enumerate((100.0, 10.0, 10.0, 10.0), start=1):
        state.take(Metrics({"train/loss": 1.0, "train/seconds": seconds, "val/seconds": 2.0}, epoch, time_ms=HOUR_MS))
    assert state.seconds_left(HOUR_MS) == 6 * 12
    assert state.seconds_left(HOUR_MS + 5000) == 6 * 12 - 5
    assert state.seconds_left(2 * HOUR_MS) == 0


def test_a_resumed_run_is_running_again_with_its_new_plan(tmp_path: Path) -> None:
    begin(tmp_path, epochs=4).write_end("KILLED", reason="stopped by SIGTERM")
    journal = Journal.open(tmp_path)
    journal.attach()
    journal.write_params({"training.epochs": "6"})
    code, text = shown(tmp_path)
    assert code == 0
    assert "RUNNING" in text
    assert "epoch 4/6" in text
    reader = Reader(tmp_path)
    reader.read()
    assert (reader.state.ended_ms, reader.state.reason) == (None, None)


@given(values=st.lists(st.floats(-1e6, 1e6), max_size=200), width=st.integers(1, 60))
def test_a_curve_has_a_character_for_each_value_until_the_width_is_full(values: list[float], width: int) -> None:
    drawn = sparkline(values, width=width)
    assert len(drawn) == min(len(values), width)
    assert set(drawn) <= set(BLOCKS)
    if len(set(values)) > 1 and len(values) <= width:
        assert drawn[values.index(min(values))] == BLOCKS[0]
        assert drawn[values.index(max(values))] == BLOCKS[-1]


def test_a_curve_that_is_too_long_shows_means_and_ends_with_the_last_values() -> None:
    assert sparkline([0, 0, 7, 7, 3, 4], width=3) == "▁█▅"
    assert sparkline([5, 5, 5]) == "▁▁▁"
    assert sparkline([]) == ""
    assert sparkline(range(8), blocks=ASCII_BLOCKS) == "_.-~=+*#"


def test_a_terminal_that_knows_ascii_only_gets_ascii_only(tmp_path: Path) -> None:
    begin(tmp_path, epochs=3)
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    made = Console(file=raw, width=100, _environ={})
    assert show_once(tmp_path, console=made) == 0  # and no UnicodeEncodeError


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [("FINISHED", 0, "finished"), ("FAILED", 1, "failed: out of memory"), ("KILLED", 1, "killed: out of memory")],
)
def test_the_exit_code_says_how_the_run_ended(status: str, code: int, said: str, tmp_path: Path) -> None:
    begin(tmp_path, epochs=1).write_end(status, reason="out of memory")  # type: ignore[arg-type]
    for terminal in (False, True):
        made, text = console(terminal=terminal)
        assert follow(tmp_path, console=made, interval_seconds=0.01) == code
        assert said in text()
    assert shown(tmp_path)[0] == code


def test_without_a_terminal_each_epoch_and_alert_is_one_line_as_it_comes(tmp_path: Path) -> None:
    journal = begin(tmp_path, epochs=2)
    made, text = console()
    codes: list[int] = []
    watching = threading.Thread(
        target=lambda: codes.append(follow(tmp_path, console=made, interval_seconds=0.01)), daemon=True
    )
    watching.start()
    wait_for(lambda: "epoch   2/4" in text())
    add_epoch(journal, 3)
    wait_for(lambda: "epoch   3/4" in text())
    journal.write_tags({"alert.memory": "97 % is in use, more than 90 %; try a smaller data.batch_size" + "!" * 100})
    journal.write_metrics({"system/cpu_percent": 97.0}, step=1)
    journal.write_end("FINISHED")
    watching.join(60)
    assert codes == [0]
    lines = text().splitlines()
    assert lines[0] == "unet-d3-f16"
    assert lines[1] == "epoch   1/4  train/loss 1.0000  val/loss 2.0000  val/auprc 0.2500  52 img/s  10.0 s"
    assert [line.split("  ")[0] for line in lines[2:4]] == ["epoch", "epoch"]
    assert lines[4].startswith("alert memory: 97 %")
    assert lines[5:] == ["finished"]


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_is_gone_without_an_end_is_said(tmp_path: Path) -> None:
    journal = begin(tmp_path, epochs=1)
    assert journal.owner is not None
    gone = Attached(journal.owner.host, dead_process().pid, time.time(), journal.owner.time_ms)
    with journal.path.open("ab") as file:
        file.write(encode(gone))
    for terminal in (False, True):
        made, text = console(terminal=terminal)
        assert follow(tmp_path, console=made, interval_seconds=0.01) == 1
        assert f"process {gone.pid} on {gone.host} is gone and left no word of an end" in text()
        assert f"training.resume={tmp_path}" in text().replace("\n", "")
    code, page_text = shown(tmp_path)
    assert code == 1
    assert "GONE" in page_text


def test_a_process_on_another_host_is_not_said_to_be_gone(tmp_path: Path) -> None:
    journal = begin(tmp_path, epochs=1)
    with journal.path.open("ab") as file:
        file.write(encode(Attached("elsewhere.example", 1, 1.0, 1)))
    code, text = shown(tmp_path)
    assert code == 0
    assert "RUNNING" in text


def test_an_end_written_while_the_process_is_looked_at_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begin(tmp_path)

    def ends_now(owner: Attached) -> bool:
        journal.write_end("FINISHED")
        return False

    monkeypatch.setattr("astrid.watch.state.is_alive", ends_now)
    assert Reader(tmp_path).look()[1] == "FINISHED"


def test_a_line_is_read_when_it_is_whole_and_only_once(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    reader = Reader(tmp_path)
    assert [type(record) for record in reader.read()] == [RunStarted, Attached, Params]
    line = encode(Metrics({"train/loss": 1.0}, 1, 0))
    with journal.path.open("ab", buffering=0) as file:
        file.write(line[:20])
        assert reader.read() == []
        file.write(line[20:])
    assert [reader.read(), reader.read()] == [[Metrics({"train/loss": 1.0}, 1, 0)], []]


def test_a_run_killed_before_its_first_line_has_not_begun(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").touch()
    code, text = shown(tmp_path)
    assert code == 0
    assert "has not begun" in text


def test_a_folder_without_a_journal_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path)]) == 2
    assert "must be the folder of a run that has begun, but journal.jsonl is missing" in capsys.readouterr().err
    assert main(["watch", str(tmp_path), "--interval", "0"]) == 2
    assert "--interval must be above 0" in capsys.readouterr().err


def test_the_run_that_wrote_last_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "outputs/runs"
    runs.mkdir(parents=True)
    with pytest.raises(DataError, match="must hold a run, got none"):
        newest_run(runs)
    for name, age in (("2026-01-01", 0), ("2026-02-02", 100)):
        begin(runs / name).write_end("FINISHED")
        os.utime(runs / name / "journal.jsonl", (time.time() - age, time.time() - age))
    assert newest_run(runs) == runs / "2026-01-01"
    monkeypatch.chdir(tmp_path)
    assert main(["watch", "--once"]) == 0
    assert "2026-01-01" in capsys.readouterr().out


def test_watching_changes_nothing_and_imports_neither_mlflow_nor_torch(tmp_path: Path) -> None:
    begin(tmp_path, epochs=2).write_end("FINISHED")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    code = (
        f"import sys; from astrid.cli import main; code = main(['watch', {str(tmp_path)!r}]);"
        "heavy = {'torch', 'mlflow', 'matplotlib', 'scipy', 'boto3'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_real_run_is_followed_to_its_end_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, 'tests');"
        "from test_watch import add_epoch, begin;"
        f"journal = begin(Path({str(tmp_path)!r}));"
        "[(time.sleep(0.3), add_epoch(journal, epoch)) for epoch in range(1, 5)];"
        "journal.write_end('FINISHED')"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT_ROOT)
    wait_for((tmp_path / "journal.jsonl").exists)
    arguments = [*ASTRID, "watch", str(tmp_path), "--interval", "0.05"]
    done = subprocess.run(arguments, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
    assert run.wait(60) == 0
    assert done.returncode == 0
    assert [line[:11] for line in done.stdout.splitlines()[1:]] == [f"epoch   {n}/4" for n in range(1, 5)] + [
        "finished"
    ]


def test_the_page_of_a_run_that_is_gone_stops_its_clock(tmp_path: Path) -> None:
    journal = begin(tmp_path, epochs=1)
    reader = Reader(tmp_path)
    reader.read()
    made, text = console()
    later = journal.started.time_ms + 5 * HOUR_MS
    for status, clock in (("RUNNING", "5:00:00"), ("GONE", "0:00:0")):
        made.print(page(reader.state, tmp_path, now_ms=later, status=status, console=made))
        assert f"{status}  {clock}" in text()


def test_a_journal_that_never_began_is_refused_and_not_watched_for_ever(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"kind": "met')
    Reader(tmp_path).refuse_what_never_begins()  # it may be about to begin
    os.utime(journal, (time.time() - 60, time.time() - 60))
    with pytest.raises(DataError, match="holds no whole record"):
        follow(tmp_path, console=Console(file=io.StringIO()), interval_seconds=0.1)
