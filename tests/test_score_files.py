"""`astrid score` gives any prediction the numbers of our own, and refuses what can't be scored with one message."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from histograms import draw
from scipy.special import expit, logit
from sklearn import metrics as referee

from astrid import score_files
from astrid.cli import main
from astrid.config import DataError
from astrid.score_files import score

LOGITS, TRUTH = (plane.reshape(100, 50) for plane in draw(5000, 500))
SCORES = expit(LOGITS.astype(np.float64))


def scored(scores: np.ndarray = SCORES, truth: np.ndarray = TRUTH, **options) -> dict[str, float]:
    return score(scores, truth, **{"logits": False, "threshold": 0.5} | options)


def test_numbers_are_those_of_scikit_learn() -> None:
    found = scored(threshold=0.3)
    truth, scores = TRUTH.ravel(), SCORES.ravel()
    assert found["auroc"] == pytest.approx(referee.roc_auc_score(truth, scores), abs=1e-5)
    assert found["auprc"] == pytest.approx(referee.average_precision_score(truth, scores), abs=1e-3)
    assert found["brier"] == pytest.approx(referee.brier_score_loss(truth, scores), abs=1e-6)
    assert found["f1_positive"] == pytest.approx(referee.f1_score(truth, scores >= 0.3), abs=1e-6)
    assert found["threshold"] == pytest.approx(0.3, abs=1e-5)


def test_logits_and_probabilities_score_alike() -> None:
    assert scored(LOGITS, logits=True) == pytest.approx(scored(), rel=1e-4)


def test_a_three_by_three_frame_by_hand() -> None:
    scores = np.array([[0.9, 0.2, 0.1], [0.8, 0.6, 0.3], [0.4, 0.0, 1.0]])
    truth = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]])
    valid = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1]])
    found = scored(scores, truth, valid=valid)
    assert (found["auroc"], found["auprc"]) == (1.0, 1.0)
    assert found["precision_positive"] == 3 / 4  # 0.6 is a false positive
    assert found["recall_positive"] == 1.0
    assert found["accuracy"] == 7 / 8
    errors = [0.1, 0.2, 0.1, 0.2, 0.6, 0.3, 0.0, 0.0]
    assert found["brier"] == pytest.approx(np.mean(np.square(errors)), abs=1e-5)


def test_what_is_not_valid_does_not_count_whatever_it_holds() -> None:
    valid = np.random.default_rng(0).random(SCORES.shape) < 0.6
    soiled, scribbled = np.where(valid, SCORES, np.nan), np.where(valid, TRUTH, 7)
    assert scored(soiled, scribbled, valid=valid) == scored(SCORES[valid], TRUTH[valid])


def test_long_files_are_scored_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored()
    monkeypatch.setattr(score_files, "CHUNK_PIXELS", 7)
    assert scored() == whole


def test_without_negatives_ranks_are_absent_with_their_reason(caplog: pytest.LogCaptureFixture) -> None:
    found = scored(SCORES, np.ones_like(TRUTH))
    assert "auroc" not in found
    assert found["auprc"] == 1.0
    assert "5000 positive and 0 negative pixels: auroc" in caplog.text


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
    expected = scored(threshold=0.3)
    assert set(table) - {"metric"} == set(expected)
    assert float(table["auprc"]) == pytest.approx(expected["auprc"], abs=1e-3)
    assert float(table["f1_positive"]) == pytest.approx(expected["f1_positive"], abs=1e-3)


REFUSED = [
    ({"truth": TRUTH[:-1]}, r"TRUTH must have the shape of SCORES, \(100, 50\), got \(99, 50\)"),
    ({"valid": TRUTH.ravel()}, r"VALID must have the shape of SCORES"),
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


def test_logits_that_are_infinite_are_refused() -> None:
    with pytest.raises(DataError, match="finite on valid pixels"):
        scored(logit(np.round(SCORES)), logits=True)
