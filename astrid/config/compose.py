"""From the command line and `conf/` to a checked `Config`, and every mistake to exit code 2.

Hydra composes; this module registers the schema with it, refuses what the schema doesn't know, and turns the
many ways in which a configuration can be wrong into one message each.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from . import (
    AdamConfig,
    AdamWConfig,
    AlertsData,
    BCEDiceLoss,
    BCELoss,
    Config,
    ConfigError,
    ConstantSchedule,
    CosineSchedule,
    DiceLoss,
    EnergyConfig,
    FocalLoss,
    FramesData,
    InjectedData,
    MetricsConfig,
    ModelConfig,
    OneCycleSchedule,
    PlateauSchedule,
    SGDConfig,
    SimulatedData,
    TrackingConfig,
    TrainingConfig,
    TverskyLoss,
    check,
)
from .explain import explain, explain_unknown_key

PROJECT_ROOT = Path(__file__).resolve().parents[2]
CONF = PROJECT_ROOT / "conf"

CHOICES: dict[str, dict[str, type]] = {
    "model": {"unet": ModelConfig},
    "data": {"simulated": SimulatedData, "frames": FramesData, "alerts": AlertsData, "injected": InjectedData},
    "optimizer": {"adam": AdamConfig, "adamw": AdamWConfig, "sgd": SGDConfig},
    "schedule": {
        "constant": ConstantSchedule,
        "cosine": CosineSchedule,
        "onecycle": OneCycleSchedule,
        "plateau": PlateauSchedule,
    },
    "loss": {
        "bce": BCELoss,
        "dice": DiceLoss,
        "focal": FocalLoss,
        "tversky": TverskyLoss,
        "bce_dice": BCEDiceLoss,
    },
    "training": {"default": TrainingConfig},
    "metrics": {"standard": MetricsConfig},
    "energy": {"auto": EnergyConfig},
    "tracking": {"local": TrackingConfig},
}
"""The dataclass behind each named choice; `conf/<group>/<choice>.yaml` starts from `schema/<group>/<choice>`."""


_SCHEMA = "schema"


def register() -> None:
    """Tell Hydra the schema, and OmegaConf the resolvers that `conf/` uses; a second time does nothing."""
    store = ConfigStore.instance()
    if f"{_SCHEMA}.yaml" in store.repo and OmegaConf.has_resolver("astrid.run"):
        return
    OmegaConf.register_resolver("astrid.project", project_path, replace=True)
    OmegaConf.register_resolver("astrid.data", sample_path, replace=True)
    OmegaConf.register_resolver("astrid.unique", _unique_suffix, use_cache=True, replace=True)
    OmegaConf.register_resolver("astrid.run", run_folder, replace=True)
    for group, choices in CHOICES.items():
        for name, schema in choices.items():
            store.store(group=f"{_SCHEMA}/{group}", name=name, node=schema, replace=True)
    whole = OmegaConf.structured(Config)
    for group in CHOICES:
        whole[group] = MISSING  # or a group's default dataclass would refuse to be replaced by its siblings
    store.store(name=_SCHEMA, node=whole, replace=True)  # last: where it is, all of it is


def project_path(relative: str) -> str:
    """Return a path below the project's root."""
    return str(PROJECT_ROOT / relative)


def sample_path(relative: str = "") -> str:
    """Return a path below the sample data: `ASTRID_DATA`, or `../shared/data` seen from the project's root."""
    folder = os.environ.get("ASTRID_DATA") or PROJECT_ROOT.parent / "shared" / "data"
    return str(Path(folder).resolve() / relative)


def _unique_suffix() -> str:
    return secrets.token_hex(4)


def run_folder(fresh: str, resume: str | None) -> str:
    """Return where a run lives: a fresh folder, or that of the run (or of the checkpoint) it resumes."""
    if resume is None:
        return fresh
    path = Path(resume)
    return str(path.parent.parent if path.suffix == ".pt" else path)


def load(overrides: Sequence[str] = ()) -> Config:
    """Compose and check a configuration outside of `train.py`.

    Raises
    ------
    ConfigError
        Naming the key, the value, the rule and a remedy.

    Examples
    --------
    >>> load(["model=unet_deep", "data.batch_size=8"]).model.depth
    5
    """
    register()
    try:
        return to_config(_compose(list(overrides)), overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, CHOICES)) from error


def _compose(overrides: list[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():
        return compose("config", overrides=overrides)
    with initialize_config_dir(str(CONF)):
        return compose("config", overrides=overrides)


def composed(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose without checking ranges and contradictions."""
    register()
    return _compose(list(overrides))


def composed_values(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose without checking; what must still be given is "???"."""
    return cast(dict[str, Any], OmegaConf.to_container(composed(overrides), resolve=True))


def to_config(node: DictConfig, *, overrides: Iterable[str] = ()) -> Config:
    """Turn what Hydra composed into a checked `Config`; `overrides` are the user's own, for resuming.

    Raises
    ------
    ConfigError
        For a key that the schema doesn't know, a value that is missing, or one out of its range.
    """
    from .resume import resumed

    refuse_unknown_keys(node)
    try:
        config = OmegaConf.to_object(node)
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or "a value"
        raise ConfigError(f"{key} must be given, got nothing; add {key}=... to the command line") from None
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, CHOICES)) from error
    assert isinstance(config, Config)
    refuse_infinities(asdict(config))
    return config if config.training.resume is None else resumed(config, overrides)


def refuse_unknown_keys(node: DictConfig, prefix: str = "") -> None:
    """Refuse any key that is not a field of the dataclass behind its node, however it came in."""
    schema = OmegaConf.get_type(node)
    known = [field.name for field in fields(schema)] if is_dataclass(schema) else []
    for key in map(str, node):
        name = f"{prefix}{key}"
        if key not in known:
            raise ConfigError(explain_unknown_key(name, [f"{prefix}{candidate}" for candidate in known]))
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            refuse_unknown_keys(child, prefix=f"{name}.")


def refuse_infinities(values: Mapping[str, object], prefix: str = "") -> None:
    """Refuse a number that is infinite or not a number; no knob has a use for one."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            refuse_infinities(value, f"{prefix}{name}.")
        for number in value if isinstance(value, list) else [value]:
            finite = not isinstance(number, float) or math.isfinite(number)
            check(finite, f"{prefix}{name}", number, "a finite number", "leave it at its default")
