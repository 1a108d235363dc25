"""By what joules become grams of CO2 equivalent and dollars: explicit numbers, a dated table, or live data."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from astrid.config import ConfigError, EnergyConfig

logger = logging.getLogger(__name__)

TABLE = Path(__file__).with_name("carbon_intensity.csv")
LIVE_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Intensity:
    """Carbon intensity of electricity.

    Attributes
    ----------
    grams_co2e_per_kwh : float or None
        None where it could not be had.
    source : str
        Where it comes from and of when it is; why it is missing.
    """

    grams_co2e_per_kwh: float | None
    source: str


@dataclass(frozen=True)
class Factors:
    """What turns the energy of a run into carbon and cost; None is unknown, and what follows from it absent."""

    pue: float = 1.0
    intensity: Intensity | None = None
    usd_per_kwh: float | None = None

    def tags(self) -> dict[str, str]:
        """Return by tag what was multiplied with, and where it comes from."""
        tags = {"energy.pue": f"{self.pue:g}"}
        if self.intensity is not None:
            grams = self.intensity.grams_co2e_per_kwh
            shown = "unavailable" if grams is None else f"{grams:g}"
            tags |= {"carbon.grams_per_kwh": shown, "carbon.source": self.intensity.source}
        if self.usd_per_kwh is not None:
            tags["cost.usd_per_kwh"] = f"{self.usd_per_kwh:g}"
        return tags


def find_factors(config: EnergyConfig) -> Factors:
    """Look up the factors that a run is configured with; only `energy.live_zone` uses the network.

    Raises
    ------
    ConfigError
        The table lacks the country, the environment lacks the token, or live data that a budget needs can't be had.
    """
    return Factors(config.pue, _find_intensity(config), config.usd_per_kwh)


def _find_intensity(config: EnergyConfig) -> Intensity | None:
    if config.source == "off":
        return None
    if config.grams_co2e_per_kwh is not None:
        return Intensity(config.grams_co2e_per_kwh, "given as energy.grams_co2e_per_kwh")
    if config.country is not None:
        return of_country(config.country)
    if config.live_zone is not None:
        return _live(config)
    return None


def of_country(code: str) -> Intensity:
    """Look up a country's yearly mean in the table of the package.

    Parameters
    ----------
    code : str
        Three letters, ISO 3166.

    Raises
    ------
    ConfigError
        The table doesn't have it.

    Examples
    --------
    >>> of_country("FRA")
    Intensity(grams_co2e_per_kwh=56.0, source='France 2023, Our World in Data (Ember; Energy Institute)')
    """
    rows = read_table()
    if code not in rows:
        rule = f"a country of {TABLE.name}"
        remedy = "give the number itself: energy.grams_co2e_per_kwh=..."
        raise ConfigError(f"energy.country must be {rule}, got {code!r}; {remedy}")
    row = rows[code]
    return Intensity(float(row["grams_co2e_per_kwh"]), f"{row['name']} {row['year']}, {row['source']}")


def read_table() -> dict[str, dict[str, str]]:
    """Read the table: by country, its columns."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {row["country"]: row for row in csv.DictReader(lines)}


def _live(config: EnergyConfig) -> Intensity:
    """Ask for the intensity of this moment; where it can't be had, carbon is absent and says why."""
    token = os.environ.get(config.live_token_env)
    if not token:
        rule = "have your token of Electricity Maps for energy.live_zone"
        remedy = "set it, or use energy.country"
        raise ConfigError(f"the environment variable {config.live_token_env} must {rule}, got nothing; {remedy}")
    url = f"{config.live_url}?{urlencode({'zone': config.live_zone})}"
    try:
        with urlopen(Request(url, headers={"auth-token": token}), timeout=LIVE_TIMEOUT_SECONDS) as answer:
            return _parsed(json.load(answer), zone=str(config.live_zone))
    except (URLError, OSError, ValueError, KeyError, TypeError) as error:
        reason = f"unavailable ({type(error).__name__}: {error})"
    if config.budget_g_co2e is not None:
        remedy = "use energy.country, or drop the budget"
        raise ConfigError(
            f"energy.budget_g_co2e must have a carbon intensity, got {reason} from energy.live_zone; {remedy}"
        )
    logger.warning("the carbon intensity of %s is %s: carbon will be absent", config.live_zone, reason)
    return Intensity(None, f"Electricity Maps, {config.live_zone}: {reason}")


def _parsed(answer: dict[str, object], *, zone: str) -> Intensity:
    grams = float(str(answer["carbonIntensity"]))
    if not 0 <= grams < math.inf:
        raise ValueError(f"carbonIntensity must be at least 0 and finite, got {grams}")
    return Intensity(grams, f"Electricity Maps, {zone} at {answer.get('datetime', 'an unknown time')}")
