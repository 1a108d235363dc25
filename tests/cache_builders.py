"""A process that wants a store of fields: `python cache_builders.py CACHE LOG FIELDS SECONDS`.

It writes a line into the log for every field that it makes, takes so long for each, and prints the digest of what the
store holds in the end.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from astrid.config import RunError
from astrid.data.frames import Field
from astrid.data.store import cached_store


def make_fields(log: Path, count: int, seconds: float) -> Iterator[Field]:
    """Make fields of noise, each the same in every process."""
    for number in range(count):
        with log.open("a") as stream:
            stream.write(f"{os.getpid()} {number}\n")
        time.sleep(seconds)
        image = np.random.default_rng(number).normal(size=(3, 64, 64)).astype(np.float32)
        plane = image[0] > 1
        yield Field(f"field-{number}", image, plane, ~plane)


def main() -> None:
    """Ask for the store once."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    cache, log, count, seconds = sys.argv[1:]
    try:
        store = cached_store(Path(cache), "key/train", make_fields(Path(log), int(count), float(seconds)))
    except RunError as error:
        sys.exit(f"error: {error}")
    pixels = b"".join(store.image(number).tobytes() for number in range(len(store)))
    print(hashlib.sha256(pixels).hexdigest())


if __name__ == "__main__":
    main()
