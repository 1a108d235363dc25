"""The training notebook is a tour: it calls the package, keeps no outputs in git, and runs from top to bottom."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from astrid.config.compose import PROJECT_ROOT
from astrid.tracking.stored_runs import read_folder

NOTEBOOK = PROJECT_ROOT / "experiments" / "notebooks" / "model_training.ipynb"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def code_cells() -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]


def parsed(cell: nbformat.NotebookNode) -> ast.Module:
    python = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
    return compile(python, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


EVERY_CELL = pytest.mark.parametrize("cell", code_cells(), ids=lambda cell: cell.id)


@EVERY_CELL
def test_it_keeps_no_outputs_in_git(cell: nbformat.NotebookNode) -> None:
    assert not cell.outputs and not cell.execution_count


@EVERY_CELL
def test_it_defines_no_logic(cell: nbformat.NotebookNode) -> None:
    assert [node.lineno for node in ast.walk(parsed(cell)) if isinstance(node, DEFINITIONS)] == []


def test_every_link_leads_somewhere() -> None:
    text = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "markdown")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert links and all((NOTEBOOK.parent / link).exists() for link in links), links


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Proactor|IOLoop|zmq")
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRID_NOTEBOOK_OUTPUTS", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, 4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()  # raises what a cell raises
    (run,) = [path.parent for path in (tmp_path / "runs").glob("*/journal.jsonl")]
    assert read_folder(run).status == "FINISHED"
    assert (run / "report.html").is_file() and (run / "inspect" / "objects.csv").is_file()
    trials = [read_folder(path.parent) for path in (tmp_path / "sweep").glob("*/journal.jsonl")]
    assert len(trials) == 4 and {trial.status for trial in trials} == {"FINISHED"}
    shown = [output.output_type for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "error" not in shown and len(shown) > 20
