"""The stack of `compose.yaml` and the server of the Makefile: ports, versions, and no secret in either."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from astrid.config.compose import PROJECT_ROOT, load

SECRETS = ("POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT_ROOT / "compose.yaml").read_text())["services"]
    return loaded


def test_mlflow_listens_where_tracking_server_looks_for_it(services: dict[str, dict[str, Any]]) -> None:
    uri = load(["tracking=server"]).tracking.uri
    assert uri == "http://localhost:9003"
    assert services["mlflow"]["ports"] == ["127.0.0.1:9003:9003"]
    assert "--port 9003" in services["mlflow"]["command"]


def test_only_this_machine_reaches_what_is_published(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_service_waits_for_what_it_needs_to_be_well(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        runs_once = service["restart"] == "no"
        assert runs_once or "healthcheck" in service, name
        for needed, how in service.get("depends_on", {}).items():
            once = services[needed]["restart"] == "no"
            assert how["condition"] == ("service_completed_successfully" if once else "service_healthy")


def test_every_image_is_pinned(services: dict[str, dict[str, Any]]) -> None:
    built = services["mlflow"]["build"]["dockerfile_inline"]
    images = [service["image"] for service in services.values() if "image" in service]
    for image in [*images, *re.findall(r"FROM (\S+)", built)]:
        tag = image.partition(":")[2]
        assert re.search(r"\d+\.\d+|\d{4}-\d{2}-\d{2}", tag), f"{image} is not pinned"


def test_the_server_has_the_versions_that_are_tested(services: dict[str, dict[str, Any]]) -> None:
    pinned = re.findall(r"[\w-]+==[\w.]+", services["mlflow"]["build"]["dockerfile_inline"])
    assert len(pinned) == 4
    assert set(pinned) <= set((PROJECT_ROOT / "constraints.txt").read_text().split())


def test_secrets_come_from_a_file_that_git_ignores_and_that_has_to_be_filled_in() -> None:
    text = (PROJECT_ROOT / "compose.yaml").read_text()
    for name in SECRETS:
        assert f"${{{name}:?" in text, f"compose doesn't insist on {name}"
    for name, value in re.findall(r"(\w*(?:PASSWORD|KEY)\w*): (.+)", text):
        assert value.startswith("${"), f"{name} is written into compose.yaml"
    example = dict(re.findall(r"^(\w+)=(.*)$", (PROJECT_ROOT / ".env.example").read_text(), re.MULTILINE))
    assert sorted(example) == sorted(SECRETS)
    assert all(value.startswith("replace-me") for value in example.values())
    assert ".env" in (PROJECT_ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_starts_the_same_server_without_showing_its_database() -> None:
    command = ["make", "-n", "mlflow-server", "DB=postgresql://user:hidden@host/db", "-o", ".venv/.ready"]
    shown = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "mlflow server --port 9003" in shown
    assert "hidden" not in shown
