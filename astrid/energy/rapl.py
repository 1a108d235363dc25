"""Energy of the CPUs from RAPL, as Linux shows it under powercap."""

from __future__ import annotations

from pathlib import Path

from .sources import Counter, Source, SourceError

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the RAPL counters."""


def open_rapl(root: Path = POWERCAP) -> list[Source]:
    """Find the energy counters of the CPU packages and their DRAM under a powercap tree.

    Parameters
    ----------
    root : Path
        Folder with the flat list of powercap zones.

    Returns
    -------
    list of Source
        One per package and per DRAM domain. They count the whole machine, other processes included.

    Raises
    ------
    SourceError
        There is no RAPL, or its counters may not be read.

    References
    ----------
    https://docs.kernel.org/power/powercap/powercap.html
    """
    # "intel-rapl:" also serves AMD; "intel-rapl-mmio:" is the same package through another door and "psys" contains it
    zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _is_package_or_dram(_read_text(zone / "name"))]
    if not zones:
        raise SourceError(f"this machine shows no RAPL energy counters in {root}")
    return [_open_zone(zone) for zone in zones]


def _is_package_or_dram(domain: str) -> bool:
    return domain == "dram" or domain.startswith("package")


def _open_zone(zone: Path) -> Source:
    energy = zone / "energy_uj"
    _read_joules(energy)
    name = f"RAPL {_read_text(zone / 'name')} ({zone.name})"
    return Counter(name, lambda: _read_joules(energy), wrap_joules=_read_joules(zone / "max_energy_range_uj"))


def _read_joules(path: Path) -> float:
    """Read a file of whole microjoules."""
    text = _read_text(path)
    try:
        return int(text) / 1e6
    except ValueError as error:
        raise SourceError(f"RAPL: {path} must hold a whole number of microjoules, got {text!r}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError as error:
        remedy = "ask the administrator to let you read it"
        raise SourceError(f"RAPL: {path} is readable by the administrator only; {remedy}") from error
    except OSError as error:
        raise SourceError(f"RAPL: cannot read {path}: {error.strerror}") from error
