"""Check every job that a command line asks for before the first one starts, and keep the exit codes.

0 done; 1 failed while running; 2 bad input or configuration.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from .checks import BudgetSpent, ConfigError, DataError, RunError, Stopped
from .compose import CHOICES, load, register
from .explain import explain, known_keys, suggest_keys
from .guarded_output import guard_output
from .lost_jobs import lost_job_errors
from .resume import LAST_STATE, may_change, must_stay
from .secrets import scrub, scrub_values

GROUPS = (*CHOICES, "experiment", "sweep")
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")


def run_checked(main: Callable[[], Any]) -> None:
    """Check the command line, run Hydra's `main`, and leave with the exit code that fits."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand exceptions through, so that they can be told apart here
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    guard_output()
    register()
    try:
        check_command_line(sys.argv[1:])
        main()
    except Leaving as error:
        _leave(str(error), code=error.code)
    except (ConfigError, DataError) as error:
        _leave(str(error), code=2)
    except (HydraException, OmegaConfBaseException) as error:
        _leave(explain(error, CHOICES), code=2)
    except (RunError, Stopped) as error:
        _leave(str(error), code=1)
    except lost_job_errors() as error:
        _leave(f"the process of a job was lost: {' '.join(str(error).split())}", code=1)
    except KeyboardInterrupt:
        _leave("interrupted; runs that had begun to train go on with training.resume=FOLDER, each with its own", code=1)
    except yaml.YAMLError as error:
        _leave(f"a configuration file must be valid YAML: {' '.join(str(error).split())}", code=2)


class Leaving(BaseException):
    """An error of the only job on its way out: Hydra lets what is no `Exception` pass without a message of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.code = 1 if isinstance(error, RunError) else 2


@contextmanager
def one_message(job: HydraConf) -> Iterator[None]:
    """Let an error of a single run end it with one message; in a multirun Hydra says first which job it was."""
    try:
        yield
    except BudgetSpent as spent:  # no failure: exit code 0
        print(scrub(str(spent)))
    except Stopped:
        raise
    except KeyboardInterrupt as interrupt:
        if job.mode == RunMode.MULTIRUN:
            raise
        raise Stopped(_what_is_left(job)) from interrupt
    except (ConfigError, DataError, RunError) as error:
        if job.mode == RunMode.MULTIRUN:
            raise
        if not isinstance(error, RunError):
            _remove_empty_folder(job)
        raise Leaving(error) from error


def _what_is_left(job: HydraConf) -> str:
    """Say how to go on with a run that was cut off, and remove its folder where nothing had begun."""
    folder = Path(job.runtime.output_dir)
    if (folder / LAST_STATE).is_file():
        return f"interrupted; what was saved goes on with training.resume={folder}"
    _remove_empty_folder(job)
    kept = f"; {folder} holds what it left" if folder.exists() else ""
    return f"interrupted before anything was trained{kept}; start it again with the same command"


def _remove_empty_folder(job: HydraConf) -> None:
    """Remove the folder of a run that was refused, if this command made it and it holds nothing but Hydra's log.

    One that was named may have been there before; a name that Hydra makes up never was.
    """
    if any(text.startswith("hydra.run.dir") for text in job.overrides.hydra):
        return
    folder, log = Path(job.runtime.output_dir), f"{job.job.name}.log"
    if {path.name for path in folder.iterdir()} <= {log}:
        (folder / log).unlink(missing_ok=True)
        folder.rmdir()


def _leave(message: str, *, code: int) -> None:
    print(scrub(f"error: {message}"), file=sys.stderr)
    sys.exit(code)


def hide_secrets(job: HydraConf) -> None:
    """Keep secrets out of what a job prints, in a worker of its own too, and out of what Hydra noted of it."""
    guard_output()
    noted: list[Path] = []
    if job.output_subdir is not None:
        noted += Path(job.runtime.output_dir, job.output_subdir).glob("*.yaml")
    if job.mode is RunMode.MULTIRUN:
        noted += Path(job.sweep.dir).glob("multirun.yaml")
    for path in noted:
        _scrub_file(path)


def _scrub_file(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    without = scrub_values(values)
    if without != values:
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(yaml.safe_dump(without, sort_keys=False))
        partial.replace(path)


def check_command_line(arguments: Sequence[str]) -> int:
    """Compose and check each job of a command line, and return their number; help and information pass through.

    Raises
    ------
    ConfigError
        For the first job that cannot run.
    """
    parsed, unknown = get_args_parser().parse_known_intermixed_args(list(arguments))
    if unknown:
        remedy = suggest_keys(unknown[0].lstrip("-").partition("=")[0], known_keys(CHOICES))
        raise ConfigError(f"knobs must be given as group.knob=value, without dashes, got {unknown[0]}; {remedy}")
    if parsed.help or parsed.hydra_help or parsed.info or parsed.shell_completion:
        return 0
    if parsed.multirun and parsed.cfg:
        raise ConfigError("--cfg must be given without -m: it shows the configuration of one job")
    overrides = OverridesParser.create().parse_overrides(parsed.overrides)
    resumes = any(override.key_or_group == "training.resume" for override in overrides)
    for override in overrides:
        _refuse_odd_choice(override)
        if override.key_or_group in FOLDERS:
            _check_folder(override, resumes=resumes)
    own = [override for override in overrides if not re.match(r"hydra\b", override.key_or_group)]
    searchpath = [] if parsed.config_dir is None else [f"hydra.searchpath=[file://{Path(parsed.config_dir).resolve()}]"]
    recipe = next((override.value() for override in own if override.key_or_group == "sweep"), None)
    if recipe is not None and not parsed.multirun and not parsed.cfg:
        remedy = f"python train.py -m sweep={recipe}"
        raise ConfigError(f"sweep={recipe} must be given with -m, which runs many trials; try {remedy}")
    jobs = [_fixed(own)] if recipe is not None else _jobs(own, multirun=parsed.multirun)
    for job in jobs:
        try:
            config = load([*job, *searchpath])
            if recipe is not None:
                config.check_single("in a sweep, where a trial is one run")
        except ConfigError as error:
            changed = [override.key_or_group for override in own if not may_change(override.key_or_group)]
            if resumes and changed:  # what is wrong with it beside doesn't matter
                raise must_stay(changed[0]) from error
            raise
    return len(jobs)


def _refuse_odd_choice(override: Override) -> None:
    """Refuse what makes Hydra itself fall over: an empty key, and a group set to something that is no name."""
    if not override.key_or_group:
        raise ConfigError(f"{override.input_line} must have a key before its '='; try group.knob=value")
    value = override.value()
    nameless = value is None or isinstance(value, int | float | dict)
    if override.key_or_group in GROUPS and nameless and not override.is_delete():
        raise ConfigError(
            f"{override.key_or_group} must be the name of a choice, got {value}; see conf/{override.key_or_group}/"
        )


def _fixed(overrides: list[Override]) -> list[str]:
    """Return what every trial of a study gets; a trial that its own parameters make impossible fails alone."""
    return [str(override.input_line) for override in overrides if not override.is_sweep_override()]


def _check_folder(override: Override, *, resumes: bool) -> None:
    """Refuse a folder that cannot be made, or written to: Hydra would end in a traceback."""
    key, wanted = override.key_or_group, str(override.value())
    if resumes:
        raise ConfigError(
            f"{key} must not be given with training.resume, got {wanted}: a resumed run stays where it is"
        )
    folder = Path(wanted.partition("${")[0] or ".").absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{key} must be a folder that can be written, got {wanted}; {existing} is none")


def _jobs(overrides: list[Override], *, multirun: bool) -> list[list[str]]:
    if not multirun:
        return [[str(override.input_line) for override in overrides]]
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            rule = "a list of values in a plain multirun"
            raise ConfigError(f"{override.input_line} must be {rule}; try choice(...), or search it by sweep=...")
    if any(override.key_or_group == "training.resume" for override in overrides):
        raise ConfigError("training.resume must be given without -m; resume the runs one by one")
    return list(BasicSweeper.split_arguments(overrides, None)[0])
