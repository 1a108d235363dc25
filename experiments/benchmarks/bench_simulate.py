"""Time the simulated sky from seed to channels: tiles of 3×128×128 per second and core.

Fields of the default sky, each simulated, differenced and brought into units of sigma on one thread. CPU seconds are
counted, so that other work on the machine does not. The rival is the same code: the ratio is the control.

    OMP_NUM_THREADS=1 python experiments/benchmarks/bench_simulate.py
"""

from __future__ import annotations

import time

from rivals import ROUNDS, record, seconds, spread

from astrid.config import SimulatedData
from astrid.data.recipes import simulated_field

FIELDS = 20


def make_fields() -> None:
    """Simulate some fields of the default sky."""
    for index in range(FIELDS):
        simulated_field(SimulatedData(), "train", index)


def main() -> None:
    """Measure the rate, and how far two identical measurements differ."""
    make_fields()
    pairs = [(seconds(make_fields, time.process_time), seconds(make_fields, time.process_time)) for _ in range(ROUNDS)]
    tiles = FIELDS * (SimulatedData().field_size / 128) ** 2
    rates = [tiles / value for pair in pairs for value in pair]
    control = [first / second for first, second in pairs]
    record("bench_simulate", f"{spread(rates)} tiles per second and core", f"control {spread(control)}")


if __name__ == "__main__":
    main()
