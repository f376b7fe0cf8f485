"""Text that goes into scripts and styles, where HTML's escaping does not hold.

A browser ends a script at the first `</script`, whatever stands around it, and a `<!--` in one changes how
the rest is read. So neither may occur: data is JSON without `<`, `>` and `&`, and in code both are broken up.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from markupsafe import Markup

from bench.report.charts.look import FAINT, INK, VEGA_LITE

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def script_json(data: Any) -> Markup:
    """Return data as JSON that can stand in a script element; NaN and infinity become null."""
    text = msgspec.json.encode(data).decode()
    for character, escape in _UNSAFE.items():
        text = text.replace(character, escape)
    return Markup(text)


def script_code(code: str) -> Markup:
    """Return JavaScript that can stand in a script element; both sequences only occur in literals."""
    return Markup(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


@functools.cache
def vega_bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script that defines `vegaEmbed`; made once a process."""
    import vl_convert

    code: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return code


def chart_colours() -> Markup:
    """Return the rules by which a drawn chart takes the page's colours.

    Charts are drawn in the light theme, on no ground of their own; in them ink and faint lines follow the
    page, so that a change of theme, and printing, needs no drawing.
    """
    roles = {"ink": INK["light"], "faint": FAINT["light"]}
    rules = [
        f'.chart svg [{attribute}="{colour}"] {{ {attribute}: var(--{role}); }}'
        for role, colour in roles.items()
        for attribute in ("fill", "stroke")
    ]
    return Markup("\n".join(rules))
