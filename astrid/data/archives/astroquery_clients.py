"""What all clients of astroquery have in common: no cache of their own, and many ways to say that an answer is odd."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from astrid.config import RunError

from .http import ArchiveError


@contextmanager
def asking(archive: str) -> Iterator[None]:
    """Ask an archive through astroquery; an answer that makes no sense becomes one message.

    astroquery would keep answers for a week, errors among them, and warns of searches that find nothing.
    """
    from astroquery import cache_conf
    from astroquery.exceptions import InvalidQueryError, RemoteServiceError, TableParseError

    odd = (requests.RequestException, InvalidQueryError, RemoteServiceError, TableParseError, TimeoutError)
    with warnings.catch_warnings(), cache_conf.set_temp("cache_active", False):
        warnings.simplefilter("ignore")
        try:
            yield
        except RunError:
            raise
        except (*odd, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise ArchiveError(f"{archive} answers a search with something that makes no sense ({reason})") from error
