"""What the rules find is told in the log, in the run and by a webhook, and telling never holds up a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from astrid.alerts import Alerts, find_webhook_url
from astrid.alerts.rules import Alert
from astrid.alerts.webhook import Webhook
from astrid.config import AlertsConfig, ConfigError, RunError, TrackingConfig, TrainingConfig
from astrid.config.compose import PROJECT_ROOT, load
from astrid.experiment import run_experiment
from astrid.learner import LossNotFinite
from astrid.tracking.records import Tags, read_records
from astrid.tracking.tracker import Tracker, open_tracker

TRAINING = TrainingConfig(monitor="val/loss")


class Receiver(ThreadingHTTPServer):
    """A webhook that keeps what it gets, or hangs, or refuses."""

    daemon_threads = True

    def __init__(self, kind: str = "fair") -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.kind = kind
        self.bodies: list[dict[str, Any]] = []
        self.held = 0
        self.cleared = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/services/very-secret"


class Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.kind == "hanging":
            self.server.held += 1
            self.server.cleared.wait()
            return
        self.server.bodies.append(json.loads(body))
        self.send_response(404 if self.server.kind == "refusing" else 200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def receiver(kind: str = "fair") -> Iterator[Receiver]:
    server = Receiver(kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.cleared.set()
        server.shutdown()
        server.server_close()
        thread.join()


def tracker_in(run_dir: Path) -> Tracker:
    return open_tracker(TrackingConfig(backend="off"), run_dir, name="unet-d3", params={}, tags={})


def alerts_for(
    tracker: Tracker, config: AlertsConfig | None = None, *, webhook: Webhook | None = None, kwh: Any = None
) -> Alerts:
    return Alerts(config or AlertsConfig(), TRAINING, tracker=tracker, webhook=webhook, read_kwh=lambda: kwh)


def tags_of(run_dir: Path) -> dict[str, str]:
    records = [record for record, _ in read_records(run_dir / "journal.jsonl")]
    return {key: text for record in records if isinstance(record, Tags) for key, text in record.values.items()}


def test_an_alert_goes_to_the_log_the_run_and_the_webhook(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alert = Alert("memory", "97 % of the memory is in use, more than 90 %; try less", 97.0, 90.0)
    with receiver() as server, tracker_in(tmp_path) as tracker:
        with alerts_for(tracker, webhook=Webhook(server.url, name="HOOK")) as alerts:
            alerts.tell(alert)
        assert server.bodies == [
            {
                "text": f"unet-d3: {alert.message}",
                "run": "unet-d3",
                "folder": tmp_path.name,
                "rule": "memory",
                "message": alert.message,
                "value": 97.0,
                "threshold": 90.0,
            }
        ]
    assert f"alert: {alert.message}" in caplog.text
    assert re.fullmatch(rf"20\d\d-.{{14}} UTC: {re.escape(alert.message)}", tags_of(tmp_path)["alert.memory"])


def test_a_loss_that_ends_the_run_is_told_before_the_run_ends(tmp_path: Path) -> None:
    error = LossNotFinite("the loss must be finite, got nan in epoch 1, step 3; try a smaller optimizer.lr")
    with (
        receiver() as server,
        pytest.raises(LossNotFinite),
        tracker_in(tmp_path) as tracker,
        alerts_for(tracker, webhook=Webhook(server.url, name="HOOK")),
    ):
        raise error
    [body] = server.bodies
    assert (body["rule"], body["value"], body["message"]) == ("loss_not_finite", None, str(error))
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert kinds[-2:] == ["tags", "ended"]


def test_what_was_told_before_a_resume_is_not_told_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = [{"epoch": float(n), "train/loss": 1.0, "val/loss": 1.0} for n in range(1, 8)]
    with (
        tracker_in(tmp_path) as tracker,
        alerts_for(tracker, AlertsConfig(stale_epochs=3, energy_kwh=1.0), kwh=2.0) as alerts,
    ):
        alerts.remember(history[:5])
        alerts.epoch(history[5])
        assert "alert" not in caplog.text
        alerts.epoch({"epoch": 7.0, "train/loss": 0.5, "val/loss": 0.5})
        for epoch in (8.0, 9.0, 10.0):
            alerts.epoch({"epoch": epoch, "train/loss": 1.0, "val/loss": 1.0})
    assert caplog.text.count("has not improved for 3 epochs, since 0.5 in epoch 7") == 1


def test_a_budget_without_a_measurement_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tracker_in(tmp_path) as tracker, alerts_for(tracker, AlertsConfig(energy_kwh=1.0)) as alerts:
        for epoch in (1.0, 2.0):
            alerts.epoch({"epoch": epoch, "train/loss": 1.0, "val/loss": 1.0})
    assert caplog.text.count("tracking.alerts.energy_kwh can't be watched") == 1


def test_samples_are_judged_as_training_only_within_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = AlertsConfig(gpu_idle_percent=50.0, gpu_idle_minutes=0.001)
    with tracker_in(tmp_path) as tracker, alerts_for(tracker, config) as alerts:
        for _ in range(4):
            alerts.sample({"system/gpu_percent": 1.0})
            time.sleep(0.05)
        assert "gpu_idle" not in tags_of(tmp_path)
        with alerts.training():
            for _ in range(4):
                alerts.sample({"system/gpu_percent": 1.0})
                time.sleep(0.05)
    assert caplog.text.count("the GPUs were in use for 1 %") == 1


@pytest.mark.parametrize("kind", ["refusing", "hanging", "absent"])
def test_a_webhook_in_trouble_is_said_once_without_its_url(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrid.alerts.webhook.TIMEOUT_SECONDS", 0.2)
    with receiver(kind) as server:
        url = "http://127.0.0.1:9/services/very-secret" if kind == "absent" else server.url
        webhook = Webhook(url, name="HOOK")
        for number in range(3):
            webhook.post({"text": str(number)})
        webhook.close(wait_seconds=60)
    assert caplog.text.count("the webhook of HOOK could not be reached") == 1
    assert {"refusing": "it answered 404", "hanging": "TimeoutError", "absent": "Connection refused"}[
        kind
    ] in caplog.text
    assert "secret" not in caplog.text


def test_a_webhook_that_hangs_holds_up_no_post_and_the_end_of_a_run_for_a_bounded_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrid.alerts.webhook.TIMEOUT_SECONDS", 60)
    with receiver("hanging") as server:
        webhook = Webhook(server.url, name="HOOK")
        for number in range(3):
            webhook.post({"text": str(number)})
        webhook.close(wait_seconds=0.2)
        assert server.held <= 1  # the second is posted when the first is given up, after 60 s
    assert "the webhook of HOOK needs more than 0.2 s" in caplog.text


def test_a_process_ends_although_its_webhook_hangs() -> None:
    program = (
        "import sys; from astrid.alerts import webhook; webhook.TIMEOUT_SECONDS = 240;"
        "hook = webhook.Webhook(sys.argv[1], name='HOOK'); hook.post({'text': 'x'}); hook.close(wait_seconds=0.1)"
    )
    with receiver("hanging") as server:
        command = [sys.executable, "-c", program, server.url]
        assert subprocess.run(command, timeout=120, cwd=PROJECT_ROOT).returncode == 0  # half of what the webhook waits


def test_the_url_is_found_in_the_environment_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_webhook_url(AlertsConfig()) is None
    config = AlertsConfig(webhook_env="SOME_HOOK")
    monkeypatch.delenv("SOME_HOOK", raising=False)
    with pytest.raises(ConfigError, match=r"got SOME_HOOK, which holds nothing; export SOME_HOOK=https://"):
        find_webhook_url(config)
    for wrong in ("hooks.example/secret", "ftp://h/secret", "http://h/a secret", "http://[/secret", "http://h:secret/"):
        monkeypatch.setenv("SOME_HOOK", wrong)
        with pytest.raises(ConfigError, match="which holds something else") as refused:
            find_webhook_url(config)
        assert "secret" not in str(refused.value)
    for right in ("https://hooks.example/services/T0/B0", "http://localhost:8080", "http://[::1]:80/x?y=z"):
        monkeypatch.setenv("SOME_HOOK", right)
        assert find_webhook_url(config) == right


@pytest.mark.slow
def test_a_run_whose_loss_is_not_finite_posts_it(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as server:
        monkeypatch.setenv("ASTRID_TEST_HOOK", server.url)
        chosen = ["tracking=off", "tracking.alerts.webhook_env=ASTRID_TEST_HOOK", "optimizer.lr=1e30"]
        with pytest.raises(RunError, match="the loss must be finite"):
            run_experiment(load([*tiny, *chosen, "training.clip_norm=null"]), run_dir=tmp_path)
        assert [body["rule"] for body in server.bodies] == ["loss_not_finite"]
    assert "the loss must be finite" in tags_of(tmp_path)["alert.loss_not_finite"]
    assert "very-secret" not in "".join(path.read_text() for path in tmp_path.glob("*.*") if path.is_file())


def test_a_missing_webhook_stops_a_run_before_its_folder_is_claimed(tmp_path: Path) -> None:
    config = load(["tracking=off", "tracking.alerts.webhook_env=ASTRID_NO_SUCH_HOOK"])
    with pytest.raises(ConfigError, match="ASTRID_NO_SUCH_HOOK, which holds nothing"):
        run_experiment(config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
