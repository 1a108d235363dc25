"""Units of energy, carbon and cost, where their factors come from, and what is absent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from astrid.config import ConfigError, EnergyConfig
from astrid.energy import Component, EnergySummary, PhaseEnergy, energy_labels, energy_metrics, find_factors
from astrid.energy.factors import TABLE, of_country, read_table
from astrid.energy.records import summarise

UNKNOWN = Component(None, "unavailable", "none", "no sensor")


def summary(gpu: Component = UNKNOWN, cpu: Component = UNKNOWN, seconds: float = 3600.0) -> EnergySummary:
    return summarise([PhaseEnergy("train", 1, seconds, gpu, cpu)])


def metrics_of(energy: EnergySummary, **knobs: object) -> dict[str, float]:
    return energy_metrics(energy, find_factors(EnergyConfig(**knobs)))  # type: ignore[arg-type]


def kilowatt_hour(source: str = "NVML") -> Component:
    return Component(1000 * 3600.0, "measured", source)


def test_one_kilowatt_for_an_hour_at_pue_1_2_and_400_grams_is_480_grams() -> None:
    metrics = metrics_of(summary(gpu=kilowatt_hour()), pue=1.2, grams_co2e_per_kwh=400, usd_per_kwh=0.25)
    assert metrics == pytest.approx(
        {
            "energy/gpu_joules": 3.6e6,
            "energy/train_joules": 3.6e6,
            "energy/total_kwh": 1.0,
            "energy/seconds": 3600.0,
            "carbon/g_co2e": 480.0,
            "cost/usd": 0.3,
        }
    )


def test_total_sums_the_components_and_its_label_names_them() -> None:
    both = summary(gpu=kilowatt_hour(), cpu=kilowatt_hour("RAPL"))
    assert metrics_of(both)["energy/total_kwh"] == pytest.approx(2)
    assert energy_labels(both)["energy.total"] == "gpu+cpu"


def test_the_joules_of_the_phases_are_of_the_components_that_the_total_holds() -> None:
    gpu, lost = Component(100.0, "measured", "NVML"), Component(None, "unavailable", "RAPL", "lost")
    cpu = Component(10.0, "measured", "RAPL")
    half = summarise([PhaseEnergy("train", 1, 1.0, gpu, cpu), PhaseEnergy("test", None, 1.0, gpu, lost)])
    metrics = metrics_of(half)
    assert (metrics["energy/train_joules"], metrics["energy/test_joules"]) == (100, 100)
    assert "energy/cpu_joules" not in metrics
    assert metrics["energy/total_kwh"] == pytest.approx(200 / 3.6e6)


def test_label_says_that_a_total_lacks_the_cpu() -> None:
    assert energy_labels(summary(gpu=kilowatt_hour())) == {
        "energy.gpu": "measured",
        "energy.gpu.source": "NVML",
        "energy.cpu": "unavailable",
        "energy.cpu.source": "none",
        "energy.cpu.reason": "no sensor",
        "energy.total": "gpu",
    }


def test_nothing_measured_logs_nothing_whatever_the_factors() -> None:
    assert metrics_of(summary(), pue=1.2, grams_co2e_per_kwh=400, usd_per_kwh=0.25) == {}
    assert energy_labels(summary())["energy.total"] == "unavailable"


def test_carbon_and_cost_are_absent_without_their_factors() -> None:
    metrics = metrics_of(summary(cpu=kilowatt_hour()))
    assert set(metrics) == {"energy/cpu_joules", "energy/train_joules", "energy/total_kwh", "energy/seconds"}


def test_factor_of_zero_is_a_number_and_not_unknown() -> None:
    metrics = metrics_of(summary(gpu=kilowatt_hour()), grams_co2e_per_kwh=0, usd_per_kwh=0)
    assert (metrics["carbon/g_co2e"], metrics["cost/usd"]) == (0, 0)


# The table


def test_every_number_of_the_table_names_its_country_its_year_and_its_source() -> None:
    table = read_table()
    assert len(table) > 100
    for country, row in table.items():
        assert len(country) == 3 and country.isupper() and row["name"], row
        assert 5 < float(row["grams_co2e_per_kwh"]) < 1100, row
        assert 2022 <= int(row["year"]) <= 2026, row
        assert row["source"], row
    header = TABLE.read_text()
    assert "CC BY 4.0" in header and "https://ourworldindata.org/" in header


def test_the_intensity_of_a_country_is_that_of_the_table_with_source_and_year() -> None:
    metrics = metrics_of(summary(gpu=kilowatt_hour()), country="DEU", pue=1.5)
    assert metrics["carbon/g_co2e"] == pytest.approx(1.5 * 381)
    tags = find_factors(EnergyConfig(country="DEU", pue=1.5, usd_per_kwh=0.3)).tags()
    assert tags == {
        "energy.pue": "1.5",
        "carbon.grams_per_kwh": "381",
        "carbon.source": "Germany 2023, Our World in Data (Ember; Energy Institute)",
        "cost.usd_per_kwh": "0.3",
    }


def test_a_country_that_the_table_lacks_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"energy.country must be a country of carbon_intensity.csv, got 'XKX'"):
        of_country("XKX")


# Live data


class Grid(BaseHTTPRequestHandler):
    """A stand-in for Electricity Maps, which answers by zone."""

    answers = {  # noqa: RUF012
        "DE": (200, {"carbonIntensity": 302, "datetime": "2026-11-25T03:00:00.000Z"}),
        "FR": (401, {"error": "Invalid auth-token"}),
        "SE": (200, {"zone": "SE"}),
        "NO": (200, {"carbonIntensity": -1}),
    }

    def do_GET(self) -> None:
        code, answer = self.answers[self.path.rpartition("zone=")[2]]
        if self.headers["auth-token"] != "mine":
            code, answer = 401, {}
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def grid() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Grid)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/latest"
    server.shutdown()
    thread.join()
    server.server_close()


def test_live_intensity_is_asked_for_with_the_users_token(grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", "mine")
    factors = find_factors(EnergyConfig(live_zone="DE", live_url=grid))
    assert factors.tags()["carbon.grams_per_kwh"] == "302"
    assert factors.tags()["carbon.source"] == "Electricity Maps, DE at 2026-11-25T03:00:00.000Z"
    assert energy_metrics(summary(gpu=kilowatt_hour()), factors)["carbon/g_co2e"] == pytest.approx(302)


@pytest.mark.parametrize(("zone", "reason"), [("FR", "401"), ("SE", "carbonIntensity"), ("NO", "at least 0")])
def test_live_data_that_cannot_be_had_leave_carbon_absent_and_say_why(
    grid: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, zone: str, reason: str
) -> None:
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", "mine")
    config = EnergyConfig(live_zone=zone, live_url=grid)
    factors = find_factors(config)
    assert "carbon/g_co2e" not in energy_metrics(summary(gpu=kilowatt_hour()), factors)
    assert factors.tags()["carbon.grams_per_kwh"] == "unavailable" and reason in factors.tags()["carbon.source"]
    assert "carbon will be absent" in caplog.text
    with pytest.raises(ConfigError, match=r"energy\.budget_g_co2e must have a carbon intensity"):
        find_factors(EnergyConfig(live_zone=zone, live_url=grid, budget_g_co2e=1.0))


def test_live_data_without_a_token_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELECTRICITYMAPS_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="ELECTRICITYMAPS_TOKEN must have your token"):
        find_factors(EnergyConfig(live_zone="DE"))


@pytest.mark.parametrize(
    "knob",
    [
        {"pue": 0.9},
        {"pue": float("nan")},
        {"pue": float("inf")},
        {"grams_co2e_per_kwh": -1.0},
        {"usd_per_kwh": float("inf")},
        {"sample_seconds": 0.0},
        {"idle_seconds": -1.0},
        {"cpu_watts": 0.0},
        {"country": "Germany"},
        {"live_zone": "de"},
        {"live_token_env": "not a name"},
        {"live_url": "here"},
        {"budget_kwh": 0.0},
        {"budget_g_co2e": 10.0},
        {"budget_usd": 1.0},
    ],
)
def test_impossible_factors_are_refused_by_name(knob: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"energy.{next(iter(knob))} must be"):
        EnergyConfig(**knob)


def test_two_sources_of_carbon_intensity_are_a_contradiction() -> None:
    with pytest.raises(ConfigError, match=r"energy\.grams_co2e_per_kwh and energy\.country must be one source"):
        EnergyConfig(grams_co2e_per_kwh=100.0, country="DEU")
    with pytest.raises(ConfigError, match="null with energy=off"):
        EnergyConfig(source="off", budget_kwh=1.0)
