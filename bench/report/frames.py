"""The tables of the notebook as pandas DataFrames: numbers as they are, and one way to show them.

A frame holds floats, NaN where nothing was measured, for whoever goes on computing with it. `shown` is how a
frame is read: significant digits, signs, and *not measured* in place of NaN. pandas is imported
here and nowhere else, by the functions that need it.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, Literal

from bench.analysis.comparison import Comparison
from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.numbers import shown as digits
from bench.analysis.percentiles import withheld
from bench.report import cells

CHANGES = (
    "metric",
    "unit",
    "baseline",
    "optimized",
    "difference",
    "change_pct",
    "low_pct",
    "high_pct",
    "direction",
)
SIDES: tuple[Literal["baseline", "optimized"], ...] = ("baseline", "optimized")
DAY = ("per_day", "unit", "baseline", "optimized", "saved")
RIGHT = {"text-align": "right", "white-space": "nowrap"}
LEFT = {"text-align": "left"}
STYLES = (
    {
        "selector": "th",
        "props": "text-align: left; font-weight: 600; padding: 3px 12px 3px 0; "
        "border-bottom: 1px solid currentColor",
    },
    {"selector": "caption", "props": "caption-side: bottom; text-align: left; font-size: .9em"},
    {"selector": "td", "props": "vertical-align: top; padding: 3px 12px 3px 0"},
    {"selector": "", "props": "border-collapse: collapse; font-variant-numeric: tabular-nums"},
)


def changes(comparison: Comparison, *, every: bool = False) -> Any:
    """Return the comparison as a DataFrame: a row per headline metric, with `every` per metric.

    `difference` is optimized minus baseline; `low_pct` and `high_pct` bound `change_pct`'s 95 % interval.
    """
    import pandas as pd

    rows = cells.shown_rows(comparison, every=every)
    found = [
        (
            METRICS[row.name].label if row.name in METRICS else row.name,
            row.unit,
            row.baseline.value,
            row.optimized.value,
            row.change.delta,
            row.change.pct_change,
            row.change.low_pct,
            row.change.high_pct,
            row.change.direction,
        )
        for row in rows
    ]
    numbers = dict.fromkeys(CHANGES[2:8], float)
    frame = pd.DataFrame(found, columns=list(CHANGES)).astype(numbers)
    whys = ((at, side, withheld(getattr(row, side))) for at, row in enumerate(rows) for side in SIDES)
    frame.attrs = {"withheld": [why for why in whys if why[2]], "note": cells.throughput_note(comparison)}
    return frame


def per_day(comparison: Comparison) -> Any:
    """Return a day at the workload's volume as a DataFrame; `saved` is baseline minus optimized."""
    import pandas as pd

    found = [(day.label, day.unit, day.baseline, day.optimized, day.saved) for day in comparison.per_day]
    return pd.DataFrame(found, columns=list(DAY)).astype(dict.fromkeys(DAY[2:], float))


def deciding(comparison: Comparison, side: Literal["baseline", "optimized"]) -> Any:
    """Return one system's six figures that decide as a DataFrame, in the shape of its CSV."""
    import pandas as pd

    found = [(name, getattr(comparison.row(name), side)) for name in REQUIRED]
    rows = [(name, value.value, value.note) for name, value in found]
    column = f"{side}_value"
    frame = pd.DataFrame(rows, columns=["metric", column, "notes"]).astype({column: float})
    frame.attrs = {"withheld": [(at, column, why) for at, (_, v) in enumerate(found) if (why := withheld(v))]}
    return frame


def shown(frame: Any) -> Any:
    """Return a frame of this module as a table to be read.

    Where no change has an interval, its two columns are left out.
    """
    ends = [name for name in ("low_pct", "high_pct") if name in frame.columns]
    frame = frame.drop(columns=[name for name in ends if frame[ends].isna().all(axis=None)])
    numbers = list(frame.select_dtypes("number").columns)
    texts = [name for name in frame.columns if name not in numbers]
    how: dict[str, Callable[[Any], str]] = {
        name: HOW.get(name, _percent if name.endswith("_pct") else _plain) for name in numbers
    }
    style = frame.style.format(how | dict.fromkeys(texts, _text)).hide(axis="index")
    for at, name, why in frame.attrs.get("withheld", ()):
        if at in frame.index and name in frame.columns:
            style = style.format(why, subset=([at], [name]))
    if note := frame.attrs.get("note"):
        style = style.set_caption(html.escape(note))
    style = style.relabel_index([_heading(name) for name in frame.columns], axis="columns")
    right = ", ".join(f"th.col{at}" for at, name in enumerate(frame.columns) if name in numbers)
    style = style.set_table_styles([*STYLES, {"selector": right, "props": "text-align: right"}])
    return style.set_properties(subset=numbers, **RIGHT).set_properties(subset=texts, **LEFT)


def _heading(name: str) -> str:
    words = {"change_pct": "change", "low_pct": "95 % from", "high_pct": "to", "per_day": "per day"}
    return words.get(name, name.replace("_value", ""))


def _missing(value: Any) -> bool:
    return value is None or value != value


def _plain(value: Any) -> str:
    return "not measured" if _missing(value) else digits(float(value))


def _signed(value: Any) -> str:
    return "–" if _missing(value) else f"{'+' if value > 0 else ''}{digits(float(value))}"


def _percent(value: Any) -> str:
    return "–" if _missing(value) else f"{value:+.1f} %"


def _text(value: Any) -> str:
    return "" if _missing(value) else html.escape(str(value))


def _saved(value: Any) -> str:
    return "–" if _missing(value) else digits(float(value))


HOW = {"difference": _signed, "saved": _saved}
"""How columns are written that are no figure of one system."""
