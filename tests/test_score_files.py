"""`astrid score` gives any prediction the numbers of our own, and refuses what can't be scored with one message."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from histograms import draw
from scipy.special import expit

from astrid.array_scores import score
from astrid.cli import main

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
    ({"valid": TRUTH.ravel()}, r"VALID must have the shape of the others"),
    ({"scores": np.where(TRUTH, np.nan, SCORES)}, "SCORES must be finite on valid pixels, got 500 that are not"),
    ({"scores": LOGITS}, "SCORES must be probabilities from 0 to 1, got .* --logits"),
    ({"scores": SCORES - 1e-3}, "SCORES must be probabilities from 0 to 1"),
    ({"truth": np.zeros_like(TRUTH)}, "TRUTH must have positive pixels that are valid, got none"),
    ({"truth": TRUTH * 4}, "TRUTH must be 0 or 1 in each pixel, got 4 and 499 more"),
    ({"truth": np.where(TRUTH, np.nan, 0.0)}, "TRUTH must be 0 or 1 in each pixel, got nan"),
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
