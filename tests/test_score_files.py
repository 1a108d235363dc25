"""`astrid score` gives any prediction the numbers of our own, and refuses what can't be scored with one message."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from histograms import draw
from scipy.special import expit

from astrid.cli import main
from astrid.scored_planes import score

LOGITS, TRUTH = (plane.reshape(100, 50) for plane in draw(5000, 500))
SCORES = expit(LOGITS.astype(np.float64))


def write(folder: Path, name: str, plane: np.ndarray) -> str:
    """Write a plane as FITS, in an extension where the name has one, or as .npy; return the name to read it by."""
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, plane)
        return str(path)
    images = [fits.PrimaryHDU(), fits.ImageHDU(plane.astype(np.float32), name="PROB")]
    fits.HDUList(images).writeto(path)
    return f"{path}[PROB]"


@pytest.mark.parametrize("suffix", ["npy", "fits"])
def test_the_command_prints_the_table_of_the_files(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planes = {"scores": SCORES.astype(np.float32), "truth": TRUTH, "valid": np.ones_like(TRUTH)}
    files = {name: write(tmp_path, f"{name}.{suffix}", plane) for name, plane in planes.items()}
    assert main(["score", files["scores"], files["truth"], "--valid", files["valid"], "--threshold", "0.3"]) == 0
    table = dict(re.findall(r"(\w[\w.\-]*)\s+│\s+([\d.e\-]+)", capsys.readouterr().out))
    expected = score(SCORES, TRUTH, logits=False, threshold=0.3)
    assert set(table) - {"metric"} == set(expected)
    assert float(table["auprc"]) == pytest.approx(expected["auprc"], abs=1e-3)
    assert float(table["f1_positive"]) == pytest.approx(expected["f1_positive"], abs=1e-3)


REFUSED = [
    ({"truth": TRUTH[:-1]}, r"TRUTH must have the shape of the others, \(100, 50\), got \(99, 50\)"),
    ({"valid": TRUTH.ravel()}, r"--valid must have the shape of the others.*reshape one"),
    ({"scores": np.where(TRUTH, np.nan, SCORES)}, "SCORES must be finite on valid pixels, got 500 that are not"),
    ({"scores": LOGITS}, "SCORES must be probabilities from 0 to 1, got .* --logits"),
    ({"scores": SCORES - 1e-3}, "SCORES must be probabilities from 0 to 1"),
    ({"scores": np.round(SCORES * 255)}, "SCORES must be probabilities.*; divide by .* 255"),
    ({"scores": np.where(SCORES.max() == SCORES, 1 + 1e-6, SCORES)}, r"got .* to 1\.\d+; clip what rounding left"),
    ({"truth": TRUTH * 4}, r"TRUTH must be 0 or 1 in each pixel, got 4 and 499 more; .*\(plane != 0\)"),
    ({"truth": TRUTH * 2.0 - 1}, r"TRUTH must be 0 or 1 in each pixel, got -1.*\(plane > 0\)"),
    (
        {"truth": np.where(TRUTH, np.nan, 0.0)},
        "TRUTH must be 0 or 1 in each pixel, got nan.*leave pixels",
    ),
    ({"valid": np.zeros_like(TRUTH)}, "SCORES must have valid pixels, got none"),
    ({"scores": np.zeros((0, 4)), "truth": np.zeros((0, 4))}, "SCORES must have valid pixels, got none"),
    ({"scores": np.full(SCORES.shape, "a")}, "SCORES must hold numbers, got .* of <U1"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_scored_is_refused_with_one_message(
    changes: dict[str, np.ndarray], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planes = {"scores": SCORES, "truth": TRUTH.astype(int)} | changes
    files = {name: write(tmp_path, f"{name}.npy", plane) for name, plane in planes.items()}
    options = ["--valid", files["valid"]] if "valid" in files else []
    assert main(["score", files["scores"], files["truth"], *options]) == 2
    said = capsys.readouterr()
    assert re.search(message, said.err)
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize("name", ["nothing.npy", "nothing.fits", "text.npy", "text.fits"])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("no numbers")
    assert main(["score", str(tmp_path / name), str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / name) in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("threshold", ["1.5", "-0.1", "nan", "half"])
def test_a_threshold_must_be_a_probability(threshold: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["score", "a.npy", "b.npy", f"--threshold={threshold}"])
    assert left.value.code == 2
    assert "P must be a probability from 0 to 1" in capsys.readouterr().err


def write_list(folder: Path, rows: list[str]) -> str:
    path = folder / "fields.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def write_halves(folder: Path) -> list[str]:
    """Write the prediction in two halves and return the rows of a list of them."""
    for name, plane in (("scores", SCORES), ("truth", TRUTH)):
        for number, half in enumerate(np.split(plane, 2)):
            write(folder, f"{name}{number}.npy", half)
    return [f"scores{number}.npy,truth{number}.npy" for number in range(2)]


def test_a_list_of_fields_is_pooled_with_intervals_and_written_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = write_list(tmp_path, ["scores,truth", *write_halves(tmp_path)])
    assert main(["score", "--list", fields, "--json", str(tmp_path / "out.json")]) == 0
    assert re.search(r"auprc\s+│\s+0\.\d+ \[0\.\d+, 0\.\d+\]", capsys.readouterr().out)
    found = json.loads((tmp_path / "out.json").read_text())
    expected = score(SCORES, TRUTH, logits=False, threshold=0.5)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["auprc_low"] < found["auprc"] < found["auprc_high"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["scores,truth"], "must list fields, got none"),
        (["scores,mask", "a.npy,b.npy"], "must have the columns scores, truth .* got mask, scores"),
        (["scores,truth", "scores0.npy,"], "line 2: a row must name scores and truth"),
        (["scores,truth", "scores0.npy,truth0.npy,ok.npy,more"], "line 2: a row must name scores and truth, and noth"),
        (["scores,truth", "scores0.npy,truth0.npy", "scores0.npy,truth1.npy"], "line 3: scores must be given once"),
        (["scores,truth", "scores0.npy,nothing.npy"], "line 2: TRUTH must be a file, got .*nothing.npy"),
        (["scores,truth", "scores0.npy,scores0.npy"], "line 2: TRUTH must be another image than SCORES"),
    ],
)
def test_an_odd_list_is_refused_with_its_line(
    rows: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_halves(tmp_path)
    assert main(["score", "--list", write_list(tmp_path, rows)]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and said.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["a.npy"], ["a.npy", "b.npy", "--list", "c.csv"]])
def test_files_and_a_list_are_given_one_or_the_other(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *arguments]) == 2
    assert "--list" in capsys.readouterr().err


def test_which_image_of_a_file_is_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    images = [fits.ImageHDU(SCORES, name="PROB"), fits.ImageHDU(TRUTH.astype(np.uint8), name="TRUTH")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "both.fits")
    assert main(["score", f"{tmp_path}/both.fits", f"{tmp_path}/both.fits[truth]"]) == 0
    assert "both.fits: HDU PROB of 3 is read; name another in brackets" in caplog.text


def test_the_title_of_the_table_is_the_file_as_it_was_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(), "a.fits", SCORES), write(Path(), "b.npy", TRUTH)
    assert main(["score", "a.fits[prob]", "b.npy"]) == 0
    assert "a.fits[prob]" in capsys.readouterr().out
