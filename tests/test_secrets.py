"""A secret is found by its name, place or shape, and ordinary text is left as it is."""

from __future__ import annotations

import io
import logging
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.config.compose import CHOICES
from astrid.config.explain import known_keys
from astrid.config.guarded_output import ScrubbedRecords, ScrubbedStream
from astrid.config.secrets import MASK, is_secret_name, scrub, scrub_values
from astrid.tracking import Journal
from astrid.tracking.places import without_password
from astrid.tracking.records import Metrics, read_records, scrubbed

URI = "postgresql://me:word@host/db"
TOKEN = "ghp_0123456789abcdef0123456789abcdef0123"
WORDS = "plain-words"


def test_the_journal_keeps_and_compares_scrubbed_values(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, name=f"run {TOKEN}", experiment="astrid")
    for _ in range(2):
        journal.write_params({"tracking.uri": URI, "alerts.webhook": "https://host/plain"})
    journal.write_tags({"note": f"token={WORDS}"})
    assert journal.params == {"tracking.uri": "postgresql://me:***@host/db", "alerts.webhook": MASK}
    assert journal.started.name == f"run {MASK}"
    assert len(list(read_records(journal.path))) == 4  # nothing changed the second time
    assert WORDS not in journal.path.read_text()


def test_a_line_of_metrics_is_written_as_it_is() -> None:
    record = Metrics({"val/loss": 0.5}, 1, 2)
    assert scrubbed(record) is record


@pytest.mark.parametrize("name", ["database", "server"])
def test_a_uri_that_is_shown_has_no_secret(name: str) -> None:
    uri = {"database": URI, "server": "http://host/?token=word"}[name]
    assert "word" not in without_password(uri)


def test_every_log_line_is_scrubbed_whoever_handles_it(caplog: pytest.LogCaptureFixture) -> None:
    make = logging.getLogRecordFactory()
    logging.setLogRecordFactory(ScrubbedRecords(make))
    try:
        log = logging.getLogger("somebody.else")
        log.warning("cannot reach %s", URI)
        try:
            raise ValueError(URI)
        except ValueError:
            log.exception("no luck")
    finally:
        logging.setLogRecordFactory(make)
    assert "word" not in caplog.text
    assert f"cannot reach postgresql://me:{MASK}@host/db" in caplog.text
    assert f"ValueError: postgresql://me:{MASK}@host/db" in caplog.text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://me:p@ss@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p/ss@host/db", "postgresql://me:***@host/db"),
        (r"uri=http\://me\:word@host\:9", r"uri=http\://***@host\:9"),  # as Hydra repeats overrides
        (r"mysql\\://me\\:word@host", r"mysql\\://me\\:***@host"),
        ("https://token@github.com/a/b", "https://***@github.com/a/b"),
        ("git+https://me:word@host/a", "git+https://***@host/a"),
        ("DB_PASS=hunter db_pass: hunter pw=hunter", "DB_PASS=*** db_pass: *** pw=***"),
        ("{'secret_key': b'hunter2hunter'}", "{'secret_key': b'***'}"),
        (r"password='it\'s hunter2'", "password='***'"),
        ("api_key: Xy(hunter2", "api_key: ***"),
        ("mlflow --password hunter2 --token=hunter3 run", "mlflow --password *** --token=*** run"),
        ("sent Bearer abcdefgh1234", "sent Bearer ***"),
        ("npm_abcdefghijklmnopqrst0123 pypi-AgEIcHlwaS5vcmcCJDAx", "*** ***"),
        ("s3://b/p?X-Amz-Signature=abc&part=1&sig=abc", "s3://b/p?X-Amz-Signature=***&part=1&sig=***"),
        ("https://hooks.slack.com/services/T0/B0/xyz", "https://hooks.slack.com/services/***"),
        ("key AKIAIOSFODNN7EXAMPLE here", "key *** here"),
        ("sk-proj-0123456789abcdefghij", "***"),
        ("xoxb-0123456789-abcdef", "***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-_123", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\n+MIIE/a\n+b=\n-----END RSA PRIVATE KEY-----\nrest", "***\nrest"),
        ("Authorization: Basic bWU6d29yZA==", "Authorization: ***"),
        ("aws_secret_access_key = wJalr/abc+", "aws_secret_access_key = ***"),
        ('os.environ["API_TOKEN"] = "word"', 'os.environ["API_TOKEN"] = "***"'),
        ("error: password: word", "error: password: ***"),
        ("a=password=word", "a=password=***"),
        ('token: str = "word"', 'token: str = "***"'),
    ],
)
def test_a_secret_is_known_by_name_place_or_shape(text: str, clean: str) -> None:
    assert scrub(text) == clean
    assert scrub(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me/a:b@c/mlflow.db",
        "http://host:9003/#/models/astrid-unet@champion",
        "wasbs://container@account.blob.core.windows.net/path",
        "git@github.com:astrid/astrid.git",
        "ssh://git@github.com/astrid/astrid.git",
        "best = max(runs, key=len)  # tokens_per_second: 12.5",
        'monitor_key = "val/loss"',
        "def connect(password: str | None = None) -> str:",
        "token = next(tokens)",
        "uri: ${oc.env:MLFLOW_TRACKING_URI}",
        "sk-learn-compatible-estimators",
        "2026-11-24_23-23-01-e3d33b8e unet-d3-f16-simulated-e3d33b8e",
        "training.monitor must be one of val/loss, val/auprc, got 'val/los'; did you mean val/loss?",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert scrub(text) == text


HEX = st.text("0123456789abcdef", min_size=40, max_size=64)
NAMES = st.from_regex(r"(train|val|test|latency|energy)/[a-z][a-z_0-9@]{0,20}", fullmatch=True)
PATHS = st.lists(st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=12)).map("/".join)


@given(HEX | NAMES | PATHS | st.floats().map(str) | st.integers().map(str))
def test_numbers_paths_fingerprints_commits_and_metric_names_stay(text: str) -> None:
    assert scrub(text) == text


@given(st.dictionaries(st.sampled_from(["depth", "lr", "path", "name", "key_size"]), st.integers() | HEX | st.none()))
def test_ordinary_values_stay(values: dict[str, object]) -> None:
    assert scrub_values({"group": values}) == {"group": values}


PIECES = st.sampled_from(
    ["password", "api_key", "token", "://", "me", ":", "@", "=", "?", "&", "***", '"', "'", " ", "\n", "ghp_", "0" * 20]
)


@given(st.lists(PIECES, max_size=25).map("".join))
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    assert scrub(scrub(text)) == scrub(text)


@given(
    st.text(string.ascii_letters + string.digits + "!$%^*()+=_~#-.,;", min_size=1),
    st.sampled_from(["postgresql", "mysql+pymysql", "http", "https", "ftp"]),
)
def test_no_password_survives_in_a_uri(password: str, scheme: str) -> None:
    text = scrub(f"cannot reach {scheme}://me:{password}@host:99/db, retry")
    assert text in {f"cannot reach {scheme}://{user}***@host:99/db, retry" for user in ("", "me:")}


@given(st.text(string.printable.strip() + " ", min_size=8).filter(lambda value: "\\" not in value))
def test_the_value_of_a_secret_variable_is_found_wherever_it_is(value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOME_SERVICE_TOKEN", value)
        assert value not in scrub(f"before {value} after") or value in f"before {MASK} after"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "PGPASSWORD", "MYSQL_PWD", "apiKey")),
        *((name, True) for name in ("GITHUB_TOKEN", "TOKEN_GITHUB", "service.key", "GOOGLE_APPLICATION_CREDENTIALS")),
        *((name, False) for name in ("PWD", "monitor", "keyword", "monkey", "tokens_per_second", "max_tokens", "")),
        *((name, False) for name in ("AWS_SHARED_CREDENTIALS_FILE", "webhook_env", "token_dim", "SSH_AUTH_SOCK")),
    ],
)
def test_a_name_tells_a_secret(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def test_no_knob_has_the_name_of_a_secret() -> None:
    """Its value would be hidden where a run is described; where one is meant to be secret, it comes from outside."""
    assert [key for key in known_keys(CHOICES) if is_secret_name(key.rpartition(".")[2])] == []


def test_a_password_that_is_part_of_a_word_leaves_the_word_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "postgres")
    assert scrub("postgresql://me@db/mlflow") == "postgresql://me@db/mlflow"
    assert (
        scrub("postgresql://me:postgres@db/mlflow, or: postgres.") == f"postgresql://me:{MASK}@db/mlflow, or: {MASK}."
    )


def test_a_longer_secret_is_hidden_before_one_that_it_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE_TOKEN", "hunterhunter")
    monkeypatch.setenv("TWO_TOKEN", "hunterhunter-rest")
    assert scrub("it is hunterhunter-rest.") == f"it is {MASK}."


@pytest.mark.parametrize("arguments", [({"b": 1},), (1, 2, 3)])
def test_a_bad_call_of_the_log_stops_nothing(arguments: tuple[object, ...], caplog: pytest.LogCaptureFixture) -> None:
    make = ScrubbedRecords(logging.getLogRecordFactory())
    record = make("x", logging.WARNING, "p", 1, "%(a)s", arguments, None)
    assert "arguments that don't fit" in record.getMessage()


def test_lines_that_are_written_together_are_scrubbed_too() -> None:
    stream = io.StringIO()
    ScrubbedStream(stream).writelines(["password=hunter2hunter\n", "depth=3\n"])  # type: ignore[arg-type]
    assert stream.getvalue() == f"password={MASK}\ndepth=3\n"
