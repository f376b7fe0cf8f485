"""Charts as pictures for slides: the same specification and look as on the page, drawn without a browser.

A picture says what it is: the figure's title, what its numbers show, and at the foot where they come from. Of
a chart that lets its reader choose, the first choice is drawn.
"""

from __future__ import annotations

import textwrap
import warnings
import xml.etree.ElementTree as ET
from typing import Any, Literal

from bench.analysis.figure import Figure
from bench.report.charts.look import FONT, INK, VEGA_LITE, Spec, Theme, config

Format = Literal["png", "svg"]
FORMATS: tuple[Format, ...] = ("png", "svg")
SVG = "http://www.w3.org/2000/svg"
LETTER_PX, FOOT_LETTER_PX = 6.4, 5.4
"""A letter of the subtitle, and of the foot, is about so wide."""
FOOT_PX = 26
MARGIN_PX = 16
FITTED_PX = 1.0
"""A picture may miss its width by this much."""
ATTEMPTS = 3


def svg_of(figure: Figure, spec: Spec, *, theme: Theme, width_px: int, about: str) -> str:
    """Return a chart as an SVG image of `width_px`; `about` stands at its foot.

    How much of the width goes to axes and legends shows only once it is drawn. Where the whole is not as wide
    as asked, it is drawn again.
    """
    inner = float(width_px - (MARGIN_PX if "vconcat" in spec else 0))
    for _ in range(ATTEMPTS):
        root = ET.fromstring(_drawn(figure, spec, theme, inner, width_px))
        beyond = float(root.get("width", "0")) - width_px
        if abs(beyond) <= FITTED_PX:
            break
        inner = max(80.0, inner - beyond)
    return _with_foot(root, theme, about)


def png_of(svg: str, scale: float = 2.0) -> bytes:
    """Return an SVG image as PNG, `scale` pixels to a unit of the SVG."""
    import vl_convert

    image: bytes = vl_convert.svg_to_png(svg, scale=scale)
    return image


def _drawn(figure: Figure, spec: Spec, theme: Theme, inner_px: float, width_px: int) -> str:
    import vl_convert

    letters = int((width_px - 2 * MARGIN_PX) / LETTER_PX)
    title = {
        "text": _lines(figure.title, letters) or [figure.kind],
        "subtitle": _lines(figure.reading, letters),
        "frame": "bounds",
        "subtitleFontSize": 12,
        "subtitlePadding": 4,
        "offset": 14,
    }
    whole = {**_of_width(spec, inner_px), "title": title, "padding": MARGIN_PX // 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        svg: str = vl_convert.vegalite_to_svg(whole, vl_version=VEGA_LITE, config=config(theme))
    return svg


def _lines(text: str, letters: int) -> list[str]:
    return textwrap.wrap(text, letters, break_on_hyphens=False)


def _of_width(spec: Any, width_px: float) -> Any:
    """Return the specification with every view that follows its container at a width of its own."""
    if isinstance(spec, dict):
        return {
            key: width_px if key == "width" and value == "container" else _of_width(value, width_px)
            for key, value in spec.items()
            if key != "datasets"
        } | ({"datasets": spec["datasets"]} if "datasets" in spec else {})
    return [_of_width(one, width_px) for one in spec] if isinstance(spec, list) else spec


def _with_foot(root: ET.Element, theme: Theme, about: str) -> str:
    """Return the image with a line of text under it."""
    ET.register_namespace("", SVG)
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    higher = height + FOOT_PX
    root.set("height", f"{higher:g}")
    root.set("viewBox", f"0 0 {width:g} {higher:g}")
    ground = root.find(f"{{{SVG}}}rect")
    if ground is not None:
        ground.set("height", f"{higher:g}")
    for i, line in enumerate(_lines(about, int((width - MARGIN_PX) / FOOT_LETTER_PX))[:2]):
        foot = ET.SubElement(root, f"{{{SVG}}}text")
        foot.text = line
        place = {"x": f"{MARGIN_PX / 2:g}", "y": f"{height + 10 + 11 * i:g}"}
        look = {"font-family": FONT, "font-size": "10", "fill": INK[theme], "fill-opacity": "0.75"}
        for key, value in (place | look).items():
            foot.set(key, value)
    return ET.tostring(root, encoding="unicode")
