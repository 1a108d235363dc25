"""The page of a comparison: what it holds, and that a browser draws it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import LOOKS, Browser
from toy_runs import made

from astrid.compare import compare
from astrid.compare.page import MOST_POINTS, front, heat_cells, parallel_axes, payload, render_page, thinned
from astrid.tracking.stored_runs import StoredRun


def test_the_front_holds_what_no_run_beats_in_both() -> None:
    points = {"cheap": (1.0, 0.5), "worse": (2.0, 0.4), "good": (3.0, 0.8), "same": (3.0, 0.7), "dear": (4.0, 0.8)}
    runs = [made(name, value, metrics={"latency/p50_ms": cost}) for name, (cost, value) in points.items()]
    rows = compare([*runs, made("unknown", 0.99)], "test/auprc").groups[0].rows
    assert front(rows, lambda row: row.latency_ms, lower=False) == ["cheap", "good"]


def test_a_heat_cell_is_the_mean_of_its_runs() -> None:
    runs = [made("a", 0.6), made("b", 0.8), made("c", 0.9, params={"model.depth": "3"})]
    cells = heat_cells(compare(runs, "test/auprc").groups[0].rows)
    assert [(cell["depth"], cell["text"], cell["count"]) for cell in cells] == [(2, "0.700", 2), (3, "0.900", 1)]


def test_an_axis_tells_numbers_from_names() -> None:
    values = [("0.1", "cosine"), ("0.01", "constant"), ("auto", "nan")]
    runs = [made(str(n), params={"optimizer.lr": lr, "choice.schedule": name}) for n, (lr, name) in enumerate(values)]
    comparison = compare(runs, "test/auprc")
    axes = {axis["key"]: axis for axis in parallel_axes(comparison, comparison.groups[0].rows)}
    assert axes["optimizer.lr"] == {"key": "optimizer.lr", "numbers": [0.01, 0.1], "named": ["auto"]}
    assert axes["choice.schedule"]["named"] == ["constant", "cosine", "nan"]


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    points = [(step, float(step)) for step in range(1, 1001)]
    kept = thinned(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert len(kept) <= MOST_POINTS + 1
    assert thinned(points[:3]) == points[:3]


def varied_runs() -> list[StoredRun]:
    """Runs with everything a page must cope with: gaps, other data, failures, markup in a name."""
    curves = {"val/auprc": [(1, 0.4), (2, 0.7)], "train/loss": [(1, 0.02), (2, 0.002)]}
    runs = [
        made(
            f"run-{depth}-{filters}",
            0.6 + depth / 20 + filters / 1000,
            half_width=0.01,
            params={"model.depth": str(depth), "model.filters": str(filters), "optimizer.lr": "auto"},
            metrics={"latency/p50_ms": depth * filters / 4, "energy/total_kwh": depth * filters / 1e4},
            histories=curves,
        )
        for depth in (2, 3)
        for filters in (8, 16)
    ]
    bare = StoredRun("bare", "bare", "FINISHED", 0, metrics={"test/auprc": 0.5}, tags={"data.fingerprint": "f" * 64})
    odd = made("</script><b id=evil>'\"&", 0.55, histories={"val/auprc": [(1, 0.3)]}, params={"optimizer.lr": "1e-3"})
    alien = made("alien", 0.9, tags={"data.fingerprint": "e" * 64})
    return [*runs, bare, odd, alien, made("failed", None, status="FAILED")]


def write_page(folder: Path, *, script: str = "") -> Path:
    page = render_page(compare(varied_runs(), "test/auprc"), title="Toy <runs>")
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"))
    return path


@pytest.mark.parametrize("look", LOOKS)
def test_a_comparison_is_whole_on_every_screen_and_in_print(look: str, browser: Browser, tmp_path: Path) -> None:
    assert browser.open(write_page(tmp_path), **LOOKS[look]).complaints == []


def test_a_page_opens_without_an_error_and_draws_everything(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(write_page(tmp_path))
    assert opened.dom.count('class="dot') == 4 + 4 + 1, "two plots against cost, and a curve of one epoch"
    assert opened.dom.count('class="cell"') == 4
    assert opened.dom.count('<path class="line"') == 4 + 6, "curves, and lines of the parallel coordinates"
    for words in ("can't be told apart|don't overlap", "NOT COMPARABLE", "test/auprc, higher is better", "failed"):
        assert re.search(words, opened.dom), words
    assert '<b id="evil">' not in opened.dom and "<b id=evil>" not in opened.dom


def test_a_page_sorts_picks_and_changes_its_data(browser: Browser, tmp_path: Path) -> None:
    script = """
        const names = () => [...document.querySelectorAll("#table tbody tr")].map((row) => row.children[2].textContent);
        const click = (head) => [...document.querySelectorAll("th button")].find((b) => b.textContent === head).click();
        const said = {};
        click("kWh"); said.cheap = names(); click("kWh"); said.dear = names();
        document.querySelector("#pick-none").click();
        said.coloured = document.querySelectorAll("#curves .line:not(.faint)").length;
        const pick = (id, value) => {
          document.getElementById(id).value = value;
          document.getElementById(id).dispatchEvent(new Event("change"));
        };
        pick("curve", "train/loss"); said.curves = document.querySelectorAll("#curves .line").length;
        pick("data", "2"); said.other = names();
        document.body.dataset.said = encodeURIComponent(JSON.stringify(said));
    """
    opened = browser.open(write_page(tmp_path, script=script))
    assert opened.console == []
    found = re.search('data-said="([^"]*)"', opened.dom)
    assert found
    said = json.loads(unquote(found[1]))
    assert said["cheap"][:2] == ["run-2-8", "run-3-8"]
    assert said["dear"][:2] == ["run-3-16", "run-2-16"]
    assert "bare" in said["cheap"][-2:] and "bare" in said["dear"][-2:], "unknown comes last both ways"
    assert (said["coloured"], said["curves"], said["other"]) == (0, 4, ["alien"])


def test_a_page_loads_nothing_and_may_not() -> None:
    page = render_page(compare(varied_runs(), "test/auprc"), title="Toy")
    assert "default-src 'none'" in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r"(?:src|href)=|url\(|@import", markup) == []
    assert set(re.findall(r"https?://[^\"\s]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_a_page_can_be_made_of_bare_runs_and_of_none_that_is_ranked() -> None:
    failed = made("failed", status="FAILED")
    assert payload(compare([failed], "test/auprc"))["groups"] == []
    assert "failed" in render_page(compare([failed], "test/auprc"), title="x")
