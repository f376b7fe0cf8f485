"""The page in a real browser: it draws, switches, prints, fits and fetches nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.page.conftest import Opened
from tests.report.page.making import HOSTILE, IMAGE

MARKS = "[class*='role-mark'] :is(path, line, text)"
CHARTS = ".chart"
DRAWN_SYSTEMS = """() => {
  // The systems of all marks that are drawn, by chart.
  const found = {};
  const visit = (item, into) => {
    if (item.datum && item.datum.system !== undefined) into.add(item.datum.system);
    for (const child of item.items ?? []) visit(child, into);
  };
  for (const [kind, view] of benchCharts.views) {
    const into = new Set();
    for (const item of view.scenegraph().root.items) {
      const marks = (node) => {
        if (node.role === "mark" || node.marktype !== "group") visit(node, into);
        for (const child of node.items ?? []) {
          if (child.role !== "legend" && !String(child.role).startsWith("axis")) marks(child);
        }
      };
      marks(item);
    }
    found[kind] = [...into].sort();
  }
  return found;
}"""
WORST_CONTRAST = """() => {
  // The lowest contrast of any text that is shown, after WCAG 2.1, with the text itself.
  const numbers = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length && colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  const texts = "p, li, td, th, dt, dd, h1, h2, h3, h4, summary, a, button, label, legend, caption, code";
  for (const element of document.querySelectorAll(`:is(${texts}, .badge), [class*='role-axis'] text`)) {
    if (!element.checkVisibility() || !element.textContent.trim()) continue;
    const style = getComputedStyle(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    const [one, two] = [light(numbers(colour)), light(groundOf(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (two + 0.05);
    if (contrast < worst[0]) worst = [contrast, `${element.tagName}: ${element.textContent}`];
  }
  return worst;
}"""


def test_the_page_opens_without_a_complaint_and_asks_for_nothing(opened: Opened) -> None:
    opened.page.evaluate("new Promise((resume) => setTimeout(resume, 50))")
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.page.evaluate("benchCharts.errors") == []


def test_every_chart_is_drawn_with_marks(opened: Opened) -> None:
    charts = opened.page.locator(CHARTS)
    kinds = [kind for kind, figure in _data(opened)["figures"].items() if figure["chart"]]
    assert charts.count() == len(kinds) > 0
    for chart in charts.all():
        assert chart.get_attribute("data-state") == "rendered"
        assert chart.locator("svg").count() == 1
        assert chart.locator(MARKS).count() > 0, chart.get_attribute("id")


def test_a_switch_hides_its_system_in_every_chart_and_table(wide: Opened) -> None:
    page, data = wide.page, _data(wide)
    switches = page.locator("#switches input")
    name = data["systems"][1]
    before = page.evaluate(DRAWN_SYSTEMS)
    assert any(name in systems for systems in before.values())
    cells = page.locator("main [data-system='1']")
    shown = cells.evaluate_all("(all) => all.filter((one) => one.checkVisibility()).length")
    assert shown > 0
    switches.nth(1).uncheck()
    page.wait_for_function("document.documentElement.dataset.hidden === '1'")
    after = page.evaluate(DRAWN_SYSTEMS)
    assert {kind: [s for s in systems if s != name] for kind, systems in before.items()} == after
    assert cells.evaluate_all("(all) => all.filter((one) => one.checkVisibility()).length") == 0
    switches.nth(1).check()
    page.wait_for_function("document.documentElement.dataset.hidden === ''")
    assert page.evaluate(DRAWN_SYSTEMS) == before
    assert cells.evaluate_all("(all) => all.filter((one) => one.checkVisibility()).length") == shown


def test_a_switch_is_reached_and_turned_by_keyboard(wide: Opened) -> None:
    page = wide.page
    page.locator(".skip").focus()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.index") == "1":
            break
    assert page.evaluate("document.activeElement.matches('#switches input:focus-visible')")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "who uses the keyboard sees where he is"
    page.keyboard.press("Space")
    page.wait_for_function("document.documentElement.dataset.hidden === '1'")
    page.keyboard.press("Space")
    page.wait_for_function("document.documentElement.dataset.hidden === ''")


def test_what_a_reader_may_choose_in_a_chart_has_a_label_and_is_no_part_of_the_picture(
    opened: Opened,
) -> None:
    inputs = opened.page.locator("figure :is(select, input)")
    assert inputs.evaluate_all(
        "(all) => all.every((one) => one.labels.length && one.labels[0].innerText.trim())"
    )
    assert inputs.evaluate_all("(all) => all.every((one) => one.closest('[role=img]') === null)")
    if opened.name == "cpu-smollm2":
        assert inputs.count() > 0


@pytest.mark.parametrize("opened", ["capacity-cpu", "hostile"], indirect=True)
def test_a_table_that_is_read_has_no_scroll_of_its_own(wide: Opened) -> None:
    cut = """[...document.querySelectorAll(".box:not(:has(> .data))")]
        .filter((box) => box.scrollHeight > box.clientHeight + 1)
        .map((box) => box.ariaLabel)"""
    assert wide.page.evaluate(cut) == []


def test_the_numbers_of_every_chart_open_by_keyboard(wide: Opened) -> None:
    for details in wide.page.locator("figure:has(.chart) .tools details").all():
        table = details.locator("table").first
        assert not table.is_visible()
        details.locator("summary").first.focus()
        wide.page.keyboard.press("Enter")
        assert table.is_visible()
        wide.page.keyboard.press("Enter")
        assert not table.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in_light_and_dark(wide: Opened, scheme: Any) -> None:
    wide.page.emulate_media(color_scheme=scheme)
    ground = wide.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    contrast, text = wide.page.evaluate(WORST_CONTRAST)
    assert contrast >= 4.5, text


def test_the_button_turns_the_theme_whatever_the_system_prefers(wide: Opened) -> None:
    page = wide.page
    ink = "getComputedStyle(document.querySelector('[class*=role-axis] text')).fill"
    light = page.evaluate(ink)
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert page.evaluate(ink) != light, "the charts follow"
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_on_paper_all_is_light_unfolded_and_nothing_is_cut(wide: Opened) -> None:
    page = wide.page
    page.emulate_media(color_scheme="dark")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 within its margins
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not page.locator("#theme").is_visible()
    assert not page.locator("nav").is_visible()
    for chart in page.locator(CHARTS).all():
        box, drawn = chart.bounding_box(), chart.locator("svg").bounding_box()
        assert box is not None
        assert drawn is not None
        assert drawn["width"] > 100
        assert drawn["x"] + drawn["width"] <= box["x"] + box["width"] + 1
        assert drawn["height"] <= box["height"] + 1
    folded = page.locator("details[data-print='open']")
    assert folded.evaluate_all("(all) => all.every((one) => one.open)")
    assert page.evaluate(
        "[...document.querySelectorAll('.box')].every((box) => !box.checkVisibility() "
        "|| getComputedStyle(box).overflow === 'visible')"
    )
    ends = page.locator("table").evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().right)")
    assert max(ends) <= 688
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not folded.evaluate_all("(all) => all.some((one) => one.open)")


def test_on_a_telephone_only_tables_scroll_sideways(wide: Opened) -> None:
    page = wide.page
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_timeout(400)
    page.wait_for_function(
        "[...document.querySelectorAll('.chart')].every((c) => c.dataset.state === 'rendered')"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for drawn in page.locator(f"{CHARTS} svg").all():
        box = drawn.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 360


def test_without_scripts_the_verdict_and_all_tables_still_stand(opened: Opened) -> None:
    browser = opened.page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(opened.page.url)
    assert plain.locator("main table").count() == opened.page.locator("main table").count()
    assert plain.locator(".verdict").first.is_visible()
    assert not plain.locator("#switches").is_visible(), "nothing is offered that does not work"
    boxes = [chart.bounding_box() for chart in plain.locator(CHARTS).all()]
    assert all(box is not None and box["height"] < 2 for box in boxes), "no room for what is not drawn"
    context.close()


@pytest.mark.parametrize("opened", ["hostile"], indirect=True)
class TestOfAPageFullOfAttacks:
    def test_nothing_that_a_person_named_runs(self, opened: Opened) -> None:
        assert opened.page.evaluate("window.hacked") is None
        assert opened.page.locator("img").count() == 0
        assert opened.page.locator("h1").inner_text() == IMAGE

    def test_a_tooltip_shows_names_as_text(self, wide: Opened) -> None:
        page = wide.page
        mark = page.locator("#chart-points [class*='mark-symbol'] path").first
        mark.scroll_into_view_if_needed()
        mark.hover()
        tip = page.locator("#vg-tooltip-element.visible")
        tip.wait_for()
        assert IMAGE in tip.inner_text()
        assert tip.locator("img").count() == 0
        assert page.evaluate("window.hacked") is None

    def test_the_csv_has_every_row_and_no_formula(self, wide: Opened) -> None:
        page = wide.page
        page.locator("figure:has(.chart) summary").first.click()
        with page.expect_download() as waiting:
            page.locator("button[data-save]").first.click()
        text = Path(waiting.value.path()).read_text(encoding="utf-8")
        assert waiting.value.suggested_filename == "points-points.csv"
        assert text.startswith('system,"time, s","latency, ms",what\n')
        assert len([line for line in text.split("\n") if line]) == 1 + 3 * len(HOSTILE)
        page.locator("figure:has(.chart) summary").first.click()

    @pytest.mark.parametrize("kind", ["svg", "png"])
    def test_a_chart_is_saved_as_an_image_without_a_network(self, wide: Opened, kind: str) -> None:
        with wide.page.expect_download() as waiting:
            wide.page.locator(f"button[data-image='{kind}']").first.click()
        content = Path(waiting.value.path()).read_bytes()
        assert content.startswith({"svg": b"<svg", "png": b"\x89PNG"}[kind])


def _data(opened: Opened) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(opened.page.locator("#bench-data").inner_text())
    return found
