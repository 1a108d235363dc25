"""Where and how a run computes: device, precision, seed, signals, and the facts that describe the machine."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch

from astrid.config import ConfigError, RunError, TrainingConfig
from astrid.config.secrets import scrub

log = logging.getLogger(__name__)

PACKAGES = (
    "astrid",
    "torch",
    "numpy",
    "hydra-core",
    "omegaconf",
    "mlflow",
    "scipy",
    "scikit-learn",
    "astropy",
    "photutils",
)
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


LARGEST_UNTRACKED_BYTES = 100_000
"""Untracked files up to this size are kept with a run, as if they had been added."""


@dataclass(frozen=True)
class Runtime:
    """What `auto` came to.

    Attributes
    ----------
    device : torch.device
    precision : 'fp32', 'bf16' or 'fp16'
        Type in which the network computes; weights and losses stay float32.
    threads : int
        CPU threads of torch.
    channels_last : bool
        Whether images and weights are kept in NHWC memory order.
    """

    device: torch.device
    precision: str
    threads: int
    channels_last: bool

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which the network computes in the run's precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])

    def synchronise(self) -> None:
        """Wait until the device has done what was queued."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory order of images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def gpu_uuids(self) -> list[str]:
        """UUIDs of the GPUs in use, as NVML writes them; empty on the CPU."""
        if self.device.type != "cuda":
            return []
        return [f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"]


def prepare_runtime(config: TrainingConfig) -> Runtime:
    """Choose device and precision, seed every generator, and set torch's threads.

    Raises
    ------
    ConfigError
        Where CUDA or fp16 was asked for and the machine has none.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it starts
    torch.use_deterministic_algorithms(config.deterministic)
    seed_everything(config.seed)
    return Runtime(device, precision, torch.get_num_threads(), config.channels_last)


def choose_device(wanted: str) -> torch.device:
    """Return the device; `auto` is CUDA where there is one."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError(
            "training.device must be one that this machine has, got 'cuda' without a CUDA device; try cpu"
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def choose_precision(wanted: str, device: torch.device) -> str:
    """Return the precision; `auto` is bf16 where the hardware computes in it."""
    if wanted == "fp16" and device.type != "cuda":
        raise ConfigError(
            "training.precision must be fp32 or bf16 without CUDA, got 'fp16'; try training.precision=auto"
        )
    if wanted != "auto":
        return wanted
    return "bf16" if has_bf16(device) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Tell whether the device has bf16 instructions: Ampere and newer, AVX512-BF16 and AMX processors."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (on all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """Return the state of every global generator, in types that a checkpoint may hold."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    key = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": numpy_state | {"state": numpy_state["state"] | {"key": key}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put every global generator back to a state that `random_states` returned."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy_state = states["numpy"]
    key = numpy_state["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(numpy_state | {"state": numpy_state["state"] | {"key": key}})
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


class StopSignals:
    """Note SIGTERM and Ctrl-C instead of dying, so that the loop can save first; a second one interrupts at once."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        log.warning("%s received: saving, then stopping; once more stops at once", self.received)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that device or host memory ran out (torch has no type for the host's)."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | versions


def hardware_facts(runtime: Runtime) -> dict[str, str]:
    """Describe the machine: host, processor, cores, device."""
    cuda = runtime.device.type == "cuda"
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": str(torch.cpu.get_capabilities().get("cpu_name", platform.processor())),
        "cores": str(os.cpu_count()),
        "device": torch.cuda.get_device_name(runtime.device) if cuda else "cpu",
    }


@dataclass(frozen=True)
class GitState:
    """Commit, branch, uncommitted changes, untracked files and remote of a checkout; empty strings outside of one."""

    commit: str
    branch: str
    diff: str
    untracked: str
    remote: str = ""

    @property
    def is_dirty(self) -> bool:
        """Whether the code is not exactly that of the commit."""
        return bool(self.diff or self.untracked)


def git_state(root: Path) -> GitState:
    """Ask git about the checkout at `root`; secrets in its remote and its changes come back as `***`."""

    def ask(*arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, errors="replace", timeout=20
            )
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return ""
        return done.stdout if done.returncode == 0 else ""

    untracked = ask("ls-files", "--others", "--exclude-standard")
    commit, branch = ask("rev-parse", "HEAD").strip(), ask("rev-parse", "--abbrev-ref", "HEAD").strip()
    return GitState(
        commit,
        branch,
        diff=scrub(ask("diff", "HEAD") + _as_diff(root, untracked)),
        untracked=untracked,
        remote=scrub(ask("remote", "get-url", "origin").strip()),
    )


def _as_diff(root: Path, untracked: str) -> str:
    """Return the content of untracked text files as additions; what is large or no text is only named."""
    parts = []
    for name in untracked.splitlines():
        path = root / name
        header = f"diff --git a/{name} b/{name}\nnew file mode 100644\n"
        if not path.is_file() or path.stat().st_size > LARGEST_UNTRACKED_BYTES:
            parts.append(f"{header}(not kept: no regular file, or larger than {LARGEST_UNTRACKED_BYTES} bytes)\n")
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            parts.append(f"{header}(not kept: no text)\n")
            continue
        added = "".join(f"+{line}\n" for line in lines)
        parts.append(f"{header}--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n{added}")
    return "".join(parts)


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Stop with the knobs to turn where memory runs out in the block.

    Raises
    ------
    RunError
        Naming the knobs.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise RunError(f"out of memory: {advice}") from error
