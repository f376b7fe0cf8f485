"""The figures of an evaluation: pure functions of recorded data, in the order in which a page shows them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

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

Make = Callable[[Evaluation], Figure]


def _warned(make: Make) -> Make:
    """Return what makes the same figure, with a note of every system that is INVALID."""

    def warned(evaluation: Evaluation) -> Figure:
        figure = make(evaluation)
        notes = (f"{name} is not to be relied on: {why}." for name, why in evaluation.invalid.items())
        return msgspec.structs.replace(figure, notes=(*notes, *figure.notes))

    return warned


_MADE: dict[str, Make] = {
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
FIGURES: dict[str, Make] = {kind: _warned(make) for kind, make in _MADE.items()}
"""What makes a figure, by its kind. Each gives a figure of every evaluation, if only why there is none."""
