"""Alert packets: what is read, where candidates land, what is positive, who may share a split, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alert_packets import EDGE, FWHM, night, packet, stamp, write_avro
from astropy import units
from astropy.coordinates import SkyCoord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astrid.config import AlertsData, DataError
from astrid.data.alert_rows import AlertRow, draw_alert_splits, fingerprint_alerts, list_alerts
from astrid.data.alerts import AlertCrop, AlertFields, prepare_alert
from astrid.data.difference import channels_in_sigma
from astrid.data.fields import build_folds, build_splits, check_splits
from astrid.data.frames import Field
from astrid.data.judged import prepare_judged
from astrid.data.packets import packet_files, read_records
from astrid.data.recipes import UNIT, fingerprint
from astrid.data.surveys import read_alert
from astrid.experiment import run_experiment

pytestmark = pytest.mark.usefixtures("in_this_process")

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def of(place: Path, **knobs: Any) -> AlertsData:
    return AlertsData(packets=str(place), **knobs)


def quiet(fields: Iterable[Field], what: str, count: int) -> Iterable[Field]:
    return fields


def row_of(number: int, **changed: Any) -> AlertRow:
    row = AlertRow(Path("a"), number, number, "night", float(number), 0.0, "positive", FWHM, None)
    return dataclasses.replace(row, **changed)


def test_a_packet_is_read_as_it_was_written(tmp_path: Path) -> None:
    (record,) = read_records(write_avro(tmp_path / "a.avro", [packet(7)]))
    alert = read_alert(record, of(tmp_path))
    assert (alert.number, alert.ra, alert.solar_system) == (7, 7.0, True)
    assert alert.snr == pytest.approx(1.0857 / 0.05, rel=1e-4)
    assert alert.flux == pytest.approx(4000.0)
    np.testing.assert_allclose(alert.science - alert.template, alert.difference, atol=1e-4)
    assert np.unravel_index(alert.difference.argmax(), (EDGE, EDGE)) == (alert.y, alert.x) == (31, 31)


@pytest.mark.parametrize(
    ("position", "shape", "unknown"),
    [
        ((3060.0, 1000.0), (63, 44), np.s_[:, 44:]),
        ((3.0, 1000.0), (63, 44), np.s_[:, :19]),
        ((500.0, 3070.0), (53, 63), np.s_[53:, :]),
        ((500.0, 5.0), (53, 63), np.s_[:10, :]),
    ],
)
def test_a_stamp_cut_by_the_edge_of_its_chip_keeps_its_candidate_in_the_middle(
    position: tuple[float, float], shape: tuple[int, int], unknown: Any
) -> None:
    alert = read_alert(packet(1, shape=shape, xpos=position[0], ypos=position[1]), AlertsData(packets="a"))
    assert alert.science.shape == (EDGE, EDGE)
    lost = np.zeros((EDGE, EDGE), bool)
    lost[unknown] = True
    np.testing.assert_array_equal(alert.valid, ~lost)


def test_a_crop_is_an_exact_part_of_the_stamps_and_the_same_each_time() -> None:
    config = AlertsData(packets="a", crop_size=32)
    alert = read_alert(packet(5), config)
    field = prepare_alert(alert, row_of(5), config=config, crop=2)
    again = prepare_alert(alert, row_of(5), config=config, crop=2)
    np.testing.assert_array_equal(field.image, again.image)
    assert field.sources is not None
    x0, y0 = 31 - int(field.sources.x[0]), 31 - int(field.sources.y[0])
    cut = np.s_[y0 : y0 + 32, x0 : x0 + 32]
    new, old, difference = (stamp[cut] for stamp in (alert.science, alert.template, alert.difference))
    expected = channels_in_sigma(new, old, difference=difference, valid=np.ones((32, 32), bool))
    np.testing.assert_array_equal(field.image, expected)


def test_candidates_land_anywhere_in_their_crops_with_the_same_probability() -> None:
    config = AlertsData(packets="a", crop_size=48)
    alert = read_alert(packet(5), config)
    crops = [prepare_alert(alert, row_of(5), config=config, crop=crop) for crop in range(512)]
    places = np.array([[field.sources.x[0], field.sources.y[0]] for field in crops if field.sources is not None])
    for axis in places.T:
        counts = np.array([Counter(axis)[place] for place in range(16, 32)])
        assert counts.sum() == 512
        assert ((counts - 32) ** 2 / 32).sum() < 37.7  # chi-squared of 15 degrees of freedom at one in a thousand


def test_a_positive_is_a_disc_around_the_candidate_where_its_light_is() -> None:
    config = AlertsData(packets="a")
    for crop in range(8):
        field = prepare_alert(read_alert(packet(9), config), row_of(9), config=config, crop=crop)
        assert field.sources is not None
        y, x = np.unravel_index(field.image[2].argmax(), field.target.shape)
        assert (x, y) == (field.sources.x[0], field.sources.y[0])
        rows, columns = np.nonzero(field.target)
        assert np.hypot(columns - x, rows - y).max() <= 0.75 * FWHM
        assert field.target.sum() == 9  # a disc of 1.8 pixels around a pixel's centre
        assert field.valid.all()


@pytest.mark.parametrize(("unlabelled", "scored"), [("unscored", False), ("negative", True)])
def test_a_candidate_nobody_labelled_is_seen_and_scored_as_configured(unlabelled: Any, scored: bool) -> None:
    config = AlertsData(packets="a", unlabelled=unlabelled)
    alert = read_alert(packet(9, real=False), config)
    field = prepare_alert(alert, row_of(9, label=None), config=config, crop=0)
    y, x = np.unravel_index(field.image[2].argmax(), field.target.shape)
    assert field.image[2, y, x] > 20
    assert field.valid[y, x] == scored
    assert not field.target.any()
    assert field.sources is not None and len(field.sources.x) == 0


def test_a_bogus_candidate_is_scored_as_negative() -> None:
    config = AlertsData(packets="a")
    field = prepare_alert(read_alert(packet(9), config), row_of(9, label="negative"), config=config, crop=0)
    assert field.valid.all() and not field.target.any()


def test_unlabelled_packets_can_be_dropped(tmp_path: Path) -> None:
    assert len(list_alerts(of(night(tmp_path / "a.avro"), unlabelled="drop"))) == 6


def test_the_seeing_of_an_exposure_is_measured_from_its_candidates(tmp_path: Path) -> None:
    rows = list_alerts(of(night(tmp_path / "a.avro")))
    assert [row.fwhm_pixels for row in rows] == pytest.approx([FWHM] * 12, rel=0.03)
    (alike,) = {row.fwhm_pixels for row in rows if row.exposure == rows[0].exposure}
    assert alike != rows[1].fwhm_pixels
    assert list_alerts(of(tmp_path, fwhm_pixels=3.5))[0].fwhm_pixels == 3.5


def test_a_packet_without_zero_point_needs_the_seeing(tmp_path: Path) -> None:
    packets = [packet(number, magzpsci=None) for number in range(6)]
    with pytest.raises(DataError, match=r"the seeing must be known.*try data\.fwhm_pixels=2\.5"):
        list_alerts(of(write_avro(tmp_path / "a.avro", packets)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 360), st.floats(-90, 90)), min_size=6, max_size=40), st.integers(0, 9))
def test_packets_near_each_other_share_a_split(places: list[tuple[float, float]], seed: int) -> None:
    apart = [(0.0, 0.0), (90.0, 0.0), (180.0, 0.0)]  # or the positives might be one patch
    rows = [row_of(number, ra=ra, dec=dec) for number, (ra, dec) in enumerate([*apart, *places])]
    near = [row_of(1000 + row.number, ra=row.ra, dec=max(row.dec - 0.02, -90), label=None) for row in rows]
    drawn = draw_alert_splits([*rows, *near], AlertsData(packets="a", split_seed=seed))
    on_sky = SkyCoord([row.ra for row in drawn], [row.dec for row in drawn], unit="deg")
    close = on_sky[:, None].separation(on_sky[None, :]) < 119 * units.arcsec
    splits, patches = (np.array([getattr(row, name) for row in drawn]) for name in ("split", "patch"))
    assert (splits[:, None] == splits[None, :])[close].all()
    assert (patches[:, None] == patches[None, :])[close].all()
    assert set(patches) <= {row.number for row in drawn} and len(set(patches)) >= 3
    assert {row.split for row in drawn if row.label == "positive"} == {"train", "val", "test"}


def test_a_crop_belongs_to_the_patch_of_its_packet() -> None:
    alert, config = read_alert(packet(7), of(Path("a"))), of(Path("a"))
    one, other = (prepare_alert(alert, row_of(7, patch=3), config=config, crop=crop) for crop in (0, 1))
    assert one.name != other.name and one.group == other.group == "patch of 3"


def test_positives_and_others_are_spread_alike_over_the_splits() -> None:
    rows = [row_of(number, label="positive" if number < 40 else None) for number in range(200)]
    drawn = draw_alert_splits(rows, AlertsData(packets="a"))
    assert Counter(row.split for row in drawn if row.label) == {"train": 24, "val": 8, "test": 8}
    assert Counter(row.split for row in drawn) == {"train": 120, "val": 40, "test": 40}
    other = draw_alert_splits(rows, AlertsData(packets="a", split_seed=1))
    assert [row.split for row in drawn] != [row.split for row in other]


@pytest.mark.parametrize(("positives", "others"), [(3, 1), (4, 2), (4, 20), (6, 0), (6, 20), (40, 3)])
@pytest.mark.parametrize("share", [0.2, 0.3, 0.4, 0.42, 0.48])
def test_every_split_has_positives_and_training_has_others_too(positives: int, others: int, share: float) -> None:
    rows = [row_of(number, label="positive" if number < positives else None) for number in range(positives + others)]
    drawn = draw_alert_splits(rows, AlertsData(packets="a", val_fraction=share, test_fraction=share))
    assert {row.split for row in drawn if row.label} == {"train", "val", "test"}
    assert ("train" in {row.split for row in drawn if row.label is None}) == (others > 0)


def test_positives_in_too_few_places_are_refused() -> None:
    with pytest.raises(DataError, match=r"positives must lie in at least 3 patches .* got 2 among 3 packets"):
        draw_alert_splits([row_of(1), row_of(2), row_of(3, label=None)], AlertsData(packets="a"))


def write_labels(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["candid,note,label", *lines]))
    return str(path)


def test_a_table_of_labels_decides(tmp_path: Path) -> None:
    lines = ["0,x,bogus", "1,x,real", "2,x,", "3,x,real", "4,x,sso", "99,x,real"]
    labels = write_labels(tmp_path / "labels.csv", *lines)
    rows = list_alerts(of(night(tmp_path / "a.avro"), labels=labels))
    found = {row.number: row.label for row in rows}
    assert [found[number] for number in range(6)] == ["negative", "positive", None, "positive", "positive", None]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,x,rael"], r"labels\.csv, line 2: label must be empty or one of real, sso, 1, bogus, 0, got 'rael'"),
        (["x,x,real"], r"labels\.csv, line 2: candid must be a whole number, got 'x'"),
        (["1,x,real", "1,x,bogus"], r"labels\.csv, line 3: candid 1 has another label above"),
        (["99,x,real"], r"data\.labels must be about the packets, but .* names none of 12 of them"),
    ],
)
def test_a_wrong_label_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    labels = write_labels(tmp_path / "labels.csv", *lines)
    with pytest.raises(DataError, match=message):
        list_alerts(of(night(tmp_path / "a.avro"), labels=labels))


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\n1,real")
    with pytest.raises(DataError, match=r"labels\.csv must have a column label and one of candid, diaSourceId"):
        list_alerts(of(night(tmp_path / "a.avro"), labels=str(tmp_path / "labels.csv")))


def test_a_packet_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    night(tmp_path / "a.avro")
    shutil.copy(tmp_path / "a.avro", tmp_path / "b.avro")
    with pytest.raises(DataError, match=r"b\.avro: packet 0 must occur once, .*a\.avro has it too"):
        list_alerts(of(tmp_path))


def test_a_tar_archive_and_a_folder_hold_the_same_packets_as_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(6):
        write_avro(folder / f"{number}.avro", [packet(number)])
    with tarfile.open(tmp_path / "night.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="night")
    one, other = (list_alerts(of(place)) for place in (folder, tmp_path / "night.tar.gz"))
    assert {row.number: row.split for row in one} == {row.number: row.split for row in other}
    assert len(one) == 6


def test_prepared_fields_are_those_of_the_packets(tmp_path: Path) -> None:
    config = of(night(tmp_path / "a.avro"), cache=str(tmp_path / "cache"), crop_size=32, tile_size=32)
    splits = build_splits(config, receptive_field_pixels=9, announce=quiet)
    check_splits(splits, monitor="val/auprc")
    assert [len(splits.train), len(splits.val), len(splits.test)] == [4 * 8, 2, 2]
    calls = list(AlertFields(list_alerts(config), config, split="test"))
    for number, call in enumerate(calls):
        np.testing.assert_array_equal(splits.test.image(number), call().image)
        np.testing.assert_array_equal(splits.test.field(number).target, call().target)
    for split in ("train", "val", "test"):  # each field says which packet it is from, its crops the same one
        names = [entry.name for entry in getattr(splits, split).entries]
        assert splits.origins[split] == [f"packet {name.partition('#')[0]}" for name in names]


def test_packets_are_not_divided_into_folds(tmp_path: Path) -> None:
    config = of(night(tmp_path / "a.avro"), cache=str(tmp_path / "cache"), crop_size=32, tile_size=32, folds=3)
    with pytest.raises(DataError, match=r"a\.avro.* can't be pooled, neither for folds.*leave data\.folds alone"):
        build_folds(config, receptive_field_pixels=9, announce=quiet)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_finished_model_is_judged_on_the_fields_of_a_training_run(tmp_path: Path, split: Any) -> None:
    config = of(night(tmp_path / "a.avro"), cache=str(tmp_path / "cache"), crop_size=32, tile_size=32)
    own = build_splits(config, receptive_field_pixels=9, announce=quiet)
    judged = prepare_judged(config, split, channels=3, unit=UNIT, announce=quiet)
    assert [entry.name for entry in judged.store.entries] == [entry.name for entry in getattr(own, split).entries]
    assert judged.origins == own.origins[split]
    assert (judged.fingerprint == own.fingerprint) == (split == "test")


def test_the_fingerprint_follows_the_packets_and_what_is_decided_about_them(tmp_path: Path) -> None:
    def key(place: Path, **knobs: Any) -> str:
        config = of(place, **knobs)
        return fingerprint(config, contents=fingerprint_alerts(list_alerts(config)))

    (tmp_path / "other").mkdir()
    night(tmp_path / "a.avro")
    before = key(tmp_path / "a.avro")
    shutil.move(tmp_path / "a.avro", tmp_path / "other" / "b.avro")
    assert key(tmp_path / "other") == before
    assert key(tmp_path / "other", cache="elsewhere", batch_size=2) == before
    labels = write_labels(tmp_path / "labels.csv", *(f"{number},x,real" for number in range(8)))
    for changed in ({"split_seed": 1}, {"crop_seed": 1}, {"fwhm_pixels": 3.0}, {"labels": labels}):
        assert key(tmp_path / "other", **changed) != before, changed


def test_a_run_on_packets_ends_with_metrics_of_its_objects(tmp_path: Path) -> None:
    from astrid.config.compose import load

    night(tmp_path / "a.avro", real=10, others=4)
    overrides = ["data=alerts", f"data.packets={tmp_path}/a.avro", f"data.cache={tmp_path}/cache", "tracking=off"]
    overrides += ["data.crop_size=32", "data.tile_size=32", "data.batch_size=8", "model=unet_small", "energy=off"]
    overrides += ["training.epochs=2", "training.threads=1", "training.device=cpu", "metrics=fast", "optimizer.lr=0.01"]
    overrides += ["metrics.baselines=true"]
    run_experiment(load(overrides), run_dir=tmp_path / "run")
    said = (tmp_path / "run" / "metrics.json").read_text()
    assert '"test/auprc"' in said
    assert '"difference/completeness": 1.0' in said


def damaged_night(folder: Path, **changed: Any) -> Path:
    packets = [packet(number) for number in range(6)]
    packets[3] |= changed
    return write_avro(folder / "a.avro", packets)


def broken_stamp() -> dict[str, Any]:
    good = stamp(np.ones((EDGE, EDGE), np.float32))
    return good | {"stampData": good["stampData"][:-30]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cutoutScience": broken_stamp()}, r"packet 3: a stamp: cannot be read as FITS"),
        ({"cutoutScience": {"fileName": "a.jpg", "stampData": b"\xff\xd8\xff\xe0"}}, r"packet 3: .* JPEG"),
        ({"cutoutDifference": stamp(np.ones((30, 70), np.float32))}, r"packet 3: a stamp of ZTF must have at most 63"),
    ],
)
def test_a_damaged_packet_stops_or_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, Any], message: str
) -> None:
    place = damaged_night(tmp_path, **changed)
    with pytest.raises(DataError, match=rf"a\.avro, {message}.*data\.damaged=skip") as caught:
        list_alerts(of(place))
    assert str(caught.value).count("\n") == 0
    with caplog.at_level(logging.WARNING):
        rows = list_alerts(of(place, damaged="skip"))
    assert [row.number for row in rows] == [0, 1, 2, 4, 5]
    assert "packet 3" in caplog.text


def test_sound_packets_that_no_crop_fits_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masked = np.full((EDGE, EDGE), np.nan, np.float32)
    place = damaged_night(tmp_path, cutoutTemplate=stamp(masked))
    assert len(list_alerts(of(place))) == 5
    assert "left out 1 packets (3, ...): less than half of the pixels" in caplog.text
    with pytest.raises(DataError, match=r"got none in .*: stamps below data\.crop_size \+ 6 pixels"):
        list_alerts(of(place, crop_size=60))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x00\x00\x01rest", "packets must carry their schema, got a bare message as Kafka sends it"),
        (b"SIMPLE  =                    T", "must be an Avro container, a Parquet table or a tar archive"),
        (b"", "must be an Avro container"),
        (b"Obj\x01", "cannot be read as alert packets from its beginning"),
        (b"PAR1garbagePAR1", "cannot be read as alert packets from its beginning"),
    ],
)
def test_a_foreign_file_is_refused_with_one_message(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.avro").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list_alerts(of(tmp_path))


def test_packets_of_an_unknown_survey_are_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"alertId": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"must have a candidate \(ZTF\) or a diaSource \(Rubin\), got alertId"):
        list_alerts(of(tmp_path))


def test_a_place_without_packets_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold files of packets \(\.avro"):
        packet_files(tmp_path)
    with pytest.raises(DataError, match="which isn't there"):
        packet_files(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small file of each kind; paths, since a failed test prints its arguments."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("contents")
    packets = [packet(number) for number in range(2)]
    places = {kind: folder / f"a.{kind}" for kind in ("avro", "parquet", "tar")}
    avro = write_avro(places["avro"], packets).read_bytes()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(packets), places["parquet"])
    with tarfile.open(places["tar"], mode="w:gz") as archive:
        member = tarfile.TarInfo("a.avro")
        member.size = len(avro)
        archive.addfile(member, io.BytesIO(avro))
    return places


def refusal(path: Path) -> str:
    """Read a file to its last stamp; return what a DataError, the one way to fail, says, and else nothing."""
    try:
        for record in read_records(path):
            read_alert(record, of(path))
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["avro", "parquet", "tar"])
@FUZZ
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_cut_and_corrupted_files_are_read_or_refused(
    tmp_path: Path, contents: dict[str, Path], kind: str, changes: list[tuple[float, int]], kept: float
) -> None:
    content = bytearray(contents[kind].read_bytes())
    for place, value in changes:
        content[int(place * len(content))] = value
    path = tmp_path / "fuzzed"
    path.write_bytes(content[: round(kept * len(content))])
    said = refusal(path)
    assert "\n" not in said and "Traceback" not in said


@pytest.mark.parametrize(("key", "other"), [(b'"name": "jd"', b'"nome": "jd"'), (b'"type": "long"', b'"tipe": "long"')])
def test_a_damaged_schema_is_refused(tmp_path: Path, contents: dict[str, Path], key: bytes, other: bytes) -> None:
    whole = contents["avro"].read_bytes()
    assert whole.count(key) == 1
    path = tmp_path / "damaged.avro"
    path.write_bytes(whole.replace(key, other))
    with pytest.raises(DataError, match=r"damaged\.avro: the schema in an Avro file's header must be whole, got: "):
        list(read_records(path))


def test_every_packet_that_lacks_something_is_refused(tmp_path: Path) -> None:
    whole = packet(1)
    optional = {"ssdistnr", "ssmagnr", "magzpsci", "rcid"}
    for name in whole["candidate"].keys() - optional:
        lacking = {key: value for key, value in whole["candidate"].items() if key != name}
        with pytest.raises(DataError, match=f"got no '{name}'"):
            read_alert(whole | {"candidate": lacking}, of(tmp_path))
    for name in ("ra", "xpos", "magpsf", "sigmapsf", "jd"):
        with pytest.raises(DataError, match="a packet must hold what its survey's schema says"):
            read_alert(whole | {"candidate": whole["candidate"] | {name: None}}, of(tmp_path))
    for name in optional:
        read_alert(whole | {"candidate": whole["candidate"] | {name: None}}, of(tmp_path))


ZTF, RUBIN = "ztf_alerts_2018/ztf_20181128.avro", "lsst_alerts_2026a/lsst_20260309.parquet"


def test_a_real_night_has_the_minor_planets_of_its_table_in_all_splits(
    sample_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (sample_data / "ztf_alerts_2018" / "labels.csv").open() as stream:
        known = {int(line["candid"]) for line in csv.DictReader(stream) if line["label"] == "sso"}
    rows = list_alerts(of(sample_data / ZTF))
    assert {row.number for row in rows if row.label == "positive"} == known
    assert (len(rows), len(known)) == (497, 143)
    assert "left out 1 packets" in caplog.text
    assert Counter(row.split for row in rows if row.label) == {"train": 87, "val": 28, "test": 28}
    seeing = {row.exposure: row.fwhm_pixels for row in rows}
    assert len(seeing) == 3
    assert all(width is not None and 2.5 < width < 4.0 for width in seeing.values())


def test_rubin_packets_bring_their_psf_and_uncertainty(sample_data: Path) -> None:
    alerts = [read_alert(record, of(sample_data)) for record in read_records(sample_data / RUBIN)]
    assert len(alerts) == 107
    assert sum(alert.solar_system for alert in alerts) == 25
    for alert in alerts:
        assert alert.psf is not None and alert.uncertainty is not None
        assert alert.psf.sum() == pytest.approx(1.0, abs=1e-4)
        assert alert.fwhm_pixels is not None and 4 < alert.fwhm_pixels < 10
        height, width = alert.difference.shape
        assert abs(alert.x - (width - 1) / 2) < 1.5 and abs(alert.y - (height - 1) / 2) < 1.5
    rows = list_alerts(of(sample_data / RUBIN, crop_size=24))
    fields = AlertFields(rows, of(sample_data / RUBIN, crop_size=24), split="test")
    for call in fields:
        field = call()
        assert field.image.shape == (3, 24, 24)
        assert field.sources is not None and all(4 <= at <= 19 for at in (*field.sources.x, *field.sources.y))


@pytest.mark.parametrize(
    ("name", "count"),
    [("ztf_public_20180819_mod1000.tar.gz", 30), ("recent_alerts.tar.gz", 22), ("alerts.parquet", 51)],
)
def test_packets_of_other_nights_are_read_however_they_are_packed(sample_data: Path, name: str, count: int) -> None:
    records = read_records(sample_data / "ztf_alerts_misc" / name)
    assert len([read_alert(record, of(sample_data)) for record in records]) == count


def test_every_odd_packet_is_refused_with_one_message(sample_data: Path) -> None:
    for path in packet_files(sample_data / "odd_alerts"):
        with pytest.raises(DataError, match=path.name) as caught:
            list_alerts(of(path))
        assert "\n" not in str(caught.value)


def test_a_field_that_cannot_be_made_names_its_packet() -> None:
    config = AlertsData(packets="a")
    with pytest.raises(DataError, match="a, packet 1: "):
        AlertCrop(row_of(1), packet(1) | {"cutoutScience": broken_stamp()}, 0, config)()
