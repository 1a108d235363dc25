"""Buckets of S3 and its look-alikes: who may write, how to ask, and a check before a run relies on one.

Cloudflare's R2 refuses what newer clients send unasked: checksum trailers. It wants `auto` for a region, and paths
rather than host names for buckets, as most servers but Amazon's own do. Import this late where boto3 isn't needed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ..config import ConfigError, TrackingConfig
from ..config.secrets import scrub
from .shipper import ShippingError

log = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 3, 10
ATTEMPTS = 2
PROBE = ".astrid-probe"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"
CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
NOT_AMAZON = {"AWS_DEFAULT_REGION": "auto", "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path"}
DENIED = "give the key the right to read and write objects of that bucket"
REMEDIES = {
    "NoSuchBucket": "make the bucket, or correct its name in tracking.artifacts",
    "AccessDenied": DENIED,
    "403": DENIED,
    "InvalidAccessKeyId": "correct AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "correct AWS_SECRET_ACCESS_KEY",
    "Unauthorized": "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}
UNREACHED = "see that the server runs and that tracking.s3_endpoint is its address"


def check_bucket(config: TrackingConfig) -> None:
    """Refuse a bucket for artifacts that can't be written, by writing an empty object and deleting it.

    Does nothing where tracking is off or artifacts go elsewhere. A dead server costs 3 s, one that hangs 10 s.

    Raises
    ------
    ConfigError
        If credentials are missing, the server can't be reached, or it refuses; with its reason and a remedy.
    """
    if config.backend == "off" or not config.on_s3:
        return
    try:
        with s3_failures(place_of(config)):
            _probe(connect(config, attempts=1), *split_uri(str(config.artifacts)))
    except ShippingError as error:
        remedy = REMEDIES.get(error_code(error.__cause__), UNREACHED)
        raise ConfigError(f"tracking.artifacts must be a bucket that can be written, got {error}; {remedy}") from error


def connect(config: TrackingConfig, *, attempts: int = ATTEMPTS) -> Any:
    """Return a boto3 client that gives up in seconds and sends nothing that R2 refuses.

    Raises
    ------
    ConfigError
        If the environment holds no credentials; those of files and of the machine's role are not looked for.
    """
    access_key, secret_key = (_credential(name, config) for name in KEYS)
    import boto3
    from botocore.config import Config

    endpoint = endpoint_of(config)
    settings = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        signature_version="s3v4",
        s3={"addressing_style": "auto" if endpoint is None else "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    region = os.environ.get("AWS_DEFAULT_REGION", None if endpoint is None else "auto")
    session = boto3.session.Session(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN"), region)
    return session.client("s3", endpoint_url=endpoint, config=settings)


def share_settings(config: TrackingConfig) -> None:
    """Set in the environment what MLflow's own S3 client needs to read artifacts back in this process."""
    if not config.on_s3:
        return
    if config.s3_endpoint is not None:
        os.environ[ENDPOINT] = config.s3_endpoint  # said by the configuration, which goes before the environment
    for name, value in (CHECKSUMS | (NOT_AMAZON if endpoint_of(config) else {})).items():
        os.environ.setdefault(name, value)


def endpoint_of(config: TrackingConfig) -> str | None:
    """Return the URL of the S3 server, None for Amazon's."""
    return config.s3_endpoint or os.environ.get(ENDPOINT) or None


def place_of(config: TrackingConfig) -> str:
    """Name bucket and server, for a message."""
    return f"{config.artifacts} at {endpoint_of(config) or 'AWS'}"


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an s3:// URI, as MLflow reads it."""
    parts = urlsplit(uri)
    return parts.netloc, parts.path.strip("/")


def error_code(error: Any) -> str:
    """Return S3's name for a refusal, or the HTTP status of one without a body; empty where nobody answered."""
    answer = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))


@contextmanager
def s3_failures(place: str) -> Iterator[None]:
    """Turn whatever boto3 raises into a `ShippingError` that names the place."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise ShippingError(scrub(f"{place}: {error}")) from error


def _probe(client: Any, bucket: str, prefix: str) -> None:
    from botocore.exceptions import ClientError

    key = f"{prefix}/{PROBE}".lstrip("/")
    client.put_object(Bucket=bucket, Key=key, Body=b"")
    try:
        client.delete_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if REMEDIES.get(error_code(error)) != DENIED:
            raise
        log.info("s3://%s may be written but not deleted from: the empty object %s stays", bucket, key)


def _credential(name: str, config: TrackingConfig) -> str:
    value = os.environ.get(name, "")
    if not value:
        remedy = f"export {KEYS[0]} and {KEYS[1]}, or choose another place with tracking.artifacts"
        raise ConfigError(f"{name} must be set in the environment to write to {place_of(config)}; {remedy}")
    return value
