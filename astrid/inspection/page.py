"""What an inspection leaves behind: a table, pictures and a page of both."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from astrid.energy.tables import to_csv
from astrid.report.data import shown
from astrid.report.gallery import strip
from astrid.report.markup import Html, element, folded, paragraph, section, table
from astrid.report.page import cards, render
from astrid.report.pictures import picture
from astrid.results import save_figure

from .by_snr import SnrBins
from .causes import count_causes
from .figures import calibration_figure, field_figure, saliency_figure
from .look import FieldView, Findings
from .objects import count_outcomes, objects_table
from .saliency import Saliency

PAGE, OBJECTS = "inspect.html", "objects.csv"
ALARMS_OF_CAUSE = 12
"""False alarms of each cause that are shown."""
NO_SNR = (
    "There is no catalogue of sources: objects are groups of connected pixels of the truth, their flux is the light on "
    "these pixels in background sigma, and there is no signal-to-noise of theirs."
)


def leave(findings: Findings, folder: Path, *, ours: bool) -> list[Path]:
    """Write table, pictures and page into a folder, and return where.

    Where the folder is `ours`, which holds nothing else, pictures of an earlier look go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.png") if ours else ():
        path.unlink()
    whole = objects_table(findings.objects)
    (folder / OBJECTS).write_text(to_csv(whole.columns, whole.rows))
    sections = [
        _outcomes(findings),
        *(_view(view, folder) for view in findings.views),
        _alarms(findings),
        _calibration(findings, folder),
        *(_saliency(found, folder) for found in findings.saliency),
    ]
    facts = [(outcome, str(count), "") for outcome, count in count_outcomes(findings.objects).items()]
    title = f"Objects of {Path(findings.subject.model.source.address).name}, split {findings.subject.split}"
    (folder / PAGE).write_text(render(title, cards(facts), [one for one in sections if one is not None]))
    covered = [_saliency_path(found, folder) for found in findings.saliency]
    return [folder / PAGE, folder / OBJECTS, *covered]


def _saved(figure: Figure, path: Path, *, alt: str) -> Html:
    return picture(save_figure(figure, path).read_bytes(), alt=alt)


def _outcomes(findings: Findings) -> Html:
    subject = findings.subject
    return section(
        "What was looked at",
        paragraph(f"{subject.fields.description}; fields that the model has seen: {subject.seen}."),
        None if findings.by_catalogue else paragraph(NO_SNR),
        folded("every object", shown(objects_table(findings.objects), caption="What became of each object")),
    )


def _view(view: FieldView, folder: Path) -> Html:
    name = view.field.name
    alt = f"Field {name}: science image, truth and probability; {view.summary}."
    path = folder / f"field_{_plain(name)}.png"
    return section(
        f"Field {name}",
        paragraph(view.summary),
        _saved(field_figure(view.field, view.probability, view.objects), path, alt=alt),
        folded("its objects", shown(objects_table(view.objects), caption=f"Objects of {name}")),
    )


def _plain(name: str) -> str:
    """Return a name that is safe for a file."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _alarms(findings: Findings) -> Html:
    causes = count_causes(findings.objects)
    if not causes:
        return section("False alarms by cause", paragraph("There are no false alarms."))
    rows = [[cause, str(count)] for cause, count in causes]
    parts: list[Html] = [table(["cause", "false alarms"], rows, caption="Where the false alarms come from")]
    for cause, count in causes:
        own = [cutout for cutout in findings.false_alarms if cutout.judged.cause == cause][:ALARMS_OF_CAUSE]
        parts += [element("h3", f"{cause}: {count}"), strip(own)]
    return section("False alarms by cause", *parts)


def _calibration(findings: Findings, folder: Path) -> Html | None:
    if not findings.calibration:
        return None
    alt = "Mean probability beside the share that is real, by signal-to-noise."
    figure = _saved(calibration_figure(findings.calibration), folder / "calibration_by_snr.png", alt=alt)
    tables = [table(*calibration_table(bins), caption=bins.what) for bins in findings.calibration]
    return section("Calibration by signal-to-noise", figure, *tables)


def calibration_table(bins: SnrBins) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the bins, those without anything left out; an interval only where there is one."""
    heads = ["signal-to-noise", "how many", "mean probability", "share that is real"]
    columns = [bins.names(), bins.count, bins.predicted, bins.observed]
    rows = [
        [name, f"{count:,}", f"{predicted:.4f}", f"{observed:.4f}"]
        for name, count, predicted, observed in zip(*columns, strict=True)
    ]
    if bins.bounds is not None:
        heads.append("95 % interval")
        rows = [[*row, f"[{low:.3f}, {high:.3f}]"] for row, (low, high) in zip(rows, bins.bounds.T, strict=True)]
    return heads, [row for row, count in zip(rows, bins.count, strict=True) if count]


def _saliency_path(found: Saliency, folder: Path) -> Path:
    return folder / f"saliency_{_plain(found.judged.id)}.png"


def _saliency(found: Saliency, folder: Path) -> Html:
    judged = found.judged
    alt = f"Light around {judged.id}, and by how much its logit of {found.logit:.2f} falls when a piece is covered."
    return section(
        f"What decides about {judged.id}",
        paragraph(
            "A piece of 5 × 5 pixels is replaced by empty sky, in each channel and in all. Red: covering it lowers the "
            "logit, so the network takes it for evidence of an object; blue: for evidence against one.",
            kind="soft",
        ),
        _saved(saliency_figure(found), _saliency_path(found, folder), alt=alt),
    )
