"""Archives: what each is asked and what is made of its answer; transfers that break, and what is taken for whole."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from archive_servers import IRSA_TABLE, ArchiveServer, archive_server, picture, play_mast, play_panstarrs
from astropy.coordinates import name_resolve
from hypothesis import given
from hypothesis import strategies as st

from astrid.config import DataError, RunError
from astrid.data.archives import Place, Product, Wanted
from astrid.data.archives.catalogue import open_archive
from astrid.data.archives.collection import MANIFEST, RECORD, Collection
from astrid.data.archives.download import Downloader, Outcome, ask_sizes, check_room
from astrid.data.archives.http import ArchiveError, Cancelled, Patience, Patient, UnreachableError, open_session
from astrid.data.archives.places import find_place
from astrid.data.archives.products import file_name
from astrid.data.archives.transfer import Fetched, fetch_file, named_digest

HASTY = Patience(tries=3, timeout_seconds=60, first_wait_seconds=0.01, longest_wait_seconds=1.5)
M31 = Place("M31", 10.0, 41.0)
FILE = "https://archive.example/a.fits"


@pytest.fixture(name="server")
def local_server() -> Iterator[ArchiveServer]:
    with archive_server() as server:
        server.answers["archive.example/a.fits"] = picture(1, edge=200)
        yield server


def found(server: ArchiveServer, name: str, **wanted: Any) -> list[Product]:
    adapter = Patient(HASTY)
    return open_archive(name, session=open_session(adapter), adapter=adapter).plan(Wanted(M31, **wanted))


def fetch(path: Path, url: str = FILE, patience: Patience = HASTY, **known: Any) -> Fetched:
    adapter = Patient(patience)
    known = {"size_bytes": None, "show": lambda size: None} | known
    return fetch_file(url, path, session=open_session(adapter), adapter=adapter, **known)


def whole(server: ArchiveServer) -> bytes:
    content = server.answers["archive.example/a.fits"]
    assert isinstance(content, bytes)
    return content


def test_panstarrs_has_a_stack_of_each_filter_as_cutout_or_frame(server: ArchiveServer) -> None:
    play_panstarrs(server, bands="gri")
    cutouts = found(server, "panstarrs", size_arcsec=60.0, bands=("g", "r"))
    assert [product.band for product in cutouts] == ["g", "r"]
    assert "size=240&" in cutouts[0].url and "fitscut.cgi" in cutouts[0].url
    assert cutouts[0].size_bytes is not None and 0 <= cutouts[0].size_bytes - 4 * 240**2 < 6 * 2880
    frames = found(server, "panstarrs")
    assert frames[0].url.endswith("/rings.v3.skycell/2069/10.stack.g.unconv.fits")
    assert len(frames) == 3 and not frames[0].is_made
    asked = server.asked("ps1images.stsci.edu/cgi-bin/ps1filenames.py")
    assert [call.query["type"] for call in asked] == ["stack", "stack"]
    assert found(server, "panstarrs", since=50000.0) == []
    assert server.calls[-1].query["type"] == "warp"


def test_ztf_images_are_asked_for_by_filter_and_time_and_named_as_irsa_does(server: ArchiveServer) -> None:
    server.answers["irsa.ipac.caltech.edu/ibe/search/ztf/products/sci"] = IRSA_TABLE.encode()
    frames = found(server, "ztf", bands=("r", "g"), since=58000.0, until=59000.0)
    asked = server.calls[-1].query
    assert asked["where"] == "filtercode IN ('zr','zg') AND obsjd>=2458000.5 AND obsjd<=2459000.5"
    assert asked["POS"] == "10.0,41.0"
    assert [product.band for product in frames] == ["g", "r"]  # the newest first
    path = "https://irsa.ipac.caltech.edu/ibe/data/ztf/products/sci/2018/0411/467847/"
    assert frames[1].url == path + "ztf_20180411467847_000535_zr_c11_o_q3_sciimg.fits"
    assert frames[1].mjd == pytest.approx(58219.4678472)
    (cutout,) = found(server, "ztf", size_arcsec=50.0, limit=1)
    assert cutout.url.endswith("_c01_o_q4_sciimg.fits?center=10.0,41.0&size=50arcsec&gzip=false")


OBSERVATIONS = [
    {"obsid": "11", "filters": "F606W", "t_min": 55000.5},
    {"obsid": "12", "filters": "F814W", "t_min": 56000.5},
]
PRODUCTS = [
    {"obsID": obsid, "productFilename": f"{stem}{kind}.fits", "dataURI": f"mast:HST/{stem}{kind}.fits", "size": size}
    for obsid, stem, kind, size in (
        ("11", "ja", "_drz", 100),
        ("11", "ja", "_flt", 200),
        ("12", "jb", "_drc", 300),
        ("99", "jc", "_drc", 400),
        ("12", "tess-s0001-1-1-0120-s", "_ffic", 500),
        ("12", "jw1", "_i2d", 600),
    )
]


@pytest.mark.parametrize(
    ("mission", "names"),
    [
        ("hst", ["jb_drc.fits", "ja_drz.fits"]),
        ("jwst", ["jw1_i2d.fits"]),
        ("tess", ["tess-s0001-1-1-0120-s_ffic.fits"]),
    ],
)
def test_space_telescopes_give_their_calibrated_images_with_their_sizes(
    server: ArchiveServer, mission: str, names: list[str]
) -> None:
    play_mast(server, OBSERVATIONS, PRODUCTS)
    products = found(server, mission, bands=("F606W", "F814W"), since=50000.0)
    assert [product.name for product in products] == names
    assert all(product.is_exact for product in products)
    search = next(
        call.query["request"] for call in server.calls if "Filtered.Position" in call.query.get("request", "")
    )
    for part in (f'"{mission.upper()}"', '"PUBLIC"', '"F606W", "F814W"', '"min": 50000.0', '"10.0, 41.0, 0.01"'):
        assert part in search
    if mission == "hst":
        assert products[0].url == "https://mast.stsci.edu/api/v0.1/Download/file?uri=mast%3AHST%2Fjb_drc.fits"
        assert [product.size_bytes for product in products] == [300, 100]
        assert [product.band for product in products] == ["F814W", "F606W"]


def test_observations_without_an_image_of_the_kind_dont_count_for_the_limit(server: ArchiveServer) -> None:
    newer = [{"obsid": str(number), "filters": "F814W", "t_min": 57000.5} for number in range(100, 350)]
    play_mast(server, [*OBSERVATIONS, *newer], PRODUCTS)
    assert [product.name for product in found(server, "hst", limit=1)] == ["jb_drc.fits"]


def test_a_search_that_finds_nothing_is_empty(server: ArchiveServer) -> None:
    play_mast(server, [], [])
    play_panstarrs(server, bands="")
    server.answers["irsa.ipac.caltech.edu/ibe/search/ztf/products/sci"] = "\n".join(
        IRSA_TABLE.splitlines()[:4]
    ).encode()
    server.answers["skyserver.sdss.org/dr17/en/tools/search/x_results.aspx"] = b"#Table1\nrun,rerun\n"
    for name in ("hst", "panstarrs", "ztf", "sdss"):
        assert found(server, name) == [], name


def test_sdss_frames_are_found_by_field(server: ArchiveServer) -> None:
    table = b"#Table1\nrun,rerun,camcol,field,mjd_r\n1904,301,3,163,52000.1\n"
    server.answers["skyserver.sdss.org/dr17/en/tools/search/x_results.aspx"] = table
    products = found(server, "sdss", bands=("r", "i"))
    assert "10.0 between raMin and raMax" in server.calls[-1].query["cmd"]
    path = "https://data.sdss.org/sas/dr17/eboss/photoObj/frames/301/1904/3/"
    assert [product.url for product in products] == [
        path + f"frame-{band}-001904-3-0163.fits.bz2" for band in ("r", "i")
    ]


def test_skyview_makes_a_cutout_of_each_survey(server: ArchiveServer) -> None:
    one, two = found(server, "skyview", size_arcsec=120.0, bands=("DSS2 Red", "2MASS-K"))
    assert "Survey=DSS2+Red" in one.url and "Pixels=120" in one.url and "Return=FITS" in one.url
    assert (one.name, two.band) == ("M31_120as_DSS2-Red.fits", "2MASS-K")
    assert server.calls == []


@pytest.mark.parametrize("name", ["panstarrs", "hst", "ztf", "sdss"])
@pytest.mark.parametrize("answer", [b"<html>maintenance</html>", b"", b"{}"])
def test_an_answer_that_makes_no_sense_is_one_message(server: ArchiveServer, name: str, answer: bytes) -> None:
    for path in ASKED:
        server.answers[path] = answer
    try:
        assert found(server, name) == []
    except ArchiveError as error:
        assert "\n" not in str(error)
        assert "answers" in str(error)


ASKED = (
    "ps1images.stsci.edu/cgi-bin/ps1filenames.py",
    "mast.stsci.edu/portal/Mashup/Mashup.asmx/columnsconfig",
    "mast.stsci.edu/api/v0/invoke",
    "irsa.ipac.caltech.edu/ibe/search/ztf/products/sci",
    "skyserver.sdss.org/dr17/en/tools/search/x_results.aspx",
)


@pytest.mark.parametrize("name", ["panstarrs", "hst", "ztf", "sdss"])
def test_a_search_survives_a_busy_archive_and_names_one_that_stays_so(server: ArchiveServer, name: str) -> None:
    play_panstarrs(server)
    play_mast(server, OBSERVATIONS, PRODUCTS)
    server.answers["irsa.ipac.caltech.edu/ibe/search/ztf/products/sci"] = IRSA_TABLE.encode()
    server.answers["skyserver.sdss.org/dr17/en/tools/search/x_results.aspx"] = (
        b"#T\nrun,rerun,camcol,field,mjd_r\n1,301,3,1,5.0\n"
    )
    server.troubles = {path: ["503", "cut"] for path in ASKED}
    assert found(server, name)
    server.troubles = {path: ["500"] * 3 for path in ASKED}
    with pytest.raises(ArchiveError, match=r"answered 500 Internal Server Error 3 times"):
        found(server, name)


def test_a_file_comes_whole_and_leaves_no_part(server: ArchiveServer, tmp_path: Path) -> None:
    seen: list[int] = []
    fetched = fetch(tmp_path / "a.fits", show=seen.append)
    assert (tmp_path / "a.fits").read_bytes() == whole(server)
    assert fetched == Fetched(len(whole(server)), hashlib.sha256(whole(server)).hexdigest())
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]
    assert seen[-1] == len(whole(server))


def test_half_a_file_is_gone_on_with_where_it_broke(server: ArchiveServer, tmp_path: Path) -> None:
    server.troubles["archive.example/a.fits"] = ["half", "half", "half", "half", "half"]
    fetch(tmp_path / "a.fits")
    assert (tmp_path / "a.fits").read_bytes() == whole(server)
    starts = [int(call.headers.get("range", "bytes=0-")[6:-1]) for call in server.calls]
    assert starts[0] == 0 and starts == sorted(set(starts)) and len(starts) == 6  # more than the tries: each got on
    assert all("if-range" in call.headers for call in server.calls[1:])


def test_a_part_of_another_version_is_thrown_away(server: ArchiveServer, tmp_path: Path) -> None:
    server.troubles["archive.example/a.fits"] = ["half", "404"]
    with pytest.raises(ArchiveError, match="404"):
        fetch(tmp_path / "a.fits")
    assert (tmp_path / "a.fits.part").stat().st_size == len(whole(server)) // 2
    server.answers["archive.example/a.fits"] = picture(2, edge=200)
    fetch(tmp_path / "a.fits")
    assert (tmp_path / "a.fits").read_bytes() == picture(2, edge=200)


def test_another_part_than_was_asked_for_is_not_taken(server: ArchiveServer, tmp_path: Path) -> None:
    server.names_digests = False
    server.troubles["archive.example/a.fits"] = ["half", "shifted"]
    fetch(tmp_path / "a.fits")
    assert (tmp_path / "a.fits").read_bytes() == whole(server)


def test_a_server_that_gives_a_little_at_a_time_is_asked_for_the_rest(server: ArchiveServer, tmp_path: Path) -> None:
    server.troubles["archive.example/a.fits"] = ["half", "little", "little"]
    fetch(tmp_path / "a.fits")
    assert (tmp_path / "a.fits").read_bytes() == whole(server)
    assert all("range" in call.headers for call in server.calls[1:]) and len(server.calls) == 4


def test_a_server_without_ranges_sends_everything_again(server: ArchiveServer, tmp_path: Path) -> None:
    server.has_ranges = False
    server.troubles["archive.example/a.fits"] = ["half"]
    fetch(tmp_path / "a.fits")
    assert (tmp_path / "a.fits").read_bytes() == whole(server)
    assert "range" not in server.calls[-1].headers


def test_a_part_longer_than_the_file_is_thrown_away(server: ArchiveServer, tmp_path: Path) -> None:
    server.troubles["archive.example/a.fits"] = ["half", "404"]
    with pytest.raises(ArchiveError):
        fetch(tmp_path / "a.fits")
    with (tmp_path / "a.fits.part").open("ab") as stream:
        stream.write(bytes(10 * len(whole(server))))
    fetch(tmp_path / "a.fits")
    assert (tmp_path / "a.fits").read_bytes() == whole(server)


def test_a_part_that_was_damaged_on_disk_is_found_by_the_checksum(server: ArchiveServer, tmp_path: Path) -> None:
    server.troubles["archive.example/a.fits"] = ["half", "404"]
    with pytest.raises(ArchiveError):
        fetch(tmp_path / "a.fits")
    part = tmp_path / "a.fits.part"
    part.write_bytes(b"x" + part.read_bytes()[1:])
    fetch(tmp_path / "a.fits")
    assert (tmp_path / "a.fits").read_bytes() == whole(server)


def test_a_wrong_checksum_is_tried_again_and_then_refused(server: ArchiveServer, tmp_path: Path) -> None:
    server.troubles["archive.example/a.fits"] = ["lie"]
    fetch(tmp_path / "a.fits")
    server.troubles["archive.example/a.fits"] = ["lie"] * 3
    with pytest.raises(ArchiveError, match=r"b\.fits: its checksum isn't that which the server names .*, 3 times"):
        fetch(tmp_path / "b.fits")
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_a_file_of_another_size_than_the_archive_stated_is_refused(server: ArchiveServer, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=f"{len(whole(server))} bytes came where the archive states 5"):
        fetch(tmp_path / "a.fits", size_bytes=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trouble", ["500", "503", "429", "429 Retry-After 0", "silence", "cut"])
def test_trouble_that_passes_is_waited_for(server: ArchiveServer, tmp_path: Path, trouble: str) -> None:
    server.troubles["archive.example/a.fits"] = [trouble] * 2
    silent = dataclasses.replace(HASTY, tries=9, timeout_seconds=0.4)  # more tries, lest a slow answer be one
    fetch(tmp_path / "a.fits", patience=silent if trouble == "silence" else HASTY)
    assert (tmp_path / "a.fits").read_bytes() == whole(server)


def test_a_server_that_asks_for_a_pause_gets_it(server: ArchiveServer, tmp_path: Path) -> None:
    server.troubles["archive.example/a.fits"] = ["429 Retry-After 1"]
    began = time.monotonic()
    fetch(tmp_path / "a.fits")
    assert time.monotonic() - began >= 1.0
    server.troubles["archive.example/a.fits"] = ["429 Retry-After 3600"]
    with pytest.raises(ArchiveError, match=r"archive\.example asks to wait 3600 s \(429 Too Many Requests\)"):
        fetch(tmp_path / "b.fits")


def test_a_pause_that_one_request_was_asked_for_holds_back_the_others(
    server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Patient, "wait", lambda self, seconds: waits.append(seconds))
    session = open_session(Patient(dataclasses.replace(HASTY, longest_wait_seconds=7200)))
    server.troubles["archive.example/a.fits"] = ["429 Retry-After 3600"]
    for _ in range(2):
        assert session.get(FILE).ok
    first, again, other = waits
    assert first <= 0 and again > 1800 and other > 1800


def test_a_date_to_retry_after_is_understood(server: ArchiveServer, tmp_path: Path) -> None:
    server.troubles["archive.example/a.fits"] = ["503 Retry-After Fri, 01 Jan 2100 00:00:00 GMT"]
    with pytest.raises(ArchiveError, match=r"asks to wait \d{9,} s"):
        fetch(tmp_path / "a.fits")
    server.troubles["archive.example/a.fits"] = ["503 Retry-After Fri, 01 Jan 2010 00:00:00 GMT"]
    fetch(tmp_path / "a.fits")


@pytest.mark.parametrize("trouble", ["silence", "503", "half"])
def test_trouble_that_stays_fails_that_file_with_one_message(
    server: ArchiveServer, tmp_path: Path, trouble: str
) -> None:
    server.has_ranges = False  # or half and half would come to the whole
    server.troubles["archive.example/a.fits"] = [trouble] * 30
    patience = dataclasses.replace(HASTY, timeout_seconds=0.4) if trouble == "silence" else HASTY
    with pytest.raises(ArchiveError) as caught:
        fetch(tmp_path / "a.fits", patience=patience)
    assert server.time_outs == [patience.timeout_seconds] * (4 if trouble == "half" else 3)
    assert not isinstance(caught.value, UnreachableError)
    assert "3 times; try again later" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_host_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"cannot reach 127\.0\.0\.1:9 \(.*refused.*\): is there a network"):
        fetch(tmp_path / "a.fits", "http://127.0.0.1:9/a.fits")


def test_a_folder_that_cannot_be_written_is_named(server: ArchiveServer, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*a\.fits: No such file or directory"):
        fetch(tmp_path / "nowhere" / "a.fits")


def test_an_archive_that_sends_to_what_cannot_be_fetched_is_at_fault_and_not_the_disk(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.troubles["archive.example/a.fits"] = ["302 Location ftp://archive.example/a.fits"]
    with pytest.raises(ArchiveError, match=r"^a\.fits: the archive sends to what can't be fetched \(.*\)$"):
        fetch(tmp_path / "a.fits")


def test_a_size_that_a_redirect_hides_is_unknown(server: ArchiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ArchiveServer, "next_trouble", lambda self, call: "302 Location ftp://archive.example/a.fits")
    one = Product(FILE, "a.fits", "ztf", "M31", "r")
    assert ask_sizes([one], open_session(Patient(HASTY)), parallel=1) == [one]


@pytest.mark.parametrize("name", [RECORD, f"{MANIFEST}.partial"])
def test_a_full_disk_is_one_message_wherever_it_is_met(server: ArchiveServer, tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"^cannot write .*\.csv: No space left on device; make room, or name another"):
        download(server, tmp_path, products_of(server, 2))
        Collection(tmp_path).write_manifest()


def test_a_stop_ends_every_wait() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        Patient(HASTY, stop).wait(3600)


@given(st.integers(1, 40))
def test_waits_grow_to_their_limit(attempt: int) -> None:
    patience = Patience(first_wait_seconds=1.0, longest_wait_seconds=30.0)
    low, high = (min(share * 2.0 ** (attempt - 1), 30.0) for share in (0.75, 1.25))
    assert low <= patience.wait_seconds(attempt) <= high


def test_digests_of_servers_are_read() -> None:
    md5 = "CY9rzUYh03PK3k6DJie09g=="
    for headers in ({"Content-MD5": md5}, {"Digest": f"MD5={md5}"}, {"Repr-Digest": f"unknown=:AA==:, md5=:{md5}:"}):
        assert named_digest(headers) == "md5:" + hashlib.md5(b"test").hexdigest()
    assert named_digest({"Digest": "sha-256=not base64"}) == named_digest({}) == ""


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_names_of_files_never_lead_out_of_their_folder(parts: list[str]) -> None:
    name = file_name(*parts)
    assert name and "/" not in name and "\\" not in name and name not in (".", "..") and name.isascii()


def products_of(server: ArchiveServer, count: int) -> list[Product]:
    for number in range(count):
        server.answers[f"archive.example/{number}.fits"] = picture(number)
    return [
        Product(f"https://archive.example/{number}.fits", f"{number}.fits", "ztf", f"field{number}", "r", 58000.25)
        for number in range(count)
    ]


def download(server: ArchiveServer, folder: Path, products: list[Product], *, parallel: int = 3) -> Outcome:
    adapter = Patient(HASTY)
    collection = Collection(folder)
    downloader = Downloader(collection, open_session(adapter), adapter, parallel)
    return downloader.fetch(collection.missing(products), lambda product, size: None)


def test_many_files_come_at_once_but_never_more_than_the_limit(server: ArchiveServer, tmp_path: Path) -> None:
    products = products_of(server, 12)
    running, most, lock, three = 0, 0, threading.Lock(), threading.Barrier(3, timeout=60)

    def together(content: bytes) -> Any:
        def answer(query: dict[str, str]) -> bytes:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            three.wait()
            time.sleep(0.02)  # in which a fourth would come
            with lock:
                running -= 1
            return content

        return answer

    for number in range(12):
        server.answers[f"archive.example/{number}.fits"] = together(picture(number))
    assert len(download(server, tmp_path, products).fetched) == 12
    assert most == 3


def test_what_is_here_and_unchanged_is_not_fetched_again(server: ArchiveServer, tmp_path: Path) -> None:
    products = products_of(server, 3)
    download(server, tmp_path, products)
    (tmp_path / "ztf" / "1.fits").write_bytes(picture(99))
    (tmp_path / "ztf" / "2.fits").unlink()
    server.calls.clear()
    assert {product.name for product in download(server, tmp_path, products).fetched} == {"1.fits", "2.fits"}
    assert (tmp_path / "ztf" / "1.fits").read_bytes() == picture(1)
    assert len(server.calls) == 2


def test_a_file_never_takes_the_place_of_another_of_its_name(server: ArchiveServer, tmp_path: Path) -> None:
    one, two = products_of(server, 2)
    two = dataclasses.replace(two, name=one.name)
    with pytest.raises(RunError, match=r"0\.fits is that of .*/0\.fits and .*/1\.fits; fetch into two folders"):
        Collection(tmp_path).missing([one, two])
    download(server, tmp_path, [one])
    with pytest.raises(RunError, match="files must have names of their own"):
        Collection(tmp_path).missing([two])


def test_a_record_that_a_kill_cut_short_is_still_read(server: ArchiveServer, tmp_path: Path) -> None:
    products = products_of(server, 3)
    download(server, tmp_path, products)
    record = tmp_path / RECORD
    lines = record.read_text().splitlines()
    record.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    assert len(download(server, tmp_path, products).fetched) == 1
    assert all(Collection(tmp_path).holds(product) for product in products)


def test_one_file_that_fails_keeps_no_other_from_coming(server: ArchiveServer, tmp_path: Path) -> None:
    products = products_of(server, 5)
    del server.answers["archive.example/1.fits"]
    server.answers["archive.example/3.fits"] = b"<html>no image here</html>"
    outcome = download(server, tmp_path, products)
    assert {product.name for product in outcome.fetched} == {"0.fits", "2.fits", "4.fits"}
    said = "\n".join(sorted(outcome.failures))
    assert "1.fits: the archive answers 404" in said
    assert "3.fits: the archive gave something else than an image" in said
    assert not (tmp_path / "ztf" / "3.fits").exists()


def test_a_network_that_is_lost_ends_all_and_keeps_what_came(
    server: ArchiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = products_of(server, 6)
    rerouted = requests.adapters.HTTPAdapter.send

    def without_network(self: Any, request: Any, *words: Any) -> Any:
        if request.url.endswith("/3.fits"):
            raise requests.exceptions.ConnectTimeout("no route to host")
        return rerouted(self, request, *words)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", without_network)
    with pytest.raises(UnreachableError):
        download(server, tmp_path, products, parallel=1)
    collection = Collection(tmp_path)
    assert [collection.holds(product) for product in products[:3]] == [True] * 3
    assert not any(collection.holds(product) for product in products[3:])


def test_sizes_are_asked_for_where_files_lie_ready(server: ArchiveServer) -> None:
    ready, unknown = products_of(server, 2)
    made = Product("https://archive.example/made", "made.fits", "skyview", "M31", "DSS", size_bytes=7, is_made=True)
    del server.answers["archive.example/1.fits"]
    sized = ask_sizes([ready, made, unknown], open_session(Patient(HASTY)), parallel=2)
    assert [product.size_bytes for product in sized] == [len(picture(0)), 7, None]
    assert all(call.method == "HEAD" for call in server.calls) and len(server.calls) == 2


def test_a_disk_without_room_is_named_before_anything_comes(tmp_path: Path) -> None:
    huge = Product(FILE, "a.fits", "ztf", "M31", "r", size_bytes=10**18)
    with pytest.raises(RunError, match=r"1000000000\.0 GB are to come, but .* has room for"):
        check_room(tmp_path, [huge])


def test_two_fetches_into_one_folder_are_kept_apart(tmp_path: Path) -> None:
    with Collection(tmp_path).held(), pytest.raises(RunError, match="another astrid fetch writes into"):  # noqa: SIM117
        with Collection(tmp_path).held():
            pass


def test_a_folder_with_another_record_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"fetched\.csv must be a record of astrid fetch"):
        Collection(tmp_path)


@pytest.mark.parametrize(
    ("text", "ra", "dec"),
    [
        ("10.684 41.269", 10.684, 41.269),
        ("10.684, -41.269", 10.684, -41.269),
        ("00h42m44.3s +41d16m09s", 10.684583, 41.269167),
        ("0:42:44.3 +41:16:09", 10.684583, 41.269167),
    ],
)
def test_positions_are_read_as_astronomers_write_them(text: str, ra: float, dec: float) -> None:
    place = find_place(text)
    assert (place.ra, place.dec) == pytest.approx((ra, dec), abs=1e-5)


@pytest.mark.parametrize("text", ["10.0 95.0", "25h00m00s 10d00m00s"])
def test_a_position_off_the_sky_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="a position must be like"):
        find_place(text)


def test_names_are_resolved_by_sesame_and_its_silence_is_no_unknown_name(server: ArchiveServer) -> None:
    with name_resolve.sesame_url.set([f"{server.url}/sesame/"]):
        server.answers["sesame/SNV"] = b"# M31\n#=S=Simbad\n%J 10.684708 +41.268750 = 00:42:44.33 +41:16:07.5\n"
        place = find_place("M 31")
        assert (place.name, round(place.ra, 4)) == ("M-31", 10.6847)
        server.answers["sesame/SNV"] = b"#=S=Simbad\n#!SIMBAD: No known catalog\n"
        with pytest.raises(DataError, match="an object must have a name that CDS' Sesame knows, got 'M31 or so'"):
            find_place("M31 or so")
    said = (
        r"^cannot ask CDS' Sesame where 'M 31' is: is there a network\? A position, as \"10\.684 41\.269\", needs none$"
    )
    lost = pytest.raises(UnreachableError, match=said)
    with name_resolve.sesame_url.set(["http://127.0.0.1:9/"]), lost:
        find_place("M 31")
