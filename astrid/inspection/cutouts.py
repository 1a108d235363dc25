"""Small pieces of sky around hits, misses and false alarms: a few of each, chosen by a stated rule."""

from __future__ import annotations

import heapq
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from astrid.config import DataError
from astrid.data.frames import Field
from astrid.data.tiles import cut_tile
from astrid.metrics.calibrators import Calibrator
from astrid.predictor import Predicted

from .objects import JudgedObject, Outcome, Probability, Rules, judge_objects

CUTOUTS_FILE = "cutouts.npz"
EDGE = 33
"""Edge of a cutout in pixels, odd, so that the object is in its middle."""
OF_EACH = 12
"""Cutouts that are kept of each outcome."""
SHOWN: dict[Outcome, str] = {
    "hit": "drawn at random",
    "miss": "the brightest",
    "false alarm": "those of the highest probability",
}
"""Which objects of an outcome are kept."""


@dataclass(frozen=True)
class Cutout:
    """An object and its surroundings.

    Attributes
    ----------
    judged : JudgedObject
    light : (C, EDGE, EDGE) float32
        Every channel, in background sigma; 0 outside of the frame.
    probability : (EDGE, EDGE) float32
        Calibrated.
    """

    judged: JudgedObject
    light: NDArray[np.float32]
    probability: Probability


def cut_out(judged: JudgedObject, source: Field, probability: Probability, *, edge: int = EDGE) -> Cutout:
    """Cut an object out of its field."""
    row, column = judged.place
    planes = np.concatenate([source.image, probability[None]])
    piece = cut_tile(planes, row - edge // 2, column - edge // 2, tile=edge)
    return Cutout(judged, piece[:-1].astype(np.float32), piece[-1].astype(np.float32))


@dataclass
class ObjectLog:
    """The objects of all fields, and cutouts of `of_each` of every outcome, in memory that doesn't grow with these.

    Attributes
    ----------
    rules : Rules
    of_each : int
    objects : list of JudgedObject
    """

    rules: Rules
    of_each: int = OF_EACH
    objects: list[JudgedObject] = field(default_factory=list)
    _kept: dict[Outcome, list[tuple[float, str, Cutout]]] = field(default_factory=dict)

    def add(self, source: Field, probability: Probability) -> list[JudgedObject]:
        """Judge the objects of a field, and return them."""
        judged = judge_objects(source, probability, self.rules)
        self.objects += judged
        for one in judged:
            if one.outcome in SHOWN:
                self._keep(one, source, probability)
        return judged

    def _keep(self, one: JudgedObject, source: Field, probability: Probability) -> None:
        heap, worth = self._kept.setdefault(one.outcome, []), worth_showing(one)
        if len(heap) < self.of_each:
            heapq.heappush(heap, (worth, one.id, cut_out(one, source, probability)))
        elif (worth, one.id) > heap[0][:2]:
            heapq.heapreplace(heap, (worth, one.id, cut_out(one, source, probability)))

    def cutouts(self) -> list[Cutout]:
        """Return the cutouts, hits before misses before false alarms, the first of each being the most worth seeing."""
        ordered = [sorted(self._kept.get(outcome, []), key=lambda item: item[:2], reverse=True) for outcome in SHOWN]
        return [cutout for kept in ordered for _, _, cutout in kept]


def keep_objects(fields: Predicted, log: ObjectLog | None, *, calibrator: Calibrator) -> Predicted:
    """Pass fields on, and note what became of their objects."""
    for source, logits in fields:
        if log is not None:
            log.add(source, calibrator.probability(logits).cpu().numpy())
        yield source, logits


def worth_showing(one: JudgedObject) -> float:
    """Return by what cutouts are chosen, as `SHOWN` says: the highest of each outcome are kept."""
    match one.outcome:
        case "hit":
            return zlib.crc32(one.id.encode())  # a draw that doesn't depend on the order of the fields
        case "miss":
            return one.snr if one.snr is not None else (one.flux or 0.0)
    return one.probability


def write_cutouts(cutouts: Sequence[Cutout], path: Path) -> Path:
    """Write cutouts as a compressed .npz, in half precision, and return where."""
    about = json.dumps([asdict(cutout.judged) for cutout in cutouts])
    light = np.array([np.clip(cutout.light, -6e4, 6e4) for cutout in cutouts], dtype=np.float16)
    probability = np.array([cutout.probability for cutout in cutouts], dtype=np.float16)
    np.savez_compressed(path, about=np.array(about), light=light, probability=probability)
    return path


def read_cutouts(path: Path) -> list[Cutout]:
    """Read what `write_cutouts` wrote.

    Raises
    ------
    DataError
        For a damaged file.
    """
    try:
        with path.open("rb") as file, np.load(file) as saved:
            about = json.loads(str(saved["about"]))
            light, probability = saved["light"].astype(np.float32), saved["probability"].astype(np.float32)
        pieces = zip(about, light, probability, strict=True)
        return [Cutout(JudgedObject(**one), own, seen) for one, own, seen in pieces]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} must hold cutouts, but is damaged: {error}") from error
