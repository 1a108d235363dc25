"""Single objects: outcomes agree with the metrics, causes with the simulation, and what is covered matters."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm
from torch import Tensor, nn

from astrid.cli import main
from astrid.config import SimulatedData
from astrid.config.compose import load
from astrid.data.frames import Field, Sources
from astrid.data.recipes import simulated_field
from astrid.experiment import run_experiment
from astrid.inspection.by_snr import DETECTION_EDGES, SnrTally, bin_by_snr
from astrid.inspection.causes import EDGE, MASKED, NOISE, UNKNOWN, Suspects, suspects_of, with_causes
from astrid.inspection.cutouts import EDGE as CUT
from astrid.inspection.cutouts import ObjectLog, cut_out, read_cutouts, write_cutouts
from astrid.inspection.look import FieldView, Watcher
from astrid.inspection.objects import JudgedObject, Rules, count_outcomes, disc, judge_objects, objects_table
from astrid.inspection.page import calibration_table
from astrid.inspection.saliency import find_saliency
from astrid.metrics.chosen import Chosen
from astrid.metrics.objects import ObjectTally
from astrid.predictor import Predictor
from astrid.runtime import Runtime

pytestmark = pytest.mark.usefixtures("in_this_process")

RULES = Rules(Chosen(0.0, 0.5), min_pixels=1, match_radius_fwhm=1.0)
CPU = Runtime(torch.device("cpu"), "fp32", 1, channels_last=False)


def blank(size: int = 40, *, channels: int = 3, sources: list[tuple[float, float]] | None = None) -> Field:
    """An empty field with sources of signal-to-noise 10 at (x, y), or without a catalogue."""
    nothing = np.zeros((size, size), dtype=bool)
    listed = None
    if sources is not None:
        x, y = (np.array([place[axis] for place in sources], dtype=float) for axis in (0, 1))
        listed = Sources(x, y, flux=np.full(len(x), 100.0), snr=np.full(len(x), 10.0), kind=["transient"] * len(x))
    image = np.zeros((channels, size, size), dtype=np.float32)
    return Field("f", image, nothing.copy(), ~nothing, listed, 3.0 if sources is not None else None)


def with_peaks(field: Field, places: list[tuple[int, int, float]]) -> np.ndarray:
    """A map of probability that is zero but for (x, y, value)."""
    probability = np.zeros(field.valid.shape, dtype=np.float32)
    for x, y, value in places:
        probability[y, x] = value
    return probability


@settings(max_examples=50, deadline=None)
@given(x=st.floats(-0.5, 8.49), y=st.floats(-0.5, 8.49), radius=st.floats(0, 3))
def test_a_disc_holds_its_own_pixel_and_what_is_near(x: float, y: float, radius: float) -> None:
    rows, columns = disc((9, 9), x=x, y=y, radius=radius)
    pixels = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert (math.floor(y + 0.5), math.floor(x + 0.5)) in pixels
    every = {(row, column) for row in range(9) for column in range(9)}
    assert {one for one in every if math.hypot(one[0] - y, one[1] - x) <= radius} <= pixels


def test_outcomes_of_a_catalogue_worked_out_by_hand() -> None:
    field = blank(sources=[(10, 10), (30, 30), (20, 5)])
    field.valid[5, 20] = False
    seen = with_peaks(field, [(11, 10, 0.9), (30, 31, 0.4), (5, 35, 0.8), (35, 5, 0.7)])
    found = [(one.id, one.outcome, round(one.probability, 2)) for one in judge_objects(field, seen, RULES)]
    assert found == [
        ("f:0", "hit", 0.9),
        ("f:1", "miss", 0.4),
        ("f:2", "not counted", 0.0),
        ("f:3", "false alarm", 0.8),
        ("f:4", "false alarm", 0.7),
    ]


def test_outcomes_of_a_mask_worked_out_by_hand() -> None:
    field = blank(channels=1)
    field.target[3, 3:6] = True  # found by one of its pixels
    field.target[10, 10] = field.target[11, 11] = True  # one object, touching by a corner; missed
    field.image[0, 10, 10] = 7.0
    seen = with_peaks(field, [(5, 3, 0.6), (10, 10, 0.3), (20, 20, 0.9), (21, 21, 0.8)])
    hit, miss, alarm = judge_objects(field, seen, RULES)
    assert (hit.outcome, hit.x, hit.y, hit.pixels) == ("hit", 4.0, 3.0, 3)
    assert (miss.outcome, miss.pixels, miss.flux, miss.snr) == ("miss", 2, 7.0, None)
    assert (alarm.outcome, alarm.pixels, alarm.x) == ("false alarm", 2, 20.5)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_outcomes_are_those_that_the_metrics_count(seed: int) -> None:
    random = np.random.default_rng(seed)
    places = [tuple(place) for place in random.uniform(-2, 41, (random.integers(1, 12), 2))]
    field = blank(sources=places)  # type: ignore[arg-type]
    field.valid[:] = random.random(field.valid.shape) > 0.1
    seen = (random.random(field.valid.shape) ** 4).astype(np.float32)
    counted = count_outcomes(judge_objects(field, seen, RULES))
    sources = field.sources
    assert sources is not None
    tally = ObjectTally([0.5], min_pixels=1)
    tally.add(seen, field.valid, sources_x=sources.x, sources_y=sources.y, snr=sources.snr, radius_pixels=3.0)
    metrics = tally.at(0.5).counts[0].tolist()
    assert [counted["hit"], counted["miss"], counted["false alarm"]] == metrics


MAPS = arrays(bool, (12, 12))


@given(MAPS, MAPS, MAPS)
@settings(max_examples=40, deadline=None)
def test_a_mask_has_no_false_alarm_where_there_is_truth(
    target: np.ndarray, above: np.ndarray, valid: np.ndarray
) -> None:
    field = Field("f", np.zeros((1, 12, 12), np.float32), target, valid)
    objects = judge_objects(field, above.astype(np.float32), RULES)
    pixels = sum(one.pixels or 0 for one in objects if one.outcome in ("hit", "miss"))
    assert pixels == int((target & valid).sum()), "every valid positive pixel belongs to one object"
    found = any(one.outcome == "hit" for one in objects)
    assert found == bool((target & valid & above).any())
    if not (above & valid & ~target).any():
        assert not any(one.outcome == "false alarm" for one in objects)


def alarm(x: float, y: float) -> JudgedObject:
    return JudgedObject("f:0", "f", x, y, "false alarm", 0.9, None, "")


def test_a_false_alarm_has_the_cause_that_covers_most_of_its_place() -> None:
    field = blank()
    ray, trail = np.zeros((2, 40, 40), dtype=bool)
    ray[20, 20] = True
    trail[21, :] = True
    field.valid[30, 31] = False
    suspects = Suspects({"cosmic ray": ray, "satellite trail": trail})
    places = {(20, 20): "satellite trail", (20, 18): "cosmic ray", (30, 30): MASKED, (1, 10): EDGE, (10, 10): NOISE}
    for (x, y), cause in places.items():
        (judged,) = with_causes([alarm(x, y)], field, suspects, radius=2.0)
        assert judged.cause == cause, (x, y)
    (judged,) = with_causes([alarm(10, 10)], field, Suspects({}), radius=None)
    assert judged.cause == UNKNOWN, "without a simulation nobody knows that it is noise"


def test_the_artefacts_of_a_field_are_those_it_was_made_with() -> None:
    config = SimulatedData(field_size=64, tile_size=64, sky_seed=3)
    suspects = suspects_of(config, "sky 3 test 1")
    assert "transient" not in suspects.masks
    rays_wanted = SimulatedData(field_size=64, tile_size=64, sky_seed=3, target="cosmic_ray")
    rays = simulated_field(rays_wanted, "test", 1).target
    assert rays.any()
    assert np.array_equal(suspects.masks["cosmic ray"], rays)


def test_cutouts_come_back_as_they_were_written(tmp_path: Path) -> None:
    field = blank(sources=[(8, 8), (20, 20)])
    field.image[1, 20, 20] = 5.0
    seen = with_peaks(field, [(20, 20, 0.75), (1, 39, 0.5)])
    log = ObjectLog(RULES)
    log.add(field, seen)
    kept = read_cutouts(write_cutouts(log.cutouts(), tmp_path / "cutouts.npz"))
    assert [one.judged.outcome for one in kept] == ["hit", "miss", "false alarm"]
    middle = CUT // 2
    assert kept[0].light[:, middle, middle].tolist() == [0.0, 5.0, 0.0]
    assert kept[0].probability[middle, middle] == 0.75
    assert kept[2].judged == log.objects[2]


def test_a_log_keeps_the_most_telling_of_many() -> None:
    log = ObjectLog(RULES, of_each=2)
    for number, value in enumerate([0.6, 0.9, 0.7, 0.8]):
        field = Field(f"f{number}", np.zeros((1, 8, 8), np.float32), np.zeros((8, 8), bool), np.ones((8, 8), bool))
        log.add(field, with_peaks(field, [(4, 4, value)]))
    assert len(log.objects) == 4
    assert [one.judged.field for one in log.cutouts()] == ["f1", "f3"]


def test_a_cutout_at_the_corner_is_filled_with_nothing() -> None:
    field = blank()
    field.image[:] = 1.0
    cutout = cut_out(alarm(0, 0), field, with_peaks(field, []))
    middle = CUT // 2
    assert cutout.light[0, :middle].sum() == cutout.light[0, :, :middle].sum() == 0
    assert cutout.light[0, middle:, middle:].all()


def test_bins_by_signal_to_noise_worked_out_by_hand() -> None:
    snr, probability = np.array([2.0, 3.5, 3.6, 100.0]), np.array([0.1, 0.2, 0.6, 0.9])
    real = np.array([False, True, False, True])
    bins = bin_by_snr(snr, probability, real=real, edges=DETECTION_EDGES, what="x", sure=True)
    assert bins.count.tolist() == [1, 2, 0, 0, 0, 0, 0, 1]
    assert bins.predicted[[0, 1, 7]] == pytest.approx([0.1, 0.4, 0.9])
    assert bins.observed[[0, 1, 7]].tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(bins.predicted[2]) and len(bins.names()) == 8
    assert bins.bounds is not None
    z = norm.ppf(0.975)  # Wilson's interval of 1 in 2
    half = z / (1 + z**2 / 2) * np.sqrt(0.25 / 2 + z**2 / 16)
    assert bins.bounds[:, 1] == pytest.approx([0.5 - half, 0.5 + half])


def test_a_candidate_at_a_source_that_is_not_counted_is_left_out_of_the_bins() -> None:
    field = blank(sources=[(10, 10), (30, 30)])
    field.valid[30, 30] = False
    seen = with_peaks(field, [(11, 10, 0.9), (31, 30, 0.8), (5, 35, 0.4)])
    tally = SnrTally()
    tally.add_detections(field, seen, RULES, score=np.full(field.valid.shape, 100.0))
    (bins,) = tally.bins()
    assert (bins.count[-1], bins.observed[-1], bins.predicted[-1]) == (2, 0.5, pytest.approx(0.65))
    assert bins.what.startswith("detections from probability 0.05 on")
    bold = dataclasses.replace(RULES, chosen=dataclasses.replace(RULES.chosen, detection_threshold=0.01))
    tally.add_detections(field, seen, bold, score=np.full(field.valid.shape, 100.0))
    assert tally.bins()[0].what.startswith("detections from probability 0.01 on")


def test_a_network_that_never_comes_near_has_no_table_of_candidates_and_its_highest_is_told() -> None:
    field = blank(sources=[(10, 10), (30, 30)])
    field.valid[30, 30] = False
    seen = with_peaks(field, [(10, 10, 0.0123), (30, 30, 0.9)])
    tally = SnrTally()
    tally.add_detections(field, seen, RULES, score=np.full(field.valid.shape, 100.0))
    assert tally.bins() == []
    assert FieldView(field, seen, [], 0.5).summary.endswith("from a probability of 0.5; the highest is 0.0123")


def test_pixels_of_calibrated_probability_are_as_often_real_as_they_say() -> None:
    random = np.random.default_rng(0)
    field = blank(300, channels=1)
    field.image[:] = random.normal(0, 4, field.image.shape)
    probability = (1 / (1 + np.exp(3 - field.image[0]))).astype(np.float32)
    field.target[:] = random.random(probability.shape) < probability
    tally = SnrTally()
    tally.add_pixels(field, probability)
    (bins,) = tally.bins()
    some = bins.count > 0
    error = np.sqrt(bins.predicted * (1 - bins.predicted) / np.maximum(bins.count, 1))[some]
    assert (np.abs(bins.predicted - bins.observed)[some] < 4 * error + 1e-3).all()


class Local(nn.Module):
    """A network that looks at the last channel alone: the mean of 3 by 3 pixels."""

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(image[:, -1:], 3, stride=1, padding=1)


def test_saliency_finds_the_channel_and_the_place_that_matter() -> None:
    field = blank(96)
    field.image[0] = field.image[2] = 0.0
    field.image[2, 50, 60] = field.image[0, 50, 60] = 9.0
    predictor = Predictor(Local(), CPU, halo=8)
    found = find_saliency(predictor, field, alarm(60, 50), step=8, radius=2.0, show=lambda pieces, count: pieces)
    assert found.logit == pytest.approx(1.0)
    row, column = 50 - found.origin[0], 60 - found.origin[1]
    assert not found.falls[0].any() and not found.falls[1].any(), "it looks at no other channel"
    assert found.falls[2, row, column] == pytest.approx(1.0)
    assert np.array_equal(found.falls[2], found.falls[3])
    away = np.hypot(*np.mgrid[-row : found.falls.shape[1] - row, -column : found.falls.shape[2] - column]) > 8
    assert not found.falls[2][away].any()


@pytest.mark.parametrize("place", [(0, 0), (39, 39), (3, 38)])
def test_saliency_reaches_into_the_corners_of_a_small_field(place: tuple[int, int]) -> None:
    field = blank()
    field.image[2, place[1], place[0]] = 9.0
    predictor = Predictor(Local(), CPU, halo=8)
    found = find_saliency(predictor, field, alarm(*place), step=8, radius=1.0, show=lambda pieces, count: pieces)
    assert found.falls.shape == (4, 40, 40)
    assert found.falls[2, place[1], place[0]] == pytest.approx(found.logit)


def test_columns_of_which_nothing_is_known_are_left_out() -> None:
    table = objects_table([alarm(1, 2)])
    assert table.columns == ["id", "field", "x", "y", "outcome", "probability"]


def read_csv(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "objects.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    run_experiment(load([*tiny, "tracking=off", "metrics.report=true", "metrics.baselines=false"]), run_dir=run_dir)
    return run_dir


def test_a_run_is_inspected_and_its_objects_are_those_it_reported(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--object", "test-00001:0", "--object", "test-00001:1"]
    assert main(["inspect", str(trained), *asked, "--worst", "0"]) == 0
    out = capsys.readouterr().out
    folder = trained / "inspect"
    covered = [f"{folder}/saliency_test-00001_{number}.png" for number in (0, 1)]
    assert out.split()[-4:] == [f"{folder}/inspect.html", f"{folder}/objects.csv", *covered]
    assert re.search(r"\ntest-00001:1: logit -?[\d.]+; covering a piece lowers it by up to [\d.]+ and", out)
    assert " electrons " in out
    rows = read_csv(folder)
    table = json.loads((trained / "tables" / "objects.json").read_text())
    stored = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["id"], row["outcome"]) for row in rows] == [(one["id"], one["outcome"]) for one in stored]
    probabilities = [one["probability"] for one in stored]
    assert [float(row["probability"]) for row in rows] == pytest.approx(probabilities, abs=1e-6)
    assert all(row["cause"] for row in rows if row["outcome"] == "false alarm")
    true = [row for row in rows if row["snr"]]
    ratio = [float(row["measured_snr"]) / float(row["snr"]) for row in true if row["outcome"] == "hit"]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.15), "the matched filter measures what the catalogue says"
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"calibration_by_snr.png", "field_test-00001.png", *(Path(path).name for path in covered)}
    page = (folder / "inspect.html").read_text()
    assert "False alarms by cause" in page and "default-src" in page


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--field", "nothing"], "--field must name one of"),
        (["--object", "nothing:3"], "--object must name one of the fields"),
        (["--object", "test-00000"], "--object must be FIELD:NUMBER"),
        (["--folder", __file__], f"{__file__} is no folder; give another by --folder"),
        (["--object", "test-00000:999"], "--object must be an object of field test-00000 (test-00000:0,"),
        (["--worst", "-1"], "--worst must be at least 0"),
        (["model.depth=3"], "model.depth must be left out"),
    ],
)
def test_what_can_not_be_looked_at_is_refused(
    trained: Path, given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(trained), *given]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


@pytest.mark.slow
def test_a_second_look_leaves_nothing_of_the_first_in_the_runs_own_folder_only(trained: Path, tmp_path: Path) -> None:
    names = {f"field_{field}.png" for field in ("test-00000", "test-00001")}
    for field in ("test-00000", "test-00001"):
        assert main(["inspect", str(trained), "--field", field]) == 0
        assert main(["inspect", str(trained), "--field", field, "--folder", str(tmp_path)]) == 0
    assert {path.name for path in (trained / "inspect").glob("field_*.png")} == {"field_test-00001.png"}
    assert {path.name for path in tmp_path.glob("field_*.png")} == names


def test_a_folder_may_have_an_equals_sign_in_its_name(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a=b").symlink_to(trained)
    out = tmp_path / "out"
    assert main(["inspect", str(tmp_path / "a=b"), "--field", "test-00001", "--folder", str(out)]) == 0
    assert main(["inspect", f"{tmp_path}/c=d", "--folder", str(out)]) == 2
    assert "RUN must come before the overrides" in capsys.readouterr().err


def test_an_interval_has_a_column_only_where_there_is_one() -> None:
    tally = SnrTally()
    field = Field("f", np.zeros((1, 8, 8), np.float32), np.zeros((8, 8), bool), np.ones((8, 8), bool))
    tally.add_pixels(field, np.full((8, 8), 0.2, np.float32))
    (pixels,) = tally.bins()
    heads, rows = calibration_table(pixels)
    assert "95 % interval" not in heads and [len(row) for row in rows] == [len(heads)]
    one = np.ones(1)
    found = bin_by_snr(6 * one, 0.9 * one, real=one > 0, edges=DETECTION_EDGES, what="", sure=True)
    heads, rows = calibration_table(found)
    assert heads[-1] == "95 % interval" and rows[0][-1].endswith(", 1.000]")


def test_an_object_that_is_not_there_is_refused_before_other_fields_are_looked_at(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    see = Watcher.see
    monkeypatch.setattr(Watcher, "see", lambda self, number: seen.append(number) or see(self, number))
    assert main(["inspect", str(trained), "--object", "test-00001:999"]) == 2
    assert seen == [1]


def test_named_fields_only_are_looked_at(trained: Path, tmp_path: Path) -> None:
    assert main(["inspect", str(trained), "--field", "test-00001", "--folder", str(tmp_path / "out")]) == 0
    rows = read_csv(tmp_path / "out")
    assert {row["field"] for row in rows} == {"test-00001"}


def test_objects_of_a_mask_have_no_signal_to_noise_and_that_is_said(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = ["data.target=cosmic_ray", "training.epochs=1", "metrics.figures=false", "metrics.report=false"]
    run_experiment(load([*tiny, "tracking=off", *knobs]), run_dir=tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    assert "there is no signal-to-noise" in capsys.readouterr().out
    header = (tmp_path / "inspect" / "objects.csv").read_text().splitlines()[0].split(",")
    assert "snr" not in header and {"x", "y", "flux", "probability", "outcome"} <= set(header)
