"""Completeness by signal-to-noise: counts in bins, and a logistic curve with a ceiling.

Some sources stay hidden however bright they are, behind a star or under a trail. A curve that must reach 1 is bent by
them and puts its half-way point too low; this one ends at a ceiling that is fitted, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

FINE_BINS = 128
"""Bins of signal-to-noise in which resamples are counted before a curve is fitted; 2 % each from 3 to 40."""
PENALTY = 1e-3
"""Holds slope and ceiling back a little: where found and missed don't overlap they would run away."""
MOST_STEPS = 300
SMALLEST_STEP = 1e-7


@dataclass(frozen=True)
class SnrCompleteness:
    """Completeness by signal-to-noise.

    Attributes
    ----------
    edges : (B + 1,) float64
        Edges of the bins of signal-to-noise, evenly spaced in its logarithm.
    found, total : (B,) int64
        Sources found, and all sources, in each bin.
    """

    edges: Floats
    found: Indices
    total: Indices


def completeness_by_snr(snr: Floats, found: Flags, *, bins: int = 10) -> SnrCompleteness | None:
    """Count found and all sources in logarithmic bins of signal-to-noise; undefined without sources of positive SNR.

    Parameters
    ----------
    snr : (N,) float64
    found : (N,) bool
    bins : int
    """
    snr, found = snr[snr > 0], found[snr > 0]
    if not snr.size:
        return None
    edges = _edges(snr, bins)
    total, _ = np.histogram(snr, bins=edges)
    hits, _ = np.histogram(snr[found], bins=edges)
    return SnrCompleteness(edges=edges, found=hits.astype(np.int64), total=total.astype(np.int64))


@dataclass(frozen=True)
class Curve:
    """Share of the sources found, ceiling · expit(offset + slope · ln snr), for each of R fits.

    Attributes
    ----------
    ceiling, offset, slope : (R,) float64
    """

    ceiling: Floats
    offset: Floats
    slope: Floats

    def __call__(self, snr: Floats) -> Floats:
        """Return the share found at each signal-to-noise, (R, K) for (K,)."""
        return np.asarray(self.ceiling[:, None] * expit(self.offset[:, None] + self.slope[:, None] * np.log(snr)))

    def snr_at(self, share: float) -> Floats:
        """Return the signal-to-noise at which this share is found, (R,); infinite where the curve never gets there."""
        rises = (self.ceiling > share) & (self.slope > 0)
        with np.errstate(all="ignore"):
            reached = np.exp((logit(share / self.ceiling) - self.offset) / self.slope)
        return np.where(rises, reached, np.inf)


def fit_curve(snr: Floats, *, found: Floats, total: Floats) -> Curve:
    """Fit ceiling, offset and slope by maximum likelihood to R sets of binomial counts at once.

    Fisher scoring with damping (Levenberg and Marquardt's, per set).

    Parameters
    ----------
    snr : (K,) float64
        Positive signal-to-noise of each count, not all equal.
    found, total : (R, K) float64
        Sources found, and all sources.

    References
    ----------
    McCullagh and Nelder 1989, Generalized Linear Models, section 2.5, doi:10.1007/978-1-4899-3242-6
    """
    centre, scale = np.log(snr).mean(), np.log(snr).std()
    x = (np.log(snr) - centre) / scale
    parameters = np.stack([_first_guess(x, found[row], total[row]) for row in range(len(found))])
    damping = np.full(len(found), 1e-3)
    value = _loss(parameters, x, found, total)
    for _ in range(MOST_STEPS):
        gradient, information = _derivatives(parameters, x, found, total)
        damped = information + damping[:, None, None] * (np.eye(3) * np.einsum("rii->ri", information)[:, None, :])
        step = np.clip(np.linalg.solve(damped, -gradient[..., None])[..., 0], -2.0, 2.0)
        tried = _loss(parameters + step, x, found, total)
        better = tried <= value
        parameters, value = np.where(better[:, None], parameters + step, parameters), np.where(better, tried, value)
        damping = np.clip(np.where(better, damping / 5, damping * 8), 1e-9, 1e6)
        if (np.abs(step).max(axis=1) < SMALLEST_STEP).all() or (damping >= 1e6).all():
            break
    height, offset, slope = parameters.T
    return Curve(expit(height), offset - slope * centre / scale, slope / scale)


def fitted_snr(snr: Floats, found: Flags, *, share: float) -> float:
    """Return the signal-to-noise at which this share of the sources is found, on a logistic curve with a ceiling.

    NaN unless some sources are found and some missed, completeness rises with signal-to-noise up to the share, and the
    answer lies within the range of the sources.

    Parameters
    ----------
    snr : (N,) float64
    found : (N,) bool
    share : float
        Between 0 and 1; of all sources, not of the ceiling.
    """
    snr, found = snr[snr > 0], found[snr > 0]
    if found.all() or not found.any() or np.ptp(snr) == 0:
        return float("nan")
    curve = fit_curve(snr, found=found[None].astype(float), total=np.ones((1, len(snr))))
    answer = float(curve.snr_at(share)[0])
    return answer if snr.min() <= answer <= snr.max() else float("nan")


def resampled_snr(snr: Floats, found: Flags, *, weights: Floats, shares: tuple[float, ...]) -> list[Floats]:
    """Return what `fitted_snr` gives where each source counts several times, for every share, (R,) each.

    Sources are counted in fine bins first, which moves the answer by less than a bin. Beyond the range of the sources
    the curve is followed, or the spread would be cut off there; it is infinite where the curve never gets to the share,
    and NaN where a resample has found all of its sources or none.

    Parameters
    ----------
    snr : (N,) float64
    found : (N,) bool
    weights : (R, N) float64
        How often each source counts.
    shares : tuple of float
    """
    weights, snr, found = weights[:, snr > 0], snr[snr > 0], found[snr > 0]
    undefined = [np.full(len(weights), np.nan) for _ in shares]
    if found.all() or not found.any() or np.ptp(snr) == 0:
        return undefined
    edges = _edges(snr, FINE_BINS)
    member = np.eye(FINE_BINS)[np.digitize(snr, edges) - 1]  # (N, B)
    total, hits = weights @ member, (weights * found) @ member
    held = member.any(axis=0)
    curve = fit_curve(np.sqrt(edges[:-1] * edges[1:])[held], found=hits[:, held], total=total[:, held])
    decided = (hits.sum(axis=1) > 0) & (hits.sum(axis=1) < total.sum(axis=1))
    return [np.where(decided, curve.snr_at(share), np.nan) for share in shares]


def _edges(snr: Floats, bins: int) -> Floats:
    return np.geomspace(snr.min(), snr.max() * (1 + 1e-9), bins + 1)


def _first_guess(x: Floats, found: Floats, total: Floats) -> Floats:
    """Return logit of the ceiling, offset and slope: the ceiling is what the brightest third shows."""
    bright = x >= np.quantile(x, 2 / 3)
    ceiling = np.clip(found[bright].sum() / max(total[bright].sum(), 1), 0.05, 0.98)
    share = np.clip(found.sum() / max(total.sum(), 1) / ceiling, 0.05, 0.95)
    return np.array([logit(ceiling), logit(share), 2.0])


def _loss(parameters: Floats, x: Floats, found: Floats, total: Floats) -> Floats:
    height, offset, slope = parameters.T[:, :, None]
    share = np.clip(expit(height) * expit(offset + slope * x), 1e-12, 1 - 1e-12)
    surprise = -(found * np.log(share) + (total - found) * np.log1p(-share)).sum(axis=1)
    return np.asarray(surprise + PENALTY * (parameters[:, 0] ** 2 + parameters[:, 2] ** 2))


def _derivatives(parameters: Floats, x: Floats, found: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Return the gradient of the loss, (R, 3), and its expected curvature, (R, 3, 3)."""
    height, offset, slope = parameters.T[:, :, None]
    ceiling, rise = expit(height), expit(offset + slope * x)
    share = np.clip(ceiling * rise, 1e-12, 1 - 1e-12)
    steep = ceiling * rise * (1 - rise)
    slopes = np.stack([share * (1 - ceiling), steep, steep * x], axis=1)  # (R, 3, K)
    variance = share * (1 - share)
    gradient = -np.einsum("rik,rk->ri", slopes, (found - total * share) / variance)
    information = np.einsum("rik,rjk,rk->rij", slopes, slopes, total / variance, optimize=True)
    gradient[:, [0, 2]] += 2 * PENALTY * parameters[:, [0, 2]]
    information[:, [0, 1, 2], [0, 1, 2]] += 2 * PENALTY
    return gradient, information
