"""A finished model judged on other data, or again on its own: the run, its report, its links to the model."""

from .run import run_evaluation

__all__ = ["run_evaluation"]
