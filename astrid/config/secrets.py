"""Find whatever looks like a key, token or password in text, and put `***` in its place.

Three things give a secret away: the name it stands behind (`AWS_SECRET_ACCESS_KEY=...`, `?password=...`), its place in
a URI (`postgresql://user:here@host`), and its own shape (`ghp_...`). A secret that an environment variable of such a
name holds is known, and found wherever else it occurs. What is scrubbed once is not changed by scrubbing it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

MASK = "***"
SHORTEST_KNOWN = 8
"""Characters from which on the value of a secret environment variable is looked for; shorter ones are words."""

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
SENSITIVE = re.compile(
    r"\w*(?:(?:password|passwd|passphrase|secret|credential|apikey|accesskey|webhook)s?|token)|authorization"
)
"""Words that make a name a secret's, wherever in it; `tokens` is a count more often than not."""
HARMLESS = re.compile(
    r"files?|paths?|dir|directory|folder|ur[li]|host|names?|field|column|type|format|pattern|prefix|policy|count|size"
    r"|length|len|limit|rate|dim|index|mask|age|ttl|expiry|seconds|minutes|days|enabled|required|env|var|storage|store"
)
"""Last words of names that say something about a secret, or where it is kept, and not what it is."""
KEY_KINDS = re.compile(r"access|account|api|auth|deploy|encryption|master|private|secret|service|signing|ssh")
SIGNATURE = re.compile(r"sig|signature")

PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:.*?-----END [A-Z ]{0,30}PRIVATE KEY-----|[\s\w+/=\\-]*)", re.DOTALL
)
SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    r"|gh[oprsu]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"  # GitHub, GitLab
    r"|hf_[A-Za-z0-9]{16,}|dapi[0-9a-f]{32}|AIza[\w-]{35}"  # Hugging Face, Databricks, Google
    r"|sk[-_](?=[\w-]*\d)[\w-]{20,}"  # OpenAI and others; a digit, as words have none
    r"|xox[abeprs]-[\w-]{10,}"  # Slack
    r"|npm_[A-Za-z0-9]{20,}|pypi-[\w-]{16,}|ya29\.[\w-]{16,}"  # npm, PyPI, Google
    r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # JSON web token
    r")"
)
WEBHOOK = re.compile(r"(?<=://)(hooks\.slack\.com/\w+|(?:\w+\.)?discord(?:app)?\.com/api/webhooks)/[\w/-]+")
HEADER = re.compile(
    r"\b((?:Proxy-)?Authorization[\"']?[ \t]*[:=][ \t]*[\"']?)((?:\w+[ \t]+)?[^\s\"',]+)", re.IGNORECASE
)
USERINFO = re.compile(
    r"(?<![a-z0-9])(?P<scheme>[a-z][a-z0-9+.-]{1,20}\\{0,4})://(?P<user>[^\s:/@\"'<>?#]*)"
    r"(?P<password>:[^\s/\"<>]*|:(?!\d{1,5}/)[^\s\"'<>]*)?@",
    re.IGNORECASE,
)
QUERY = re.compile(r"(?<=[?&;])([\w.%-]{1,80}\\{0,4})=([^&;#\s\"'<>]+)")
ASSIGNED = re.compile(
    r"(?<![\w.-])(?P<name>(?=[\w.-]*(?i:key|token|secret|pass|pwd|pw|credential))[A-Za-z_][\w.-]{0,100})"
    r"(?P<sign>[\"'\]]{0,3}(?:[ \t]*:(?:str|bytes|Any|object|None|Optional|[\[\]| \t])+)?[ \t]*[:=!]?=>?[ \t]*"
    r"|[\"'\]]{0,3}[ \t]*:[ \t]*)"
    r"(?P<value>(?P<prefix>[bfruBFRU]{0,2})"
    r"(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')|[^\s\"',;&]+)"
)
HINT = re.compile("key|token|secret|pass|pw|credential", re.IGNORECASE)
NO_VALUE = re.compile(r"None|null|[Tt]rue|[Ff]alse|str|bytes|int|float|bool|object|Any|[~|]?")
FLAG = re.compile(
    r"(?<!\S)(--?(?:[\w-]*(?:password|passwd|passphrase|token|secret|api-?key)))([ =]+)(?!-)(\S+)", re.IGNORECASE
)
"""An option of a command line and its value."""
BEARER = re.compile(r"\b(Bearer[ \t]+)[\w.~+/=-]{8,}")
CODE = re.compile(r"\$\{.*|[A-Za-z_][\w.]*[\[(].*[\])].*|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
"""Values that are code and not text: an interpolation, a call, `config.password`."""


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Say whether what goes by this name, of a knob or an environment variable, is a secret.

    Examples
    --------
    >>> [is_secret_name(name) for name in ("PGPASSWORD", "apiKey", "tokens_per_second", "keyword", "TOKEN_FILE")]
    [True, True, False, False, False]
    """
    return is_secret_in_code(name) or _words(name)[-1:] in (["key"], ["keys"])


@lru_cache(maxsize=4096)
def is_secret_in_code(name: str) -> bool:
    """Say the same where a plain `key` opens nothing: `sorted(runs, key=len)`, `sort_key = "val/loss"`."""
    words = _words(name)
    if not words or HARMLESS.fullmatch(words[-1]):
        return False
    is_key = not {"key", "keys"}.isdisjoint(words) and any(KEY_KINDS.fullmatch(word) for word in words)
    is_pass = words[-1] in ("pass", "pw") or (words[-1] == "pwd" and len(words) > 1)  # PWD is the working directory
    return is_key or is_pass or any(SENSITIVE.fullmatch(word) for word in words)


@lru_cache(maxsize=4096)
def _words(name: str) -> list[str]:
    return [word.lower() for word in WORD.findall(name)]


def scrub(text: str) -> str:
    """Return the text with every secret replaced by `***`.

    Examples
    --------
    >>> scrub("cannot reach postgresql://me:word@host/db, see https://ghp_0123@github.com/a/b")
    'cannot reach postgresql://me:***@host/db, see https://***@github.com/a/b'
    """
    for secret in _known_secrets():
        if secret in text:
            text = _known_pattern(secret).sub(MASK, text)
    if "://" in text:
        text = WEBHOOK.sub(rf"\1/{MASK}", USERINFO.sub(_hide_userinfo, text))
    text = SHAPES.sub(MASK, PEM.sub(MASK, text))
    text = HEADER.sub(rf"\1{MASK}", QUERY.sub(_hide_query, text))
    text = BEARER.sub(rf"\1{MASK}", FLAG.sub(rf"\1\2{MASK}", text))
    return ASSIGNED.sub(_hide_assigned, text) if HINT.search(text) else text


def scrub_named(name: str, text: str) -> str:
    """Return `***` for the value of a secret's name, and every other value scrubbed."""
    is_hidden = is_secret_name(name) and not NO_VALUE.fullmatch(text)
    return MASK if is_hidden else scrub(text)


def scrub_values(values: Any, name: str = "") -> Any:
    """Scrub every text in nested mappings and lists, each by its own name and content."""
    if isinstance(values, Mapping):
        return {key: scrub_values(value, str(key)) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [scrub_values(value, name) for value in values]
    return scrub_named(name, values) if isinstance(values, str) else values


def has_credentials(uri: str) -> bool:
    """Say whether a URI holds a password, a token or a signature."""
    return QUERY.sub(_hide_query, USERINFO.sub(_hide_userinfo, uri)) != uri


def without_mask(uri: str) -> str:
    """Take the places out of a scrubbed URI where its secrets were, so that they can come from elsewhere."""
    uri = uri.replace(f"//{MASK}@", "//").replace(f":{MASK}@", "@")
    base, mark, query = uri.partition("?")
    kept = "&".join(part for part in query.split("&") if not part.endswith(f"={MASK}"))
    return base + mark + kept if kept else base


def _known_secrets() -> list[str]:
    """Return what the environment holds under secret names, as it is and in other spellings, longest first."""
    values = [os.environ.get(name, "") for name in os.environ if is_secret_name(name)]
    known = [value for value in values if len(value) >= SHORTEST_KNOWN]
    return sorted({spelling for value in known for spelling in _spellings(value)}, key=len, reverse=True)


@lru_cache(maxsize=256)
def _known_pattern(secret: str) -> re.Pattern[str]:
    """Return what finds a known secret as a word of its own: a password may be part of a word, as of `postgresql`."""
    before = r"(?<!\w)" if re.match(r"\w", secret) else ""
    after = r"(?!\w|\+?\w*\\{0,4}://)" if re.search(r"\w$", secret) else ""
    return re.compile(before + re.escape(secret) + after)


@lru_cache(maxsize=256)
def _spellings(value: str) -> tuple[str, ...]:
    escaped = re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", value)  # as Hydra writes overrides
    return value, quote(value, safe=""), escaped, repr(value)[1:-1], repr(escaped)[1:-1]


def _hide_userinfo(match: re.Match[str]) -> str:
    scheme, user, password = match.group("scheme", "user", "password")
    if scheme.lower().rstrip("\\").rpartition("+")[2] in ("http", "https"):
        return f"{scheme}://{MASK}@"  # the user may be a token
    return match.group() if password is None else f"{scheme}://{user}:{MASK}@"


def _hide_query(match: re.Match[str]) -> str:
    name = match[1]
    hidden = is_secret_name(name) or any(SIGNATURE.fullmatch(word) for word in _words(name))
    return f"{name}={MASK}" if hidden else match.group()


def _hide_assigned(match: re.Match[str]) -> str:
    name, sign, prefix = match.group("name", "sign", "prefix")
    value = match["value"][len(prefix or "") :]
    quoted = value[0] in "\"'"
    bare = value[1:-1] if quoted else value
    plain = bare.rstrip(")]}:")
    is_code = not quoted and (
        NO_VALUE.fullmatch(plain) is not None or (sign != "=" and CODE.fullmatch(bare) is not None)
    )
    if not bare or bare.startswith("${") or is_code or not is_secret_in_code(name):
        return match.group()
    return f"{name}{sign}{prefix}{value[0]}{MASK}{value[0]}" if quoted else f"{name}{sign}{MASK}"
