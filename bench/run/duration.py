"""How long an experiment takes with all that no plan knows: what the same one took before on this machine."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench import store
from bench.errors import BenchError


def took_s(folder: Path, jobs: int) -> float | None:
    """Return the least that earlier runs of the same experiment took, beside `folder`; None without any.

    A run counts where config and CPU are the same and all of its `jobs` have ended. The least, as a run that
    was interrupted and went on later seems to have taken longer.
    """
    this = store.read_experiment(folder)
    found = []
    for other in sorted(folder.resolve().parent.iterdir()):
        if other == folder.resolve() or not store.is_experiment(other):
            continue
        try:
            meta = store.read_experiment(other)
            ended = [run.meta for run in store.read_runs(other)]
        except BenchError:
            continue  # of a newer bench, or broken
        same = meta.config == this.config and meta.provenance.get("cpu") == this.provenance.get("cpu")
        began = [
            run.provenance["utc"] for run in ended if run.status == "complete" and "utc" in run.provenance
        ]
        if same and len(began) == jobs > 1:
            found.append(_lasted_s(began))
    return min(found, default=None)


def _lasted_s(began: list[str]) -> float:
    """Return how long jobs lasted by when each began; the last one as long as the median of the others."""
    times = sorted(dt.datetime.fromisoformat(text) for text in began)
    lengths = [(after - before).total_seconds() for before, after in pairwise(times)]
    return sum(lengths) + median(lengths)
