"""Train, evaluate and record a U-Net: `python train.py model=unet_deep data.batch_size=16`."""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from astrid.config.command_line import hide_secrets, one_message, run_checked
from astrid.config.compose import to_config
from astrid.sweep.plugin import register_sweeper


@hydra.main(config_path="conf", config_name="config")
def main(composed: DictConfig) -> Any:
    """Run one experiment and return its objective; in a sweep, how its trial ended."""
    from astrid.experiment import run_experiment

    job = HydraConfig.get()
    hide_secrets(job)
    with one_message(job):
        config = to_config(composed, overrides=job.overrides.task)
        run_dir = Path(job.runtime.output_dir)
        if config.is_several:
            from astrid.repeats import run_group

            return run_group(run_experiment, config, run_dir=run_dir)
        if config.sweep.trial is None:
            return run_experiment(config, run_dir=run_dir)
        from astrid.sweep.trial import run_trial

        return run_trial(run_experiment, config, run_dir=run_dir, sweeper=job.sweeper)


if __name__ == "__main__":
    register_sweeper()
    run_checked(main)
