"""Return to the version of the registered model that was champion before, moved by the gate or by hand.

    astrid rollback
    astrid rollback --model astrid-unet --uri http://localhost:9003

Called again it goes back further.
"""

from __future__ import annotations

import argparse

from .promote import add_registry_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_registry_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Move the alias back and say what moved."""
    from ..tracking.versions import rollback

    moved = rollback(name=arguments.model, uri=arguments.uri)
    print(f"{arguments.model}: champion is version {moved.after} again (it was version {moved.before})")
    return 0
