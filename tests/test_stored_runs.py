"""Runs read back from MLflow and from run folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrored_runs import MLFLOW_WARNINGS, patient_mlflow

from astrid.config import ConfigError, DataError, RunError, TrackingConfig
from astrid.tracking import Journal, open_tracker, sync
from astrid.tracking import stored_runs as module
from astrid.tracking.stored_runs import RunStore, StoredRun, read_folder

pytestmark = MLFLOW_WARNINGS

PARAMS = {"model.depth": "3", "training.epochs": "2"}


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    with patient_mlflow():
        yield


def record(config: TrackingConfig, run_dir: Path, *, auprc: float, tags: dict[str, str] | None = None) -> Path:
    """Record a run of two epochs in a folder and in MLflow."""
    with open_tracker(config, run_dir, name=f"run-{run_dir.name}", params=PARAMS, tags=tags or {}) as tracker:
        for step in (1, 2):
            tracker.metrics({"val/auprc": auprc * step / 2, "val/loss": 1 / step}, step=step)
    sync(run_dir, config)
    return run_dir


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the sweep `grid`, one tagged with it, and one apart; run `b` was resumed with more epochs."""
    root = tmp_path_factory.mktemp("outputs")
    config = config_of(root)
    for name, auprc in (("a", 0.6), ("b", 0.8)):
        record(config, root / "sweeps/grid" / name, auprc=auprc)
    record(config, root / "runs/tagged", auprc=0.7, tags={"sweep": "grid"})
    record(config, root / "sweeps/grxd/other", auprc=0.5)
    resumed = root / "sweeps/grid/b"
    changed = PARAMS | {"training.epochs": "3"}
    with open_tracker(config, resumed, name="b", params=changed, tags={}, resume=True) as tracker:
        tracker.metrics({"val/auprc": 0.9}, step=3)
    sync(resumed, config)
    return root


def config_of(root: Path) -> TrackingConfig:
    return TrackingConfig(uri=f"sqlite:///{root}/mlflow.db")


@pytest.fixture(scope="module")
def store(outputs: Path) -> RunStore:
    return RunStore(config_of(outputs).uri)


def names(runs: list[StoredRun]) -> set[str]:
    return {run.name for run in runs}


def test_an_experiment_holds_all_its_runs(store: RunStore) -> None:
    assert names(store.of_experiment("astrid")) == {"run-a", "run-b", "run-tagged", "run-other"}


def test_pages_are_read_to_the_last(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS_A_PAGE", 1)
    assert len(store.of_experiment("astrid")) == 4


def test_a_sweep_is_found_by_its_tag_and_by_its_folder_and_no_lookalike_is(store: RunStore) -> None:
    assert names(store.of_sweep("grid")) == {"run-a", "run-b", "run-tagged"}
    with pytest.raises(ConfigError, match="gr_d"):  # _ is any letter to SQL
        store.of_sweep("gr_d")


def test_a_run_is_found_by_name_and_by_id(store: RunStore) -> None:
    [by_name] = store.of_name("run-a")
    [by_id] = store.of_name(by_name.run_id)
    assert by_id == by_name
    assert by_name.params["model.depth"] == "3"
    assert by_name.metrics["val/auprc"] == 0.6


@pytest.mark.parametrize("ask", ["of_experiment", "of_sweep", "of_name"])
def test_what_is_unknown_is_named_with_a_remedy(store: RunStore, ask: str) -> None:
    with pytest.raises(ConfigError, match=r"nosuch.*--uri|--uri.*nosuch"):
        getattr(store, ask)("nosuch")


def test_a_name_with_a_quote_is_looked_for_as_it_is(store: RunStore) -> None:
    with pytest.raises(ConfigError, match="it's"):
        store.of_name("it's")
    with pytest.raises(DataError, match="both kinds of quotes"):
        store.of_name('it\'s a "name"')


def test_a_changed_parameter_has_its_new_value(store: RunStore, outputs: Path) -> None:
    [stored] = store.of_name("run-b")
    assert stored.params["training.epochs"] == "3"
    assert read_folder(outputs / "sweeps/grid/b").params["training.epochs"] == "3"


def test_mlflow_and_the_folder_tell_the_same_run(store: RunStore, outputs: Path) -> None:
    [stored] = store.with_histories(store.of_name("run-b"), ["val/auprc", "val/loss"])
    told = read_folder(outputs / "sweeps/grid/b")
    assert stored.histories == told.histories
    assert stored.histories["val/auprc"] == [(1, 0.4), (2, 0.8), (3, 0.9)]
    for name in ("name", "status", "started_ms", "ended_ms", "params", "metrics"):
        assert getattr(stored, name) == getattr(told, name), name
    assert stored.tags["astrid.run_dir"] == told.tags["astrid.run_dir"]


def test_histories_are_the_same_where_a_store_gives_one_run_at_a_time(store: RunStore) -> None:
    runs = store.of_experiment("astrid")
    together = store.with_histories(runs, ["val/auprc"])

    class OneByOne:
        store = object()

        def __getattr__(self, name: str) -> object:
            return getattr(client, name)

    client = store._client
    lonely = RunStore.__new__(RunStore)
    lonely.uri, lonely._client = store.uri, OneByOne()  # type: ignore[assignment]
    lonely._client._tracking_client = OneByOne  # type: ignore[assignment]
    assert lonely.with_histories(runs, ["val/auprc"]) == together
    assert all(run.histories["val/auprc"] for run in together)


def test_a_folder_whose_process_was_killed_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal.create(tmp_path, name="unet", experiment="astrid")
    assert read_folder(tmp_path).status == "RUNNING"
    monkeypatch.setattr(module, "is_alive", lambda owner: False)
    before = (tmp_path / "journal.jsonl").read_bytes()
    assert read_folder(tmp_path).status == "KILLED"
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.db"):
        RunStore(f"sqlite:///{tmp_path}/missing.db")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with pytest.raises(RunError, match=r"http://localhost:9 can't be read") as raised:
        RunStore("http://me:secret@localhost:9").of_experiment("astrid")
    assert "secret" not in str(raised.value)
