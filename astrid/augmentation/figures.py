"""What augmentation does to a tile, for looking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from torch import Tensor

from astrid.config import AugmentConfig
from astrid.plots import WIDTH_INCHES, Floats, new_figure, show_image, styled

from . import CHANGES, augment, changes_in_use

CHANNELS = ("science", "reference", "difference", "score")


def draw_changes(tile: Tensor, config: AugmentConfig, *, seed: int = 0) -> Figure | None:
    """Draw a tile before and after each change in use, done for certain; None where there are flips at most.

    Parameters
    ----------
    tile : (1, C, T, T) float32
        In background sigma.
    config : AugmentConfig
    seed : int
        Of the changes.
    """
    used = [use.name for use in changes_in_use(config)]
    if not set(used) - {"flip"}:
        return None
    columns = {"as it is": certain(config, None)} | {name: certain(config, name) for name in used}
    return changes_figure({title: changed_planes(tile, alone, seed=seed) for title, alone in columns.items()})


def certain(config: AugmentConfig, name: str | None) -> AugmentConfig:
    """Return the configuration under which one change happens to every sample, and no other does."""
    alone = replace(config)
    for other in CHANGES:
        setattr(alone, f"{other}_probability", float(other == name))
    return alone


def changed_planes(tile: Tensor, config: AugmentConfig, *, seed: int) -> dict[str, Floats]:
    """Return every channel and what is valid, by name, after the changes in use."""
    flags = torch.ones_like(tile[:, :1], dtype=torch.bool)
    changed = augment({"image": tile, "target": flags, "valid": flags}, config, seed=(seed,))
    planes = torch.cat([changed["image"], changed["valid"]], dim=1)[0].double().cpu().numpy()
    return dict(zip((*CHANNELS[: tile.shape[1]], "valid"), planes, strict=True))


@styled
def changes_figure(columns: Mapping[str, Mapping[str, Floats]]) -> Figure:
    """Draw the same planes of a tile, one below the other, in a column for each version of it.

    Parameters
    ----------
    columns : mapping of str to mapping of str to (T, T) float64
        By title of the column and name of the plane: channels in background sigma, and `valid`, 0 or 1.
    """
    names = list(next(iter(columns.values())))
    figure = new_figure(height=0.4 + WIDTH_INCHES / len(columns) * len(names))
    grid = figure.subplots(len(names), len(columns), squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    greys = colormaps["gray"].resampled(12)
    for column, (title, planes) in zip(grid.T, columns.items(), strict=True):
        column[0].set_title(title)
        for axes, (name, plane) in zip(column, planes.items(), strict=True):
            scale = {"vmin": 0, "vmax": 1} if name == "valid" else {"norm": AsinhNorm(3, vmin=-3, vmax=60)}
            show_image(axes, plane, np.mean, longest=128, cmap=greys, **scale)
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.set_ylabel(name)
    return figure
