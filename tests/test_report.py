"""The page of a run: whatever became of the run it is whole, asks for nothing, and lets no text break it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import LOOKS, Browser
from hypothesis import given
from hypothesis import strategies as st

from astrid.cli import main
from astrid.config import DataError, RunError
from astrid.config.compose import load
from astrid.experiment import run_experiment
from astrid.report.markup import Html, element, join, table
from astrid.report.page import PALETTE
from astrid.report.pictures import PNG, read_png
from astrid.report.written import REPORT_FILE, write_report
from astrid.tracking import Journal

pytestmark = pytest.mark.usefixtures("in_this_process")

MOST_BYTES = 5_000_000
EVIL = '"><img src=http://evil.example/x onerror=alert(1)><script>alert(2)</script>'


@pytest.fixture(scope="module")
def finished(drawn: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    run_experiment(load([*drawn, "tracking=off"]), run_dir=run_dir)
    return run_dir


class Seen(HTMLParser):
    """What a parser finds in a page: elements with their attributes, headings, and whether all is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def check_page(page: str) -> Seen:
    """Check what every report promises, and return what it holds."""
    seen = Seen(page)
    assert seen.open == [], "every element is closed"
    assert len(page.encode()) < MOST_BYTES
    assert seen.all("html") == [{"lang": "en"}]
    policies = [meta["content"] or "" for meta in seen.all("meta") if "http-equiv" in meta]
    assert [policy.split(";")[0] for policy in policies] == ["default-src 'none'"]
    assert [one for one in seen.elements if one[0] in ("script", "link", "iframe", "a")] == []
    attributes = [pair for _, given in seen.elements for pair in given.items()]
    addresses = [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
    assert all(address and address.startswith("data:image/png;base64,") for address in addresses)
    assert all(len(image.get("alt") or "") > 10 for image in seen.all("img")), "every picture is told in words"
    assert len(seen.all("h1")) == 1
    assert not re.search(r"url\(|@import", page.partition("<body")[0])
    return seen


def head_of(page: str) -> str:
    """Return what stands above the sections; below it uncommitted code of this test may be quoted."""
    return page.partition("<header>")[2].partition("</header>")[0]


def sections(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", page)


def test_a_finished_run_has_its_whole_report(finished: Path) -> None:
    page = (finished / REPORT_FILE).read_text()
    seen = check_page(page)
    wanted = ["What was asked", "Data and quality", "Training", "Results", "Curves and fields", "Objects", "Latency"]
    assert sections(page) == [*wanted, "Energy", "Configuration", "How to reproduce"]
    for figure in ("True against false", "Precision against recall", "Observed frequency", "by signal-to-noise"):
        assert any(figure in (image["alt"] or "") for image in seen.all("img")), figure
    assert 'class="status finished">finished' in page
    assert "python train.py model.depth=2" in page
    assert "<td>area under precision and recall" in page, "metrics are told to who doesn't know their names"
    assert "epochs finished" not in head_of(page)
    assert "<dt>loss</dt><dd>bce</dd>" in page, "choices have the names that are typed"
    assert "unavailable: no GPU is used by this process" in page
    assert '"artifact", "path": "report.html"' in (finished / "journal.jsonl").read_text()


def test_the_numbers_of_the_page_are_those_of_the_run(finished: Path) -> None:
    page = write_report(finished, output=finished / "again.html").read_text()
    rows = json.loads((finished / "tables" / "objects.json").read_text())
    outcomes = [row[rows["columns"].index("outcome")] for row in rows["data"]]
    hits = outcomes.count("hit")
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["test/completeness"] == pytest.approx(hits / (hits + outcomes.count("miss")))
    assert metrics["test/purity"] == pytest.approx(hits / (hits + outcomes.count("false alarm")))
    assert f"{min(hits, 12)} of {hits}" in page


@pytest.fixture(scope="module")
def failed(drawn: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(RunError, match="the loss must be finite"):
        run_experiment(load([*drawn, "tracking=off", "optimizer.lr=1e30"]), run_dir=run_dir)
    return run_dir


def test_a_run_that_fails_reports_why(failed: Path) -> None:
    page = (failed / REPORT_FILE).read_text()
    check_page(page)
    assert 'class="status failed">failed' in page
    assert "Why: LossNotFinite: the loss must be finite" in page
    assert "alert loss_not_finite" not in head_of(page), "the same words, twice below each other"
    assert "The test fields were not judged" in page


@pytest.fixture(scope="module")
def going(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as it is on disk after its first epoch: what is written later is not there yet, and its process lives."""
    run = tmp_path_factory.mktemp("runs") / "run"
    later = ("*.pt", "model-*", "figures", "tables", "metrics.json", "cutouts.npz", REPORT_FILE)
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns(*later))
    path = run / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if "train/loss" in json.loads(line).get("values", {}))
    path.write_text("".join(lines[: first + 1]))
    write_report(run)
    return run


@pytest.fixture(scope="module")
def lost(going: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, its process killed while it wrote a line."""
    run = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(going, run)
    path = run / "journal.jsonl"
    path.write_text(re.sub(r'"pid": \d+', '"pid": 4194304', path.read_text()) + '{"type": "metr')
    write_report(run)
    return run


def test_a_run_that_goes_on_and_one_that_was_lost_are_told_apart(going: Path, lost: Path) -> None:
    page = (going / REPORT_FILE).read_text()
    seen = check_page(page)
    assert 'class="status running">still going' in page
    assert any("Curves over 1 epoch." in (image["alt"] or "") for image in seen.all("img"))
    head = head_of(page)
    assert "<b>1</b><span>of 2</span>" in head and "best val/auprc" in head and "training.resume=" not in head
    page = (lost / REPORT_FILE).read_text()
    assert 'class="status gone">lost' in page and "training.resume=" in head_of(page)


DAMAGED = ("metrics.json", "objects.json", "cutouts.npz", "config.yaml", "energy.jsonl", "roc.png")


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_costs_its_part_of_the_page_and_no_more(finished: Path, name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.pt", "model-*"))
    for path in run.rglob(name):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\n")
    page = write_report(run).read_text()
    check_page(page)
    assert {"What was asked", "Results", "How to reproduce"} <= set(sections(page))
    assert name in head_of(page)


MISSHAPEN = {
    "test_fields.json": ({"columns": ["field"], "data": None}, {"columns": 3, "data": []}, [1], "text"),
    "objects.json": ({"columns": ["id"], "data": [["a", "b"]]}, {"columns": ["id"], "data": [{}]}, {"columns": ["id"]}),
    "environment.json": ({"hardware": ["cpu"]}, {"hardware": 3}, {"versions": {"torch": [2]}}, [], 7),
}


PARTS = {
    "test_fields.json": "What each test field showed",
    "objects.json": "What became of each object",
    "environment.json": "Versions",
}


@pytest.mark.parametrize("name", MISSHAPEN)
def test_json_of_another_shape_costs_its_part_of_the_page_and_no_more(
    finished: Path, name: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.pt", "model-*", "*.png"))
    (path,) = run.rglob(name)
    path.write_text(json.dumps(MISSHAPEN[name][0]))
    page = write_report(run).read_text()
    assert [other for other in MISSHAPEN if f"{other} is damaged: it must hold" in page] == [name]
    assert [other for other, part in PARTS.items() if part not in page] == [name]


@pytest.mark.parametrize("number", range(1, max(map(len, MISSHAPEN.values()))))
def test_json_of_any_shape_is_named_on_the_page(finished: Path, number: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.pt", "model-*", "*.png"))
    for name, shapes in MISSHAPEN.items():
        (path,) = run.rglob(name)
        path.write_text(json.dumps(shapes[number % len(shapes)]))
    page = write_report(run).read_text()
    assert [name for name in MISSHAPEN if f"{name} is damaged: it must hold" not in page] == []
    assert {"What was asked", "Results", "How to reproduce"} <= set(sections(page))


def test_a_count_of_pixels_that_is_text_adds_nothing(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.pt", "model-*", "*.png"))
    table = {"columns": ["field", "positive_pixels"], "data": [["a", "many"], ["b", 7], ["c", None]]}
    (run / "tables" / "test_fields.json").write_text(json.dumps(table))
    (run / "tables" / "objects.json").write_text(json.dumps({"columns": ["id"], "data": [["a"]]}))
    assert "their positive pixels</dt><dd>7<" in write_report(run).read_text()


def test_a_field_called_like_an_outcome_is_not_counted_as_one(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.pt", "model-*", "*.png"))
    path = run / "tables" / "objects.json"
    rows = json.loads(path.read_text())
    kinds = [row[rows["columns"].index("outcome")] for row in rows["data"]]
    for row in rows["data"]:
        row[rows["columns"].index("field")] = "hit"
    path.write_text(json.dumps(rows))
    assert f" of {kinds.count('hit')}" in write_report(run).read_text()
    assert kinds.count("hit") < len(kinds)


def judged_page(folder: Path, metrics: dict[str, float], tags: dict[str, str]) -> str:
    folder.mkdir()
    journal = Journal.create(folder, name="run", experiment="astrid")
    journal.write_tags(tags)
    journal.write_metrics(metrics, step=1)
    journal.write_end("FINISHED")
    return write_report(folder).read_text()


def test_results_name_the_split_that_was_judged_and_what_their_intervals_are_over(tmp_path: Path) -> None:
    metrics = {"test/auprc": 0.7, "test/auprc_low": 0.6, "test/auprc_high": 0.8}
    own = judged_page(tmp_path / "own", metrics, {})
    assert "The network on the test fields" in own and "95 % intervals over the test fields" in own
    val = judged_page(tmp_path / "val", metrics, {"evaluation.split": "val"})
    assert "The network on the val fields" in val and "test fields" not in val
    group = judged_page(tmp_path / "group", metrics, {"statistics": "mean over 3 seeds"})
    assert "Mean over 3 seeds. What is undefined" in group and "intervals over" not in group
    counted = judged_page(tmp_path / "counted", {"test/auprc": 0.7, "test/recall_negative": 0.99972}, {})
    assert "0.99972" in counted
    counts = judged_page(tmp_path / "counts", {"test/valid_pixels": 4193952.0, "test/auprc": 0.7}, {})
    assert "4,193,952" in counts
    without = judged_page(tmp_path / "without", {"test/loss": 0.1}, {})
    assert "The network on" not in without


def test_what_a_run_is_called_breaks_no_page(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, name=EVIL, experiment="astrid")
    journal.write_params({"data.manifest": EVIL})
    journal.write_tags({"data": EVIL, "git.remote": EVIL, "git.commit": EVIL, "alert.loss": EVIL})
    journal.write_end("FAILED", reason=EVIL)
    (tmp_path / "tables").mkdir()
    table = {"columns": ["field", EVIL], "data": [[EVIL, 1.0]]}
    (tmp_path / "tables" / "test_fields.json").write_text(json.dumps(table))
    page = write_report(tmp_path).read_text()
    assert check_page(page).all("img") == []
    assert page.count("&lt;script&gt;alert(2)") >= 6


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_text_comes_back_as_it_was(texts: list[str]) -> None:
    class Words(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.words: list[str] = []

        def handle_data(self, data: str) -> None:
            self.words.append(data)

    reader = Words()
    reader.feed(element("p", *texts, title=texts[0]))
    reader.close()
    clean = "".join(texts).replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(reader.words).replace("\r\n", "\n").replace("\r", "\n") == clean


def test_markup_is_escaped_once_and_never_twice() -> None:
    assert join("<", Html("<b>"), None, element("i", "&")) == "&lt;<b><i>&amp;</i>"
    made = table(["a", "b", "c"], [["x", "12.5", "twelve"]], caption="c")
    assert '<td class="number">12.5</td><td>twelve</td>' in made


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "soft", "accent", "warn"])
def test_text_has_the_contrast_of_wcag_aa(scheme: int, text: str) -> None:
    blocks = PALETTE.read_text().split("@media")
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    for ground in ("ground", "panel"):
        lighter, darker = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)


def test_a_report_that_can_not_be_written_leaves_the_run_as_it_is(
    drawn: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / REPORT_FILE).mkdir()  # a folder where the file should go
    run_experiment(load([*drawn, "tracking=off", "metrics.baselines=false", "training.epochs=1"]), run_dir=run)
    assert Journal.open(run).status == "FINISHED"
    assert "no report was written" in caplog.text and f"astrid report {run}" in caplog.text
    assert '"report.error"' in (run / "journal.jsonl").read_text()


def test_a_run_that_is_to_have_no_report_has_none(drawn: list[str], tmp_path: Path) -> None:
    knobs = ["metrics.report=false", "metrics.figures=false", "metrics.baselines=false", "training.epochs=1"]
    run_experiment(load([*drawn, "tracking=off", *knobs]), run_dir=tmp_path)
    made = {path.name for path in tmp_path.rglob("*")}
    assert made.isdisjoint({REPORT_FILE, "cutouts.npz", "objects.json"})


def test_half_a_picture_is_none(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    path.write_bytes(PNG + b"half")
    assert read_png(path) is None


def test_the_command_writes_where_it_is_told(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(finished), "--output", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    check_page((tmp_path / "page.html").read_text())


@pytest.mark.parametrize("target", ["nothing/here", "."])
def test_a_folder_without_a_run_is_refused(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", target]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def sweep(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs and a failed one beside each other, and what a study leaves."""
    sweep = tmp_path_factory.mktemp("sweeps") / "sweep"
    for number in ("0", "1", "10"):
        shutil.copytree(finished, sweep / number, ignore=shutil.ignore_patterns("*.pt", "model-*", "*.png"))
    Journal.create(sweep / "2", name=EVIL, experiment="astrid").write_end("FAILED", reason="x")
    (sweep / "study").mkdir()
    trials = {"columns": ["trial", "state", "run_dir"], "data": [[0, "COMPLETE", "/secret/place"], [1, EVIL, ""]]}
    (sweep / "study" / "trials.json").write_text(json.dumps(trials))
    write_report(sweep)
    return sweep


def test_runs_beside_each_other_are_a_sweep(sweep: Path) -> None:
    page = (sweep / REPORT_FILE).read_text()
    check_page(page)
    assert "3 finished, 1 failed" in page and "<b>2</b><span>1 complete, 1 " in page
    assert '<th scope="row">sweep.trial</th>' not in page.partition("What differs")[2]
    assert "/secret/place" not in page
    assert sections(page)[0] == "Ranked runs" and sections(page)[-1] == "The best again"
    assert "python train.py model.depth=2" in page


def test_runs_on_other_data_have_no_best_among_them(tmp_path: Path) -> None:
    for number, value in enumerate((0.2, 0.9)):
        judged_page(tmp_path / str(number), {"test/auprc": value}, {"data.fingerprint": str(number) * 64})
    page = write_report(tmp_path).read_text()
    assert "NOT COMPARABLE" in page
    assert "best test/auprc" not in page and "The best again" not in sections(page)


@pytest.mark.parametrize("saved", [[], 3, {"columns": 3, "data": []}, {"columns": ["a"], "data": [[{}]]}])
def test_trials_of_another_shape_cost_their_part_of_the_page_and_no_more(saved: object, tmp_path: Path) -> None:
    for number in range(2):
        judged_page(tmp_path / str(number), {"test/auprc": 0.5}, {})
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "trials.json").write_text(json.dumps(saved))
    page = write_report(tmp_path).read_text()
    assert "trials.json is damaged: it must hold" in page
    assert "Ranked runs" in sections(page)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", ["finished", "failed", "going", "lost", "sweep"])
def test_a_browser_shows_every_report_whole_and_without_a_word(
    kind: str, look: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    opened = browser.open(request.getfixturevalue(kind) / REPORT_FILE, **LOOKS[look])
    assert opened.complaints == []
    assert opened.dom.count("<section") >= 4


@pytest.mark.slow
def test_the_report_of_the_default_run_is_whole_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    run_experiment(load(["tracking=off"]), run_dir=tmp_path)
    check_page((tmp_path / REPORT_FILE).read_text())
    for look in LOOKS.values():
        assert browser.open(tmp_path / REPORT_FILE, **look).complaints == []


def test_an_empty_study_is_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    with pytest.raises(DataError, match="must hold the runs of a sweep"):
        write_report(tmp_path)


def test_a_damaged_picture_of_a_study_is_named(tmp_path: Path) -> None:
    judged_page(tmp_path / "0", {"test/auprc": 0.5}, {})
    (tmp_path / "study" / "figures").mkdir(parents=True)
    (tmp_path / "study" / "figures" / "history.png").write_bytes(PNG)
    assert "history.png is damaged: it must be a whole PNG" in head_of(write_report(tmp_path).read_text())


@pytest.mark.parametrize("averages", ["true", "false"])
def test_losses_that_are_not_alike_are_said_to_be_so(finished: Path, tmp_path: Path, averages: str) -> None:
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("*.pt", "model-*"))
    text = (run / "journal.jsonl").read_text()
    key = '"model.test_time_augmentation": "'
    assert text.count(key) == 1
    (run / "journal.jsonl").write_text(text.replace(f"{key}False", f"{key}{averages.title()}"))
    said = "val/loss is that of the mean over eight orientations" in write_report(run).read_text()
    assert said == (averages == "true")


def test_data_are_prepared_before_a_run_begins_but_not_before_a_group_does(tmp_path: Path) -> None:
    own = tmp_path / "run"
    judged_page(own, {}, {})
    assert ", its data prepared before; took" in head_of(write_report(own).read_text())
    judged_page(own / "repeat-0", {}, {})
    assert "its data prepared" not in head_of(write_report(own).read_text())


def test_a_folder_where_the_page_should_go_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_page(tmp_path / "run", {}, {})
    assert main(["report", str(tmp_path / "run"), "--output", str(tmp_path)]) == 2
    assert f"{tmp_path} must be a file that can be written, but is a folder" in capsys.readouterr().err


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    judged_page(tmp_path / "run", {}, {})
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # an end that reads, or the other waits for one
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 2**20)
    assert main(["report", str(tmp_path / "run"), "--output", str(pipe)]) == 0
    assert os.read(end, 9) == b"<!doctype" and pipe.is_fifo()
    os.close(end)


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    judged_page(tmp_path / "run", {}, {})
    (tmp_path / "link.html").symlink_to(tmp_path / "page.html")
    assert main(["report", str(tmp_path / "run"), "--output", str(tmp_path / "link.html")]) == 0
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "page.html").is_file()


def test_a_configuration_that_is_no_text_costs_its_part_of_the_page(tmp_path: Path) -> None:
    judged_page(tmp_path / "run", {}, {})
    (tmp_path / "run" / "config.yaml").write_bytes(b"\x80\xff\x00")
    assert "config.yaml can&#x27;t be read" in head_of(write_report(tmp_path / "run").read_text())


@pytest.mark.parametrize(("fields", "doubted"), [(3, True), (4, False)])
def test_intervals_over_few_fields_are_doubted(fields: int, doubted: bool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    judged_page(run, {"test/auprc": 0.005141, "test/auprc_low": 0.00021, "test/auprc_high": 0.19}, {})
    (run / "tables").mkdir()
    rows = [[f"test-{number}"] for number in range(fields)]
    (run / "tables" / "test_fields.json").write_text(json.dumps({"columns": ["field"], "data": rows}))
    page = write_report(run).read_text()
    assert (
        f"over the test fields, only {fields}; whether they hold the truth was never tried below 4" in page
    ) == doubted
    assert "0.0051 [0.00, 0.19]" in page and "0.005141 [0.00021, 0.19]" in page


def test_a_lost_run_is_said_to_have_a_checkpoint_only_where_it_has(lost: Path, tmp_path: Path) -> None:
    run = shutil.copytree(lost, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    resume = f"python train.py training.resume={run}"
    assert f"There is no checkpoint: {resume} starts it from the beginning" in head_of(write_report(run).read_text())
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.pt").touch()
    assert f"Go on from its last checkpoint with: {resume}</p>" in head_of(write_report(run).read_text())


def test_lines_of_the_journal_that_are_no_records_are_counted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    judged_page(run, {"test/auprc": 0.5}, {})
    assert "damaged line" not in head_of(write_report(run).read_text())
    path = run / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    wrong = [
        '{"kind": "metrics", "val\n',
        '{"kind": "metrics", "values": {"test/auprc": "abc"}, "step": 1, "time_ms": 1}\n',
    ]
    path.write_text("".join([*lines[:-1], *wrong, lines[-1]]))
    page = write_report(run).read_text()
    assert "journal.jsonl has 2 damaged lines, left out" in head_of(page) and "0.500" in page
