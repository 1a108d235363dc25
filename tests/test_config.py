"""Every mistake in a configuration is refused before the first step, by a message that says how to mend it."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import itertools
import re
import shlex
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from astrid.checkpoint import CHECKPOINTS, LAST
from astrid.config import PIXEL_FAMILIES, Config, ConfigError, FramesData, SGDConfig, SimulatedData
from astrid.config.checks import Stopped
from astrid.config.command import resume_command
from astrid.config.command_line import check_command_line, one_message
from astrid.config.compose import CHOICES, PROJECT_ROOT, load, run_folder
from astrid.config.explain import explain
from astrid.config.resume import load_config, resumed, save_config

CONF = PROJECT_ROOT / "conf"

WRONG = [
    ("model.dpeth=3", r"model\.dpeth must be a key .* did you mean model\.depth"),
    ("+model.dpeth=3", r"model\.dpeth must be a key .* did you mean model\.depth"),
    ("++optimizer.nesterov=true", r"optimizer\.nesterov must be a key"),
    ("+foo=1", r"foo must be a key"),
    ("foo=1", r"foo must be a key"),
    ("epochs=3", r"epochs must be a key .* did you mean training\.epochs"),
    ("training.epochs=two", r"training\.epochs must be a value of type int, got 'two'; its default is 4$"),
    ("data.transient_snr=5", r"data\.transient_snr .*; put it in brackets and quotes: 'data\.transient_snr=\[5\]'$"),
    ("model=unett", r"model must be one of auto, unet, unet_deep, .* got 'unett'; did you mean unet\?"),
    ("modle=unet", r"modle"),
    ("experiment=nothing", r"experiment must be .* got 'nothing'"),
    (
        "data.preprocess.register=wcs",
        r"but it belongs to data=frames and data=injected; choose data=frames or data=injected",
    ),
    ("model.depth=deep", r"model\.depth must be a value of type int or auto, got 'deep' .*; its default is 3"),
    (
        "metrics.operating_point=best",
        r"metrics\.operating_point must be a value that is one of f1, fpr, purity, false_per_mpix, got 'best' ",
    ),
    ("model.depth=0", r"model\.depth must be from 1 to 6, got 0; try model\.depth=3"),
    ("model.norm=layer", r"model\.norm.*layer"),
    ("training.epochs=2.5", r"training\.epochs.*2\.5"),
    (
        "data.tile_size=100",
        r"data\.tile_size must be a multiple of 2\*\*model\.depth = 8 .* got 100; try data\.tile_size=96",
    ),
    ("data=frames", r"data\.(root|manifest) must be given"),
    ("data=injected", r"data\.(root|manifest) must be given"),
    ("data=alerts", r"data\.packets must be given"),
    ("training.monitor=val/accuraccy", r"training\.monitor must be one of"),
    ("schedule.warmup_epochs=50", r"schedule\.warmup_epochs must be at most training\.epochs = 4"),
    ("data.transient_snr=[40,3]", r"data\.transient_snr must be \[low, high\]"),
    ("tracking.uri=", r"tracking\.uri must be not empty"),
    ("tracking.uri=sqlite:///", r"tracking\.uri must be sqlite:/// and the path of a file"),
    ("tracking.uri=http://", r"tracking\.uri must be a URI that names a host"),
    ("foo", r"overrides like group\.knob=value, got 'foo'"),
    (
        "hydra.run.dir=/dev/null/run",
        r"hydra\.run\.dir must be a folder that can be written, got /dev/null/run; /dev/null",
    ),
    ("model.depth=", r"model\.depth"),
    ("optimizer.lr=inf", r"optimizer\.lr must be a finite number, got inf"),
    ("optimizer.betas=[0.9,nan]", r"optimizer\.betas"),
    ("model.depth=[", r"got 'model\.depth=\['.*; quote what holds brackets"),
    ("=3", r"=3 must have a key"),
    ("loss.gamma=2", r"loss\.gamma must be a knob of the chosen loss, but it belongs to loss=focal; choose loss=focal"),
    ("training.seed=99999999999999999999999", r"training\.seed"),
    ("experiment=null", r"experiment must be the name of a choice, got None"),
    ("model=null", r"model must be the name of a choice, got None"),
    ("data.cache=", r"data\.cache must be the name of a folder"),
    ("metrics.pixel_families=[ranking,rank]", r"metrics\.pixel_families must be a list from ranking, .* got .*'rank'"),
    ("metrics.calibration=platt", r"metrics\.calibration.*platt"),
    ("metrics.operating_point=tpr", r"metrics\.operating_point.*tpr"),
    (
        "metrics.operating_point=fpr",
        r"metrics\.operating_target must be above 0 and at most 1 when metrics\.operating_point=fpr, got None; try",
    ),
    ("metrics.logit_limit=inf", r"metrics\.logit_limit must be positive and finite, got inf"),
    ("metrics.match_radius_fwhm=nan", r"metrics\.match_radius_fwhm must be positive and finite, got nan"),
    ("metrics.operating_target=0.1", r"metrics\.operating_target must be null when metrics\.operating_point=f1"),
    ("model=3", r"model must be the name of a choice, got 3"),
]


def test_a_knob_within_a_knob_names_its_choices() -> None:
    frames = ["data=frames", "data.root=.", "data.manifest=m.csv"]
    rule = r"data\.preprocess\.register must be a value that is one of none, wcs, stars, got 'stras'.*default is none"
    with pytest.raises(ConfigError, match=rule):
        load([*frames, "data.preprocess.register=stras"])


@pytest.mark.parametrize(("override", "message"), WRONG, ids=[override for override, _ in WRONG])
def test_a_mistake_is_refused_with_one_message(override: str, message: str) -> None:
    with pytest.raises((ConfigError, HydraException)) as caught:
        check_command_line([override])
    said = str(caught.value) if isinstance(caught.value, ConfigError) else explain(caught.value, CHOICES)
    assert re.search(message, said), said
    assert "Traceback" not in said
    assert "To append to your config" not in said


def test_the_defaults_are_those_of_the_schema() -> None:
    assert load() == Config()


def test_a_group_and_a_knob_can_be_chosen_together() -> None:
    config = load(["model=unet_deep", "data.batch_size=16", "optimizer=sgd", "optimizer.nesterov=true"])
    assert config.model.depth == 5
    assert config.data.batch_size == 16
    assert isinstance(config.optimizer, SGDConfig)
    assert config.optimizer.nesterov


@pytest.mark.parametrize(
    "override",
    [
        f"{path.parent.name}={path.stem}"
        for path in sorted(CONF.glob("*/*.yaml"))
        if path.parent.name not in ("experiment", "sweep") and path.stem not in ("frames", "alerts", "injected")
    ],
)
def test_every_named_choice_composes(override: str) -> None:
    group, _, name = override.partition("=")
    chosen = type(getattr(load([override]), group))
    assert chosen is CHOICES[group].get(name, next(iter(CHOICES[group].values())))


@pytest.mark.parametrize("recipe", [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))])
def test_every_recipe_composes(recipe: str) -> None:
    assert load([f"experiment={recipe}"]) != load()


def test_every_choice_of_the_schema_has_its_file() -> None:
    for group, choices in CHOICES.items():
        for name in choices:
            assert (CONF / group / f"{name}.yaml").is_file(), f"conf/{group}/{name}.yaml"


def all_knobs() -> set[str]:
    schemas = {schema for choices in CHOICES.values() for schema in choices.values()}
    return {field.name for schema in schemas for field in dataclasses.fields(schema)}


@pytest.mark.parametrize("knob", sorted(all_knobs()))
def test_every_knob_is_read_somewhere(knob: str) -> None:
    code = "\n".join(
        path.read_text() for path in (PROJECT_ROOT / "astrid").rglob("*.py") if path.parent.name != "config"
    )
    assert re.search(rf"\.{knob}\b", code), f"nothing reads {knob}"


@pytest.mark.parametrize(
    ("kind", "target", "allowed"),
    [
        ("fpr", "1e-3", True),
        ("fpr", "0", False),
        ("fpr", "1.5", False),
        ("purity", "0.9", True),
        ("purity", "90", False),
        ("false_per_mpix", "25", True),
        ("false_per_mpix", "-1", False),
        ("false_per_mpix", "inf", False),
        ("f1", "null", True),
    ],
)
def test_a_target_must_fit_its_operating_point(kind: str, target: str, allowed: bool) -> None:
    overrides = [f"metrics.operating_point={kind}", f"metrics.operating_target={target}"]
    if allowed:
        assert load(overrides).metrics.operating_point == kind
        return
    with pytest.raises(
        ConfigError, match=rf"metrics\.operating_target must be .* when metrics\.operating_point={kind}"
    ):
        load(overrides)


def test_the_three_choices_of_metrics_compute_ever_more() -> None:
    fast, standard, full = (
        set(load([f"metrics={name}"]).metrics.pixel_families) for name in ("fast", "standard", "full")
    )
    assert fast < standard < full == set(PIXEL_FAMILIES)


def test_every_combination_of_a_multirun_is_checked_before_the_first_runs() -> None:
    with pytest.raises(ConfigError, match=r"model\.depth must be from 1 to 6, got 0"):
        check_command_line(["-m", "model.depth=3,0,2", "model.filters=8,16"])
    check_command_line(["-m", "model.depth=2,3", "model.filters=8,16"])


def test_a_pair_that_contradicts_itself_only_in_one_combination_is_found() -> None:
    with pytest.raises(ConfigError, match=r"data\.tile_size must be a multiple of 2\*\*model\.depth = 64"):
        check_command_line(["-m", "model.depth=2,6", "data.tile_size=96"])


def test_an_interval_in_a_plain_multirun_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be a list of values"):
        check_command_line(["-m", "optimizer.lr=interval(0.001,0.01)"])


def test_help_and_shell_completion_pass_through() -> None:
    for arguments in (["--help"], ["--hydra-help"], ["--info", "searchpath"]):
        assert check_command_line([*arguments, "model.depth=0"]) == 0  # not composed, so not refused


@pytest.mark.parametrize(
    "overrides",
    [[], ["optimizer=sgd", "schedule=plateau", "loss=tversky"], ["data=frames", "data.root=a", "data.manifest=b.csv"]],
)
def test_a_saved_configuration_comes_back_equal(tmp_path: Path, overrides: list[str]) -> None:
    config = load(overrides)
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config


def saved_run(folder: Path, *overrides: str) -> Path:
    save_config(load(overrides), folder)
    return folder


def test_resuming_takes_the_saved_configuration_and_the_allowed_changes(tmp_path: Path) -> None:
    run = saved_run(tmp_path, "model=unet_small", "training.epochs=4")
    config = load([f"training.resume={run}", "training.epochs=8", "data.workers=2", "tracking=off"])
    assert config.model == load(["model=unet_small"]).model
    assert (config.training.epochs, config.data.workers, config.tracking.backend) == (8, 2, "off")
    assert load([f"training.resume={run}"]).training.epochs == 4


@pytest.mark.parametrize("change", ["model.depth=2", "model=unet_deep", "data.batch_size=8", "optimizer.lr=1e-4"])
def test_resuming_refuses_any_other_change(tmp_path: Path, change: str) -> None:
    run = saved_run(tmp_path)
    with pytest.raises(ConfigError, match="must stay as it was when a run is resumed"):
        load([f"training.resume={run}", change])


def test_resuming_lets_only_epochs_device_workers_budgets_and_tracking_change(tmp_path: Path) -> None:
    config = load([f"training.resume={saved_run(tmp_path)}"])
    allowed = {"training.epochs", "training.device", "training.resume", "data.workers", "data.prepare_workers"}
    allowed |= {"energy.budget_kwh", "energy.budget_g_co2e", "energy.budget_usd"}
    knobs = [(group, knob) for group in CHOICES for knob in dataclasses.fields(getattr(config, group))]
    resumed(config, [f"{group}.{knob.name}=as it was" for group, knob in knobs])
    for group, knob in knobs:
        key = f"{group}.{knob.name}"
        if group == "tracking" or key in allowed:
            continue
        other = copy.deepcopy(config)
        setattr(getattr(other, group), knob.name, "another")
        with pytest.raises(ConfigError, match=f"{key} must stay as it was"):
            resumed(other, [f"{key}=another"])


def test_a_knob_of_another_choice_must_stay_too(tmp_path: Path) -> None:
    run = saved_run(tmp_path, "data=frames", "data.root=a", "data.manifest=b.csv")
    with pytest.raises(ConfigError, match=r"data\.root must stay as it was when a run is resumed"):
        check_command_line([f"training.resume={run}", "data.root=c"])


def test_a_configuration_composes_again_after_all_resolvers_were_cleared() -> None:
    load()
    for name in ("project", "data", "unique", "run"):
        OmegaConf.clear_resolver(f"astrid.{name}")
    assert load(["experiment=hrc_cosmic_rays"]).data.split_unit == "section"


def test_averaging_over_orientations_needs_training_on_them() -> None:
    assert load(["model.test_time_augmentation=true"]).model.test_time_augmentation
    for override in ("data.augment.flips=false", "data.augment.flip_probability=0"):
        with pytest.raises(ConfigError, match=r"model\.test_time_augmentation must be false where"):
            load(["model.test_time_augmentation=true", override])


def test_hydras_own_settings_are_no_change_of_a_resumed_run(tmp_path: Path) -> None:
    run = saved_run(tmp_path, "model.depth=2")
    assert check_command_line(["--config-dir", str(tmp_path), f"training.resume={run}", "hydra.verbose=true"]) == 1
    config = load([f"training.resume={run}"])
    assert resumed(config, ["hydra.searchpath=[file:///elsewhere]"]) == config


def test_resuming_checks_again_what_depends_on_several_knobs(tmp_path: Path) -> None:
    run = saved_run(tmp_path, "schedule=onecycle", "schedule.warmup_epochs=3", "training.epochs=5")
    with pytest.raises(ConfigError, match=r"schedule\.warmup_epochs must be at most training\.epochs = 2"):
        load([f"training.resume={run}", "training.epochs=2"])


def test_resuming_from_another_file_than_the_last_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a run folder or its last\.pt"):
        load([f"training.resume={tmp_path}/checkpoints/best.pt"])


def test_a_damaged_saved_configuration_is_refused_with_its_name(tmp_path: Path) -> None:
    run = saved_run(tmp_path)
    (run / "config.yaml").write_text((run / "config.yaml").read_text()[:300] + "\n  broken: [")
    with pytest.raises(ConfigError, match=r"config\.yaml is not a configuration"):
        load([f"training.resume={run}"])


def test_a_configuration_folder_of_the_users_own_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\nmodel:\n  depth: 9\n")
    with pytest.raises(ConfigError, match=r"model\.depth must be from 1 to 6, got 9"):
        check_command_line(["--config-dir", str(tmp_path), "experiment=mine"])


def test_resuming_into_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir must not be given with training\.resume"):
        check_command_line([f"training.resume={tmp_path}", f"hydra.run.dir={tmp_path / 'new'}"])


def test_resuming_names_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a run folder must hold config\.yaml"):
        load([f"training.resume={tmp_path}"])


def test_a_resumed_run_stays_in_its_folder_and_a_new_one_gets_its_own() -> None:
    assert run_folder("outputs/runs/new", None) == "outputs/runs/new"
    assert run_folder("outputs/runs/new", "outputs/runs/old") == "outputs/runs/old"
    assert run_folder("outputs/runs/new", "outputs/runs/old/checkpoints/last.pt") == "outputs/runs/old"


def test_sample_data_is_found_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASTRID_DATA", str(tmp_path))
    config = load(["data=frames", "data.root=${astrid.data:stars}", "data.manifest=${astrid.project:m.csv}"])
    assert isinstance(config.data, FramesData)
    assert config.data.root == str(tmp_path / "stars")
    assert config.data.manifest == str(PROJECT_ROOT / "m.csv")


def documented(schema: type) -> set[str]:
    """Return the fields of a class that a string follows, as the editors of the schema write docstrings of knobs."""
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0].body  # type: ignore[attr-defined]
    pairs = itertools.pairwise(body)
    return {
        knob.target.id
        for knob, text in pairs
        if isinstance(knob, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


@pytest.mark.parametrize("schema", [schema for choices in CHOICES.values() for schema in choices.values()])
def test_every_knob_has_a_docstring(schema: type) -> None:
    explained = set().union(*(documented(base) for base in schema.__mro__ if dataclasses.is_dataclass(base)))
    assert {field.name for field in dataclasses.fields(schema)} - explained <= {"augment"}


def test_simulated_data_is_the_default() -> None:
    assert isinstance(load().data, SimulatedData)


def interrupted(folder: Path) -> str:
    """Return what is said where a run with this folder is cut off."""
    job = SimpleNamespace(
        mode=RunMode.RUN,
        overrides=SimpleNamespace(hydra=[]),
        runtime=SimpleNamespace(output_dir=str(folder)),
        job=SimpleNamespace(name="train"),
    )
    with pytest.raises(Stopped) as stopped, one_message(job):  # type: ignore[arg-type]
        raise KeyboardInterrupt
    return str(stopped.value)


def test_what_is_cut_off_says_how_to_go_on_and_leaves_no_stub(tmp_path: Path) -> None:
    stub, begun, trained = tmp_path / "stub", tmp_path / "begun", tmp_path / "trained"
    for folder in (stub, begun, trained):
        folder.mkdir()
        (folder / "train.log").touch()
    (begun / "journal.jsonl").touch()
    (trained / CHECKPOINTS).mkdir()
    (trained / CHECKPOINTS / LAST).touch()
    assert "same command" in interrupted(stub) and not stub.exists()
    assert f"{begun} holds what it left; start it again" in interrupted(begun) and begun.exists()
    assert f"training.resume={trained}" in interrupted(trained)


@pytest.mark.parametrize(("option", "remedy"), [("--epochs", "training.epochs"), ("--lr=1", "optimizer.lr")])
def test_a_knob_with_dashes_says_how_it_is_written(option: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"without dashes, got {option}; did you mean {remedy}"):
        check_command_line([option, "3"])


@pytest.mark.parametrize("name", ["run", "lr=0.1,seed=3", "of (me) {all} [1]", "it's # mine"])
def test_the_command_that_goes_on_with_a_run_survives_shell_and_hydra(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    saved_run(folder)
    words = shlex.split(resume_command(folder))
    assert words[:2] == ["python", "train.py"]
    assert load(words[2:]).training.resume == str(folder)
