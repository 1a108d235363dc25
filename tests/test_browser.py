"""That the browser of the tests can see what a page does wrong, or the tests of pages would prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser

POLICY = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
AWAY = "https://far.example/"
ASKING = {
    "image": f"<img src={AWAY} alt=far>",
    "background": f"<style>body {{ background: url({AWAY}) }}</style>",
    "font": f"<style>@font-face {{ font-family: f; src: url({AWAY}) }} p {{ font-family: f }}</style>",
    "frame": f"<iframe src={AWAY}></iframe>",
    "icon": f"<link rel=icon href={AWAY}>",
    "connection": f"<link rel=preconnect href={AWAY}>",
    "script": f"<script src={AWAY}></script>",
    "late request": f"<script>setTimeout(() => fetch('{AWAY}'), 20)</script>",
    "refused by the policy": f"{POLICY}<img src={AWAY} alt=far>",
    "socket": f"<script>new WebSocket('{AWAY}'.replace('https', 'ws'))</script>",
}
TALKING = {
    "console.error('ouch')": "ouch",
    "console.log('word', 7)": "word 7",
    "nosuch()": "nosuch is not defined",
    "Promise.reject(new Error('unheard'))": "unheard",
}
BROKEN = "data:image/png;base64,iVBORw0KGgo="


def written(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(f"<!doctype html><title>t</title>{body}<p>text")
    return path


def test_a_page_that_is_whole_gives_no_complaint(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(written(tmp_path, "<script>document.title = 'ran'</script>"))
    assert opened.complaints == []
    assert "<title>ran</title>" in opened.dom


@pytest.mark.parametrize("what", ASKING)
def test_a_page_that_asks_for_something_is_found(what: str, browser: Browser, tmp_path: Path) -> None:
    (asked,) = browser.open(written(tmp_path, ASKING[what])).requests
    assert asked.partition("://")[2] == "far.example/"


def test_a_file_beside_the_page_is_a_request_too(browser: Browser, tmp_path: Path) -> None:
    assert browser.open(written(tmp_path, "<img src=own.png>")).requests == [(tmp_path / "own.png").as_uri()]


@pytest.mark.parametrize("script", TALKING)
def test_a_page_that_says_something_is_found(script: str, browser: Browser, tmp_path: Path) -> None:
    assert TALKING[script] in " ".join(browser.open(written(tmp_path, f"<script>{script}</script>")).console)


def test_what_the_policy_forbids_is_said(browser: Browser, tmp_path: Path) -> None:
    (said,) = browser.open(written(tmp_path, f"{POLICY}<script>1</script>")).console
    assert "Content Security Policy" in said


@pytest.mark.parametrize("above", ["", "<div style='height: 9000px'></div>"], ids=["in sight", "far below"])
def test_an_image_that_is_broken_is_found(above: str, browser: Browser, tmp_path: Path) -> None:
    (broken,) = browser.open(written(tmp_path, f"{above}<img loading=lazy alt=half src='{BROKEN}'>")).broken
    assert broken.startswith("half ")


def test_a_page_wider_than_its_window_is_found(browser: Browser, tmp_path: Path) -> None:
    page = written(tmp_path, "<div style='width: 900px'>wide</div>")
    assert browser.open(page, width=1400).too_wide_pixels == 0
    assert browser.open(page, width=500).too_wide_pixels > 300


def test_a_page_is_seen_in_the_look_that_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    page = written(tmp_path, "")
    for media, scheme in (("screen", "light"), ("screen", "dark"), ("print", "light")):
        browser.open(page, media=media, scheme=scheme)
        assert browser.evaluate(f"matchMedia('{media} and (prefers-color-scheme: {scheme})').matches")


def test_nothing_of_a_page_is_said_of_the_next(browser: Browser, tmp_path: Path) -> None:
    assert browser.open(written(tmp_path, "<script>nosuch()</script>")).console != []
    assert browser.open(written(tmp_path, "")).complaints == []
