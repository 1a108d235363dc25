"""A model is judged under its own configuration: the user says where the data are, and can't change the rest."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from astrid.config import ConfigError, DataConfig, FramesData, SimulatedData
from astrid.config.compose import load
from astrid.config.evaluation import SERVED, WHERE, OwnSettings, evaluation_config, settings_to_load


def own(data: DataConfig, **metrics: Any) -> OwnSettings:
    choice = {"choice": type(data).__name__}
    return OwnSettings(choice | dataclasses.asdict(data), {"bins": 4096, "min_pixels": 2} | metrics, depth=2, filters=4)


SKY = own(SimulatedData(stars=20.0, tile_size=64, stretch="linear"))
FRAMES = own(FramesData(root="/frames", manifest="/frames/own.csv", background_box=128))


def test_without_overrides_all_is_the_models_own() -> None:
    config = evaluation_config(SKY, [])
    assert config.data == SimulatedData(stars=20.0, tile_size=64, stretch="linear")
    assert (config.metrics.bins, config.metrics.min_pixels) == (4096, 2)
    assert (config.model.depth, config.model.filters) == (2, 4)
    assert evaluation_config(FRAMES, []).data == FramesData(
        root="/frames", manifest="/frames/own.csv", background_box=128
    )


def test_an_evaluation_says_that_its_model_averages() -> None:
    averaging = dataclasses.replace(SKY, test_time_augmentation=True)
    assert evaluation_config(averaging, []).model.test_time_augmentation
    assert not evaluation_config(SKY, []).model.test_time_augmentation


def test_another_sky_keeps_what_the_user_leaves_out() -> None:
    data = evaluation_config(SKY, ["data.sky_seed=7", "data.science_seeing=[3,5]"]).data
    assert isinstance(data, SimulatedData)
    assert (data.sky_seed, data.science_seeing, data.stars, data.stretch) == (7, [3, 5], 20.0, "linear")


def test_other_frames_are_prepared_as_the_models_were() -> None:
    data = evaluation_config(FRAMES, ["data.root=/other", "data.manifest=/other/m.csv"]).data
    assert data == FramesData(root="/other", manifest="/other/m.csv", background_box=128)


def test_other_frames_may_be_held_to_other_standards() -> None:
    data = evaluation_config(FRAMES, ["data.quality.policy=skip", "data.quality.limits.fwhm_pixels=[4,6]"]).data
    assert (data.quality.policy, data.quality.limits.fwhm_pixels) == ("skip", [4.0, 6.0])
    with pytest.raises(ConfigError, match=r"data\.preprocess\.gain must be the model's own"):
        evaluation_config(FRAMES, ["data.preprocess.gain=2"])


def test_frames_for_a_model_of_the_sky_take_what_both_have_from_the_model() -> None:
    given = ["data=frames", "data.root=/x", "data.manifest=m.csv", "data.background_box=32"]
    data = evaluation_config(SKY, given).data
    assert isinstance(data, FramesData)
    assert (data.stretch, data.tile_size, data.background_box) == ("linear", 64, 32)


def test_a_recipe_may_describe_the_data() -> None:
    data = evaluation_config(SKY, ["experiment=decam_artifacts"]).data
    assert isinstance(data, FramesData)
    assert data.manifest.endswith("decam_artifacts.csv")
    assert data.stretch == "linear"
    with pytest.raises(ConfigError, match=r"data\.crops must be the model's own, grid, got random; leave it out"):
        evaluation_config(FRAMES, ["experiment=hrc_cosmic_rays"])


@pytest.mark.parametrize("key", sorted({field.name for field in dataclasses.fields(FramesData)} - set(WHERE)))
def test_no_knob_of_preparation_can_be_changed(key: str) -> None:
    other = {"stretch": "linear", "augment": "null", "crops": "random", "fold": "1"}
    name = "augment.flips" if key == "augment" else key
    value = "false" if key == "augment" else other.get(key, "37")
    with pytest.raises(ConfigError, match=rf"data\.{name} must be"):
        evaluation_config(FRAMES, [f"data.{name}={value}"])


@pytest.mark.parametrize(
    "given",
    [
        "model.depth=3",
        "model=unet_deep",
        "optimizer.lr=1",
        "loss=focal",
        "training.epochs=3",
        "training.resume=x",
        "training.precision=fp32",
        "sweep=grid",
        "energy.budget_kwh=1",
        "tracking.alerts.energy_kwh=1",
        "hydra.run.dir=x",
        "~data.stars",
    ],
)
def test_what_belongs_to_training_is_refused_by_name(given: str) -> None:
    key = given.lstrip("~").partition("=")[0]
    for check in (settings_to_load, lambda overrides: evaluation_config(SKY, overrides)):
        with pytest.raises(ConfigError, match=rf"{key} must be left out"):
            check([given])


CHOSEN = own(SimulatedData(), calibration="temperature", operating_point="fpr", operating_target=0.01)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("metrics.min_pixels=3", "left out or 2, the model's own, got 3"),
        ("metrics.operating_point=purity", "left out or fpr, the model's own, got purity"),
        ("metrics.operating_target=1e-3", "left out or 0.01, the model's own, got 0.001"),
        ("metrics.calibration=isotonic", "left out or temperature, the model's own, got isotonic"),
        ("metrics.detection_thresholds=5", "left out, got 5"),
    ],
)
def test_what_validation_chose_stays(given: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"must be {rule}: thresholds and calibration go with the model"):
        evaluation_config(CHOSEN, [given])


def test_what_validation_chose_is_recorded_and_may_be_repeated() -> None:
    same = ["metrics.operating_target=1e-2", "metrics.calibration=temperature", "metrics.min_pixels=2"]
    for given in ([], same, ["metrics=full"]):
        metrics = evaluation_config(CHOSEN, given).metrics
        assert (metrics.calibration, metrics.operating_point, metrics.operating_target) == ("temperature", "fpr", 0.01)


def test_what_is_computed_is_what_the_models_run_computed_unless_another_choice_is_named() -> None:
    families = ["ranking", "recall", "reliability"]
    model = own(SimulatedData(), pixel_families=families, per_field=False)
    known = evaluation_config(model, ["data.sky_seed=7"]).metrics
    assert (known.pixel_families, known.per_field) == (families, False)
    assert evaluation_config(model, ["metrics.per_field=true"]).metrics.per_field
    for choice in ("fast", "standard", "full"):
        wanted = load([f"metrics={choice}"]).metrics
        found = evaluation_config(model, [f"metrics={choice}"]).metrics
        assert (found.pixel_families, found.per_field) == (wanted.pixel_families, wanted.per_field)


def test_what_may_be_chosen_is_taken() -> None:
    given = ["metrics.bins=256", "metrics=fast", "tracking=off", "energy=off", "training.device=cpu", "data.cache=c"]
    config = evaluation_config(SKY, given)
    assert (config.metrics.bins, config.metrics.figures, config.tracking.backend) == (256, False, "off")
    assert (config.energy.source, config.training.device, config.data.cache) == ("off", "cpu", "c")
    assert settings_to_load(["training.device=cpu", "tracking.uri=sqlite:///x", "data=frames"]).tracking.uri.endswith(
        "x"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data.sky_sed=2", "did you mean data.sky_seed"),
        ("+data.foo=2", "data.foo"),
        ("data=fames", "did you mean frames"),
        ("data=frames", "data.root must be given"),
        ("data.sky_seed=1,2", "data.sky_seed"),
        ("data.sky_seed=-1", "data.sky_seed must be at least 0"),
        ("tracking.urii=x", "did you mean tracking.uri"),
        ("data.stars=[", "data.stars"),
    ],
)
def test_a_mistake_is_named(given: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings_to_load([given])
        evaluation_config(SKY, [given])
    assert message in str(refused.value)


def test_a_fold_is_of_the_models_own_data_alone() -> None:
    folded = own(SimulatedData(folds=5, fold=3))
    assert (evaluation_config(folded, []).data.folds, evaluation_config(folded, ["data.cache=c"]).data.fold) == (5, 3)
    other = evaluation_config(folded, ["data.sky_seed=9"]).data
    assert (other.folds, other.fold) == (1, None)


def test_data_of_an_unknown_version_is_said() -> None:
    with pytest.raises(ConfigError, match="trained on HolographicData, which this version doesn't know"):
        evaluation_config(OwnSettings({"choice": "HolographicData"}, {}, 2, 4), [])


def test_what_serves_the_fields_is_theirs_to_choose() -> None:
    assert set(SERVED) <= set(WHERE)
    assert load().data.stretch == "arcsinh"
