"""Several runs as one: repeats with other seeds, folds of a cross-validation, and what they come to together."""

from .group import run_group

__all__ = ["run_group"]
