"""Download many files at once, within a limit; one that fails doesn't keep the others from coming."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests

from astrid.config import RunError

from .collection import Collection
from .http import ArchiveError, Cancelled, Patient, UnreachableError
from .products import Product
from .transfer import Fetched, fetch_file, writing

Show = Callable[[Product, int], None]
"""Told how many bytes of a product are here."""


@dataclass
class Outcome:
    """What came: products fetched now, and why others weren't."""

    fetched: list[Product] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass
class Downloader:
    """Fetches products into a collection, `parallel` at a time."""

    collection: Collection
    session: requests.Session
    adapter: Patient
    parallel: int

    def fetch(self, products: Sequence[Product], show: Show) -> Outcome:
        """Fetch all that isn't here; each file is recorded as soon as it is whole.

        Raises
        ------
        UnreachableError
            If the archive can't be reached any more; what was fetched stays.
        RunError
            If nothing can be written.
        """
        outcome = Outcome()
        pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="fetch")
        running = {pool.submit(self._fetch_one, product, show): product for product in products}
        try:
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._take(future, running.pop(future), outcome=outcome)
        finally:
            self.adapter.stop.set()
            pool.shutdown(cancel_futures=True)
            for future, product in running.items():  # whole by now, though something else ended the work
                if not future.cancelled() and future.exception() is None:
                    self._take(future, product, outcome=outcome)
        return outcome

    def _take(self, future: Future[Fetched], product: Product, *, outcome: Outcome) -> None:
        try:
            self.collection.add(product, future.result())  # here, because astropy's warnings are no thread's own
            outcome.fetched.append(product)
        except UnreachableError:
            raise
        except ArchiveError as error:
            outcome.failures.append(str(error))

    def _fetch_one(self, product: Product, show: Show) -> Fetched:
        if self.adapter.stop.is_set():
            raise Cancelled
        path = self.collection.path(product)
        with writing(path):
            path.parent.mkdir(exist_ok=True)
        return fetch_file(
            product.url,
            path,
            session=self.session,
            adapter=self.adapter,
            size_bytes=product.size_bytes if product.is_exact else None,
            show=lambda size: show(product, size),
        )


def ask_sizes(products: Sequence[Product], session: requests.Session, *, parallel: int) -> list[Product]:
    """Ask for the sizes of files that lie ready and whose size nobody stated; some servers don't tell."""
    unknown = [product for product in products if not product.is_exact and not product.is_made]
    with ThreadPoolExecutor(parallel) as pool:
        answers = list(pool.map(lambda product: _ask_size(product, session), unknown))
    sized = dict(zip(unknown, answers, strict=True))
    return [sized.get(product, product) for product in products]


def _ask_size(product: Product, session: requests.Session) -> Product:
    try:
        with session.head(product.url, headers={"Accept-Encoding": "identity"}, allow_redirects=True) as answer:
            length = answer.headers.get("Content-Length", "")
            if answer.status_code == 200 and length.isdecimal():
                return replace(product, size_bytes=int(length), is_exact=True)
    except requests.RequestException:  # a redirect to nowhere: fetching the file says what is wrong with it
        return product
    return product


def check_room(folder: Path, products: Sequence[Product]) -> None:
    """Refuse to begin what the disk can't hold.

    Raises
    ------
    RunError
        Saying what is wanted and what is free.
    """
    wanted = sum(product.size_bytes or 0 for product in products)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise RunError(f"{wanted / 1e9:.1f} GB are to come, but {folder} has room for {free / 1e9:.1f} GB; make room")
