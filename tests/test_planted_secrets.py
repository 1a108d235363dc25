"""Secrets planted where people leave them reach neither run folder nor MLflow nor terminal; a resume asks again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from mirrored_runs import MLFLOW_WARNINGS

from astrid.cli import main
from astrid.config import ConfigError, TrackingConfig
from astrid.config.compose import PROJECT_ROOT, load
from astrid.config.resume import load_config, reachable, save_config
from astrid.config.secrets import MASK, scrub
from astrid.tracking import Journal

pytestmark = MLFLOW_WARNINGS

SECRETS = {
    "uri": "uri-Pa55-f1rst",
    "artifacts": "5ignature0fArtifacts",
    "aws": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYplanted",
    "mlflow": "mlflow Pa55word with spaces",
    "remote": "ghp_0123456789remote0123456789remote01",
    "diff": "plain-words-in-a-diff",
    "branch": "hf_0123456789branch0123456789",
    "failure": "postgres-Pa55-eighth",
    "folder": "github_pat_0123456789folder0123456789",
    "unknown": "ghp_0123456789unknown123456789unknown1",
}
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": SECRETS["aws"],
    "MLFLOW_TRACKING_PASSWORD": SECRETS["mlflow"],
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
FAILURE = f'''

def report_epoch(*arguments: object, **named: object) -> None:
    """Fail as a driver does that prints its connection."""
    log.warning("%s is slow", "postgresql://me:{SECRETS["failure"]}@db")
    raise ValueError("no login at postgresql://me:{SECRETS["failure"]}@db with {SECRETS["mlflow"]}")
'''


@dataclass
class Checkout:
    """A copy of this project with a git history of its own, and a folder to run it in."""

    code: Path
    cwd: Path
    said: list[str] = field(default_factory=list)

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=self.code, check=True, capture_output=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.code / "train.py"), *arguments]
        environment = os.environ | ENVIRONMENT
        done = subprocess.run(command, cwd=self.cwd, env=environment, capture_output=True, text=True, timeout=240)
        self.said.append(done.stdout + done.stderr)
        return done


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose remote, branch and uncommitted changes hold secrets."""
    code = tmp_path_factory.mktemp("code")
    for name in ("astrid", "conf"):
        shutil.copytree(PROJECT_ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT_ROOT / "train.py", code)
    made = Checkout(code, tmp_path_factory.mktemp("cwd"))
    made.git("init", "--quiet", "--initial-branch", f"for-{SECRETS['branch']}")
    made.git("add", ".")
    made.git("commit", "--quiet", "--message", "Begin")
    made.git("remote", "add", "origin", f"https://me:{SECRETS['remote']}@example.org/astrid.git")
    line = f"# password: {SECRETS['diff']}, or that of {SECRETS['aws']}\n"
    for path in (code / "conf/config.yaml", code / "notes.txt"):
        path.write_text(line + (path.read_text() if path.exists() else ""))
    return made


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file with its name and bytes, those inside of archives too."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, str(path.relative_to(folder)).encode() + path.read_bytes()
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((path / name, archive.read(name)) for name in archive.namelist())


def leaks(checkout: Checkout) -> list[tuple[str, str]]:
    """Return where a secret is found, in files or on the terminal."""
    found = [
        (name, str(path))
        for path, content in contents(checkout.cwd)
        for name, secret in SECRETS.items()
        if secret.encode() in content
    ]
    printed = "\n".join(checkout.said)
    return found + [(name, "terminal") for name, secret in SECRETS.items() if secret in printed]


@pytest.fixture
def short(tiny: list[str], tmp_path: Path) -> list[str]:
    """Overrides of a run whose prepared fields are in a folder with a secret for a name."""
    *knobs, cache = tiny
    prepared = Path(cache.removeprefix("data.cache="))
    prepared.mkdir(exist_ok=True)
    (tmp_path / SECRETS["folder"]).symlink_to(prepared)
    return [*knobs, "training.epochs=1", "data.train_fields=2", f"data.cache={tmp_path}/{SECRETS['folder']}"]


@pytest.mark.slow
def test_secrets_of_a_checkout_and_its_environment_leave_no_trace_in_a_run(
    checkout: Checkout, short: list[str]
) -> None:
    done = checkout.run(*short)
    assert done.returncode == 0, done.stderr
    [folder] = (checkout.cwd / "outputs/runs").iterdir()
    check_told(folder)
    assert (checkout.cwd / "outputs/mlflow.db").is_file()
    assert leaks(checkout) == []


def check_told(folder: Path) -> None:
    """What held the secrets was told without them."""
    journal, diff = (folder / "journal.jsonl").read_text(), (folder / "git.diff").read_text()
    assert f"https://{MASK}@example.org/astrid.git" in journal
    assert f'"git.branch": "for-{MASK}"' in journal
    assert f"+# password: {MASK}, or that of {MASK}" in diff


@pytest.mark.slow
def test_secrets_of_a_run_that_fails_leave_no_trace(checkout: Checkout, short: list[str]) -> None:
    experiment = checkout.code / "astrid/experiment.py"
    experiment.write_text(experiment.read_text() + FAILURE)
    uri = f"tracking.uri=http://me:{SECRETS['uri']}@127.0.0.1:9"
    few = ["data.train_fields=1", "data.val_fields=1", "data.test_fields=1", "data.field_size=64"]
    knobs = [*short, *few, "training.monitor=val/loss", "tracking.wait_seconds=0", "training.seed=1"]
    done = checkout.run("-m", "hydra.output_subdir=.hydra", uri, *knobs)
    assert done.returncode == 1, done.stderr
    assert f"ValueError: no login at postgresql://me:{MASK}@db with {MASK}" in done.stderr
    assert rf"tracking.uri=http\://{MASK}@127.0.0.1\:9" in done.stdout  # Hydra says what it launches
    [sweep] = (checkout.cwd / "outputs/sweeps").iterdir()
    assert yaml.safe_load((sweep / "0/config.yaml").read_text())["tracking"]["uri"] == f"http://{MASK}@127.0.0.1:9"
    check_told(sweep / "0")
    for noted in ("multirun.yaml", "0/.hydra/overrides.yaml", "0/train.log"):
        assert MASK in (sweep / noted).read_text()
    assert f"ValueError: no login at postgresql://me:{MASK}@db with {MASK}" in (sweep / "0/journal.jsonl").read_text()
    assert leaks(checkout) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"foo={SECRETS['unknown']}"], "foo"),
        ([f"training.epochs={SECRETS['unknown']}"], f"got '{MASK}'"),
        ([f"foo=[{SECRETS['unknown']}"], MASK),
        ([f"--foo={SECRETS['unknown']}"], MASK),
        ([f"tracking.artifacts='https://host/?X-Amz-Signature={SECRETS['artifacts']}'"], "in the environment"),
        pytest.param(
            ["data=frames", f"data.root=/nowhere/{SECRETS['folder']}", "data.manifest=/nowhere/m.csv"],
            "m.csv",
            marks=pytest.mark.slow,
        ),
        ([f"tracking.experiment={SECRETS['unknown']}"], "a name without key, token or password"),
        ([f"tracking.uri=ftp://me:{SECRETS['uri']}@host/"], f"ftp://me:{MASK}@host/"),
    ],
)
def test_what_is_refused_is_not_repeated(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT_ROOT / "train.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
    assert [secret for secret in SECRETS.values() if secret in done.stdout + done.stderr] == []


SAFE = {"uri": "postgresql://me:word@host/db", "artifacts": "s3://bucket"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A run folder whose backend asks for a password."""
    save_config(load([f"tracking.{name}={value}" for name, value in SAFE.items()]), tmp_path)
    journal = Journal.create(tmp_path, name="unet", experiment="astrid")
    journal.write_params({"tracking.uri": SAFE["uri"], "data.root": f"/data/{SECRETS['folder']}"})
    journal.write_tags({"git.remote": f"https://{SECRETS['remote']}@host", "note": f"token: {SECRETS['diff']}"})
    journal.write_end("FAILED", reason=f"OSError: no login with password={SECRETS['failure']}")
    return tmp_path


def test_a_resumed_run_says_what_was_left_out_and_how_to_give_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert load_config(saved).tracking.uri == "postgresql://me:***@host/db"
    with pytest.raises(ConfigError, match=r"without its password.*set PGPASSWORD .* or give it again: tracking\.uri="):
        load([f"training.resume={saved}"])


def test_a_resumed_run_takes_the_password_from_the_environment(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "word")
    assert load([f"training.resume={saved}"]).tracking.uri == "postgresql://me@host/db"


def test_a_resumed_run_takes_the_password_from_the_command_line(saved: Path) -> None:
    given = [f"tracking.{name}={value}" for name, value in SAFE.items()]
    assert load([f"training.resume={saved}", *given]).tracking.uri == SAFE["uri"]


def test_a_resumed_run_that_is_reported_nowhere_needs_no_password(saved: Path) -> None:
    assert load([f"training.resume={saved}", "tracking.backend=off"]).tracking.uri == "postgresql://me@host/db"


def test_sync_asks_for_the_password_takes_it_with_uri_and_sends_no_secret(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    (saved / "config.yaml").write_text((saved / "config.yaml").read_text().replace("s3://bucket", str(saved / "kept")))
    assert main(["sync", str(saved)]) == 2
    assert "--uri ... to sync" in capsys.readouterr().err
    assert main(["sync", str(saved), "--uri", f"sqlite:///{saved}/mlflow.db"]) == 0
    assert "5 records sent" in capsys.readouterr().out
    database = (saved / "mlflow.db").read_bytes()
    assert f"no login with password={MASK}".encode() in database
    assert [name for name, secret in SECRETS.items() if secret.encode() in database] == []
    assert SAFE["uri"].encode() not in database


@pytest.mark.parametrize(
    ("uri", "name", "bare"),
    [
        ("http://me:word@host:9003", "MLFLOW_TRACKING_PASSWORD", "http://host:9003"),
        ("https://token@host", "MLFLOW_TRACKING_TOKEN", "https://host"),
        ("postgresql://host/db?user=me&password=word&sslmode=require", "PGPASSWORD",
         "postgresql://host/db?user=me&sslmode=require"),
    ],
)  # fmt: skip
def test_a_way_to_the_password_leads_through_the_environment(
    uri: str, name: str, bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "word")
    left = TrackingConfig(uri=scrub(uri), artifacts="outputs/artifacts")
    assert MASK in left.uri
    assert reachable(left, Path("run")).uri == bare


def test_a_folder_whose_name_held_a_secret_is_given_again(tmp_path: Path) -> None:
    frames = ["data=frames", f"data.root=/data/{SECRETS['folder']}", "data.manifest=m.csv"]
    save_config(load(frames), tmp_path)
    resume = f"training.resume={tmp_path}"
    with pytest.raises(ConfigError, match=r"data\.root .* was saved without its secret, as /data/\*\*\*; give it"):
        load([resume])
    assert load([resume, *frames]).data == load(frames).data
    for other in ("data.root=/elsewhere", "data.manifest=other.csv"):
        with pytest.raises(ConfigError, match="give the same again"):
            load([resume, *frames, other])
