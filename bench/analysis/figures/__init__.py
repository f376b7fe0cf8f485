"""The figures of an evaluation: pure functions of recorded data, in the order in which a page shows them."""

from __future__ import annotations

from collections.abc import Callable

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Figure
from bench.analysis.figures.batches import batches
from bench.analysis.figures.changes import changes
from bench.analysis.figures.costs import costs
from bench.analysis.figures.device import device
from bench.analysis.figures.effects import effects
from bench.analysis.figures.frontier import frontier
from bench.analysis.figures.latency import latency
from bench.analysis.figures.limits import limits
from bench.analysis.figures.quality import quality
from bench.analysis.figures.rate import rate
from bench.analysis.figures.stages import stages
from bench.analysis.figures.timeline import timeline

FIGURES: dict[str, Callable[[Evaluation], Figure]] = {
    "changes": changes,
    "latency": latency,
    "rate": rate,
    "timeline": timeline,
    "batches": batches,
    "device": device,
    "stages": stages,
    "costs": costs,
    "quality": quality,
    "limits": limits,
    "effects": effects,
    "frontier": frontier,
}
"""What makes a figure, by its kind. Each gives a figure of every evaluation, if only why there is none."""
