"""Classical detectors are judged like a network: thresholds from validation, one set of rules, the same fields."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import sep
from scipy import ndimage

from astrid.baselines import Comparison, MaskRival, compare, compare_as_chosen
from astrid.baselines.comparison import chosen_thresholds, compare_detectors, judge_detector, tally_detectors
from astrid.baselines.cosmic_rays import find_cosmic_rays
from astrid.baselines.detectors import (
    DETECTORS,
    SEP_KERNEL_RADIUS,
    SEP_LEAST_PIXELS,
    SEP_SIGMAS,
    SIGMAS,
    extract_sources,
    look_at,
    matched_filter,
    white_noise_score,
)
from astrid.baselines.mask_curve import (
    RATES,
    SETTINGS,
    MaskCurve,
    _curve,
    best_settings,
    compare_at_rates,
    draw_curves,
    settings_in,
)
from astrid.baselines.masks import SIGMA_CLIPS, chosen_contrast, compare_masks, count_pixels
from astrid.baselines.table import equal_false_lines, print_rivals, title
from astrid.config import MetricsConfig
from astrid.data.frames import Field, Sources
from astrid.data.psf import point_source
from astrid.data.store import FieldStore, write_fields
from astrid.evaluate import Chosen, Evaluation
from astrid.metrics.bootstrap import FieldCounts
from astrid.metrics.chosen import OperatingPoint
from astrid.metrics.confusion import class_metrics
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.objects import ObjectTally, _FieldTally, object_metrics
from astrid.scoring import Scores

FWHM, SIZE = 3.0, 96
CONFIG = MetricsConfig(bins=4096)


def field(seed: int, *, cosmic_rays: int = 6, channels: int = 3, catalogue: bool = True) -> Field:
    """White noise with nine sources of rising signal-to-noise, and single bright pixels in the science frame."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, SIZE, SIZE)).astype(np.float32)
    y, x = (plane.ravel().astype(float) for plane in np.mgrid[16:SIZE:32, 16:SIZE:32])
    snr, psf = np.linspace(3.0, 30.0, len(x)), point_source(FWHM)
    reach, target = psf.shape[0] // 2, np.zeros((SIZE, SIZE), bool)
    for column, row, value in zip(x.astype(int), y.astype(int), snr, strict=True):
        stamp = np.s_[row - reach : row + reach + 1, column - reach : column + reach + 1]
        image[(slice(None), *stamp)] += (value * psf / np.sqrt((psf**2).sum())).astype(np.float32)
    rows, columns = rng.integers(0, SIZE, (2, cosmic_rays))
    image[:, rows, columns] += 60.0
    target[rows, columns] = True
    sources = Sources(x, y, snr, snr, ["transient"] * len(x)) if catalogue else None
    return Field(f"f{seed}", image, target, np.ones((SIZE, SIZE), bool), sources, FWHM)


def store(folder: Path, fields: list[Field]) -> FieldStore:
    write_fields(folder, fields)
    return FieldStore(folder)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[FieldStore, FieldStore]:
    base = tmp_path_factory.mktemp("baselines")
    return store(base / "val", [field(seed) for seed in range(4)]), store(
        base / "test", [field(seed) for seed in range(10, 16)]
    )


@pytest.fixture(scope="module")
def network(stores: tuple[FieldStore, FieldStore]) -> ObjectTally:
    """An oracle that finds every source above a signal-to-noise of 6 and nothing else."""
    tally = ObjectTally([0.3, 0.6], min_pixels=1)
    for number in range(len(stores[1])):
        made = stores[1].field(number)
        assert made.sources is not None
        probability = np.zeros((SIZE, SIZE))
        bright = made.sources.snr > 6
        probability[made.sources.y[bright].astype(int), made.sources.x[bright].astype(int)] = 0.9
        where = {"sources_x": made.sources.x, "sources_y": made.sources.y, "snr": made.sources.snr}
        tally.add(probability, made.valid, **where, radius_pixels=FWHM)
    return tally


@pytest.fixture(scope="module")
def comparison(stores: tuple[FieldStore, FieldStore], network: ObjectTally) -> Comparison:
    thresholds = chosen_thresholds(stores[0], config=CONFIG)
    found = compare_detectors(stores[1], thresholds=thresholds, network=network, network_threshold=0.6, config=CONFIG)
    assert found is not None
    return found


def test_every_detector_has_the_threshold_that_is_best_on_validation(
    comparison: Comparison, stores: tuple[FieldStore, FieldStore]
) -> None:
    chosen = tally_detectors(stores[0], DETECTORS, config=CONFIG)
    assert [rival.name for rival in comparison.judged] == [detector.name for detector in DETECTORS]
    for rival in comparison.judged:
        tally = chosen[rival.name]
        f1 = 2 * tally.hits / (2 * tally.hits + tally.misses + tally.false_alarms)
        assert f1[tally.index(rival.threshold)] == f1.max()


def test_the_matched_filter_sees_fainter_than_the_difference(comparison: Comparison) -> None:
    metrics = comparison.metrics()
    assert metrics["matched_filter/completeness"] > metrics["difference/completeness"]
    assert metrics["matched_filter/snr50"] < metrics["difference/snr50"]


def test_astroscrappy_saves_false_detections(comparison: Comparison) -> None:
    metrics = comparison.metrics()
    for name in ("matched_filter", "sep"):
        assert metrics[f"astroscrappy_{name}/false_per_mpix"] < metrics[f"{name}/false_per_mpix"]
        assert metrics[f"astroscrappy_{name}/purity"] > metrics[f"{name}/purity"]


def test_detectors_have_intervals(comparison: Comparison) -> None:
    metrics = comparison.metrics()
    for name in ("completeness", "purity", "false_per_mpix"):
        value = metrics[f"matched_filter/{name}"]
        assert metrics[f"matched_filter/{name}_low"] < value < metrics[f"matched_filter/{name}_high"]


def test_equal_false_detections_are_no_more_than_the_networks(comparison: Comparison) -> None:
    assert comparison.network_false_alarms == 0
    for rival in comparison.judged:
        reached = comparison.rival_reach(rival)
        threshold = rival.tally.threshold_for(0)
        assert threshold is not None
        at = rival.tally.index(threshold)
        assert rival.tally.false_alarms[at] == 0
        assert rival.tally.hits[at] == rival.tally.hits[rival.tally.false_alarms == 0].max()
        hits, misses = rival.tally.hits[at], rival.tally.misses[at]
        assert reached.completeness == hits / (hits + misses)


def test_a_rival_that_never_gets_there_is_bounded_by_the_brightest_source(comparison: Comparison) -> None:
    metrics = comparison.metrics() | {"test/snr50": 6.0, "test/false_per_mpix": 0.0}
    lines = equal_false_lines(comparison, metrics)
    assert len(lines) == 1 + len(DETECTORS)
    assert "difference: above 30, more than 5.0 times the U-Net's" in lines[1]


def tally_of(found: np.ndarray, *, snr: np.ndarray, false_alarms: int) -> ObjectTally:
    made = ObjectTally([0.5], min_pixels=1)
    distance = np.where(found, 0.0, np.nan)[None]
    made._fields.append(_FieldTally(snr, distance, np.array([false_alarms]), 1_000_000))
    return made


def test_a_rival_that_sees_fainter_than_all_sources_is_said_to_and_not_to_need_more() -> None:
    snr = np.geomspace(3.0, 30.0, 20)
    network = tally_of(snr > 5.9, snr=snr, false_alarms=2)  # half are found at 6
    rival = tally_of(np.arange(20) != 9, snr=snr, false_alarms=2)
    judged = judge_detector(DETECTORS[0], rival, threshold=0.5, groups=["f"], rates=[])
    met = Comparison([judged], network, 0.5)
    lines = equal_false_lines(met, met.metrics() | {"test/snr50": 6.0, "test/false_per_mpix": 2.0})
    assert "difference: below 3, less than 0.5 times the U-Net's; at 2 it has undefined" in lines[1]


def test_the_network_is_given_as_many_false_detections_as_the_rival_makes_and_no_more() -> None:
    snr = np.geomspace(3.0, 30.0, 20)
    network = ObjectTally([0.2, 0.6], min_pixels=1)
    found = np.stack([snr > 3.5, snr > 10.0])
    network._fields.append(_FieldTally(snr, np.where(found, 0.0, np.nan), np.array([50, 1]), 1_000_000))
    quiet, loud = (
        judge_detector(DETECTORS[0], tally_of(snr > 8, snr=snr, false_alarms=n), threshold=0.5, groups=["f"], rates=[])
        for n in (2, 60)
    )
    met = Comparison([quiet, loud], network, 0.6)
    assert [met.network_reach(rival).completeness for rival in (quiet, loud)] == [found[1].mean(), found[0].mean()]


def test_the_lines_say_how_many_times_the_networks_a_rivals_snr50_is() -> None:
    snr = np.geomspace(3.0, 30.0, 20)
    network, rival = (tally_of(snr > least, snr=snr, false_alarms=2) for least in (5.0, 10.0))
    judged = judge_detector(DETECTORS[0], rival, threshold=0.5, groups=["f"], rates=[])
    met = Comparison([judged], network, 0.5)
    ours, theirs = object_metrics(network, threshold=0.5)["snr50"], judged.metrics["snr50"]
    lines = equal_false_lines(met, met.metrics() | {"test/snr50": ours, "test/false_per_mpix": 2.0})
    assert f"difference: {theirs:.2f}, {theirs / ours:.1f} times the U-Net's" in lines[1]
    assert theirs / ours == pytest.approx(2.0, rel=0.15)


def test_the_table_names_the_network_and_every_rival(comparison: Comparison, capsys: pytest.CaptureFixture) -> None:
    metrics = comparison.metrics() | {"test/completeness": 0.9, "test/snr50": 6.0, "test/false_per_mpix": 0.0}
    print_rivals(comparison, metrics)
    shown = " ".join(capsys.readouterr().out.split())
    assert "U-Net │ 0.900 │ undefined │ 0 │ 6.00" in shown
    assert all(name in shown for name in ("difference", "matched filter", "SEP"))


def test_the_score_of_a_source_is_its_signal_to_noise_and_that_of_noise_has_unit_variance() -> None:
    rng, psf = np.random.default_rng(0), point_source(FWHM)
    image, good = rng.normal(size=(400, 400)).astype(np.float32), np.ones((400, 400), bool)
    reach = psf.shape[0] // 2
    noise = matched_filter(image, good, fwhm_pixels=FWHM)
    stamp = np.s_[200 - reach : 201 + reach, 100 - reach : 101 + reach]
    image[stamp] += (12.0 * psf / np.sqrt((psf**2).sum())).astype(np.float32)
    assert noise.std() == pytest.approx(1.0, abs=0.02)
    lifted = matched_filter(image, good, fwhm_pixels=FWHM) - noise
    assert lifted[200, 100] == pytest.approx(12.0, rel=0.02)


def test_the_score_beside_masks_and_edges_has_unit_variance_too() -> None:
    pixels = np.ones((48, 48), bool)
    pixels[20:28, 15:30] = False
    pixels[40, 5:40:6] = False
    scores = np.array(
        [
            white_noise_score(np.random.default_rng(seed).normal(size=pixels.shape), pixels, fwhm_pixels=FWHM)
            for seed in range(600)
        ]
    )
    framed = np.pad(pixels, 1)  # what lies beyond an edge is as good as masked
    beside = pixels & (ndimage.distance_transform_edt(framed)[1:-1, 1:-1] <= FWHM)
    assert beside.sum() > 500
    assert scores[:, beside].std() == pytest.approx(1, abs=0.02)
    assert scores.std(axis=0)[beside].min() > 0.85 and scores.std(axis=0)[beside].max() < 1.15


def test_masked_pixels_and_edges_neither_hide_nor_make_a_source() -> None:
    image, good = np.random.default_rng(1).normal(size=(300, 300)).astype(np.float32), np.ones((300, 300), bool)
    good[100:130, 100:130] = False
    image[~good] = np.nan
    score = matched_filter(image, good, fwhm_pixels=FWHM)
    rim = np.zeros_like(good)
    rim[97:133, 97:133] = True
    for place in (rim & good, np.pad(np.zeros((296, 296), bool), 2, constant_values=True)):
        assert score[place].std() == pytest.approx(1.0, abs=0.15)


def test_cosmic_rays_are_taken_out_with_their_rims_and_sources_stay() -> None:
    made = field(3, cosmic_rays=1)
    rows, columns = np.nonzero(made.target)
    clean = look_at(made).clean
    assert not clean[rows[0] - 1 : rows[0] + 2, columns[0] - 1 : columns[0] + 2].any()
    assert made.sources is not None
    assert clean[made.sources.y.astype(int), made.sources.x.astype(int)].all()


def test_without_a_difference_or_sources_nothing_is_compared(tmp_path: Path, network: ObjectTally) -> None:
    flat = store(tmp_path / "flat", [field(0, channels=2)])
    thresholds = chosen_thresholds(flat, config=CONFIG)
    assert compare_detectors(flat, thresholds=thresholds, network=network, network_threshold=0.6, config=CONFIG) is None
    empty = field(0)
    nothing = Sources(*(np.zeros(0),) * 4, [])
    bare = store(tmp_path / "bare", [Field("e", empty.image, empty.target, empty.valid, nothing, FWHM)])
    thresholds = chosen_thresholds(bare, config=CONFIG)
    assert compare_detectors(bare, thresholds=thresholds, network=network, network_threshold=0.6, config=CONFIG) is None


def histogram(fields: FieldStore, *, scale: float) -> PixelHistogram:
    """Return the logits of a network that is as sure of cosmic rays as the science frame is bright."""
    import torch

    counted = PixelHistogram(bins=4096, limit=40.0, device="cpu")
    for number in range(len(fields)):
        made = fields.field(number)
        logits = torch.from_numpy(np.array(made.image[0]) * scale)
        counted.update(logits, torch.from_numpy(made.target), torch.from_numpy(made.valid))
    return counted


def test_a_single_frame_is_masked_by_astroscrappy_and_compared_at_its_own_false_positive_rate(tmp_path: Path) -> None:
    frames = store(tmp_path / "frames", [field(seed, channels=1, catalogue=False) for seed in range(3)])
    rival = compare_masks(frames, sigma_clip=chosen_contrast(frames), network=histogram(frames, scale=0.2))
    assert rival is not None
    assert rival.tpr > 0.7  # it looks at no pixel near the edges
    assert rival.fpr < 1e-2
    flagged = [
        find_cosmic_rays(frames.image(n)[0], frames.field(n).valid, sigma_clip=rival.sigma_clip) for n in range(3)
    ]
    truth = [frames.field(number).target for number in range(3)]
    assert rival.tpr == pytest.approx(np.concatenate(flagged)[np.concatenate(truth)].mean())
    assert rival.network_tpr == 1.0


def test_the_network_is_given_no_more_false_pixels_than_the_mask_has(tmp_path: Path) -> None:
    made = field(3, channels=1, cosmic_rays=300, catalogue=False)
    logits = np.random.default_rng(0).normal(3.0 * made.target).astype(np.float32)
    unsure = dataclasses.replace(made, image=logits[None])
    network = histogram(store(tmp_path / "network", [unsure]), scale=1.0)
    rival = compare_masks(store(tmp_path / "frames", [made]), sigma_clip=4.5, network=network)
    assert rival is not None and rival.fpr > 0
    threshold = np.quantile(logits[~made.target], 1 - rival.fpr)
    assert rival.network_tpr == pytest.approx((logits[made.target] > threshold).mean(), abs=0.02)


def test_a_lenient_mask_keeps_what_a_strict_one_marked() -> None:
    curve = _curve(np.array([[0.4, 0.2], [0.6, 0.1], [0.7, 0.5]]))
    assert curve.fpr.tolist() == [0, 0.1, 0.2, 0.5, 1] and curve.tpr.tolist() == [0, 0.6, 0.6, 0.7, 1]


def test_a_mask_is_a_curve_from_strict_to_lenient_and_is_read_between_its_points() -> None:
    curve = MaskCurve(np.array([0.0, 1e-4, 1e-2, 1.0]), np.array([0.0, 0.5, 0.7, 1.0]))
    assert curve.tpr_at(1e-4) == 0.5
    assert curve.tpr_at(5e-5) == 0.25
    assert curve.tpr_at(5.05e-3) == pytest.approx(0.6)


def test_astroscrappy_is_compared_at_each_rate_with_the_knobs_that_validation_chose(tmp_path: Path) -> None:
    frames = store(tmp_path / "frames", [field(seed, channels=1, catalogue=False) for seed in range(4)])
    best = best_settings(frames)
    assert set(best) == set(RATES)
    curves = draw_curves(frames, SETTINGS)
    assert curves is not None
    shares = [curves[knobs].tpr_at(1e-3) for knobs in SETTINGS]
    assert shares[best["1e-3"]] == max(shares) > min(shares)
    found = compare_at_rates(frames, chosen=best, network=histogram(frames, scale=0.2))
    assert found["tpr_at_fpr_1e-3"] == max(shares)
    assert found["network_tpr_at_fpr_1e-3"] == 1.0
    assert "tpr_at_fpr_1e-4" not in found  # 37,000 negative pixels are too few for it
    assert settings_in({f"astroscrappy/{name}": value for name, value in found.items()}) == {
        rate: best[rate] for rate in ("1e-3", "5e-3")
    }


def test_one_point_of_a_curve_is_the_mask_itself(tmp_path: Path) -> None:
    frames = store(tmp_path / "frames", [field(3, channels=1, catalogue=False)])
    made, knobs = frames.field(0), SETTINGS[2]
    curves = draw_curves(frames, [knobs])
    assert curves is not None
    mask = find_cosmic_rays(
        made.image[0], made.valid, sigma_clip=4.5, neighbours=knobs.neighbours, object_limit=knobs.object_limit
    )
    assert mask[~made.target].mean() in curves[knobs].fpr
    assert mask[made.target].mean() in curves[knobs].tpr


def test_the_contrast_is_the_one_of_best_f1_whatever_the_default(tmp_path: Path) -> None:
    frames = store(tmp_path / "frames", [field(seed, channels=1, catalogue=False) for seed in range(3)])
    scores = {clip: class_metrics(count_pixels(frames, sigma_clip=clip))["f1_positive"] or 0.0 for clip in SIGMA_CLIPS}
    chosen = chosen_contrast(frames)
    assert chosen is not None
    assert scores[chosen] == max(scores.values()) > scores[4.5]


def test_a_network_that_ranks_the_wrong_way_marks_nothing_at_the_rivals_rate(tmp_path: Path) -> None:
    frames = store(tmp_path / "frames", [field(1, channels=1, catalogue=False)])
    rival = compare_masks(frames, sigma_clip=4.5, network=histogram(frames, scale=-0.2))
    assert rival is not None
    assert rival.network_tpr == 0.0 < rival.tpr


def test_sep_filters_with_the_middle_of_the_psf() -> None:
    searched = look_at(field(2, cosmic_rays=0))
    psf = point_source(FWHM)
    middle = slice(psf.shape[0] // 2 - SEP_KERNEL_RADIUS, psf.shape[0] // 2 + SEP_KERNEL_RADIUS + 1)
    kernel = np.ascontiguousarray(psf[middle, middle])
    settings = {"minarea": SEP_LEAST_PIXELS, "filter_type": "conv", "filter_kernel": kernel}
    tables = [sep.extract(searched.difference, threshold, **settings) for threshold in SEP_SIGMAS]
    found = extract_sources(searched, np.array(SEP_SIGMAS), 1)
    assert [len(table) for table in tables] == [len(one.x) for one in found]
    np.testing.assert_array_equal(np.concatenate([t["x"] for t in tables]), np.concatenate([one.x for one in found]))


def test_a_frame_without_cosmic_rays_is_not_compared(tmp_path: Path) -> None:
    frames = store(tmp_path / "none", [field(0, cosmic_rays=0, channels=1, catalogue=False)])
    assert compare_masks(frames, sigma_clip=chosen_contrast(frames), network=histogram(frames, scale=0.2)) is None


def evaluation(objects: ObjectTally | None, pixels: PixelHistogram) -> Evaluation:
    chosen = Chosen(0.0, None if objects is None else 0.6)
    counts = FieldCounts(["f"], np.ones((1, 4), int), np.ones((1, 4), int), None, "")
    return Evaluation({}, Scores(pixels, objects), chosen, [], counts)


def test_what_is_compared_follows_the_catalogue_and_the_knob(
    tmp_path: Path, stores: tuple[FieldStore, FieldStore], network: ObjectTally
) -> None:
    val, test = stores
    seen = evaluation(network, histogram(test, scale=0.2))
    assert isinstance(compare(seen, val=val, test=test, config=CONFIG), Comparison)
    off = MetricsConfig(bins=4096, baselines=False)
    assert compare(seen, val=val, test=test, config=off) is None
    frames = store(tmp_path / "frames", [field(1, channels=1, catalogue=False)])
    masks = compare(evaluation(None, histogram(frames, scale=0.2)), val=frames, test=frames, config=CONFIG)
    assert isinstance(masks, MaskRival)


def test_a_network_from_elsewhere_meets_detectors_at_the_thresholds_of_its_own_run(
    stores: tuple[FieldStore, FieldStore], network: ObjectTally, caplog: pytest.LogCaptureFixture
) -> None:
    val, test = stores
    seen = evaluation(network, histogram(test, scale=0.2))
    own = compare(seen, val=val, test=test, config=CONFIG)
    assert isinstance(own, Comparison)
    again = compare_as_chosen(seen, test, chosen={"test/auprc": 0.9} | own.metrics(), config=CONFIG)
    assert again is not None
    assert again.metrics() == own.metrics()
    caplog.set_level(logging.INFO)
    one = {"sep/detection_threshold": own.metrics()["sep/detection_threshold"]}
    alone = compare_as_chosen(seen, test, chosen=one, config=CONFIG)
    assert alone is not None
    assert [rival.name for rival in alone.judged] == ["sep"]
    assert "not compared" in caplog.text and "difference, matched filter" in caplog.text
    for chosen in ({}, {"sep/detection_threshold": 1.2345}):  # none, and one that no detector tries
        assert compare_as_chosen(seen, test, chosen=chosen, config=CONFIG) is None
    assert compare_as_chosen(seen, test, chosen=one, config=MetricsConfig(bins=4096, baselines=False)) is None


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (None, "each at its threshold of the best object F1 on validation"),
        (OperatingPoint("fpr", 1e-3, 0.0, 1e-3), "each at its threshold of the best object F1 on validation"),
        (OperatingPoint("purity", 0.9, 0.6, 0.95), "the U-Net's for purity 0.9, the others' for the best object F1"),
    ],
)
def test_the_title_says_what_thresholds_were_chosen_for(
    stores: tuple[FieldStore, FieldStore], network: ObjectTally, point: OperatingPoint | None, said: str
) -> None:
    seen = evaluation(network, histogram(stores[1], scale=0.2))
    seen = dataclasses.replace(seen, chosen=dataclasses.replace(seen.chosen, operating_point=point))
    one = {"difference/detection_threshold": float(SIGMAS[3])}
    met = compare_as_chosen(seen, stores[1], chosen=one, config=CONFIG)
    assert isinstance(met, Comparison)
    assert said in title(met)


def test_a_rivals_metric_without_a_value_has_no_bounds() -> None:
    snr, rng = np.geomspace(3.0, 30.0, 12), np.random.default_rng(0)
    tally = ObjectTally([5.0], min_pixels=1)
    for _ in range(24):  # half would be found at a signal-to-noise of 2.3, below all sources
        distance = np.where(rng.random(12) < 1 / (1 + (2.3 / snr) ** 4), 0.5, np.nan)[None]
        tally._fields.append(_FieldTally(snr, distance, np.array([1]), 65_536))
    metrics = judge_detector(DETECTORS[0], tally, threshold=5.0, groups=[str(n) for n in range(24)], rates=[]).metrics
    assert "completeness_low" in metrics
    assert not [name for name in metrics if name.startswith("snr50")]


def test_thresholds_rise_and_reach_beyond_cosmic_rays() -> None:
    assert (np.diff(SIGMAS) > 0).all()
    assert SIGMAS[-1] > 1000


def test_a_cosmic_ray_is_flagged_though_its_rim_does_not_count() -> None:
    made = field(1, cosmic_rays=0)
    image, valid = np.array(made.image[0]), np.ones((SIZE, SIZE), bool)
    image[50, 60] += 80.0
    valid[49:52, 59:62] = False
    valid[50, 60] = True
    assert find_cosmic_rays(image, valid).nonzero() == (np.array([50]), np.array([60]))


def test_refined_detectors_keep_their_thresholds_to_the_last_bit() -> None:
    for detector in DETECTORS:
        fine = detector.refined(8).thresholds
        assert len(fine) == 8 * (len(detector.thresholds) - 1) + 1
        assert (np.diff(fine) > 0).all()
        assert set(detector.thresholds) <= set(fine)
        assert (detector.refined(1).thresholds == detector.thresholds).all()


def test_detectors_find_the_same_at_the_thresholds_that_both_try(stores: tuple[FieldStore, FieldStore]) -> None:
    coarse, fine = (
        tally_detectors(stores[0], [one.refined(parts) for one in DETECTORS], config=CONFIG) for parts in (1, 3)
    )
    for name, tally in coarse.items():
        assert tally.hits.tolist() == fine[name].hits[::3].tolist()
        assert tally.false_alarms.tolist() == fine[name].false_alarms[::3].tolist()


@pytest.mark.slow
def test_recall_at_rates_is_given_for_every_detector_and_the_network(
    stores: tuple[FieldStore, FieldStore], network: ObjectTally, capsys: pytest.CaptureFixture[str]
) -> None:
    val, test = stores
    config = MetricsConfig(bins=4096, recall_at_false_per_mpix=[30.0, 1e5])
    found = compare(evaluation(network, histogram(test, scale=0.2)), val=val, test=test, config=config)
    assert isinstance(found, Comparison)
    metrics = found.metrics()
    for rival in found.judged:
        at = rival.tally.threshold_for(int(30e-6 * rival.tally.valid_pixels))
        assert at is not None
        share = rival.tally.hits[rival.tally.index(at)] / (9 * len(test))
        assert metrics[f"{rival.name}/recall_at_30_per_mpix"] == pytest.approx(share)
    print_rivals(found, metrics | {"test/recall_at_30_per_mpix": 0.5, "test/recall_at_100000_per_mpix": 0.75})
    assert (
        "share found of 54 sources at 30, 100000 false detections per Mpix\n  U-Net: 0.5, 0.75"
        in capsys.readouterr().out
    )
