"""A folder in which the commands of the pages run as a user would give them, with tiny things in place of theirs."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import fastavro
import numpy as np
from alert_packets import night
from astropy.io import fits
from raw_exposures import READOUT, Camera
from starfields import sky_cards

from astrid.config.compose import PROJECT_ROOT
from astrid.data.psf import psf_stamp

EDGE, OVERSCAN = 256, 20
GAIN = 2.0
FIELDS = 4
LINKS = ("train.py", "conf", "Makefile", "constraints.txt", "pyproject.toml")
ORDINARY = {
    "training.epochs": "1",
    "training.device": "cpu",
    "training.threads": "1",
    "metrics.bins": "4096",
    "metrics.latency_repeats": "2",
    "metrics.throughput_repeats": "2",
    "metrics.baselines": "false",
    "metrics.figures": "false",
    "metrics.report": "false",
    "data.batch_size": "4",
    "data.tile_size": "64",
}
SMALL_NETWORK = {"model.depth": "2", "model.filters": "4"}
SMALL_DATA = {
    "simulated": {
        "data.train_fields": "8",
        "data.val_fields": "2",
        "data.test_fields": "4",
        "data.field_size": "128",
        "data.transients": "12",
        "data.transient_snr": "[30,100]",
    },
    "frames": {},
    "injected": {"data.transients_per_mpix": "800", "data.injection_gain": str(GAIN), "data.copies": "1"},
    "alerts": {"data.crops_per_alert": "1", "data.tile_size": "32"},
    "recipe": {},
}


@dataclass
class Done:
    """How a command ended and what it said."""

    code: int
    said: str

    @property
    def warnings(self) -> list[str]:
        """Lines in which Python or a library warns of what a user can't know."""
        return [line for line in self.said.splitlines() if re.search(r"\b\w*Warning\b|[Uu]nrecognized|Traceback", line)]


def tiny_overrides(command: str) -> list[str]:
    """Return, by rule, what makes a command of `train.py` short; the user's own values come later and win."""
    if re.search(r"training.resume=|--help|--cfg", command):
        return []
    kind = "recipe" if "experiment=" in command.split("tracking.")[0] else chosen(command, "data", "simulated")
    knobs = ORDINARY | SMALL_DATA[kind]
    if not re.search(r"(^| )(model|sweep)=", command):
        knobs |= SMALL_NETWORK
    if kind == "recipe" and "ztf" not in command:
        knobs |= {"data.crops_per_epoch": "32"}
    if kind in ("recipe", "alerts"):
        knobs = {name: value for name, value in knobs.items() if name not in ("data.tile_size", "data.batch_size")}
    return [f"{name}={value}" for name, value in knobs.items() if f"{name}=" not in command]


def chosen(command: str, group: str, default: str) -> str:
    """Return the choice of a group in a command."""
    found = re.search(rf"(?:^| ){group}=(\w+)", command)
    return found[1] if found else default


def shortened(command: str) -> str:
    """Bring a whole search to three trials, and jobs to two at once."""
    command = re.sub(r"hydra\.sweeper\.n_trials=\d+", "", command)
    command = re.sub(r"hydra\.sweeper\.n_jobs=\d+", "hydra.sweeper.n_jobs=2", command)
    return f"{command} hydra.sweeper.n_trials=3" if " sweep=" in command else command


@dataclass
class Workshop:
    """Makes what the pages' placeholders stand for, once and when asked for, below one folder."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def home(self, name: str) -> Path:
        """Return a folder that looks like the project to who stands in it; its outputs are its own."""
        home = self.folder / name
        if not home.exists():
            home.mkdir(parents=True)
            for link in LINKS:
                (home / link).symlink_to(PROJECT_ROOT / link)
            shutil.copy(PROJECT_ROOT / ".env.example", home)
        return home

    @cached_property
    def database(self) -> Path:
        """An empty database of MLflow, which takes seconds to create."""
        path = self.folder / "empty.db"
        create = (
            "import sys; from astrid.tracking.mlflow_sink import open_store; open_store(f'sqlite:///{sys.argv[1]}')"
        )
        must(self.shell(f'python -c "{create}" {path}', cwd=self.folder))
        return path

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a user who activated the environment."""
        path = f"{self.folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(PROJECT_ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        return {**os.environ, **own, **self.variables}

    def shell(self, command: str, *, cwd: Path, env: Mapping[str, str] | None = None, seconds: float = 900) -> Done:
        """Run a command line through the shell."""
        words = {"env": self.environment | dict(env or {}), "cwd": cwd, "text": True, "timeout": seconds}
        ended = subprocess.run(
            ["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **words
        )
        return Done(ended.returncode, ended.stdout)

    def train(self, overrides: str, *, cwd: Path) -> Done:
        """Run `train.py` with tiny overrides and a cache for all."""
        if not (cwd / "outputs").exists() and "--cfg" not in overrides:
            (cwd / "outputs").mkdir()
            shutil.copy(self.database, cwd / "outputs/mlflow.db")
        cache = [] if "training.resume=" in overrides else [f"data.cache={self.folder}/cache"]
        study = re.search(r"(?:^| )sweep=(\w+)", overrides)
        if study and "storage=" not in overrides:  # the study of a home, not that of the project
            cache += [f"hydra.sweeper.storage=journal://{cwd}/outputs/studies/{study[1]}.journal"]
        tiny = " ".join(f"'{override}'" for override in [*cache, *tiny_overrides(overrides)])
        return self.shell(f"python train.py {tiny} {overrides}", cwd=cwd)

    @cached_property
    def finished(self) -> Path:
        """A home with a finished run."""
        home = self.home("finished")
        whole = "metrics.baselines=true metrics.figures=true metrics.report=true"
        must(self.train(f"training.epochs=2 optimizer.lr=0.01 {whole}", cwd=home))
        return home

    @cached_property
    def searched(self) -> Path:
        """The same home with two more versions of its model, a sweep and its study."""
        for seed in (2, 3):
            must(self.train(f"training.seed={seed}", cwd=self.finished))
        must(self.train(shortened("-m sweep=depth_filters"), cwd=self.finished))
        return self.finished

    @property
    def run(self) -> Path:
        """A finished run of `finished`, as a path from there."""
        return min((self.finished / "outputs/runs").iterdir()).relative_to(self.finished)

    def stopped(self, name: str, overrides: str) -> Path:
        """Return the folder of a run, or of a group, that was stopped after its first checkpoint."""
        home = self.home(name)
        words = [*tiny_overrides(overrides), *overrides.split(), f"data.cache={self.folder}/cache"]
        long = [word for word in words if not word.startswith("training.epochs=")] + ["training.epochs=30"]
        with (home / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "train.py", *long], cwd=home, env=self.environment, stdout=log, stderr=log
            )
        while process.poll() is None and not list((home / "outputs").rglob("last.pt")):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.wait()
        return next((home / "outputs/runs").iterdir()).relative_to(home)

    @cached_property
    def scored(self) -> Path:
        """A home with files of scores and their truth."""
        home = self.home("scored")
        write_scores(home)
        return home

    @cached_property
    def frames(self) -> Path:
        """Reduced frames with references and masks, and a manifest."""
        folder = self.folder / "frames"
        write_frames(folder)
        return folder

    @cached_property
    def raw(self) -> Path:
        """Raw exposures with their calibration frames, reduced references, and a manifest."""
        folder = self.folder / "raw"
        write_raw(folder)
        return folder

    @cached_property
    def packets(self) -> Path:
        """A night of alert packets."""
        folder = self.folder / "packets"
        folder.mkdir()
        night(folder / "night.avro")
        with (folder / "night.avro").open("rb") as stream:
            candidates = [packet["candid"] for packet in fastavro.reader(stream)]
        labels = [f"{candid},{'real' if number % 2 else 'bogus'}" for number, candid in enumerate(candidates)]
        (self.folder / "labels.csv").write_text("\n".join(["candid,label", *labels]) + "\n")
        return folder


def must(done: Done) -> Done:
    """Stop where something that a command needs could not be made."""
    if done.code:
        raise RuntimeError(done.said[-3000:])
    return done


def light_of(number: int, *, fwhm: float) -> np.ndarray:
    """Electrons of a sky with 40 stars, always the same ones of a field."""
    rng = np.random.default_rng([11, number])
    light = np.full((EDGE, EDGE), 400.0)
    for _ in range(40):
        x, y, flux = rng.uniform(12, EDGE - 12), rng.uniform(12, EDGE - 12), 10 ** rng.uniform(4.0, 5.2)
        where, share = psf_stamp(light.shape, x=x, y=y, radius=30, fwhm=fwhm, beta=3.5)
        light[where] += flux * share
    return light


def add_new_stars(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put eight new stars onto a sky and return the mask of them."""
    y, x = np.mgrid[:EDGE, :EDGE]
    mask = np.zeros(light.shape, np.uint8)
    for x0, y0 in rng.uniform(16, EDGE - 16, (8, 2)):
        where, share = psf_stamp(light.shape, x=x0, y=y0, radius=30, fwhm=3.0, beta=3.5)
        light[where] += 8000 * share
        mask |= ((x - x0) ** 2 + (y - y0) ** 2 < 9).astype(np.uint8)
    return mask


def header_of(number: int, **cards: object) -> fits.Header:
    """What a telescope writes about a field; fields are half a degree apart."""
    told = {"GAIN": GAIN, "RDNOISE": 6.0, "SATURATE": 6e4, "EXPTIME": 30.0, "OBJECT": f"field {number}"}
    told |= {"DATE-OBS": f"2024-03-{10 + number}T03:00:00", "FILTER": "g", "OBS-LONG": -70.0}
    return fits.Header(told | sky_cards(ra=150.0 + number) | cards)


def write_manifest(folder: Path, columns: tuple[str, ...], *, name: str = "FILE.csv") -> None:
    """List the frames of a folder."""
    with (folder / name).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["field", *columns])
        for number in range(FIELDS):
            writer.writerow([f"f{number}", *(f"{name}_{number}.fits" for name in columns)])


def write_frames(folder: Path) -> None:
    """Write science frames and references in counts, with masks of what is new."""
    folder.mkdir()
    for number in range(FIELDS):
        rng = np.random.default_rng(number)
        new, old = light_of(number, fwhm=3.0), light_of(number, fwhm=3.0)
        mask = add_new_stars(new, rng)
        for name, light, night_before in (("science", new, 0), ("reference", old, 1)):
            counts = (rng.poisson(light) + rng.normal(0, 6.0, light.shape)) / GAIN
            header = header_of(number, **{"DATE-OBS": f"2024-03-{10 + number - night_before:02}T03:00:00"})
            fits.writeto(folder / f"{name}_{number}.fits", counts.astype(np.float32), header)
        fits.writeto(folder / f"target_{number}.fits", mask)
    write_manifest(folder, ("science", "reference", "target"))


def write_raw(folder: Path) -> None:
    """Write raw science exposures with an overscan strip, calibration frames, and reduced references."""
    camera = Camera((EDGE, EDGE), seed=3)
    for kind in ("bias", "dark", "flat"):
        (folder / kind).mkdir(parents=True)
    for number in range(5):
        write_exposure(folder / f"bias/b{number}.fits", camera, 0.0, EXPTIME=0.0, IMAGETYP="bias")
        write_exposure(folder / f"dark/d{number}.fits", camera, 0.0, EXPTIME=300.0, IMAGETYP="dark")
        write_exposure(folder / f"flat/f{number}_g.fits", camera, 20_000.0, EXPTIME=5.0, IMAGETYP="flat")
    for number in range(FIELDS):
        rng = np.random.default_rng(number)
        light = light_of(number, fwhm=3.0)
        target = np.zeros((EDGE, EDGE + OVERSCAN), np.uint8)
        target[:, :EDGE] = add_new_stars(light, rng)
        fits.writeto(folder / f"target_{number}.fits", target)
        write_exposure(folder / f"science_{number}.fits", camera, light, **dict(header_of(number)))
        reference = rng.poisson(light_of(number, fwhm=3.4)).astype(np.float32)
        fits.writeto(folder / f"reference_{number}.fits", reference, header_of(number, GAIN=1.0, BUNIT="electron"))
    write_manifest(folder, ("science", "reference", "target"))
    write_manifest(folder, ("science", "target"), name="alone.csv")


def write_exposure(path: Path, camera: Camera, electrons: np.ndarray | float, **cards: object) -> None:
    """Write what the camera reads out, with its overscan strip."""
    counts = camera.expose(electrons, seconds=float(cards["EXPTIME"])).data  # type: ignore[arg-type]
    strip = np.rint(camera.rng.normal(300, READOUT.read_noise / READOUT.gain, (EDGE, OVERSCAN)))
    sections = {"BIASSEC": f"[{EDGE + 1}:{EDGE + OVERSCAN},1:{EDGE}]", "TRIMSEC": f"[1:{EDGE},1:{EDGE}]"}
    told = cards | sections | {"GAIN": READOUT.gain, "RDNOISE": READOUT.read_noise, "SATURATE": 4e4}
    fits.writeto(path, np.clip(np.hstack([counts, strip]), 0, 65535).astype(np.uint16), fits.Header(told))


def write_scores(home: Path) -> None:
    """Write probabilities and their truth, and the list of both."""
    rng = np.random.default_rng(5)
    truth = rng.random((64, 64)) < 0.05
    scores = np.clip(0.4 * truth + rng.uniform(0.05, 0.5, truth.shape), 0, 1)
    fits.writeto(home / "scores.fits", scores.astype(np.float32))
    fits.writeto(home / "truth.fits", truth.astype(np.uint8))
    (home / "fields.csv").write_text("scores,truth\nscores.fits,truth.fits\n")


def write_footprints(path: Path) -> None:
    """Write twenty tracks of cosmic rays."""
    spans = [np.full(number + 3, 500) for number in range(20)]
    columns = [
        fits.Column(name, "I", array=np.arange(20) + start) for name, start in (("fp_id", 0), ("x0", 5), ("y0", 9))
    ]
    pixels = fits.Column("pixel_values", "PJ()", array=np.array(spans, dtype=object))
    fits.BinTableHDU.from_columns([*columns, pixels]).writeto(path)
