"""Fetch images of places on the sky from public archives.

  astrid fetch panstarrs "M 101" --size 300 --bands g,r --dry-run      how many files, how many bytes
  astrid fetch panstarrs "M 101" "M 51" "M 81" --size 300 --output data/ps1
  astrid fetch ztf "10.684 41.269" --size 600 --bands r --since 2020-01-01 --limit 20 --output data/ztf
  astrid fetch hst "M 16" --bands F657N --output data/hst              whole frames, as without --size elsewhere
  astrid fetch skyview @places.txt --size 600 --bands "DSS2 Red" --output data/dss

The same command again goes on where it was stopped: files that are whole are known by their checksum, others are
continued. A server that is busy is waited for. In the end the folder has the files, fetched.csv (source, time, filter
and SHA-256 of each) and manifest.csv, from which `python train.py data=frames data.root=FOLDER` can start: give three
places at least, one each to train, validate and test, and a target, as the README says.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError, RunError
from ..terminal import draws_bars

if TYPE_CHECKING:
    from ..data.archives import Archive, Product
    from ..data.archives.download import Show
    from ..data.archives.http import Patient

ARCHIVES = ("panstarrs", "hst", "jwst", "tess", "ztf", "skyview", "sdss")
_SHOWN_FAILURES = 3
_DAY_ZERO = date(1858, 11, 17).toordinal()  # modified Julian day 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("archive", choices=ARCHIVES, help="where from")
    parser.add_argument(
        "place",
        nargs="+",
        metavar="PLACE",
        help="degrees, sexagesimal or an object's name, quoted; @FILE has one a line",
    )
    parser.add_argument("--size", type=_positive_float, metavar="ARCSEC", help="edge of cutouts; without: whole frames")
    parser.add_argument(
        "--bands", default="", metavar="A,B", help="filters (SkyView: surveys), as the archive has them"
    )
    parser.add_argument("--since", type=_mjd, metavar="DATE", help="exposures from then on, as 2020-01-31")
    parser.add_argument("--until", type=_mjd, metavar="DATE", help="exposures until the end of that day")
    parser.add_argument("--limit", type=_positive, default=20, metavar="N", help="files a place (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/fetched"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="say what would come, and fetch nothing")
    parser.add_argument("--parallel", type=_positive, default=4, metavar="N", help="files at once (%(default)s)")
    parser.add_argument("--tries", type=_positive, default=5, metavar="N", help="vain attempts at a file (%(default)s)")
    parser.add_argument(
        "--timeout", type=_positive_float, default=60.0, metavar="S", help="longest silence (%(default)s s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Plan, say so, and fetch."""
    from ..data.archives.catalogue import open_archive
    from ..data.archives.download import ask_sizes
    from ..data.archives.http import Patience, Patient, open_session

    texts = read_places(arguments.place)
    adapter = Patient(Patience(tries=arguments.tries, timeout_seconds=arguments.timeout))
    session = open_session(adapter)
    archive = open_archive(arguments.archive, session=session, adapter=adapter)
    check_ability(archive, arguments)
    products = plan(archive, texts, arguments=arguments)
    products = ask_sizes(products, session, parallel=arguments.parallel)
    print(describe(products))
    if arguments.dry_run:
        return 0
    return fetch(products, arguments, adapter=adapter)


def read_places(given: list[str]) -> list[str]:
    """Return the places that the command line and its files name, each once; lines that start with # are comments.

    Raises
    ------
    ConfigError
        If a file can't be read or has none.
    """
    texts: list[str] = []
    for text in given:
        texts += _read_lines(Path(text[1:])) if text.startswith("@") else [text]
    return list(dict.fromkeys(texts))


def _read_lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"PLACE @{path} must be a text file, got an error ({error}); name another") from error
    places = [line for line in lines if line and not line.startswith("#")]
    if not places:
        raise ConfigError(f'PLACE @{path} must have a place a line, got none; write "10.684 41.269" or "M 31" into it')
    return places


def check_ability(archive: Archive, arguments: argparse.Namespace) -> None:
    """Refuse what an archive doesn't have.

    Raises
    ------
    ConfigError
        Naming the option.
    """
    name = arguments.archive
    if arguments.size is not None and not archive.has_cutouts:
        raise ConfigError(f"--size: {name} gives whole frames, no cutouts; leave it out")
    if arguments.size is None and not archive.has_frames:
        raise ConfigError(f"--size: {name} gives cutouts, no whole frames; try --size 300")
    is_timed = arguments.since is not None or arguments.until is not None
    if is_timed and not archive.tells_time:
        raise ConfigError(f"--since and --until: {name} can't be asked for times; leave them out")


def plan(archive: Archive, texts: list[str], *, arguments: argparse.Namespace) -> list[Product]:
    """Ask the archive what it has at each place; a file that two places share is listed once.

    Raises
    ------
    RunError
        If it has nothing.
    """
    from ..data.archives import Wanted
    from ..data.archives.places import find_place

    found: dict[str, Product] = {}
    places = {place.name: place for place in map(find_place, texts)}
    if len(places) < len(texts):
        raise ConfigError(f"places must have names that differ in letters or digits, got {', '.join(texts)}")
    for place in places.values():
        wanted = Wanted(
            place,
            arguments.size,
            bands=tuple(band.strip() for band in arguments.bands.split(",") if band.strip()),
            since=arguments.since,
            until=None if arguments.until is None else arguments.until + 1,
            limit=arguments.limit,
        )
        for product in archive.plan(wanted):
            found.setdefault(product.url, product)
    if not found:
        raise RunError(
            f"{arguments.archive} has no such images of {', '.join(texts)}; try other bands, times or places"
        )
    return list(found.values())


def describe(products: list[Product]) -> str:
    """Return what is to come: files and bytes by place and band, and in all."""
    groups: dict[tuple[str, str], list[Product]] = {}
    for product in products:
        groups.setdefault((product.field, product.band), []).append(product)
    lines = [f"{field}  {band}: {_amount(members)}" for (field, band), members in groups.items()]
    return "\n".join([*lines, f"in all: {_amount(products)}"])


def _amount(products: list[Product]) -> str:
    known = [product for product in products if product.size_bytes is not None]
    unknown = len(products) - len(known)
    about = "" if all(product.is_exact for product in known) else "about "
    size = f", {about}{_total(known) / 1e6:,.1f} MB" if known else ""
    rest = f", {unknown} of unknown size" if unknown else ""
    return f"{len(products)} file{'s' if len(products) > 1 else ''}{size}{rest}"


def fetch(products: list[Product], arguments: argparse.Namespace, *, adapter: Patient) -> int:
    """Fetch what isn't here yet, with a bar, and write the manifest of what is.

    Raises
    ------
    RunError
        If not all of it came.
    """
    from ..data.archives.collection import Collection
    from ..data.archives.download import Downloader, Outcome, check_room
    from ..data.archives.http import UnreachableError, open_session

    collection = Collection(arguments.output)
    outcome = Outcome()
    with collection.held():
        missing = collection.missing(products)
        check_room(arguments.output, missing)
        downloader = Downloader(collection, open_session(adapter), adapter, arguments.parallel)
        try:
            with bar(missing) as show:
                outcome = downloader.fetch(missing, show)
        except UnreachableError as error:
            rest = len(collection.missing(products))
            raise RunError(
                f"{error} {rest} of {len(products)} files are missing; what was fetched stays in {arguments.output}, "
                "and the same command goes on"
            ) from error
        finally:
            manifest = collection.write_manifest()
    print(f"{len(outcome.fetched)} fetched, {len(products) - len(missing)} were here; {manifest}")
    if outcome.failures:
        shown = "; ".join(outcome.failures[:_SHOWN_FAILURES])
        more = f" and {len(outcome.failures) - _SHOWN_FAILURES} more" if len(outcome.failures) > _SHOWN_FAILURES else ""
        raise RunError(f"{len(outcome.failures)} of {len(products)} files didn't come: {shown}{more}")
    return 0


@contextmanager
def bar(products: list[Product]) -> Iterator[Show]:
    """Show bytes and files as they come: a bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    here: dict[str, int] = {}
    total = None if any(product.size_bytes is None for product in products) else _total(products)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not draws_bars(console)) as progress:
        task = progress.add_task(f"{len(products)} files", total=total)

        def show(product: Product, size: int) -> None:
            here[product.url] = size
            progress.update(task, completed=sum(list(here.values())))

        yield show


def _total(products: list[Product]) -> int:
    return sum(product.size_bytes or 0 for product in products)


def _mjd(text: str) -> float:
    try:
        return float(date.fromisoformat(text).toordinal() - _DAY_ZERO)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a date like 2020-01-31, got {text!r}") from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _positive_float(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return number
