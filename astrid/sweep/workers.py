"""Several processes on one study, on this machine: started, pinned, restarted when they die, stopped together."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping

from ..config import RunError

log = logging.getLogger(__name__)

LONGEST_STOP_SECONDS = 60
RESTARTS = 3
"""Times that one worker may be killed from outside (the system short of memory) and is started again."""


def run_workers(count: int) -> None:
    """Run the command line of this process in `count` worker processes and wait for them.

    Raises
    ------
    RunError
        Where a worker ended with an error.
    """
    places = [place(worker, count) for worker in range(count)]
    workers = [_start(environment) for environment in places]
    restarts = 0
    try:
        codes: dict[int, int] = {}
        while len(codes) < count:
            for number, worker in enumerate(workers):
                if number in codes:
                    continue
                try:
                    code = worker.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    continue
                if code < 0 and restarts < RESTARTS:
                    restarts += 1
                    log.warning("worker %d was killed by signal %d and is started again", number, -code)
                    workers[number] = _start(places[number])
                else:
                    codes[number] = code
    except BaseException:  # Ctrl-C too: no worker outlives the command that started it
        _stop(workers)
        raise
    failed = {number: code for number, code in codes.items() if code != 0}
    if failed:
        raise RunError(f"workers ended with errors (number: exit code): {failed}; see their messages above")


def place(worker: int, count: int) -> dict[str, str]:
    """Return the environment that pins a worker to its GPU, or to its share of the cores.

    Torch and OpenMP take as many threads as the process may use cores, and OMP_NUM_THREADS says so to both.
    """
    gpus = visible_gpus(os.environ)
    if gpus:
        return {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // count))}


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs of this process by index or UUID, as CUDA_VISIBLE_DEVICES writes them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _start(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    own = [argument for argument in sys.argv if not argument.startswith("sweep.workers=")]
    return subprocess.Popen([sys.executable, *own], env=os.environ | dict(environment))


def _stop(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(timeout=LONGEST_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
