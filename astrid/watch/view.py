"""How what is known of a run is shown: a page of a terminal, or a line for each thing that happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from astrid.config import LOWER_IS_BETTER
from astrid.config.command import resume_command
from astrid.tracking.records import Metrics, Record, RunStarted, Tags

from .state import RunState, epoch_seconds, is_alert

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
COLOURS = {"RUNNING": "cyan", "FINISHED": "green", "FAILED": "red", "KILLED": "red", "GONE": "red"}
SPARKS = 40
"""Characters of a curve."""
NEWEST_ALERTS = 5


def sparkline(values: Sequence[float], *, width: int = SPARKS, blocks: str = BLOCKS) -> str:
    """Draw a curve from its lowest to its highest value in one line of at most `width` characters.

    Examples
    --------
    >>> sparkline([0, 1, 2, 3, 2, 1, 0])
    '▁▃▆█▆▃▁'
    """
    columns = [_mean(part) for part in _parts(values, min(width, len(values)))]
    low, high = min(columns, default=0.0), max(columns, default=0.0)
    top = len(blocks) - 1
    return "".join(blocks[round(top * (value - low) / (high - low)) if high > low else 0] for value in columns)


def _parts(values: Sequence[float], count: int) -> Iterator[Sequence[float]]:
    for number in range(count):
        yield values[number * len(values) // count : (number + 1) * len(values) // count]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def page(state: RunState, run_dir: Path, *, now_ms: int, status: str, console: Console) -> RenderableType:
    """Return everything that is known; `status` is the run's, or GONE where its process is."""
    parts = [_head(state, run_dir, now_ms=now_ms, status=status), _progress(state, now_ms=now_ms, status=status)]
    parts += [Text(f"alert {alert}", style="yellow") for alert in state.alerts[-NEWEST_ALERTS:]]
    if state.epochs:
        parts.append(_curves(state, blocks=ASCII_BLOCKS if console.options.ascii_only else BLOCKS))
    parts += [Text(line) for line in (system_line(state, now_ms=now_ms), energy_line(state)) if line]
    ending = end_line(state, run_dir, status=status)
    return Group(*parts, *([Text(ending, style=COLOURS[status])] if ending else []))


def _head(state: RunState, run_dir: Path, *, now_ms: int, status: str) -> Text:
    name = state.started.name if state.started is not None else "a run that has not begun"
    seconds = state.seconds_so_far(state.last_sign_ms if status == "GONE" else now_ms)
    text = Text.assemble((name, "bold"), "  ", (status, COLOURS[status]), f"  {_clock(seconds)}")
    where = f"process {state.owner.pid} on {state.owner.host}" if state.owner is not None else "no process yet"
    return text.append(f"\n{run_dir}, {where}")


def _progress(state: RunState, *, now_ms: int, status: str) -> RenderableType:
    done, total = max(state.epochs, default=0), state.epochs_in_all
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=float(total or max(done, 1)), completed=float(done), width=SPARKS)
    left = _left(state, now_ms=now_ms) if status == "RUNNING" else ""
    grid.add_row(f"epoch {done}/{total if total is not None else '?'}", bar, left)
    return grid


def _left(state: RunState, *, now_ms: int) -> str:
    left = state.seconds_left(now_ms)
    if left is None:
        return "first epoch"
    if max(state.epochs) == state.epochs_in_all:
        return "trained; the test fields are next"
    return f"{_clock(left)} of training left"


def _curves(state: RunState, *, blocks: str) -> Table:
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="dim")
    for title, justify in (("metric", "left"), ("by epoch", "left"), ("last", "right"), ("best", "right")):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name in curve_names(state):
        values = state.values(name)
        best = min(values) if name in LOWER_IS_BETTER else max(values)
        mark = " *" if name == state.monitor else ""
        table.add_row(f"{name}{mark}", sparkline(values, blocks=blocks), f"{values[-1]:.4g}", f"{best:.4g}")
    return table


def curve_names(state: RunState) -> list[str]:
    """Return the metrics that have a curve: training loss and speed, and all of validation."""
    names = dict.fromkeys(name for record in state.epochs.values() for name in record.values)
    chosen = ["train/loss", *(name for name in names if name.startswith("val/") and name != "val/seconds")]
    return [*chosen, *(name for name in names if name == "train/images_per_second")]


def system_line(state: RunState, *, now_ms: int) -> str:
    """Say what the last sample of the machine's load showed."""
    if state.system is None:
        return ""
    values = {name.removeprefix("system/"): value for name, value in state.system.values.items()}
    shown = (
        ("cpu_percent", "CPU {:.0f} %"),
        ("memory_percent", "memory {:.0f} %"),
        ("process_memory_gib", "process {:.1f} GiB"),
        ("gpu_percent", "GPU {:.0f} %"),
        ("gpu_memory_gib", "GPU memory {:.1f} GiB"),
        ("watts", "{:.0f} W"),
        ("disk_free_gib", "{:.0f} GiB free"),
        ("disk_written_mib_s", "disk {:.1f} MiB/s"),
        ("network_sent_mib_s", "network {:.1f} MiB/s"),
    )
    age = max(0.0, (now_ms - state.system.time_ms) / 1000)
    parts = [text.format(values[name]) for name, text in shown if name in values]
    return f"{', '.join(parts)}; {_clock(age)} ago"


def energy_line(state: RunState) -> str:
    """Say what the run has used so far."""
    if "energy/total_kwh" in state.others:
        return f"energy {state.others['energy/total_kwh']:.4g} kWh in all"
    if not state.joules:
        return "energy not measured" if state.epochs else ""
    parts = ", ".join(f"{part.upper()} {joules:.0f} J" for part, joules in state.joules.items())
    return f"energy of training so far: {parts}"


def end_line(state: RunState, run_dir: Path, *, status: str) -> str:
    """Say how the run ended; nothing while it goes on."""
    match status:
        case "RUNNING":
            return ""
        case "FINISHED":
            return "finished"
        case "GONE":
            assert state.owner is not None
            lost = f"process {state.owner.pid} on {state.owner.host} is gone and left no word of an end"
            return f"{lost}; go on with: {resume_command(run_dir)}"
    return f"{status.lower()}: {state.reason or 'no reason given'}"


def lines_of(record: Record, state: RunState) -> Iterator[str]:
    """Yield what a record has to say where there is no terminal: the run's name, epochs and alerts."""
    match record:
        case RunStarted(name=name):
            yield name
        case Metrics(values, step) if "train/loss" in values:
            shown = {name: values[name] for name in ("train/loss", "val/loss", state.monitor) if name in values}
            numbers = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
            rate = f"{values['train/images_per_second']:.0f} img/s  " if "train/images_per_second" in values else ""
            yield f"epoch {step:>3}/{state.epochs_in_all or '?'}  {numbers}  {rate}{epoch_seconds(record):.1f} s"
        case Tags(values):
            yield from (f"alert {key.removeprefix('alert.')}: {text}" for key, text in values.items() if is_alert(key))


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
