"""A headless Chromium for the whole session, and the pages that it opens.

Debian's `chromium` is driven, or whatever `CHROMIUM` names; playwright brings no browser of its own. Without
one the tests are skipped, unless `BENCH_REQUIRE_CHROMIUM=1` says that there has to be one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, ViewportSize, sync_playwright

from bench.report.page.page import render_page
from bench.run.evaluation import read_evaluation
from tests.report.page.making import CHARTS, FIGURES, hostile

RUNS = Path(__file__).parents[3] / "results" / "runs"
PAGES = ("cpu-smollm2", "policies-cpu", "capacity-cpu", "hostile")
WIDE = ViewportSize(width=1200, height=900)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Opened(msgspec.Struct):
    """A page in the browser, and what it complained of or asked for."""

    name: str
    page: Page
    complaints: list[str] = []
    requests: list[str] = []


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the browser once."""
    named = os.environ.get("CHROMIUM")
    found = named or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        why = "no Chromium here: install Debian's chromium, or name one in CHROMIUM"
        if os.environ.get("BENCH_REQUIRE_CHROMIUM") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=PAGES)
def opened(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Opened:
    """Open a page from its file and wait until all charts are drawn."""
    name: str = request.param
    path = tmp_path_factory.mktemp("page") / "report.html"
    if name == "hostile":
        text = render_page(hostile(), FIGURES, CHARTS)
    else:
        text = render_page(read_evaluation([min((RUNS / name).iterdir())]))
    path.write_text(text, encoding="utf-8")
    page = browser.new_context(viewport=WIDE, accept_downloads=True).new_page()
    opened = Opened(name=name, page=page)

    def complained(message: ConsoleMessage) -> None:
        opened.complaints.append(f"{message.type}: {message.text}")

    def failed(error: Error) -> None:
        opened.complaints.append(str(error))

    def asked(sent: Request) -> None:
        opened.requests.append(sent.url)

    page.on("console", complained)
    page.on("pageerror", failed)
    page.on("request", asked)
    page.goto(path.as_uri())
    page.wait_for_function("document.documentElement.dataset.charts === 'ready'")
    return opened


@pytest.fixture
def wide(opened: Opened) -> Iterator[Opened]:
    """Give a page as it was opened, and leave it so."""
    yield opened
    opened.page.emulate_media(media="screen", color_scheme="light")
    opened.page.set_viewport_size(WIDE)
    opened.page.evaluate(
        "delete document.documentElement.dataset.theme; scrollTo(0, 0); document.activeElement.blur()"
    )
