"""Artifacts reach a bucket whole and once, in the way that R2 accepts, whatever happens to its server."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mirrored_runs import (
    MLFLOW_WARNINGS,
    asking,
    assert_mirrored,
    client_of,
    patient_mlflow,
    report,
    run_of,
    start,
    wait_until,
)
from mlflow_servers import MlflowServer, running
from s3_servers import CREDENTIALS, SETTINGS, S3Server, objects, on_bucket, s3_server

from astrid.config import ConfigError, TrackingConfig
from astrid.tracking import ShippingError, Tracker, check_artifacts, preflight, s3, shipper, sync, ui_command, uploads
from astrid.tracking.progress import Progress
from astrid.tracking.s3 import check_bucket
from astrid.tracking.uploads import FILE_NAME, MEBIBYTE, MOST_PARTS, PART_BYTES, Bucket, cut, part_bytes

pytestmark = MLFLOW_WARNINGS

PART = MEBIBYTE
TROUBLES = ("500", "hanging", "cut", "dead", "slow")


@pytest.fixture(scope="module")
def one_server() -> Iterator[S3Server]:
    with patient_mlflow(), s3_server() as server:
        yield server


@pytest.fixture
def server(one_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Without the trouble of the test before, and without what it set in the environment."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    one_server.mend()
    yield one_server
    one_server.mend()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Name of a bucket of this test's own."""
    return "b" + format(abs(hash(request.node.name)), "x")


@pytest.fixture
def client(server: S3Server, name: str) -> Any:
    made = server.make_bucket(name)
    server.calls.clear()
    return made


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is created once, since that takes seconds, and copied for each test."""
    with patient_mlflow():
        from astrid.tracking.mlflow_sink import open_store

        path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
        open_store(f"sqlite:///{path}")
        return path


@pytest.fixture
def config(server: S3Server, client: Any, name: str, empty_database: Path, tmp_path: Path) -> TrackingConfig:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return on_bucket(server, name, uri=f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut files so that the tests need no large ones."""
    from moto.s3 import models

    monkeypatch.setattr(uploads, "PART_BYTES", PART)
    monkeypatch.setattr(models, "S3_UPLOAD_PART_MIN_SIZE", PART)


def write_file(path: Path, size: int, *, seed: int = 0) -> bytes:
    """Write bytes that no part repeats."""
    import numpy as np

    data = np.random.Generator(np.random.PCG64(seed)).bytes(size)
    path.write_bytes(data)
    return data


@pytest.mark.parametrize(
    ("knobs", "rule"),
    [
        ({"s3_endpoint": "http://localhost:9000"}, r"tracking.artifacts must be s3://bucket/prefix .* got None"),
        ({"s3_endpoint": "http://localhost:9000", "artifacts": "outputs"}, "got 'outputs'; try tracking.artifacts="),
        ({"s3_endpoint": "localhost:9000", "artifacts": "s3://astrid"}, "tracking.s3_endpoint must be an http"),
        ({"s3_endpoint": "http://", "artifacts": "s3://astrid"}, "tracking.s3_endpoint must be an http"),
        ({"s3_endpoint": "http://host:port", "artifacts": "s3://astrid"}, "tracking.s3_endpoint must be an http"),
        ({"artifacts": "s3://"}, "tracking.artifacts must be s3:// and the name of a bucket"),
        ({"artifacts": "s3:///runs"}, "tracking.artifacts must be s3:// and the name of a bucket"),
    ],
)
def test_a_bucket_that_cannot_be_meant_is_refused(knobs: dict[str, str], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        TrackingConfig(**knobs)  # type: ignore[arg-type]


def test_a_password_in_the_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="names a host and no user") as refused:
        TrackingConfig(artifacts="s3://astrid", s3_endpoint="https://me:hunter2@host")
    assert "hunter2" not in str(refused.value)


def test_the_check_of_a_bucket_leaves_nothing_behind(config: TrackingConfig, client: Any, name: str) -> None:
    check_bucket(config)
    check_bucket(replace(config, artifacts=f"s3://{name}"))
    assert objects(client, name) == {}


def test_the_check_asks_nobody_where_no_bucket_is_used(config: TrackingConfig, server: S3Server) -> None:
    check_bucket(TrackingConfig())
    check_bucket(replace(config, backend="off"))
    assert server.calls == []


@pytest.mark.parametrize("missing", CREDENTIALS)
def test_missing_credentials_are_named(config: TrackingConfig, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigError, match=f"^{missing} must be set in the environment to write to s3://.* export"):
        check_bucket(config)


def test_a_bucket_that_does_not_exist_is_named_with_its_server(config: TrackingConfig, server: S3Server) -> None:
    absent = replace(config, artifacts="s3://absent/runs")
    with pytest.raises(ConfigError, match=f"got s3://absent/runs at {server.url}: .*NoSuchBucket.*; make the bucket"):
        check_bucket(absent)


@pytest.mark.parametrize("kind", ["dead", "hanging", "500", "cut"])
def test_a_server_in_trouble_is_named_after_one_attempt(
    config: TrackingConfig, server: S3Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 0.5 if kind == "hanging" else 60)
    server.kind = kind
    server.cleared.clear()
    if kind == "dead":
        server.stop()
    refused = pytest.raises(ConfigError, match=f"can be written, got {config.artifacts} at {server.url}")
    with refused, asking() as askers:
        check_artifacts(config)
    assert len(askers) == 1
    if kind == "dead":
        server.start()


def test_a_client_gives_each_attempt_up_in_seconds(config: TrackingConfig, client: Any) -> None:
    ours, theirs = (made.meta.config for made in (s3.connect(config), client))
    assert (ours.connect_timeout, ours.read_timeout, ours.retries["total_max_attempts"]) == (3, 10, 2)
    assert (theirs.connect_timeout, theirs.read_timeout) == (60, 60)  # of boto3 itself


def test_an_experiment_that_keeps_its_artifacts_elsewhere_is_refused(config: TrackingConfig, tmp_path: Path) -> None:
    from astrid.tracking.mlflow_sink import open_experiment, open_store

    check_artifacts(config)
    open_experiment(open_store(config.uri), replace(config, artifacts=None, s3_endpoint=None))
    with pytest.raises(ConfigError, match=f"must be file://{tmp_path}/artifacts, where the experiment 'astrid' .*-2"):
        check_artifacts(config)
    check_artifacts(replace(config, experiment="new"))


def test_a_run_in_an_experiment_that_keeps_its_artifacts_elsewhere_says_so(
    config: TrackingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from astrid.tracking.mlflow_sink import open_experiment, open_store

    open_experiment(open_store(config.uri), replace(config, artifacts=None, s3_endpoint=None))
    tracker = start(config, tmp_path / "run")
    report(tracker)
    assert tracker.close("FINISHED")
    assert_mirrored(config, tmp_path / "run")
    assert caplog.text.count(f"and not to {config.artifacts}; choose a new tracking.experiment") == 1


def test_a_tracking_server_that_is_silent_holds_no_run_up(
    config: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LONGEST_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        check_artifacts(replace(config, uri=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        asker, _ = silent.accept()
        with asker:
            assert asker.recv(65536).startswith(b"GET ")
            asker.setblocking(False)
            with pytest.raises(BlockingIOError):  # its thread still waits for an answer, as it would for 60 s
                asker.recv(1)


@pytest.mark.usefixtures("small_parts")
def test_what_is_there_is_not_sent_again(
    config: TrackingConfig, server: S3Server, client: Any, name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    small = write_file(folder / "MLmodel.png", 1000)
    large = write_file(folder / "data" / "net #1?.pth", PART + 1)
    for sent in (5, 0):  # the small one; and of the large one the beginning, two parts, and the end
        server.calls.clear()
        Bucket(config, tmp_path).upload(folder, f"s3://{name}/runs/7/artifacts", "model")
        assert sum(call.method in ("PUT", "POST") for call in server.calls) == sent
    assert objects(client, name) == {
        "runs/7/artifacts/model/MLmodel.png": small,
        "runs/7/artifacts/model/data/net #1?.pth": large,
    }
    assert client.head_object(Bucket=name, Key="runs/7/artifacts/model/MLmodel.png")["ContentType"] == "image/png"


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [0, 1000, PART, PART + 1])
def test_a_file_that_changed_is_sent_again(
    config: TrackingConfig, client: Any, name: str, tmp_path: Path, size: int
) -> None:
    for seed in (1, 2):
        data = write_file(tmp_path / "last.pt", size, seed=seed)
        Bucket(config, tmp_path).upload(tmp_path / "last.pt", f"s3://{name}", "checkpoints/last.pt")
        assert objects(client, name) == {"checkpoints/last.pt": data}
    assert not (tmp_path / FILE_NAME).exists()


@pytest.mark.parametrize("size", [PART_BYTES + 1, 100 * 10**6, 5 * 10**12])
def test_parts_are_alike_and_not_too_many(size: int) -> None:
    step = part_bytes(size)
    parts = list(cut(size, step))
    assert len(parts) <= MOST_PARTS
    assert {length for _, length in parts[:-1]} == {step}
    assert step % MEBIBYTE == 0 and step >= 8 * MEBIBYTE
    assert sum(length for _, length in parts) == size


def refused_by_r2(headers: dict[str, str]) -> list[str]:
    """Name the headers of a request that R2 answers with an error."""
    checksums = [
        name for name in headers if name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum", "x-amz-trailer"))
    ]
    return checksums + [name for name, text in headers.items() if "chunked" in text or "TRAILER" in text]


@pytest.mark.usefixtures("small_parts")
def test_nothing_that_r2_refuses_is_sent(
    config: TrackingConfig, server: S3Server, client: Any, name: str, tmp_path: Path
) -> None:
    import mlflow.artifacts

    check_bucket(config)
    s3.share_settings(config)
    write_file(tmp_path / "small", 1000)
    write_file(tmp_path / "large", PART + 1)
    for file in ("small", "large"):
        Bucket(config, tmp_path).upload(tmp_path / file, f"s3://{name}/runs", file)
    mlflow.artifacts.download_artifacts(f"s3://{name}/runs/large", dst_path=str(tmp_path / "back"))
    assert {call.method for call in server.calls} == {"PUT", "POST", "GET", "HEAD", "DELETE"}
    for call in server.calls:
        assert refused_by_r2(call.headers) == [], call
        assert f"{call.path}/".startswith(f"/{name}/")
        assert "/auto/s3/aws4_request" in call.headers["authorization"]
    server.calls.clear()
    client.put_object(Bucket=name, Key="as boto3 does it", Body=b"unasked")
    assert refused_by_r2(server.calls[0].headers)  # else nothing was tested


@pytest.mark.parametrize("size", [12 * MEBIBYTE + 1, pytest.param(100 * 10**6, marks=pytest.mark.slow)])
def test_a_checkpoint_cut_short_goes_on_where_it_stopped(
    config: TrackingConfig, server: S3Server, name: str, tmp_path: Path, size: int, request: pytest.FixtureRequest
) -> None:
    import mlflow.artifacts

    if size < 10 * PART_BYTES:
        request.getfixturevalue("small_parts")
    tracker = start(config, tmp_path / "run")
    data = write_file(tmp_path / "run" / "best.pt", size)
    parts = len(list(cut(size, part_bytes(size))))
    server.kind, server.parts_left = "cut", 5
    tracker.artifact(tmp_path / "run" / "best.pt", folder="checkpoints")
    assert not tracker.close("FINISHED", wait_seconds=3)
    wait_until(nobody_ships)
    server.stop()
    assert FILE_NAME in {path.name for path in (tmp_path / "run").iterdir()}
    with pytest.raises(ShippingError, match=r"best.pt to s3://.*127.0.0.1"):
        sync(tmp_path / "run", config)
    server.mend()
    server.start()
    assert sync(tmp_path / "run", config) > 0
    assert sum(call.is_part for call in server.calls) == parts - 5
    assert FILE_NAME not in {path.name for path in (tmp_path / "run").iterdir()}
    uri = f"{run_of(config, tmp_path / 'run').info.artifact_uri}/checkpoints/best.pt"
    assert uri.startswith(f"s3://{name}/runs/")
    back = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "back"), tracking_uri=config.uri)
    assert Path(back).read_bytes() == data


def nobody_ships() -> bool:
    """Whether the threads of all runs that are over have ended."""
    return all(thread.name != "astrid-shipper" for thread in threading.enumerate())


def half_sent(config: TrackingConfig, server: S3Server, path: Path, uri: str) -> None:
    """Send one part of a file, and leave it at that."""
    server.kind, server.parts_left = "cut", 1
    with pytest.raises(ShippingError):
        Bucket(config, path.parent).upload(path, uri, path.name)
    server.mend()


@pytest.mark.usefixtures("small_parts")
def test_the_upload_of_a_file_that_changed_begins_again(
    config: TrackingConfig, server: S3Server, client: Any, name: str, tmp_path: Path
) -> None:
    write_file(tmp_path / "last.pt", 2 * PART)
    half_sent(config, server, tmp_path / "last.pt", f"s3://{name}")
    data = write_file(tmp_path / "last.pt", 2 * PART, seed=1)
    Bucket(config, tmp_path).upload(tmp_path / "last.pt", f"s3://{name}", "last.pt")
    assert objects(client, name) == {"last.pt": data}
    assert "Uploads" not in client.list_multipart_uploads(Bucket=name)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("lost", ["upload", "note"])
def test_an_upload_that_is_forgotten_begins_again(
    config: TrackingConfig, server: S3Server, client: Any, name: str, tmp_path: Path, lost: str
) -> None:
    data = write_file(tmp_path / "last.pt", 2 * PART)
    half_sent(config, server, tmp_path / "last.pt", f"s3://{name}")
    if lost == "note":
        (tmp_path / FILE_NAME).write_text("{")
    else:
        [upload] = client.list_multipart_uploads(Bucket=name)["Uploads"]
        client.abort_multipart_upload(Bucket=name, Key="last.pt", UploadId=upload["UploadId"])
    Bucket(config, tmp_path).upload(tmp_path / "last.pt", f"s3://{name}", "last.pt")
    assert objects(client, name) == {"last.pt": data}
    assert not (tmp_path / FILE_NAME).exists()


def report_with_files(tracker: Tracker, *, epochs: range) -> None:
    """Report a run with figures and a checkpoint."""
    folder = tracker.journal.run_dir
    for epoch in epochs:
        write_file(folder / f"epoch-{epoch}.png", 1000, seed=epoch)
        tracker.metrics({"train/loss": 1 / (epoch + 1)}, step=epoch)
        tracker.artifact(folder / f"epoch-{epoch}.png", folder="epochs")
    write_file(folder / "best.pt", 2 * PART + 1)
    tracker.artifact(folder / "best.pt", folder="checkpoints")
    report(tracker, epochs=range(0))


def files_of(run_dir: Path) -> dict[str, bytes]:
    """What a bucket must hold of a run that was reported with files, by the end of its keys."""
    files = {f"epochs/{path.name}": path.read_bytes() for path in run_dir.glob("epoch-*.png")}
    return files | {"checkpoints/best.pt": (run_dir / "best.pt").read_bytes(), "figures/roc.png": b"figure"}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", TROUBLES)
def test_a_bucket_in_trouble_never_holds_a_run_up_and_holds_everything_later(
    config: TrackingConfig,
    server: S3Server,
    client: Any,
    name: str,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 60)
    run_dir = tmp_path / "run"
    tracker = start(config, run_dir)
    report_with_files(tracker, epochs=range(2))
    server.kind = kind
    server.cleared.clear()
    server.calls.clear()
    if kind == "dead":
        server.stop()
    with asking() as askers:
        report_with_files(tracker, epochs=range(2, 5))
        tracker.close("FINISHED", wait_seconds=1)
    assert threading.current_thread() not in askers
    assert kind != "hanging" or len(server.calls) <= 1  # who waits for it sees another attempt after 60 s
    if kind == "dead":
        server.start()
    server.mend()
    wait_until(nobody_ships)
    sync(run_dir, config)
    assert assert_mirrored(config, run_dir).info.status == "FINISHED"
    root = run_of(config, run_dir).info.artifact_uri.removeprefix(f"s3://{name}/")
    assert objects(client, name) == {f"{root}/{end}": data for end, data in files_of(run_dir).items()}


@pytest.mark.usefixtures("small_parts")
def test_a_bucket_that_comes_back_gets_everything_while_the_run_goes_on(
    config: TrackingConfig, server: S3Server, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "FIRST_PAUSE_SECONDS", 0.1)
    server.kind, server.parts_left = "500", 1
    tracker = start(config, tmp_path / "run")
    report_with_files(tracker, epochs=range(2))
    wait_until(lambda: server.parts_left == 0)
    server.mend()
    journal = tracker.journal.path
    wait_until(lambda: Progress(journal.parent, config.uri).offset == journal.stat().st_size)
    assert tracker.close("FINISHED")
    assert assert_mirrored(config, tmp_path / "run").info.status == "FINISHED"


def test_a_registered_model_is_read_back_from_the_bucket(
    config: TrackingConfig, client: Any, name: str, tmp_path: Path
) -> None:
    import mlflow.pytorch

    network = torch.nn.Conv2d(3, 1, 3, padding=1)
    tracker = start(config, tmp_path / "run")
    tracker.model(network, torch.zeros(1, 3, 8, 8), step=2)
    assert tracker.close("FINISHED")
    [model] = client_of(config).search_logged_models([run_of(config, tmp_path / "run").info.experiment_id])
    [version] = client_of(config).search_model_versions("name = 'astrid-unet'")
    assert version.source == model.artifact_location
    assert model.artifact_location.startswith(f"s3://{name}/runs/models/")
    back = mlflow.pytorch.load_model(model.artifact_location, dst_path=str(tmp_path))
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(back(image), network(image))


def test_the_command_of_the_ui_says_where_the_artifacts_are(config: TrackingConfig, server: S3Server) -> None:
    command = ui_command(config)
    assert command is not None
    assert command.startswith(f"MLFLOW_S3_ENDPOINT_URL={server.url} ")


@pytest.mark.slow
def test_a_run_behind_a_tracking_server_fills_the_bucket_directly(
    config: TrackingConfig, server: S3Server, client: Any, name: str, tmp_path: Path
) -> None:
    with running(MlflowServer(tmp_path, store=f"sqlite:///{tmp_path}/mlflow.db")) as tracking:
        remote = replace(config, uri=tracking.uri)
        check_artifacts(remote)
        tracker = start(remote, tmp_path / "run")
        report(tracker)
        assert tracker.close("FINISHED")
        run = run_of(remote, tmp_path / "run")
        assert run.info.artifact_uri.startswith(f"s3://{name}/runs/")
    assert list(objects(client, name).values()) == [b"figure"]
    assert not (tmp_path / "artifacts").exists()


def test_a_run_stops_before_it_prepares_anything_where_its_bucket_refuses(
    config: TrackingConfig, tmp_path: Path
) -> None:
    from astrid.config.compose import load
    from astrid.experiment import run_experiment

    absent = ["tracking.artifacts=s3://absent", f"tracking.s3_endpoint={config.s3_endpoint}"]
    with pytest.raises(ConfigError, match="NoSuchBucket"):
        run_experiment(load([*absent, f"data.cache={tmp_path}/cache"]), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()
