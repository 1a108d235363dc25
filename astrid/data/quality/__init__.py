"""How good exposures are: measures with reasons where one is absent, a score, and what becomes of the bad ones."""

from .assess import MEASURES, Assessment, Exposure, assess
from .files import Refusal, assess_file, assess_files, list_files, with_residuals
from .score import Verdict, explain, judge, refuse

__all__ = [
    "MEASURES",
    "Assessment",
    "Exposure",
    "Refusal",
    "Verdict",
    "assess",
    "assess_file",
    "assess_files",
    "explain",
    "judge",
    "list_files",
    "refuse",
    "with_residuals",
]
