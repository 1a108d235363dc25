"""Proposed sizes follow from the data, fit into memory, and leave the run as if its numbers had been typed."""

from __future__ import annotations

import dataclasses
import gc
import json
import mmap
import shlex
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from learners import spots

from astrid.cli import main
from astrid.commands.plan import open_knobs
from astrid.config import Config, ConfigError, FramesData, ModelConfig, SimulatedData, TrainingConfig, settled
from astrid.config.compose import PROJECT_ROOT, load
from astrid.data.fields import Splits
from astrid.data.frames import Field
from astrid.data.store import FieldStore, write_fields
from astrid.experiment import run_experiment
from astrid.learner import build_learner
from astrid.plan import known_reach, proposal, propose, rules, settle, trials
from astrid.plan.memory import DeviceMemory, device_memory, peak_memory, release
from astrid.plan.profile import DataProfile, profile_data
from astrid.plan.trials import Trial, TrialSteps, largest_fitting, saved_bytes, weight_count
from astrid.runtime import prepare_runtime, random_states
from astrid.unet import receptive_field_pixels

MIB = 2**20
PROFILE = DataProfile(
    train_fields=512,
    val_fields=64,
    test_fields=64,
    edge_pixels=256,
    smallest_edge_pixels=256,
    largest_edge_pixels=256,
    channels=3,
    fwhm_pixels=3.2,
    training_pixels=512 * 256**2,
    positive_share=0.0025,
    objects=500,
    extent_pixels=6.0,
)
"""What the default sky looks like."""
CPU = TrainingConfig(device="cpu", threads=1, precision="fp32")


def reach(depth: int) -> int:
    return receptive_field_pixels(ModelConfig(depth=depth))


def depth_for(profile: DataProfile, deepest: int = 6) -> rules.Choice:
    return rules.choose_depth(profile, reach=reach, bounds={"tiles are too small": deepest})


def profiles() -> st.SearchStrategy[DataProfile]:
    return st.builds(
        dataclasses.replace,
        st.just(PROFILE),
        edge_pixels=st.integers(1, 5000),
        extent_pixels=st.floats(1, 2000),
        fwhm_pixels=st.none() | st.floats(0.5, 30),
        training_pixels=st.integers(100, 10**10),
    )


@given(profile=profiles())
def test_a_proposed_tile_and_depth_can_be_configured(profile: DataProfile) -> None:
    depth = depth_for(profile, rules.deepest_for(profile.edge_pixels)).value
    tile = rules.choose_tile(profile, depth=depth, reach_pixels=reach(depth)).value
    assert tile % 2**depth == 0
    assert tile <= max(profile.edge_pixels, rules.SMALLEST_TILE)
    Config(model=ModelConfig(depth=depth), data=FramesData(root="r", manifest="m", tile_size=tile))


@given(tile=st.integers(16, 1024).map(lambda half: 2 * half))
def test_the_deepest_network_of_a_tile_can_be_configured(tile: int) -> None:
    depth = rules.deepest_for(tile, tile=tile)
    Config(model=ModelConfig(depth=depth), data=FramesData(root="r", manifest="m", tile_size=tile))
    assert depth == 1 or tile // 2**depth >= rules.SMALLEST_BOTTLENECK


@given(profile=profiles(), larger=st.floats(0, 500))
def test_larger_objects_never_get_a_shallower_network(profile: DataProfile, larger: float) -> None:
    more = dataclasses.replace(profile, extent_pixels=profile.extent_pixels + larger)
    assert depth_for(more).value >= depth_for(profile).value


def test_the_smallest_depth_that_sees_enough_is_taken() -> None:
    needed = rules.needed_field_pixels(PROFILE)
    assert needed == 2 * (6 + 2 * 5 * 3.2)
    assert reach(2) < needed <= reach(3)
    assert depth_for(PROFILE).value == 3
    assert "76 pixels" in depth_for(PROFILE).reason


def test_a_bound_on_the_depth_is_named() -> None:
    choice = rules.choose_depth(PROFILE, reach=reach, bounds={"fields are too small": 5, "the gap is too small": 2})
    assert choice.value == 2
    assert choice.reason.endswith("a logit sees 47; the gap is too small for more")


def test_an_unknown_psf_is_said_to_be_assumed() -> None:
    assert "unknown, taken as 3.0" in depth_for(dataclasses.replace(PROFILE, fwhm_pixels=None)).reason


@given(pixels=st.integers(100, 10**10), more=st.integers(0, 10**10))
def test_more_pixels_never_get_fewer_filters(pixels: int, more: int) -> None:
    few, many = (dataclasses.replace(PROFILE, training_pixels=count) for count in (pixels, pixels + more))

    def filters(profile: DataProfile) -> int:
        return rules.choose_filters(profile, device="cuda", weights=lambda count: 1900 * count**2).value

    assert filters(few) <= filters(many)


def test_the_default_sky_gets_the_default_sizes_on_a_processor() -> None:
    def weights(filters: int) -> int:
        return weight_count(ModelConfig(filters=filters), channels=3)

    defaults = Config()
    assert depth_for(PROFILE).value == defaults.model.depth
    assert rules.choose_tile(PROFILE, depth=3, reach_pixels=reach(3)).value == defaults.data.tile_size
    assert rules.choose_filters(PROFILE, device="cpu", weights=weights).value == defaults.model.filters
    assert rules.choose_filters(PROFILE, device="cuda", weights=weights).value == 32
    assert rules.most_tiles_a_step(2048, epochs=4, accumulate=1) == defaults.data.batch_size


@given(tiles=st.integers(1, 10**6), epochs=st.integers(1, 100), accumulate=st.integers(1, 8))
def test_the_batch_limit_is_the_last_power_of_two_that_leaves_enough_steps(
    tiles: int, epochs: int, accumulate: int
) -> None:
    limit = rules.most_tiles_a_step(tiles, epochs=epochs, accumulate=accumulate)

    def enough(batch: int) -> bool:
        return rules.steps(tiles, batch=batch, epochs=epochs, accumulate=accumulate) >= rules.ENOUGH_STEPS

    assert limit & (limit - 1) == 0
    assert limit <= tiles
    assert limit <= rules.SMALLEST_BATCH or enough(limit)
    assert 2 * limit > tiles or not enough(2 * limit)


@given(fitting=st.integers(1, 5000), power=st.integers(0, 12), careful=st.booleans())
def test_exactly_the_largest_power_of_two_that_fits_is_found(fitting: int, power: int, careful: bool) -> None:
    def attempt(batch: int) -> Trial:
        if batch > fitting:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return Trial(batch, 10 * batch, 0.1, batch)

    fitted = largest_fitting(attempt, limit=2**power, budget_bytes=10 * fitting, careful=careful)
    assert fitted[-1].batch == min(2**power, 2 ** (fitting.bit_length() - 1))


@given(fixed=st.integers(0, 10**6), each=st.integers(1, 10**5), budget=st.integers(1, 10**8))
def test_a_careful_search_takes_no_step_beyond_the_budget_but_the_first(fixed: int, each: int, budget: int) -> None:
    tried: list[int] = []

    def attempt(batch: int) -> Trial:
        tried.append(fixed + each * batch)
        return Trial(batch, tried[-1], 0.1, batch)

    fitted = largest_fitting(attempt, limit=1024, budget_bytes=budget, careful=True)
    assert all(peak <= budget for peak in tried[1:])
    richer = largest_fitting(attempt, limit=1024, budget_bytes=2 * budget, careful=True)
    assert len(richer) >= len(fitted)


def test_an_error_that_is_not_about_memory_is_not_taken_for_one() -> None:
    def attempt(batch: int) -> Trial:
        raise RuntimeError("shapes don't match")

    with pytest.raises(RuntimeError, match="shapes"):
        largest_fitting(attempt, limit=4, budget_bytes=MIB, careful=False)


def test_a_batch_that_was_given_is_tried_itself() -> None:
    def attempt(batch: int) -> Trial:
        return Trial(batch, batch, 0.1, batch)

    tried = largest_fitting(attempt, limit=6, budget_bytes=MIB, careful=True)
    assert [trial.batch for trial in tried] == [1, 2, 4, 6]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """Three fields of 48 pixels with squares of 4."""
    store = spots(tmp_path_factory.mktemp("spots") / "store")
    return Splits(store, store, store, fingerprint="spots", description="spots")


def open_config(**model: Any) -> Config:
    open_sizes = ModelConfig(**{"depth": "auto", "filters": "auto"} | model)
    return Config(model=open_sizes, data=SimulatedData(tile_size=48, batch_size="auto"), training=CPU)


def test_the_profile_measures_what_is_there(tmp_path: Path) -> None:
    target = np.zeros((40, 60), bool)
    target[3:5, 3:9] = target[5, 9] = True  # a box of 2×6 and a corner: one object of 3×7
    target[20:22, 20:22] = True
    target[30, 30] = True
    valid = np.ones_like(target)
    valid[30] = False  # hides the third
    field = Field("f", np.zeros((2, 40, 60), np.float32), target, valid, fwhm_pixels=2.5)
    write_fields(tmp_path / "store", [field])
    store = FieldStore(tmp_path / "store")
    profile = profile_data(Splits(store, store, store, fingerprint="", description=""))
    assert (profile.edge_pixels, profile.smallest_edge_pixels, profile.largest_edge_pixels) == (40, 40, 60)
    assert (profile.channels, profile.fwhm_pixels, profile.objects) == (2, 2.5, 2)
    assert profile.extent_pixels == pytest.approx(np.percentile([7, 2], 95))
    assert profile.training_pixels == 39 * 60
    assert profile.positive_share == 17 / (39 * 60)


def test_a_proposal_is_a_configuration_without_anything_open(splits: Splits) -> None:
    plan = propose(open_config(), runtime=prepare_runtime(CPU), splits=splits, tile_too=True)
    assert set(plan.choices) == {"data.tile_size", "model.depth", "model.filters", "data.batch_size"}
    assert proposal.open_knobs(plan.config) == []
    assert plan.config.data.tile_size == plan.choices["data.tile_size"].value <= 48
    assert [trial.batch for trial in plan.trials] == [1, 2, 4]
    assert plan.epoch_seconds is not None and plan.epoch_seconds > 0
    for choice in plan.choices.values():
        assert any(letter.isdigit() for letter in choice.reason)


def test_a_depth_that_is_given_stays(splits: Splits) -> None:
    config = settle(open_config(depth=2), prepare_runtime(CPU), splits)
    assert config.model.depth == 2
    assert isinstance(config.model.filters, int)
    assert load(["model=auto", "model.depth=2"]).model == ModelConfig(depth=2, filters="auto")


def test_a_configuration_with_nothing_open_is_not_touched(monkeypatch: pytest.MonkeyPatch, splits: Splits) -> None:
    monkeypatch.setattr(proposal, "propose", lambda *args, **kwargs: pytest.fail("planned"))
    config = Config()
    assert settle(config, prepare_runtime(CPU), splits) is config


def with_memory(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """Let the device have this much memory, of which nothing is held."""
    monkeypatch.setattr(
        proposal, "device_memory", lambda runtime, sharers: DeviceMemory("cuda", "toy", free_bytes, held_bytes=0)
    )


def with_steps(monkeypatch: pytest.MonkeyPatch, each_filter: int) -> None:
    """Let a step take so many bytes for each filter of each tile."""

    def tried(self: TrialSteps, batch: int) -> Trial:
        return Trial(batch, each_filter * settled("model.filters", self.config.model.filters) * batch, 0.1, batch)

    monkeypatch.setattr(TrialSteps, "__call__", tried)


def test_filters_are_halved_until_a_batch_fits(monkeypatch: pytest.MonkeyPatch, splits: Splits) -> None:
    with_memory(monkeypatch, 1000)
    with_steps(monkeypatch, each_filter=50)
    monkeypatch.setattr(rules, "choose_filters", lambda *args, **kwargs: rules.Choice(32, "32 by rule"))
    plan = propose(open_config(), runtime=prepare_runtime(CPU), splits=splits)
    assert plan.config.model.filters == 8
    assert plan.config.data.batch_size == 2
    assert plan.choices["model.filters"].reason.endswith("32 by rule")
    assert "takes more than" in plan.choices["model.filters"].reason


def test_what_never_fits_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, splits: Splits) -> None:
    with_memory(monkeypatch, 0)
    with_steps(monkeypatch, each_filter=50)
    rule = r"data\.batch_size must fit into 0 MiB .*, but 1 with model\.depth=1, model\.filters=8 and .*; try smaller"
    with pytest.raises(ConfigError, match=rule):
        propose(open_config(depth=1), runtime=prepare_runtime(CPU), splits=splits)


def test_a_processor_is_spared_the_step_that_its_memory_cannot_hold(splits: Splits) -> None:
    runtime = prepare_runtime(CPU)
    device = DeviceMemory("cpu", "toy", free_bytes=MIB // 2, held_bytes=0)
    config = dataclasses.replace(open_config(depth=1, filters=8), data=SimulatedData(tile_size=48))
    with pytest.raises(MemoryError, match="bytes"):
        TrialSteps(config, runtime=runtime, splits=splits, device=device)(1)
    assert TrialSteps(config, runtime=runtime, splits=splits, device=device_memory(runtime))(1).images == 1


def test_the_arithmetic_of_activations_counts_every_pixel_of_a_larger_batch(splits: Splits) -> None:
    runtime = prepare_runtime(CPU)
    config = dataclasses.replace(open_config(depth=2, filters=8), data=SimulatedData(tile_size=48))
    attempt = TrialSteps(config, runtime=runtime, splits=splits, device=device_memory(runtime))
    learner = build_learner(config, runtime, splits)
    one, three = (saved_bytes(learner, torch.zeros(count, 1, 48, 48)) for count in (1, 3))
    assert attempt._needed_bytes(3) - attempt._needed_bytes(1) == pytest.approx(
        trials.WITH_GRADIENTS * (three - one), rel=0.01
    )
    assert three - one > 2 * 48**2 * 4 * 8  # a map of the first level for each further tile, at least


def test_memory_that_is_used_again_does_not_look_free(splits: Splits) -> None:
    runtime = prepare_runtime(CPU)
    held = device_memory(runtime).held_bytes
    full = DeviceMemory("cpu", "toy", free_bytes=1000 * MIB, held_bytes=10 * held)  # nothing new will be taken
    config = dataclasses.replace(open_config(depth=1, filters=8), data=SimulatedData(tile_size=48))
    attempt = TrialSteps(config, runtime=runtime, splits=splits, device=full)
    assert 0 < attempt(1).peak_bytes < attempt(2).peak_bytes


def test_the_peak_of_the_resident_set_is_seen() -> None:
    runtime = prepare_runtime(CPU)
    held = device_memory(runtime).held_bytes
    with peak_memory(runtime) as peak:
        for _ in range(30):
            with mmap.mmap(-1, 64 * MIB) as fresh:  # pages that no allocator had before
                fresh.write(bytes(64 * MIB))
    assert 60 * MIB < peak.bytes - held < 300 * MIB


def test_trial_steps_leave_every_random_generator_as_it_was(splits: Splits) -> None:
    runtime = prepare_runtime(CPU)
    before = random_states()
    settle(open_config(dropout=0.2), runtime, splits)
    after = random_states()
    assert torch.equal(before["torch"], after["torch"])
    assert before["python"] == after["python"]
    assert torch.equal(before["numpy"]["state"]["key"], after["numpy"]["state"]["key"])


def test_a_trial_keeps_nothing(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[torch.nn.Module]] = []

    def build(*arguments: Any) -> Any:
        learner = build_learner(*arguments)
        kept.append(weakref.ref(learner.model))
        return learner

    monkeypatch.setattr(trials, "build_learner", build)
    config, runtime = Config(data=SimulatedData(tile_size=48), training=CPU), prepare_runtime(CPU)
    with_collector = gc.isenabled()
    gc.disable()
    try:
        TrialSteps(config, runtime=runtime, splits=splits, device=device_memory(runtime))(2)
        assert len(kept) == 2  # one for the arithmetic, one for the steps
        assert all(model() is None for model in kept)
    finally:
        if with_collector:
            gc.enable()


def test_what_is_open_has_the_smallest_reach_and_no_number() -> None:
    config = ModelConfig(depth="auto")
    assert known_reach(config) == receptive_field_pixels(ModelConfig(depth=1))
    assert known_reach(ModelConfig()) == receptive_field_pixels(ModelConfig())
    with pytest.raises(ConfigError, match=r"model\.depth must be a number here, got 'auto'"):
        receptive_field_pixels(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_size=0", r"data\.batch_size must be at least 1, got 0"),
        ("data.batch_size=automatic", r"data\.batch_size must be a value of type int or auto, got 'automatic'"),
        ("model.depth=7", r"model\.depth must be from 1 to 6, got 7"),
        ("model.filters=2", r"model\.filters must be from 4 to 128, got 2"),
    ],
)
def test_a_wrong_size_is_refused_with_one_message(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([override])


def test_sections_limit_the_depth_by_their_gap(sample_data: Path) -> None:
    config = load(["experiment=hrc_cosmic_rays"])
    assert isinstance(config.data, FramesData)
    assert proposal.keeps_apart(config.data, reach(3))
    assert not proposal.keeps_apart(config.data, reach(4))


OPEN = ("model=auto", "data.batch_size=auto", "training.epochs=1", "schedule.warmup_epochs=0", "tracking=off")


@pytest.fixture(scope="module")
def planned(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run that chose its own sizes."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    run_experiment(load([*tiny, *OPEN]), run_dir=run_dir)
    return run_dir


def sizes(run_dir: Path) -> dict[str, int]:
    saved = yaml.safe_load((run_dir / "config.yaml").read_text())
    return {
        "model.depth": saved["model"]["depth"],
        "model.filters": saved["model"]["filters"],
        "data.batch_size": saved["data"]["batch_size"],
    }


def test_a_run_keeps_numbers_everywhere(planned: Path) -> None:
    assert all(type(value) is int for value in sizes(planned).values())
    records = [json.loads(line) for line in (planned / "journal.jsonl").read_text().splitlines()]
    params = next(record["values"] for record in records if record["kind"] == "params")
    for key, value in sizes(planned).items():
        assert params[key] == str(value)


def history(run_dir: Path) -> list[dict[str, float]]:
    saved = torch.load(run_dir / "checkpoints/last.pt", weights_only=True)["progress"]["history"]
    timed = ("seconds", "images_per_second", "joules")
    return [{name: value for name, value in epoch.items() if not name.endswith(timed)} for epoch in saved]


def test_a_planned_run_is_the_run_of_its_numbers(planned: Path, tiny: list[str], tmp_path: Path) -> None:
    numbers = [f"{key}={value}" for key, value in sizes(planned).items()]
    run_experiment(load([*tiny, *OPEN, *numbers]), run_dir=tmp_path / "run")
    assert history(planned) == history(tmp_path / "run")
    assert "train/loss" in history(planned)[0]


def test_a_resumed_run_does_not_plan_again(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposal, "propose", lambda *args, **kwargs: pytest.fail("planned again"))
    before = sizes(planned)
    run_experiment(load([f"training.resume={planned}", "training.epochs=2"]), run_dir=planned)
    assert sizes(planned) == before
    assert [epoch["epoch"] for epoch in history(planned)] == [1, 2]


def test_the_command_prints_a_command_that_can_run(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    small = [override for override in tiny if not override.startswith(("model", "data.tile", "data.batch"))]
    assert main(["plan", *small]) == 0
    said = capsys.readouterr().out
    assert "8 training, 2 validation and 2 test fields of 128 pixels and 3 channels" in said
    python, script, *overrides = shlex.split(said.splitlines()[-1])
    assert (python, script) == ("python", "train.py")
    config = load(overrides)
    assert proposal.open_knobs(config) == []
    assert config.data.tile_size in (64, 128)


def test_the_command_writes_json_and_keeps_what_is_given(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *tiny, "--format", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["choices"] == {}  # a named network, a tile and a batch are given
    assert plan["trials"][-1]["batch"] == 4
    assert plan["data"]["train_fields"] == 8
    assert "model.depth" not in plan["command"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ["data.tile_size", "model.depth", "model.filters", "data.batch_size"]),
        (["model=unet_deep"], ["data.tile_size", "data.batch_size"]),
        (["model=auto", "model.depth=2"], ["data.tile_size", "model.filters", "data.batch_size"]),
        (["model=unet", "model.depth=auto", "data.batch_size=8"], ["data.tile_size", "model.depth"]),
    ],
)
def test_what_the_user_gives_is_not_planned(overrides: list[str], expected: list[str]) -> None:
    assert open_knobs(overrides) == expected


@pytest.mark.slow
def test_train_py_and_a_sweep_choose_for_themselves(tiny: list[str], tmp_path: Path) -> None:
    train = [sys.executable, str(PROJECT_ROOT / "train.py")]
    done = subprocess.run([*train, *tiny, *OPEN], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs/runs").iterdir()
    assert f"data.batch_size={sizes(folder)['data.batch_size']}: a step takes" in done.stdout
    swept = [*tiny, *OPEN[1:], "-m", "model.filters=4,8"]
    done = subprocess.run([*train, *swept], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    saved = [sizes(path.parent) for path in sorted((tmp_path / "outputs/sweeps").rglob("config.yaml"))]
    assert [trial["model.filters"] for trial in saved] == [4, 8]
    assert all(type(trial["data.batch_size"]) is int for trial in saved)


@pytest.mark.gpu
def test_a_gpu_is_filled_to_its_limit_and_left_empty(splits: Splits) -> None:
    runtime = prepare_runtime(TrainingConfig(device="cuda"))
    config = dataclasses.replace(open_config(depth=1, filters=64), training=TrainingConfig(device="cuda"))
    held = torch.cuda.memory_allocated()
    device = dataclasses.replace(device_memory(runtime), free_bytes=200 * MIB)
    attempt = TrialSteps(config, runtime=runtime, splits=splits, device=device)
    fitted = largest_fitting(attempt, limit=2, budget_bytes=device.budget_bytes, careful=False)
    assert all(0 < trial.peak_bytes <= device.budget_bytes for trial in fitted)
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        assert largest_fitting(attempt, limit=2, budget_bytes=device.budget_bytes, careful=False) == []
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    release(runtime)
    assert torch.cuda.memory_allocated() == held
    assert torch.cuda.max_memory_allocated() == held
