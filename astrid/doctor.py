"""What a run needs of this machine and its servers, asked one by one before it needs them."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from .config import AlertsData, Config, ConfigError, DataError, FramesData, RunError, TrackingConfig
from .config.compose import project_path, sample_path
from .energy import SourceError
from .tracking.places import artifact_root
from .tracking.probe import probe_backend, probe_folder

OLDEST_PYTHON = (3, 11)
NEEDED_GB = 2.0
"""Room for the prepared fields of the default run and for a few run folders."""
FAILURES = (ConfigError, DataError, RunError, SourceError, OSError)
State = Literal["ok", "optional", "red"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What was looked at.
    state : 'ok', 'optional' or 'red'
        Fine; absent, and a run does without; or a run can't start as configured.
    text : str
        What was found.
    remedy : str
        What to do about it, where there is something to do.
    """

    name: str
    state: State
    text: str
    remedy: str = ""


def examine(config: Config) -> Iterator[Finding]:
    """Look at everything that a run with this configuration uses, and yield each finding as it is made."""
    yield examine_python()
    torch = examine_torch()
    yield torch
    if torch.state == "ok":
        yield from examine_device(config)
    yield examine_rapl(config)
    backend = examine_backend(config.tracking)
    yield backend
    yield examine_artifacts(config.tracking, answers=backend.state == "ok")
    yield examine_disk(Path(project_path("outputs")))
    yield examine_data(config)


def examine_python() -> Finding:
    """Look at the version of Python."""
    wanted = ".".join(map(str, OLDEST_PYTHON))
    state: State = "ok" if sys.version_info >= OLDEST_PYTHON else "red"
    return Finding("Python", state, platform.python_version(), f"install Python {wanted} or newer, then make setup")


def examine_torch() -> Finding:
    """Look whether torch can be imported."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a library that it is linked with is missing
        return Finding("torch", "red", str(error), "make setup")
    return Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def examine_device(config: Config) -> Iterator[Finding]:
    """Look at device, CUDA, precision and NVML as a run would choose them."""
    from .runtime import choose_device, choose_precision

    wanted = config.training.device
    device = attempt("device", lambda: f"{choose_device(wanted).type} ({wanted})")
    yield device
    yield examine_cuda()
    if device.state == "ok":
        chosen, precision = choose_device(wanted), config.training.precision
        yield attempt("precision", lambda: f"{choose_precision(precision, chosen)} ({precision})")
        yield examine_nvml(config, uses_gpu=chosen.type == "cuda")


def examine_cuda() -> Finding:
    """Look at the first CUDA device."""
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        text = "no CUDA device" if built else "torch is built without CUDA"
        return Finding(
            "CUDA", "optional", text, "on a machine with an NVIDIA GPU: install its driver and torch for CUDA"
        )
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
    return Finding("CUDA", "ok", f"{torch.version.cuda}, {torch.cuda.get_device_name()}, {gigabytes:.0f} GB")


def examine_nvml(config: Config, *, uses_gpu: bool) -> Finding:
    """Look whether the energy of the GPU in use can be read."""
    if config.energy.source == "off":
        return Finding("NVML", "ok", "not asked for (energy=off)")
    if not uses_gpu and config.energy.gpus == "auto":
        return Finding("NVML", "optional", "no GPU is used, so there is no energy of one to read")
    import torch

    from .energy.nvml import open_gpus

    used = [str(torch.cuda.get_device_properties(0).uuid)] if uses_gpu else []
    remedy = "install the NVIDIA driver with its library libnvidia-ml; until then GPU energy is `unavailable`"

    def names() -> str:
        return ", ".join(source.name for source in open_gpus(used, wanted=config.energy.gpus))

    return attempt("NVML", names, remedy, otherwise="optional")


def examine_rapl(config: Config) -> Finding:
    """Look whether the energy of the CPU can be read."""
    from .energy.rapl import open_rapl

    if config.energy.source == "off":
        return Finding("RAPL", "ok", "not asked for (energy=off)")
    remedy = "without it CPU energy is `unavailable`; virtual machines seldom have it"
    return attempt("RAPL", lambda: ", ".join(source.name for source in open_rapl()), remedy, otherwise="optional")


def examine_backend(config: TrackingConfig) -> Finding:
    """Look whether MLflow answers and can be written."""
    if config.backend == "off":
        return Finding("MLflow backend", "ok", "not used (tracking=off)")
    finding = attempt("MLflow backend", lambda: probe_backend(config), remedy_for(config))
    if finding.state == "red" and any(word in finding.text for word in ("401", "not authenticated", "Unauthorized")):
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        return Finding(finding.name, finding.state, finding.text, remedy)
    return finding


def remedy_for(config: TrackingConfig) -> str:
    """Say what helps where a backend doesn't answer."""
    if config.scheme == "sqlite":
        return "make file and folder writable, or choose another file with tracking.uri=sqlite:///PATH"
    if config.scheme in ("http", "https"):
        return "start it (make mlflow-server), or correct tracking.uri; tracking=local needs no server"
    return "see that the database runs and takes this user, or correct tracking.uri"


def examine_artifacts(config: TrackingConfig, *, answers: bool) -> Finding:
    """Look whether the place of the artifacts can be written; `answers` says whether MLflow can be asked about it."""
    name, root = "artifact store", artifact_root(config)
    if config.backend == "off":
        return Finding(name, "ok", "not used (tracking=off)")
    if root is None:
        return Finding(name, "ok", "the tracking server keeps them")
    if config.on_s3:
        return attempt(name, lambda: check_s3(config, answers=answers))
    if root.startswith("file://"):
        folder = Path(unquote(urlsplit(root).path))
        remedy = "make the folder writable, or choose another one with tracking.artifacts=FOLDER"
        return attempt(name, lambda: probe_folder(folder), remedy)
    return Finding(name, "optional", f"{root} can't be tried from here")


def check_s3(config: TrackingConfig, *, answers: bool) -> str:
    """Write to the bucket and, where MLflow can be asked, see that the experiment keeps its artifacts there."""
    from .tracking.preflight import check_artifacts
    from .tracking.s3 import check_bucket, place_of

    (check_artifacts if answers else check_bucket)(config)
    return place_of(config)


def examine_disk(outputs: Path) -> Finding:
    """Look at the room that is left where runs are kept."""

    def room() -> str:
        probe_folder(outputs)
        existing = next(path for path in (outputs, *outputs.parents) if path.exists())
        free_gb = shutil.disk_usage(existing).free / 1e9
        if free_gb < NEEDED_GB:
            raise RunError(f"{free_gb:.1f} GB free in {outputs}, and a run wants {NEEDED_GB:g} GB")
        return f"{free_gb:.0f} GB free in {outputs}"

    return attempt("disk", room, "make room and see that it can be written; outputs/cache may be deleted")


def examine_data(config: Config) -> Finding:
    """Look for the frames that a run would read, or for the sample data that some recipes want."""
    if isinstance(config.data, AlertsData):
        if not Path(config.data.packets).exists():
            return Finding("data", "red", f"{config.data.packets} not found", "correct data.packets")
        return Finding("data", "ok", f"packets in {config.data.packets}")
    if isinstance(config.data, FramesData):
        missing = [path for path in (config.data.root, config.data.manifest) if not Path(path).exists()]
        if missing:
            return Finding("data", "red", f"{', '.join(missing)} not found", "correct data.root and data.manifest")
        return Finding("data", "ok", f"{config.data.manifest}, from {config.data.root}")
    samples = Path(sample_path())
    if samples.is_dir():
        return Finding("data", "ok", f"sample data in {samples}")
    remedy = "only recipes with real frames want it: set ASTRID_DATA to its folder"
    return Finding("data", "optional", f"no sample data in {samples}", remedy)


def attempt(name: str, call: Callable[[], str], remedy: str = "", *, otherwise: State = "red") -> Finding:
    """Call, and report what it returns, or why it fails; an error that brings its own remedy needs none."""
    try:
        return Finding(name, "ok", call())
    except FAILURES as error:
        text, _, own = (str(error), "", "") if remedy else str(error).rpartition("; ")
        return Finding(name, otherwise, text or str(error), remedy or own)
