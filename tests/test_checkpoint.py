"""A checkpoint is whole or refused, and never runs code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from astrid.checkpoint import load_checkpoint, save_checkpoint
from astrid.config import ConfigError


def state() -> dict[str, object]:
    return {"model": {"w": torch.arange(5000.0)}, "progress": {"epoch": 3, "best": None}, "python": (3, (1, 2), None)}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", state())
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert torch.equal(loaded["model"]["w"], torch.arange(5000.0))
    assert loaded["progress"] == {"epoch": 3, "best": None}


def test_an_interrupted_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, state())

    def half_a_write(saved: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half_a_write)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, {"model": {}})
    assert load_checkpoint(path)["progress"]["epoch"] == 3


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_with_its_name(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, state())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ConfigError, match=r"last\.pt must be a whole checkpoint"):
        load_checkpoint(path)


def test_a_flipped_bit_in_a_weight_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, state())
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match="wrong checksum"):
        load_checkpoint(path)


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code was run",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "last.pt"
    torch.save({"format": Exploit()}, path)
    with pytest.raises(ConfigError, match="must be a checkpoint of tensors and plain values"):
        load_checkpoint(path)
    assert "code was run" not in capsys.readouterr().out


def test_foreign_and_older_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": 1}, tmp_path / "foreign.pt")
    torch.save({"format": "astrid-checkpoint-0"}, tmp_path / "older.pt")
    reasons = {"pickle": "damaged or foreign", "foreign": "foreign file", "older": "must have format", "none": "exist"}
    for name, reason in reasons.items():
        with pytest.raises(ConfigError, match=reason):
            load_checkpoint(tmp_path / f"{name}.pt")
