"""Runs that nobody trained, for the tests and the benchmark of `astrid compare`: a seeded toy function, no results."""

from __future__ import annotations

import math
import random
from typing import Any

from astrid.tracking.stored_runs import StoredRun

EPOCHS = 20


def made(name: str, auprc: float | None = 0.8, *, half_width: float | None = None, **changes: Any) -> StoredRun:
    """A finished run of 100 s, whose id is its name."""
    metrics = {} if auprc is None else {"test/auprc": auprc}
    if auprc is not None and half_width is not None:
        metrics |= {"test/auprc_low": auprc - half_width, "test/auprc_high": auprc + half_width}
    metrics |= changes.pop("metrics", {})
    tags = {"data.fingerprint": "f" * 64, "model.parameters": "29625"} | changes.pop("tags", {})
    params = {"model.depth": "2", "model.filters": "8"} | changes.pop("params", {})
    times = {"status": "FINISHED", "started_ms": 0, "ended_ms": 100_000} | changes
    return StoredRun(run_id=name, name=name, metrics=metrics, tags=tags, params=params, **times)


def fill_store(uri: str, *, count: int, experiment: str = "toy", seed: int = 0) -> list[str]:
    """Write toy runs to an MLflow store and return their ids; every twentieth failed, some lack energy."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    draw = random.Random(seed)
    client = MlflowClient(uri, registry_uri=uri)
    place = client.create_experiment(experiment, artifact_location="file:///nowhere")
    ids = []
    for number in range(count):
        params, tags, curves, final = toy_run(draw, number)
        run = client.create_run(place, start_time=1_700_000_000_000, run_name=f"toy-{number:03d}", tags=tags)
        points = [Metric(name, value, 0, step) for name, values in curves.items() for step, value in values]
        points += [Metric(name, value, 0, EPOCHS) for name, value in final.items()]
        ids.append(run.info.run_id)
        client.log_batch(ids[-1], points, [Param(*item) for item in params.items()], [RunTag("task", "toy")])
        status = "FAILED" if number % 20 == 7 else "FINISHED"
        client.set_terminated(ids[-1], status, end_time=1_700_000_000_000 + int(1000 * final["toy/seconds"]))
    return ids


def toy_run(
    draw: random.Random, number: int
) -> tuple[dict[str, str], dict[str, str], dict[str, Any], dict[str, float]]:
    """Return parameters, tags, curves and final metrics of one toy run, as many as a real one has."""
    depth, filters = draw.choice([2, 3, 4, 5]), draw.choice([8, 16, 32, 64])
    lr, optimizer = 10 ** draw.uniform(-4, -2), draw.choice(["AdamWConfig", "SGDConfig"])
    size = filters**2 * 4**depth / 1e4
    skill = 0.9 - 0.25 / size**0.3 - 0.04 * abs(draw.gauss(0, 1)) - 0.05 * abs(3 + draw.gauss(0, 0.1) + math.log10(lr))
    params = {f"group.knob_{index}": "1" for index in range(90)}
    params |= {"model.depth": str(depth), "model.filters": str(filters), "optimizer.lr": f"{lr:.2e}"}
    params |= {"choice.optimizer": optimizer, "optimizer.momentum" if optimizer[0] == "S" else "optimizer.eps": "0.9"}
    tags = {"data.fingerprint": "f" * 64, "model.parameters": str(int(size * 1900)), "sweep": "toy_sweep"}
    curves = {
        name: [(step, top * (1 - 0.6 * 0.8**step) + draw.gauss(0, 0.004)) for step in range(1, EPOCHS + 1)]
        for name, top in {"val/auprc": skill + 0.01, "val/auroc": 0.995}.items()
    }
    for name in ("train/loss", "val/loss", "val/ece", "val/brier"):
        curves[name] = [(step, 0.003 + 0.02 * 0.8**step * draw.uniform(0.9, 1.1)) for step in range(1, EPOCHS + 1)]
    final = {f"test/filler_{index}": draw.random() for index in range(40)}
    final |= {"test/auprc": skill, "test/auprc_low": skill - 0.012, "test/auprc_high": skill + 0.011}
    final |= {"latency/p50_ms": 3 + size / 4 * draw.uniform(0.9, 1.1), "toy/seconds": 100 + 10 * size}
    if number % 3:
        final["energy/total_kwh"] = (0.004 + size / 900) * draw.uniform(0.9, 1.1)
    return params, tags, curves, final
