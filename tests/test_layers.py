"""Who may import whom, and other promises that the source itself must keep."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from astrid.config.compose import PROJECT_ROOT

PACKAGE = PROJECT_ROOT / "astrid"
MODULES = sorted(PACKAGE.rglob("*.py"))

SOLE_IMPORTERS = {
    "mlflow": ("tracking/",),
    "pynvml": ("energy/",),
    "astropy.io.fits": (
        "data/frames.py",
        "data/hdus.py",
        "data/damage.py",
        "data/frame_file.py",
        "data/lookup_tables.py",
    ),
    "optuna": ("sweep/",),
    "hydra": ("config/", "sweep/"),
}
"""Third-party modules that only these places of the package may import."""

LEAVES = ("unet", "losses", "metrics", "energy", "checkpoint", "runtime", "plots", "optimization", "tracking")
"""They import `astrid.config` and themselves, nothing else of the package."""


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Return the absolute names of all modules that a file imports, wherever in it."""
    package = path.relative_to(PROJECT_ROOT).with_suffix("").parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


@pytest.mark.parametrize("module", SOLE_IMPORTERS)
def test_a_heavy_library_has_one_importer(module: str) -> None:
    allowed = SOLE_IMPORTERS[module]
    for path in MODULES:
        if not str(path.relative_to(PACKAGE)).startswith(allowed):
            offenders = [name for name in imported(path) if is_within(name, module)]
            assert not offenders, f"{path.name} imports {offenders}"


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_only_the_configuration_and_itself(leaf: str) -> None:
    files = [path for path in MODULES if module_of(path) == leaf]
    assert files, f"astrid/{leaf} doesn't exist"
    for path in files:
        own = {name for name in imported(path) if is_within(name, "astrid")}
        strangers = [
            name for name in own if name != "astrid" and not name.startswith(("astrid.config", f"astrid.{leaf}"))
        ]
        assert not strangers, f"{path.relative_to(PACKAGE)} imports {strangers}"


def test_the_configuration_needs_neither_torch_nor_the_rest_of_the_package() -> None:
    allowed = set(sys.stdlib_module_names) | {"hydra", "omegaconf", "yaml"}
    for path in (PACKAGE / "config").glob("*.py"):
        strangers = [
            name
            for name in imported(path)
            if name.split(".")[0] not in allowed and not is_within(name, "astrid.config") and name != "astrid"
        ]
        assert not strangers, f"{path.name} imports {strangers}"


def test_the_data_leaves_never_import_torch() -> None:
    for path in (PACKAGE / "data").rglob("*.py"):
        if path.name != "dataset.py":
            assert not [name for name in imported(path) if is_within(name, "torch")], path.name


def test_only_entry_points_import_the_experiment() -> None:
    for path in MODULES:
        if path.name not in ("cli.py", "api.py"):
            assert "astrid.experiment" not in imported(path), path.name


def test_only_the_training_module_calls_backward() -> None:
    callers = [path.name for path in MODULES if re.search(r"\.backward\(", path.read_text())]
    assert callers == ["training.py"]


def test_nothing_heavy_is_imported_to_show_a_configuration() -> None:
    code = (
        "import sys, runpy; sys.argv = ['train.py', '--cfg', 'job'];"
        "runpy.run_path('train.py', run_name='__main__');"
        "heavy = {'torch', 'mlflow', 'optuna', 'matplotlib', 'numpy', 'scipy', 'astropy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "depth: 3" in done.stdout


def tracked_tree() -> set[str]:
    return {
        path.name + ("/" if path.is_dir() else "") for path in PROJECT_ROOT.iterdir() if not path.name.startswith(".")
    }


def test_the_folder_tree_of_the_readme_matches_the_folders() -> None:
    readme = (PROJECT_ROOT / "README.md").read_text()
    tree = re.search(r"```\n(astrid/.*?)```", readme, re.DOTALL)
    assert tree, "the README shows no folder tree"
    top = ""
    for line in tree.group(1).splitlines():
        name = line.split("  ")[0] if not line.startswith(" ") else line.strip().split("  ")[0]
        top = name if not line.startswith(" ") else top
        place = PROJECT_ROOT / (name if not line.startswith(" ") else f"{top}{name}")
        assert place.exists(), f"the README shows {place.relative_to(PROJECT_ROOT)}, which doesn't exist"
    shown = tree.group(1)
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py" and path.parent == PACKAGE:
            assert path.name in shown, f"the README's tree lacks astrid/{path.name}"
