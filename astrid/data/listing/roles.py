"""What a picture is for, by the name of its file or extension, and which science frame it goes with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..kinds import BETWEEN

Role = Literal["science", "mask", "weight", "target", "reference", "unused"]

WORDS: Mapping[Role, tuple[str, ...]] = {
    "unused": (
        *("err", "error", "sigma", "rms", "noise", "var", "variance", "unc", "uncert", "bkg", "back", "background"),
        *("psf", "kernel", "diff", "difference", "score"),
    ),
    "mask": ("dq", "mask", "msk", "bpm", "badpix", "flag", "flags", "dqmask", "ood", "okd"),
    "weight": ("wht", "weight", "weights", "wtmap", "invvar", "ivar", "oow", "okw"),
    "target": ("target", "truth", "label", "labels", "crmask"),
    "reference": ("ref", "reference", "template", "tmpl"),
    "science": ("sci", "image", "img", "primary", "ooi", "oki", "science"),
}
"""Words that name each role, in the order in which they decide; compared in small letters.

`ooi`, `ood`, `oow` are DECam's image, data-quality and weight planes (NOIRLab community pipeline).
"""

_SUFFIX = re.compile(r"\.(fits?|fts|fz|gz|bz2|xz)$", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """What a name says: the role, and the rest of it, which the pictures that belong together share."""

    role: Role
    rest: str


def read_name(name: str) -> Part:
    """Take a file's name apart: `c4d_150411_ood_z.fits.gz` is the mask of `c4d_150411_z`, as `m31.dq.fits` of `m31`.

    The name without a known word is that of a science frame.
    """
    stem = name
    while _SUFFIX.search(stem):
        stem = _SUFFIX.sub("", stem)
    words = [word for word in BETWEEN.split(stem) if word]
    for role, known in WORDS.items():
        marks = [word for word in words if word.lower() in known]
        if marks and len(words) > 1:
            return Part(role, "_".join(word for word in words if word not in marks).lower())
    return Part("science", "_".join(words).lower())


def read_extension(name: str) -> Role | None:
    """Return the role that the name of an extension has, None where it says nothing, as a detector's `N2`."""
    return next((role for role, known in WORDS.items() if name.lower() in known), None)
