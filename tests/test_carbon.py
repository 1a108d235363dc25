"""Units of energy, carbon and cost, and what is absent."""

from __future__ import annotations

import pytest

from astrid.config import ConfigError, EnergyConfig
from astrid.energy import Component, EnergySummary, PhaseEnergy, energy_labels, energy_metrics

UNKNOWN = Component(None, "unavailable", "none", "no sensor")


def summary(gpu: Component = UNKNOWN, cpu: Component = UNKNOWN, seconds: float = 3600.0) -> EnergySummary:
    return EnergySummary({}, PhaseEnergy("total", None, seconds, gpu, cpu))


def kilowatt_hour(source: str = "NVML") -> Component:
    return Component(1000 * 3600.0, "measured", source)


def test_one_kilowatt_for_an_hour_at_pue_1_2_and_400_grams_is_480_grams() -> None:
    config = EnergyConfig(pue=1.2, grams_co2e_per_kwh=400, usd_per_kwh=0.25)
    metrics = energy_metrics(summary(gpu=kilowatt_hour()), config)
    assert metrics == pytest.approx(
        {
            "energy/gpu_joules": 3.6e6,
            "energy/total_kwh": 1.0,
            "energy/seconds": 3600.0,
            "carbon/g_co2e": 480.0,
            "cost/usd": 0.3,
        }
    )


def test_total_sums_the_components_and_its_label_names_them() -> None:
    both = summary(gpu=kilowatt_hour(), cpu=kilowatt_hour("RAPL"))
    assert energy_metrics(both, EnergyConfig())["energy/total_kwh"] == pytest.approx(2)
    assert energy_labels(both)["energy.total"] == "gpu+cpu"


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
    config = EnergyConfig(pue=1.2, grams_co2e_per_kwh=400, usd_per_kwh=0.25)
    assert energy_metrics(summary(), config) == {}
    assert energy_labels(summary())["energy.total"] == "unavailable"


def test_carbon_and_cost_are_absent_without_their_factors() -> None:
    metrics = energy_metrics(summary(cpu=kilowatt_hour()), EnergyConfig())
    assert set(metrics) == {"energy/cpu_joules", "energy/total_kwh", "energy/seconds"}


def test_factor_of_zero_is_a_number_and_not_unknown() -> None:
    metrics = energy_metrics(summary(gpu=kilowatt_hour()), EnergyConfig(grams_co2e_per_kwh=0, usd_per_kwh=0))
    assert (metrics["carbon/g_co2e"], metrics["cost/usd"]) == (0, 0)


@pytest.mark.parametrize(
    "knob",
    [
        {"pue": 0.9},
        {"pue": float("nan")},
        {"pue": float("inf")},
        {"grams_co2e_per_kwh": -1.0},
        {"usd_per_kwh": float("inf")},
        {"sample_seconds": 0.0},
    ],
)
def test_impossible_factors_are_refused_by_name(knob: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"energy.{next(iter(knob))} must be"):
        EnergyConfig(**knob)
