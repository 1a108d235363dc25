"""Cutting and stitching lose no pixel and invent none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.data.tiles import cut_tile, tile_origins, windows

SIZES = [(1, 1), (37, 53), (100, 100), (128, 128), (129, 255), (16, 300)]


@pytest.mark.parametrize("size", SIZES)
def test_tiles_laid_side_by_side_are_the_frame_again(size: tuple[int, int]) -> None:
    height, width = size
    frame = np.random.default_rng(0).normal(size=(3, height, width)).astype(np.float32)
    stitched = np.full_like(frame, np.nan)
    for y0, x0 in tile_origins(height, width, tile=32):
        inside = stitched[:, y0 : y0 + 32, x0 : x0 + 32]
        inside[:] = cut_tile(frame, y0, x0, tile=32)[:, : inside.shape[1], : inside.shape[2]]
    np.testing.assert_array_equal(stitched, frame)


@given(y0=st.integers(-40, 60), x0=st.integers(-40, 60))
def test_a_cut_holds_the_frame_where_it_overlaps_and_zero_elsewhere(y0: int, x0: int) -> None:
    frame = np.arange(1, 1 + 30 * 50, dtype=np.int32).reshape(1, 30, 50)
    cut = cut_tile(frame, y0, x0, tile=16)
    for y in range(16):
        for x in range(16):
            inside = 0 <= y0 + y < 30 and 0 <= x0 + x < 50
            assert cut[0, y, x] == (frame[0, y0 + y, x0 + x] if inside else 0)


@pytest.mark.parametrize("size", SIZES)
def test_window_cores_cover_every_pixel_once_and_lie_where_they_say(size: tuple[int, int]) -> None:
    height, width = size
    frame = np.random.default_rng(1).normal(size=size)
    count = np.zeros(size, dtype=int)
    for window in windows(height, width, core=32, halo=16):
        count[window.inner] += 1
        np.testing.assert_array_equal(frame[window.outer][window.core], frame[window.inner])
    assert (count == 1).all()


def test_a_window_keeps_its_whole_halo_unless_the_frame_ends() -> None:
    middle = list(windows(96, 96, core=32, halo=16))[4]
    assert middle.outer == (slice(16, 80), slice(16, 80))
