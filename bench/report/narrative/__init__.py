"""The evaluation of a pair in sentences, section by section, as Markdown: what the notebook says.

Every sentence about a figure is made from the figure, so it reads differently with other CSVs. Changes,
gates and guardrails come from `analysis` as they are; here they are put in order. A figure that is missing
is said to be missing, with the reason, and nothing else is said about it.
"""

from bench.report.narrative.baseline import baseline_findings
from bench.report.narrative.changes import differences, per_day, tradeoffs
from bench.report.narrative.conclusion import analysis, in_short, recommendation
from bench.report.narrative.context import context, scenario
from bench.report.narrative.pair import Pair

__all__ = [
    "Pair",
    "analysis",
    "baseline_findings",
    "context",
    "differences",
    "in_short",
    "per_day",
    "recommendation",
    "scenario",
    "tradeoffs",
]
