"""The figures of an evaluation: pure functions of recorded data, in the order in which a page shows them."""

from __future__ import annotations

from collections.abc import Callable

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Figure

FIGURES: dict[str, Callable[[Evaluation], Figure]] = {}
"""What makes a figure, by its kind. Each gives a figure of every evaluation, if only why there is none."""
