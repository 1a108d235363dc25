"""`astrid fetch`: it says what would come, brings it, goes on after a kill, and leaves what a run can start from."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from archive_servers import ArchiveServer, archive_server, picture, play_panstarrs

from astrid.cli import main
from astrid.config import FramesData
from astrid.config.compose import PROJECT_ROOT
from astrid.data.manifest import read_manifest

PLACES = ("10.0 41.0", "20.0 41.0", "30.0 41.0")


@pytest.fixture(name="server")
def panstarrs() -> Iterator[ArchiveServer]:
    with archive_server() as server:
        play_panstarrs(server)
        yield server


def fetch(*words: str) -> int:
    return main(["fetch", "panstarrs", "--tries", "2", *words])


def fetched(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.fits"))


def test_a_dry_run_counts_files_and_bytes_and_fetches_nothing(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(*PLACES, "--size", "60", "--dry-run", "--output", str(tmp_path / "new")) == 0
    said = capsys.readouterr().out
    assert "10.0-41.0  g: 1 file, about 0.2 MB" in said
    assert "in all: 6 files, about 1.5 MB" in said
    assert not (tmp_path / "new").exists()
    assert fetch(PLACES[0], "--dry-run") == 0
    assert "in all: 2 files, 0.0 MB" in capsys.readouterr().out  # frames that lie ready: their true sizes
    assert not [call for call in server.calls if call.method == "GET" and call.path.endswith(".fits")]


def test_what_was_fetched_is_listed_and_a_run_can_read_the_manifest(server: ArchiveServer, tmp_path: Path) -> None:
    assert fetch(*PLACES, "--bands", "r", "--output", str(tmp_path)) == 0
    with (tmp_path / "fetched.csv").open() as stream:
        record = list(csv.DictReader(stream))
    assert [line["field"] for line in sorted(record, key=lambda line: line["field"])] == [
        "10.0-41.0",
        "20.0-41.0",
        "30.0-41.0",
    ]
    config = FramesData(root=str(tmp_path), manifest=str(tmp_path / "manifest.csv"))
    rows = read_manifest(config, receptive_field_pixels=44)
    assert {row.split for row in rows} == {"train", "val", "test"}
    assert [len(line["sha256"]) for line in record] == [64] * 3


def test_files_of_several_places_do_not_overwrite_each_other(server: ArchiveServer, tmp_path: Path) -> None:
    assert fetch(*PLACES, "--size", "60", "--output", str(tmp_path)) == 0
    assert len(fetched(tmp_path)) == 6


def test_the_same_command_again_fetches_what_is_missing(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "ps1images.stsci.edu/rings.v3.skycell/2069/20.stack.r.unconv.fits"
    kept = server.answers.pop(path)
    words = (*PLACES, "--output", str(tmp_path))
    assert fetch(*words) == 1
    said = capsys.readouterr()
    assert "error: 1 of 6 files didn't come: " in said.err and "404" in said.err
    assert len(fetched(tmp_path)) == 5
    assert len((tmp_path / "manifest.csv").read_text().splitlines()) == 6
    server.answers[path] = kept
    server.calls.clear()
    assert fetch(*words) == 0
    assert "1 fetched, 5 were here" in capsys.readouterr().out
    assert [call.path for call in server.calls if call.method == "GET" and call.path.endswith(".fits")] == [path]


def test_without_a_network_one_message_says_so_and_nothing_is_lost(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch(PLACES[0], "--output", str(tmp_path)) == 0
    before = fetched(tmp_path)
    capsys.readouterr()

    def no_network(*words: object, **named: object) -> None:
        raise requests.exceptions.ConnectTimeout("Network is unreachable")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", no_network)
    assert fetch(*PLACES, "--output", str(tmp_path)) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "error: cannot reach ps1images.stsci.edu (Network is unreachable): is there a network" in said.err
    assert fetched(tmp_path) == before


def test_a_network_lost_on_the_way_keeps_what_came_and_lists_it(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rerouted = requests.adapters.HTTPAdapter.send

    def lost(self: object, request: requests.PreparedRequest, *words: object) -> object:
        if request.method == "GET" and str(request.url).endswith("/30.stack.r.unconv.fits"):
            raise requests.exceptions.ConnectTimeout("Network is unreachable")
        return rerouted(self, request, *words)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", lost)
    assert fetch(*PLACES, "--output", str(tmp_path), "--parallel", "1") == 1
    said = capsys.readouterr().err
    assert "1 of 6 files are missing; what was fetched stays in" in said and "the same command goes on" in said
    assert len((tmp_path / "manifest.csv").read_text().splitlines()) == 6


def test_an_archive_without_such_images_is_named(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(PLACES[0], "--bands", "y", "--output", str(tmp_path)) == 1
    assert "panstarrs has no such images of 10.0 41.0; try other bands" in capsys.readouterr().err


def test_places_come_from_a_file_as_well(server: ArchiveServer, tmp_path: Path) -> None:
    (tmp_path / "places.txt").write_text("# my fields\n10.0 41.0\n\n20.0 41.0\n")
    assert fetch("10.0 41.0", f"@{tmp_path}/places.txt", "--output", str(tmp_path / "out")) == 0
    assert len(fetched(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["panstarrs", "@/nowhere"], "PLACE @/nowhere must be a text file"),
        (["panstarrs", "@/dev/null"], "PLACE @/dev/null must have a place a line, got none"),
        (["skyview", "10 41"], "--size: skyview gives cutouts, no whole frames; try --size 300"),
        (["hst", "10 41", "--size", "60"], "--size: hst gives whole frames, no cutouts; leave it out"),
        (["sdss", "10 41", "--since", "2020-01-01"], "--since and --until: sdss can't be asked for times"),
        (["panstarrs", "10 95"], "a position must be like"),
        (["panstarrs", "10 41", "10,41"], "places must have names that differ"),
    ],
)
def test_what_cannot_be_fetched_is_refused_before_anything_is_asked(
    server: ArchiveServer, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["fetch", *words]) == 2
    assert message in capsys.readouterr().err
    assert server.calls == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["moon", "10 41"], "invalid choice: 'moon'"),
        (["ztf"], "required: PLACE"),
        (["ztf", "10 41", "--since", "May"], "must be a date like 2020-01-31, got 'May'"),
        (["ztf", "10 41", "--size", "-1"], "must be a number above 0, got -1"),
    ],
)
def test_a_wrong_option_is_explained(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["fetch", *words])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_dates_become_modified_julian_days(server: ArchiveServer, tmp_path: Path) -> None:
    stacks = server.answers["ps1images.stsci.edu/cgi-bin/ps1filenames.py"]
    assert callable(stacks)
    dated = stacks({"ra": "10", "dec": "41", "filters": "g", "type": "warp"}).replace(b" 0 warp", b" 55000.9 warp")
    server.answers["ps1images.stsci.edu/cgi-bin/ps1filenames.py"] = dated
    assert fetch(PLACES[0], "--since", "2009-06-18", "--until", "2009-06-18", "--dry-run") == 0  # MJD 55000
    assert fetch(PLACES[0], "--until", "2009-06-17", "--dry-run") == 1
    assert fetch(PLACES[0], "--since", "2009-06-19", "--dry-run") == 1


RUNNER = """
import sys, pytest
from archive_servers import reroute
from astrid.cli import main
reroute(sys.argv[1], pytest.MonkeyPatch())
sys.exit(main(["fetch", "panstarrs", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_fetch_that_is_killed_goes_on_where_it_was(
    server: ArchiveServer, tmp_path: Path, how: signal.Signals
) -> None:
    path = "ps1images.stsci.edu/rings.v3.skycell/2069/10.stack.g.unconv.fits"
    server.answers[path] = picture(5, edge=600)
    server.slow_seconds = 0.02
    words = (PLACES[0], "--bands", "g", "--output", str(tmp_path))
    started = subprocess.Popen(
        [sys.executable, "-c", RUNNER, server.url, *words],
        cwd=PROJECT_ROOT / "tests",
        stderr=subprocess.PIPE,
        text=True,
    )
    part = tmp_path / "panstarrs" / "10.stack.g.unconv.fits.part"
    deadline = time.monotonic() + 60
    while not part.is_file() or part.stat().st_size == 0:
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.01)
    started.send_signal(how)
    _, said = started.communicate(timeout=60)
    assert "Traceback" not in said
    if how == signal.SIGINT:
        assert (started.returncode, said.splitlines()[-1]) == (1, "error: interrupted")
    kept = part.stat().st_size
    assert 0 < kept < len(picture(5, edge=600))
    server.slow_seconds = 0.0
    server.calls.clear()
    assert fetch(*words) == 0
    assert (tmp_path / "panstarrs" / "10.stack.g.unconv.fits").read_bytes() == picture(5, edge=600)
    (asked,) = server.asked(path)
    assert asked.headers["range"] == f"bytes={kept}-"


def test_secrets_in_the_environment_reach_no_message(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAST_API_TOKEN", "0123456789abcdef0123")
    server.troubles["ps1images.stsci.edu/cgi-bin/ps1filenames.py"] = ["401"]
    assert fetch("10.0 41.0", "--output", str(tmp_path)) == 1
    assert fetch("10.0 0123456789abcdef0123", "--output", str(tmp_path)) != 0
    said = capsys.readouterr()
    assert "Pan-STARRS answers 401" in said.err
    assert "0123456789abcdef0123" not in said.out + said.err
    assert not any("abcdef" in str(call) for call in server.calls)
