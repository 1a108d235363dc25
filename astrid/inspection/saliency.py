"""What the network looked at: how much the logit of an object falls when a piece of its surroundings is covered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from astrid.data.frames import Field
from astrid.predictor import Predictor

from .objects import JudgedObject, disc

Images = NDArray[np.float32]

EDGE, PATCH, STRIDE = 48, 5, 3
"""Edge of the surroundings that are covered piece by piece, of a piece, and the step between two, in pixels."""
PIECES_AT_ONCE = 16


@dataclass(frozen=True)
class Saliency:
    """Falls of a logit.

    Attributes
    ----------
    judged : JudgedObject
    logit : float
        Of the object's brightest pixel in the network's eyes, before calibration, with nothing covered.
    origin : (row, column)
        Corner of the surroundings in the frame.
    light : (C, H, W) float32
        The surroundings, in background sigma.
    falls : (C + 1, H, W) float32
        By how much the logit falls when a piece around the pixel is covered, mean of the pieces that cover it: in each
        channel alone, and in all of them.
    """

    judged: JudgedObject
    logit: float
    origin: tuple[int, int]
    light: Images
    falls: Images


Show = Callable[[Iterable[tuple[int, int]], int], Iterable[tuple[int, int]]]


def find_saliency(
    predictor: Predictor, field: Field, judged: JudgedObject, *, step: int, radius: float, show: Show
) -> Saliency:
    """Cover the surroundings of an object piece by piece with empty sky, and see what that does to its logit.

    Parameters
    ----------
    predictor : Predictor
    field : Field
    judged : JudgedObject
    step : int
        2**depth, in whose multiples a part of a frame may begin without changing the prediction.
    radius : float
        Pixels around the object in which its highest logit is looked for.
    show : callable
        Passes on the pieces and shows how far it has come; takes them and their number.

    References
    ----------
    Zeiler and Fergus 2014, doi:10.1007/978-3-319-10590-1_53
    """
    place = _highest(predictor, field, judged, radius)
    rows, columns = (_around(at, size) for at, size in zip(judged.place, field.valid.shape, strict=True))
    part = _part(predictor, field, (rows, columns), step=step)
    corner = (part[0].start, part[1].start)
    image = np.array(field.image[:, part[0], part[1]])
    inner = tuple(slice(own.start - at, own.stop - at) for own, at in zip((rows, columns), corner, strict=True))
    target = (place[0] - corner[0], place[1] - corner[1])
    base = float(predictor.stack(image[None])[0][target])
    channels = len(image)
    sums, counts = np.zeros((2, channels + 1, rows.stop - rows.start, columns.stop - columns.start))
    pieces = [(y, x) for y in range(0, sums.shape[1], STRIDE) for x in range(0, sums.shape[2], STRIDE)]
    for batch in _batched(show(pieces, len(pieces)), max(1, PIECES_AT_ONCE // (channels + 1))):
        covered = np.concatenate([_cover(image, inner, piece) for piece in batch])
        logits = predictor.stack(covered)[:, target[0], target[1]].cpu().numpy().reshape(len(batch), channels + 1)
        for (y, x), seen in zip(batch, logits, strict=True):
            sums[:, y : y + PATCH, x : x + PATCH] += (base - seen)[:, None, None]
            counts[:, y : y + PATCH, x : x + PATCH] += 1
    falls = (sums / np.maximum(counts, 1)).astype(np.float32)
    return Saliency(judged, base, (rows.start, columns.start), image[:, inner[0], inner[1]], falls)


def _highest(predictor: Predictor, field: Field, judged: JudgedObject, radius: float) -> tuple[int, int]:
    """Return the pixel of the highest logit within a radius."""
    where = disc(field.valid.shape, x=judged.x, y=judged.y, radius=radius)
    logits = predictor.logits(field.image)[torch.from_numpy(where[0]), torch.from_numpy(where[1])]
    best = int(logits.argmax())
    return int(where[0][best]), int(where[1][best])


def _around(at: int, size: int) -> slice:
    start = min(max(0, at - EDGE // 2), max(0, size - EDGE))
    return slice(start, min(size, start + EDGE))


def _part(predictor: Predictor, field: Field, inner: tuple[slice, slice], *, step: int) -> tuple[slice, slice]:
    """Return the part of the frame on which the surroundings are predicted as in the whole."""
    height, width = field.valid.shape
    if predictor.whole:
        return slice(0, height), slice(0, width)
    reach = predictor.halo + step
    rows, columns = (
        slice(max(0, own.start - reach) // step * step, min(size, -(-(own.stop + reach) // step) * step))
        for own, size in zip(inner, (height, width), strict=True)
    )
    return rows, columns


def _cover(image: Images, inner: tuple[slice, ...], piece: tuple[int, int]) -> Images:
    """Return copies (C + 1, C, H, W) in which a piece is empty sky: in each channel, and in all of them."""
    channels = len(image)
    copies = np.repeat(image[None], channels + 1, axis=0)
    top, left = inner[0].start + piece[0], inner[1].start + piece[1]
    bottom, right = min(top + PATCH, inner[0].stop), min(left + PATCH, inner[1].stop)
    for channel in range(channels):
        copies[channel, channel, top:bottom, left:right] = 0
    copies[channels, :, top:bottom, left:right] = 0
    return copies


def _batched(pieces: Iterable[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    batch: list[tuple[int, int]] = []
    for piece in pieces:
        batch.append(piece)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
