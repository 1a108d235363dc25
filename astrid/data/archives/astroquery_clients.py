"""What all clients of astroquery have in common: no cache of their own, and many ways to say that an answer is odd."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from .http import ArchiveError


@contextmanager
def asking(archive: str) -> Iterator[None]:
    """Ask an archive through astroquery; an answer that makes no sense becomes one message.

    OSError is that of requests, and of tables whose text is taken for the name of a file. The cache is off because it
    would keep answers for a week, errors among them.
    """
    from astroquery import cache_conf
    from astroquery.exceptions import InvalidQueryError, RemoteServiceError, TableParseError

    odd = (InvalidQueryError, RemoteServiceError, TableParseError, OSError, ValueError, KeyError, TypeError)
    with warnings.catch_warnings(), cache_conf.set_temp("cache_active", False):
        warnings.simplefilter("ignore")
        try:
            yield
        except odd as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise ArchiveError(f"{archive} answers a search with something that makes no sense ({reason})") from error
