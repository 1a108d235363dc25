"""Send what MLflow lacks of runs that are over: `python -m astrid.tracking RUN...`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from astrid.config import ConfigError, DataError
from astrid.config.resume import load_config

from .shipper import ShippingError
from .tracker import sync


def main() -> int:
    """Sync each run folder of the command line; 0 done, 1 MLflow did not answer, 2 no run there."""
    parser = argparse.ArgumentParser(prog="python -m astrid.tracking", description=__doc__)
    parser.add_argument("run", nargs="+", type=Path, help="run folder, as in outputs/runs/...")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for run_dir in parser.parse_args().run:
        try:
            sent = sync(run_dir, load_config(run_dir).tracking)
        except (ConfigError, DataError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except ShippingError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{run_dir}: {sent} records sent")
    return 0


if __name__ == "__main__":
    sys.exit(main())
