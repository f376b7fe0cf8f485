"""docs/evidence.md is made from what `make perf` and `make validate` recorded, by `python -m tests.evidence`.

A test checks that the page is in step with the two files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.analysis.numbers import shown

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "evidence.md"
PERF = ROOT / "results" / "perf" / "latest.json"
VALIDATION = ROOT / "results" / "validation" / "latest.json"


def page() -> str:
    """Return the page."""
    return "\n".join([*_perf(_read(PERF)), "", *_validation(_read(VALIDATION))]) + "\n"


def _perf(entries: dict[str, Any]) -> Iterator[str]:
    yield "# Evidence"
    yield ""
    yield "Made by `python -m tests.evidence` from what `make perf` and `make validate` recorded last."
    yield ""
    yield "## Speed: ratios measured side by side"
    yield "Medians over interleaved repeats, with the 95 % interval of the median; `make perf` measures anew."
    machines = sorted({entry["machine"] for entry in entries.values()})
    yield f"Machine: {'; '.join(machines)}."
    yield ""
    yield "| what | ratio | 95 % interval | repeats | of what |"
    yield "|---|---:|---|---:|---|"
    for name, entry in entries.items():
        ratio, low, high = (shown(entry[key], 3) for key in ("ratio", "low", "high"))
        yield f"| {name} | {ratio} | {low} to {high} | {entry['repeats']} | {entry['unit']} |"


def _validation(entries: dict[str, Any]) -> Iterator[str]:
    yield "## Truth: claims against known answers"
    yield "`make validate` runs them anew; a claim that fails ends it with exit code 1."
    yield ""
    yield "| claim | value | bound | holds | n |"
    yield "|---|---:|---|---|---:|"
    for name, entry in entries.items():
        bound = f"{entry['direction']} {entry['bound']:.3g}"
        holds = "yes" if entry["ok"] else "**no**"
        yield f"| {name} | {entry['value']:.3g} | {bound} | {holds} | {entry['n']:,} |"


def _read(path: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return entries


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
