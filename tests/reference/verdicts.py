"""The page of verdicts: what can come out, by which gates and thresholds, and every doubt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from bench.analysis import abtest, gate, gates, guardrails, regression
from bench.analysis.conditions import CONDITIONS
from bench.analysis.decide import FORCED_BY, TOLERATED_PCT, WEIGHTS, Decision
from bench.analysis.doubts import DOUBTS
from bench.analysis.effects import BENEFITS, LATENCIES, MATERIAL_PCT
from bench.analysis.metrics import METRICS
from bench.analysis.quality_gate import output_quality
from bench.analysis.system import Level
from bench.config import Quality
from tests.reference.words import MADE, first_line, keys_of, table

GATES = {
    "client": gates.client,
    "comparability": gates.comparability,
    "errors": gates.errors,
    "load": gates.load,
    "SLA": gates.sla,
    "quality": output_quality,
    "plausibility": gates.plausibility,
    "energy": gates.energy,
}
"""The gates by the name in a verdict, in the order in which they bind."""


def page() -> str:
    """Return the page."""
    lines = [
        "# Verdicts and gates",
        "",
        MADE,
        "",
        "The rules and their reasons: [the verdict](../method.md#the-verdict).",
        "",
        f"- **Verdicts**: {_named(get_args(Decision))}.",
        f"- **Outcomes of a gate**: {_named(get_args(gate.Outcome))}.",
        f"- **Client and device of a run**: {_named(get_args(Level))}.",
        f"- **Results of `bench ab`**: {_named(get_args(abtest.Decision))}.",
        f"- **Outcomes of `bench gate`**: {_named(get_args(regression.Outcome))}.",
        "",
        "## Gates, in the order in which they bind",
        "",
        "A gate forces the verdict by its outcome, in this order: "
        + "; ".join(f"{word}: *{decision}*" for decision, (_, word) in FORCED_BY.items())
        + ".",
        "",
        *table(
            ("gate", "asks"),
            ([name, first_line(judge).removeprefix("Judge ")] for name, judge in GATES.items()),
        ),
        "",
        "## Thresholds",
        "",
        *table(("what", "value"), _thresholds()),
        "",
        "The limits of the quality gate are keys of the experiment:",
        *[line for line in keys_of(Quality) if not line.startswith("| `") or "`m" in line],
        "",
        "## Doubts",
        "",
        "A doubt decides nothing by itself. It names what would remove it.",
        "",
        *table(
            ("doubt", "about"), ([key, first_line(_finder(key)).removeprefix("Doubt ")] for key in DOUBTS)
        ),
    ]
    return "\n".join(lines) + "\n"


def _finder(key: str) -> object:
    return CONDITIONS[key] if key in CONDITIONS else DOUBTS[key]


def _named(values: Iterable[str]) -> str:
    return ", ".join(f"*{value}*" for value in values)


def _thresholds() -> list[list[str]]:
    labels = {name: METRICS[name].label for name in (*LATENCIES, *BENEFITS)}
    weights = ", ".join(f"{METRICS[name].label} {weight * 100:.0f}" for name, weight in WEIGHTS.items())
    return [
        ["a change that matters", f"{MATERIAL_PCT:g} %"],
        ["a regression that is tolerated beside a benefit", f"{TOLERATED_PCT:g} %"],
        ["judged for regressions", ", ".join(labels.values())],
        ["can be benefits", ", ".join(labels[name] for name in BENEFITS)],
        ["latency or memory is near its limit above", f"{guardrails.NEAR_LIMIT * 100:.0f} % of it"],
        [
            "a figure that is not resolved fails a limit beyond",
            f"{gate.FAR_BEYOND:g} times it, as each repeat",
        ],
        [
            "output drift above noise, without a floor",
            f"mean KL {guardrails.NOISE_KL:g}, top-1 {guardrails.NOISE_TOP1 * 100:.1f} %",
        ],
        ["weights of the score", weights],
    ]
