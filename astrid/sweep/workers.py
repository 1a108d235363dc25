"""Processes that search, on this machine: started, pinned, restarted when they die, stopped together."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ..config import RunError

log = logging.getLogger(__name__)

LONGEST_STOP_SECONDS = 60
LOOK_SECONDS = 0.1
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_workers(count: int, *, folder: Path, restarts: int) -> None:
    """Run the command line of this process in `count` worker processes and wait for them.

    A worker that a signal kills, as the system does when it runs short of memory, is started again. On Linux the
    workers die with this process, however that dies.

    Parameters
    ----------
    count : int
    folder : Path
        Of the sweep, the same for all.
    restarts : int
        Times, in all, that a killed worker is started again.

    Raises
    ------
    RunError
        Where a worker ended with an error.
    """
    places = [place(worker, count) for worker in range(count)]
    workers = {number: _start(number, folder, environment) for number, environment in enumerate(places)}
    codes: dict[int, int] = {}
    try:
        while workers:
            time.sleep(LOOK_SECONDS)
            for number, code in [(number, worker.poll()) for number, worker in workers.items()]:
                if code is None:
                    continue
                if code < 0 and restarts > 0:
                    restarts -= 1
                    log.warning("worker %d was killed by signal %d and is started again", number, -code)
                    workers[number] = _start(number, folder, places[number])
                else:
                    codes[number] = code
                    del workers[number]
    except BaseException:  # Ctrl-C too: no worker outlives the command that started it
        _stop(workers)
        raise
    failed = {number: code for number, code in codes.items() if code != 0}
    if failed:
        raise RunError(f"workers ended with errors (number: exit code): {failed}; see their messages above")


def place(worker: int, count: int) -> dict[str, str]:
    """Return the environment that pins one of several workers to its GPU, or to its share of the cores.

    Torch and OpenMP take as many threads as the process may use cores, and OMP_NUM_THREADS says so to both. Several
    workers print lines and no bars, which would overwrite each other.
    """
    if count == 1:
        return {}
    gpus = visible_gpus(os.environ)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if gpus else {}
    return share | {"OMP_NUM_THREADS": str(max(1, cores // count)), "TTY_COMPATIBLE": "0"}


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs of this process by index or UUID, as CUDA_VISIBLE_DEVICES writes them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _start(number: int, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    own = [argument for argument in sys.argv if not argument.startswith("hydra.sweep.dir=")]
    return subprocess.Popen(
        [sys.executable, *own, f"sweep.worker={number}", f"hydra.sweep.dir={folder}"],
        env=os.environ | dict(environment),
        process_group=0,  # Ctrl-C on a terminal reaches the parent only: a second signal stops without saving
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(workers: Mapping[int, subprocess.Popen[bytes]]) -> None:
    """Ask the workers to save and leave, and wait; a second Ctrl-C doesn't wait."""
    for worker in workers.values():
        worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + LONGEST_STOP_SECONDS
    for worker in workers.values():
        try:
            worker.wait(timeout=max(0.1, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            worker.kill()
            worker.wait()
