"""What Hydra loads at every start to know the sweeper by name: its options, and a door to the rest.

Nothing heavy may be imported here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig


@dataclass
class NopPruner:
    """Let every trial run to its end."""

    _target_: str = "optuna.pruners.NopPruner"


@dataclass
class MedianPruner:
    """Stop a trial whose best value so far is below the median of the others at the same epoch."""

    _target_: str = "optuna.pruners.MedianPruner"
    n_startup_trials: int = 4
    n_warmup_steps: int = 0
    interval_steps: int = 1
    n_min_trials: int = 1


@dataclass
class HyperbandPruner:
    """Give many trials few epochs and few trials many (Li et al. 2018, arXiv:1603.06560)."""

    _target_: str = "optuna.pruners.HyperbandPruner"
    min_resource: int = 1
    max_resource: int | str = "auto"
    reduction_factor: int = 3


@dataclass
class StudySweeperConf:
    """Options of `hydra/sweeper=study`; the samplers are those of the stock Optuna plugin."""

    _target_: str = "astrid.sweep.plugin.StudySweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "median"}])
    sampler: Any = MISSING  # None would silently replace the chosen member of the group, as for the next
    pruner: Any = MISSING
    direction: Any = "maximize"
    storage: str | None = None
    """`journal:///path` (null: outputs/studies/<study>.journal), or a database that SQLAlchemy knows."""
    study_name: str = MISSING
    n_trials: int = 20
    """Finished trials of the study, over all its processes and restarts."""
    n_jobs: int = 1
    """Trials that are handed to the launcher at once."""
    params: dict[str, str] | None = None


class StudySweeper(Sweeper):
    """The sweeper that Hydra makes from `StudySweeperConf`."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._search: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over before a sweep."""
        from .search import Search

        self._search = Search.from_options(
            self._options, hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study to its total; `arguments` are the overrides of the command line."""
        return self._search.run(arguments)


_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="astrid")
for _name, _pruner in (("nop", NopPruner), ("median", MedianPruner), ("hyperband", HyperbandPruner)):
    _store.store(group="hydra/sweeper/pruner", name=_name, node=_pruner, provider="astrid")


def register_sweeper() -> None:
    """Tell Hydra of the sweeper, also where the package's entry points are those of an older installation."""
    Plugins.instance().register(StudySweeper)
