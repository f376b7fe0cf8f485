"""Where the figures come from: workload, assumptions, and the change that is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.analysis.comparability import flat
from bench.analysis.comparison import Comparison
from bench.analysis.decide import unsound
from bench.report import cells
from bench.report.cells import differences
from bench.report.markdown import escaped
from bench.report.narrative.pair import Pair
from bench.report.narrative.prose import sentence
from bench.units import per_day_to_rps

NOT_DESCRIBED = "not described (`{}` in the notebook's first cell)."


def context(pair: Pair) -> str:
    """Return the workload, how it was measured, and a table of what is assumed, with where that is from."""
    said = escaped(sentence(pair.workload)) if pair.workload else NOT_DESCRIBED.format("WORKLOAD")
    return "\n".join(
        [
            f"**Workload:** {said}",
            "",
            _measured(pair.comparison),
            *(f"\n**{escaped(sentence(gate.text))}**" for gate in unsound(pair.verdict.gates)),
            "",
            "| assumed | value | from |",
            "|:---|:---|:---|",
            *("| " + " | ".join(map(escaped, row)) + " |" for row in _assumed(pair)),
            "",
            "These are assumptions, not measurements: state your own in the notebook's first cell.",
        ]
    )


def scenario(pair: Pair) -> str:
    """Return what was changed, what is expected of it, and what is known of the output quality."""
    verdict = pair.verdict
    words = {"pass": "passed", "fail": "failed"}
    lines = [f"**The change:** {_change(pair)}"]
    if verdict.expectations:
        expected = "; ".join(f"{found.label} {found.expected}" for found in verdict.expectations)
        when = cells.expected_when(verdict).capitalize()
        lines += ["", f"**{when}:** {escaped(expected)}. What became of it stands in section 8."]
    quality = next((gate for gate in verdict.gates if gate.name == "quality"), None)
    if quality is not None:
        outcome = words.get(quality.outcome, quality.outcome)
        lines += ["", f"**Output quality, {outcome}:** {escaped(sentence(quality.text))}"]
    return "\n".join(lines)


def _measured(comparison: Comparison) -> str:
    """Return on what and under which traffic both were measured, as far as it is known."""
    context = comparison.baseline.context
    if context is None:
        return "**Measured:** the CSVs do not say on which GPU, with which model, traffic and load."
    checked = context.checked
    model, load, workload = (checked.get(key) for key in ("model", "load", "workload"))
    facts = [str(model.get("id"))] if isinstance(model, Mapping) else []
    if device := checked.get("gpu") or checked.get("cpu"):
        facts.append(f"{device}, device {checked.get('device')}")
    if isinstance(load, float):
        facts.append(f"{load:.3g} requests/s offered")
    if isinstance(workload, Mapping):
        facts += [_in_words(key, value) for key, value in workload.items() if value not in (None, {})]
    how = str(checked.get("source") or "measured").capitalize()
    return f"**{how}:** {escaped('; '.join(facts))}."


def _in_words(key: str, value: Any) -> str:
    """Return one key of the traffic: its kind and the parameters that are numbers."""
    label = key.replace("_", " ")
    if not isinstance(value, Mapping):
        return f"{label} {value}"
    numbers = {name: found for name, found in flat(value).items() if isinstance(found, int | float)}
    given = ", ".join(f"{name} {found:g}" for name, found in numbers.items())
    kind = f"{label} {value.get('kind', '')}".strip()
    return f"{kind} ({given})" if given else kind


def _assumed(pair: Pair) -> list[tuple[str, str, str]]:
    """Return what is assumed, its value and where that is from."""
    assumed, limit = pair.terms.assumed, pair.terms.objectives.p95_latency_ms
    bare = pair.comparison.baseline.bare and pair.comparison.optimized.bare
    unstated = "default, as the CSVs do not say" if bare else "the measurement's own"
    stated = pair.stated.given()

    def origin(name: str) -> str:
        return "stated in the first cell" if name in stated else unstated

    rate = f"{per_day_to_rps(assumed.requests_per_day):.3g}/s on average"
    grid, price = assumed.kg_co2e_per_kwh, assumed.usd_per_gpu_hour
    pue = "no PUE" if assumed.pue is None else f"PUE {assumed.pue:g}"
    carbon = "none stated" if grid is None else f"{grid:g} kg CO2e/kWh, {pue}"
    return [
        ("volume", f"{assumed.requests_per_day:,.0f} requests a day, {rate}", origin("requests_per_day")),
        (
            "objective",
            "none" if limit is None else f"p95 latency at most {limit:g} ms",
            origin("p95_latency_ms"),
        ),
        ("grid", carbon, assumed.grid or origin("kg_co2e_per_kwh")),
        (
            "price",
            "none stated" if price.value is None else f"{price.value:g} USD per GPU-hour",
            "stated in the first cell" if "usd_per_gpu_hour" in stated else price.note,
        ),
    ]


def _change(pair: Pair) -> str:
    """Return what the two systems differ in: as stated, and as recorded."""
    said = sentence(pair.optimization) if pair.optimization else ""
    if found := differences(pair.comparison):
        return escaped(f"{said} Recorded settings that differ: {'; '.join(found)}.".strip())
    if pair.comparison.bare:
        return escaped(said) or NOT_DESCRIBED.format("OPTIMIZATION")
    return escaped(f"{said} The recorded settings of both systems are the same.".strip())
