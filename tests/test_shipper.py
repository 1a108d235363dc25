"""A tracking server in trouble costs a run nothing, and gets everything in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mirrored_runs import (
    MLFLOW_WARNINGS,
    PARAMS,
    asking,
    assert_mirrored,
    client_of,
    report,
    start,
    synced,
    wait_until,
)

from astrid.config import TrackingConfig
from astrid.tracking import ShippingError, Tracker, open_tracker, sync
from astrid.tracking import shipper as shipper_module
from astrid.tracking.progress import Progress

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.usefixtures("mlflow_settings")]


class Weather:
    """What stands between a client and MLflow's server.

    It lets calls through (fair), answers 500, hangs, or loses the answer to the first call of each kind (lossy).
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.kind = "fair"
        self.cleared = threading.Event()
        self.lost: set[str] = set()
        self.refused = self.held = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.kind == "hanging":
            self.held += 1
            self.cleared.wait()
        call = environ["REQUEST_METHOD"] + environ["PATH_INFO"]
        lost = self.kind == "lossy" and call not in self.lost
        if lost:
            self.lost.add(call)
            b"".join(self.app(environ, lambda *answer: None))
        if lost or self.kind == "500":
            self.refused += 1
            start_response("500 Internal Server Error", [])
            return [b""]
        return self.app(environ, start_response)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Weather, TrackingConfig]]:
    """MLflow's own server in this process."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(folder / "artifacts"))
        patch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.setenv(name, "")  # the server sets them for whatever the process starts later; undone at the end
        from mlflow.server import app
        from werkzeug.serving import WSGIRequestHandler, make_server

        patch.setattr(WSGIRequestHandler, "log", lambda *words: None)
        weather = Weather(app)
        http = make_server("127.0.0.1", 0, weather, threaded=True)
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        config = TrackingConfig(uri=f"http://127.0.0.1:{http.port}")
        client_of(config).search_runs(["0"])  # what the server imports and creates at its first call takes seconds
        yield weather, config
        weather.cleared.set()
        http.shutdown()
        thread.join()
        http.server_close()


def all_is_sent(tracker: Tracker, config: TrackingConfig) -> bool:
    journal = tracker.journal.path
    return Progress(journal.parent, config.uri).offset == journal.stat().st_size


@pytest.mark.parametrize("kind", ["500", "hanging"])
def test_a_server_in_trouble_never_holds_a_run_up_and_gets_everything_later(
    server: tuple[Weather, TrackingConfig],
    kind: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weather, config = server
    tracker = start(config, tmp_path / "run")
    report(tracker, epochs=range(2))
    wait_until(lambda: all_is_sent(tracker, config))
    weather.kind, weather.refused, weather.held = kind, 0, 0
    weather.cleared.clear()
    tracker.tags({"trouble": kind})
    wait_until(lambda: weather.refused + weather.held > 0)
    with asking() as askers:
        report(tracker, epochs=range(2, 20))
        assert not tracker.close("FINISHED", wait_seconds=0.5)
    assert threading.current_thread() not in askers
    assert weather.held == (kind == "hanging")  # whoever had waited for it would have seen MLflow try again after 60 s
    assert f"astrid sync {tmp_path / 'run'}" in caplog.text
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with pytest.raises(ShippingError, match="MLflow at http://127"):
        sync(tmp_path / "run", config)
    weather.kind = "fair"
    weather.cleared.set()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    sync(tmp_path / "run", config)
    assert assert_mirrored(config, tmp_path / "run").info.status == "FINISHED"


def test_a_server_that_comes_back_gets_everything_while_the_run_goes_on(
    server: tuple[Weather, TrackingConfig],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weather, config = server
    weather.kind, weather.refused = "500", 0
    monkeypatch.setattr(shipper_module, "FIRST_PAUSE_SECONDS", 0.1)
    tracker = start(config, tmp_path / "run")
    report(tracker)
    wait_until(lambda: weather.refused >= 4)  # more often than the run woke the shipper while it was at work
    weather.kind = "fair"
    wait_until(lambda: all_is_sent(tracker, config))
    assert tracker.close("FINISHED")
    assert assert_mirrored(config, tmp_path / "run").info.status == "FINISHED"
    assert caplog.text.count("the run goes on") == 1


def test_an_answer_lost_on_the_way_doubles_nothing(server: tuple[Weather, TrackingConfig], tmp_path: Path) -> None:
    from astrid.tracking.registry import save_model

    weather, config = server
    config = replace(config, experiment="lossy", registered_model="lossy")
    off = replace(config, backend="off")
    tracker = open_tracker(off, tmp_path / "run", name="unet-d3", params=PARAMS, tags={"data": "sky"})
    report(tracker)
    save_model(torch.nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 8, 8), tmp_path / "run" / "model")
    tracker.journal.write_model(Path("model"), step=2)
    tracker.close("FINISHED")
    weather.kind = "lossy"
    while not synced(tmp_path / "run", config):
        pass
    weather.kind = "fair"
    assert len(weather.lost) > 10
    run = assert_mirrored(config, tmp_path / "run")
    assert run.info.status == "FINISHED"
    assert len(run.outputs.model_outputs) == 1
    assert len(client_of(config).search_logged_models([run.info.experiment_id])) == 1
    assert len(client_of(config).search_model_versions("name = 'lossy'")) == 1
