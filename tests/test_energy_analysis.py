"""What ledgers tell: shares, joules of an image, energy to reach a metric, fronts, and no advice from noise."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from astrid.cli import main
from astrid.config import ConfigError, DataError, TrackingConfig
from astrid.energy import Component, EnergyAnalyzer, PhaseEnergy, RunEnergy
from astrid.energy.advice import ENOUGH_SAMPLES, recommend
from astrid.energy.figures import energy_figures
from astrid.energy.ledger import Ledger, LedgerContents
from astrid.energy.records import IDLE, Sample
from astrid.energy.tables import RUN_COLUMNS, describe, describe_reached, tables
from astrid.energy_runs import read_run
from astrid.tracking import open_tracker

NO_CPU = Component(None, "unavailable", "none", "no RAPL")


def span(phase: str, epoch: int | None, joules: float | None, seconds: float = 10.0) -> PhaseEnergy:
    gpu = Component(joules, "measured", "NVML", error_joules=10.0) if joules is not None else NO_CPU
    return PhaseEnergy(phase, epoch, seconds, gpu, NO_CPU)


SPANS = (
    span(IDLE, None, 50.0, 2.0),
    span("setup", None, 100.0),
    span("train", 1, 400.0),
    span("validation", 1, 50.0),
    span("other", None, 10.0),
    span("train", 2, 400.0),
    span("validation", 2, 50.0),
    span("test", None, 90.0),
)
"""1100 J, and 50 J of the idle machine before."""


def made(name: str = "a", spans: tuple[PhaseEnergy, ...] = SPANS, scale: float = 1.0, **changes: object) -> RunEnergy:
    """Return a run of two epochs of 80 tiles of 100 pixels, validated on 20."""
    scaled = [span(s.phase, s.epoch, None if s.joules is None else scale * s.joules, s.seconds) for s in spans]
    contents = LedgerContents(
        {(1, number): one for number, one in enumerate(scaled)}, samples=changes.pop("samples", [])
    )  # type: ignore[arg-type]
    known: dict[str, object] = {
        "params": {"data.tile_size": "100", "data.batch_size": "16", "data.workers": "0"},
        "tags": {"data.train_tiles": "80", "data.val_tiles": "20"},
        "metrics": {"test/auprc": 0.8, "train/images_per_second": 8.0},
        "histories": {"train/loss": [(1, 0.5), (2, 0.4)], "val/auprc": [(1, 0.6), (2, 0.8)]},
    }
    return RunEnergy(name, contents, **(known | changes))  # type: ignore[arg-type]


def sample(number: int, *, phase: str = "train", busy: float | None = 60.0, **state: object) -> Sample:
    return Sample(1, 1000.0 + number, phase, 1, gpu_watts=100.0 + number, busy_percent=busy, **state)  # type: ignore[arg-type]


def test_the_total_is_that_of_the_phases_and_their_shares_sum_to_one() -> None:
    analyzer = EnergyAnalyzer([made()])
    assert analyzer.run("a").total_joules == 1100
    assert analyzer.run("a").total_kwh == pytest.approx(1100 / 3.6e6)
    shares = analyzer.shares("a")
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["train"] == pytest.approx(800 / 1100)
    assert IDLE not in shares


def test_an_image_costs_the_energy_of_its_phase_by_the_images_that_were_seen() -> None:
    costs = made().per_image
    assert costs == pytest.approx(
        {
            "energy/train_joules_per_image": 800 / 160,
            "energy/train_joules_per_mpix": 800 / 1.6,
            "energy/inference_joules_per_image": 100 / 40,
            "energy/inference_joules_per_mpix": 100 / 0.4,
        }
    )
    assert made(tags={}).per_image == {}


def test_energy_to_reach_a_metric_holds_all_until_the_epoch_that_showed_it() -> None:
    analyzer = EnergyAnalyzer([made()])
    first, second = (analyzer.to_reach("val/auprc", value)["a"] for value in (0.55, 0.8))
    assert first is not None and second is not None
    assert (first.epoch, first.joules, first.seconds) == (1, 550, 30)
    assert (second.epoch, second.joules) == (2, 1010)
    assert analyzer.to_reach("val/auprc", 0.9) == {"a": None}
    loss = analyzer.to_reach("train/loss", 0.45)["a"]
    assert loss is not None and loss.epoch == 2
    text = describe_reached(analyzer.to_reach("val/auprc", 0.9), "val/auprc", 0.9)
    assert "a: not reached" in text


def test_an_unmeasured_run_is_unavailable_and_has_no_zero_anywhere() -> None:
    analyzer = EnergyAnalyzer([made(spans=tuple(span(s.phase, s.epoch, None) for s in SPANS))])
    assert analyzer.run("a").total_joules is None
    assert analyzer.shares("a") == {} and analyzer.run("a").per_image == {}
    assert "a: energy unavailable" in describe(analyzer, "a")
    assert analyzer.pareto("test/auprc") == []
    reached = analyzer.to_reach("val/auprc", 0.6)["a"]
    assert reached is not None and reached.joules is None
    assert energy_figures(analyzer, "test/auprc", lower=False) == {}
    (row,) = csv.DictReader(io.StringIO(tables(analyzer)["runs.csv"]))
    assert (row["total_joules"], row["gpu_joules"], row["mean_watts"], row["gpu_label"]) == ("", "", "", "unavailable")


def test_the_front_holds_the_runs_that_no_other_beats_in_both() -> None:
    runs = [
        made("cheap", scale=1.0, metrics={"test/auprc": 0.7}),
        made("worse", scale=1.5, metrics={"test/auprc": 0.6}),
        made("good", scale=2.0, metrics={"test/auprc": 0.9}),
        made("dear", scale=3.0, metrics={"test/auprc": 0.9}),
        made("unjudged", scale=0.1, metrics={}),
    ]
    analyzer = EnergyAnalyzer(runs)
    assert [run.name for run in analyzer.pareto("test/auprc")] == ["cheap", "good"]
    assert [run.name for run in analyzer.pareto("test/auprc", lower=True)] == ["cheap", "worse"]


def test_watts_over_time_leave_the_pause_before_a_resume_out() -> None:
    samples = [Sample(1, 1000.0, "setup", None, 50.0), Sample(1, 1002.0, "train", 1, 100.0)]
    samples += [
        Sample(2, 9000.0, "setup", None, 50.0),
        Sample(2, 9001.0, "train", 1, None),
        Sample(2, 9003.0, "train", 1, 90.0, 10.0),
    ]
    analyzer = EnergyAnalyzer([made(samples=samples)])
    assert analyzer.power("a") == [
        (0.0, 50.0, "setup"),
        (2.0, 100.0, "train"),
        (2.0, 50.0, "setup"),
        (5.0, 100.0, "train"),
    ]


def test_efficiency_is_ordered_by_batch_size_and_skips_what_is_unknown() -> None:
    sizes = {"small": "8", "large": "64", "unknown": "auto"}
    params = {name: {"data.tile_size": "100", "data.batch_size": size} for name, size in sizes.items()}
    runs = [made(name, params=params[name], scale=scale) for name, scale in zip(sizes, (2.0, 1.0, 1.0), strict=True)]
    analyzer = EnergyAnalyzer(runs[::-1])
    assert [(one.run, one.batch_size, one.joules_per_image) for one in analyzer.by_batch_size()] == [
        ("small", 8, pytest.approx(10)),
        ("large", 64, pytest.approx(5)),
    ]
    assert {"phases", "batch_size", "pareto"} == set(energy_figures(analyzer, "test/auprc", lower=False))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([sample(n, busy=20.0) for n in range(ENOUGH_SAMPLES)], ["idle for 80 %", "data.workers (now 0)"]),
        ([sample(n, busy=20.0) for n in range(ENOUGH_SAMPLES - 1)], None),
        ([sample(n, busy=20.0, phase="setup") for n in range(100)], None),
        ([sample(n, busy=95.0) for n in range(100)], None),
        ([sample(n, busy=None) for n in range(100)], None),
        ([sample(n, busy=95.0, throttles=("power cap",) if n % 2 else ()) for n in range(60)], ["power cap in 50%"]),
        ([sample(n, busy=95.0, throttles=("temperature (hardware)",)) for n in range(60)], ["cool it better"]),
        ([sample(n, busy=95.0, throttles=("power cap",) if n == 0 else ()) for n in range(60)], None),
    ],
)
def test_advice_needs_samples_that_support_it(samples: list[Sample], words: list[str] | None) -> None:
    advice = recommend(samples, {"train": 0.9, "other": 0.1}, params={"data.workers": "0"})
    assert (words is None) == (advice == [])
    for word in words or ():
        assert word in advice[0]


def test_much_energy_between_the_phases_is_told() -> None:
    shares, enough = {"train": 0.7, "other": 0.3}, [sample(n, busy=95.0) for n in range(ENOUGH_SAMPLES)]
    (advice,) = recommend(enough, shares, params={})
    assert advice.startswith("30% of the energy went between the phases")
    assert recommend(enough[1:], shares, params={}) == []


@pytest.mark.parametrize(
    ("params", "device"), [({"energy.gpus": "all"}, "NVIDIA H100"), ({}, "cpu"), ({"energy.gpus": "all"}, "cpu")]
)
def test_nothing_is_advised_about_gpus_that_the_run_did_not_use(params: dict[str, str], device: str) -> None:
    idle = [sample(n, busy=0.0, throttles=("power cap",)) for n in range(ENOUGH_SAMPLES)]
    assert len(recommend(idle, {}, params={"energy.gpus": "auto"}, device="NVIDIA H100")) == 2
    assert recommend(idle, {}, params=params, device=device) == []


def test_an_epoch_that_goes_on_counts_for_no_image() -> None:
    going_on = (*SPANS[:-1], span("train", 3, 390.0))
    assert made(spans=going_on).per_image == pytest.approx(made().per_image)


def test_energy_to_reach_a_metric_holds_what_a_kill_made_it_do_twice() -> None:
    spans = (span("train", 1, 40.0), span("validation", 1, 10.0), span("train", 1, 50.0), span("validation", 1, 10.0))
    found = EnergyAnalyzer([made(spans=spans)]).to_reach("val/auprc", 0.6)["a"]
    assert found is not None
    assert found.joules == 110.0


def test_carbon_and_cost_are_those_of_the_total_beside_them() -> None:
    factors = {"energy.pue": "1.2", "carbon.grams_per_kwh": "381", "cost.usd_per_kwh": "0.3"}
    run = made(tags=factors, metrics={"carbon/g_co2e": 0.001, "cost/usd": 0.001})
    kwh = 1100 / 3.6e6
    assert run.consequences == pytest.approx({"carbon/g_co2e": kwh * 1.2 * 381, "cost/usd": kwh * 1.2 * 0.3})
    (row,) = csv.DictReader(io.StringIO(tables(EnergyAnalyzer([run]))["runs.csv"]))
    assert float(row["g_co2e"]) == pytest.approx(kwh * 1.2 * 381)
    assert f"{kwh * 1.2 * 381:.3g} gCO2e" in describe(EnergyAnalyzer([run]), "a")
    assert made(tags={"carbon.grams_per_kwh": "unavailable"}).consequences == {}


def test_runs_of_which_other_components_were_measured_are_no_rivals() -> None:
    cpu_only = RunEnergy(
        "cpu",
        LedgerContents({(1, 1): PhaseEnergy("train", 1, 1.0, NO_CPU, Component(65.0, "estimated", "given"))}),
        metrics={"test/auprc": 0.9},
    )
    assert [run.name for run in EnergyAnalyzer([made(), cpu_only]).pareto("test/auprc")] == ["cpu", "a"]


def test_the_tables_hold_runs_phases_and_samples() -> None:
    analyzer = EnergyAnalyzer([made(samples=[sample(1, throttles=("power cap", "power brake")), sample(2)])])
    written = tables(analyzer)
    (run,) = csv.DictReader(io.StringIO(written["runs.csv"]))
    assert tuple(run) == RUN_COLUMNS
    assert (run["total_joules"], run["gpu_label"], run["idle_watts"], run["train_joules_per_image"]) == (
        "1100.0",
        "measured",
        "25.0",
        "5.0",
    )
    phases = {row["phase"]: float(row["joules"]) for row in csv.DictReader(io.StringIO(written["phases.csv"]))}
    assert sum(phases.values()) == 1100
    first, second = csv.DictReader(io.StringIO(written["samples.csv"]))
    assert (first["throttles"], second["throttles"], second["gpu_watts"]) == ("power cap|power brake", "", "102.0")


def write_run(folder: Path, samples: int = 40) -> Path:
    """Write a run folder as a run of two epochs leaves it."""
    params = {"data.tile_size": "100", "data.batch_size": "16"}
    tags = {"data.train_tiles": "80", "data.val_tiles": "20"}
    config = TrackingConfig(backend="off")
    with open_tracker(config, folder, name=folder.name, params=params, tags=tags) as tracker:
        for epoch, score in ((1, 0.6), (2, 0.8)):
            tracker.metrics({"train/loss": 0.5 / epoch, "val/auprc": score}, step=epoch)
        tracker.metrics({"test/auprc": 0.77}, step=2)
    ledger = Ledger(folder / "energy.jsonl")
    for number, one in enumerate(SPANS):
        ledger.finish(number, one)
    for number in range(samples):
        ledger.sample(sample(number, busy=30.0))
    ledger.note("a MIG slice is used, the whole GPU is measured")
    return folder


def test_the_command_tells_what_a_run_folder_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run-a")
    (tmp_path / "csv").mkdir()  # as it is when the command is given again
    code = main(
        [
            "energy",
            str(folder),
            "--reach",
            "val/auprc=0.7",
            "--csv",
            str(tmp_path / "csv"),
            "--figures",
            str(tmp_path / "png"),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0
    for words in (
        "run-a: 1100.0 J = 0.0003056 kWh in 70.0 s",
        "GPU 1100.0 +- 10 J (measured, NVML)",
        "CPU unavailable (no RAPL)",
        "idle machine 25.0 W, measured before, not subtracted",
        "train: image: 5 J",
        "note: a MIG slice is used",
        "try: the GPU was idle for 70 % of training",
        "energy to reach val/auprc = 0.7\n  run-a: 1010.0 J, 60.0 s, epoch 2",
    ):
        assert words in said, said
    assert {path.name for path in (tmp_path / "csv").iterdir()} == {"runs.csv", "phases.csv", "samples.csv"}
    assert {path.name for path in (tmp_path / "png").iterdir()} == {"phases.png", "power.png"}


def test_the_command_compares_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(write_run(tmp_path / name)) for name in ("run-a", "run-b")]
    assert main(["energy", *folders]) == 0
    assert "no other run has both less energy and a better test/auprc than:\n  run-a: 0.77 for 0.0003056 kWh" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "what to compare must be one of"),
        (["{folder}", "--csv", "{folder}/no/such"], "the folder of a file to write must exist"),
        (["{folder}"], "must hold energy.jsonl"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    folder = write_run(tmp_path / "run-a")
    (folder / "energy.jsonl").unlink()
    assert main(["energy", *(argument.format(folder=folder) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_a_ledger_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run-a")
    assert read_run(folder).total_joules == 1100
    (folder / "energy.jsonl").unlink()
    with pytest.raises(DataError, match=r"the folder of run-a must hold energy\.jsonl"):
        read_run(folder)


def test_a_run_that_was_not_analysed_is_refused_by_its_name() -> None:
    analyzer = EnergyAnalyzer([made()])
    for asked in (analyzer.run, analyzer.shares, analyzer.power):
        with pytest.raises(ConfigError, match=rf"an analysed run \({analyzer.runs[0].name}\), got 'nope'"):
            asked("nope")
