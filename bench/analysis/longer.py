"""The window that would resolve what is not: one length, by every criterion at once, as a line to paste.

Percentiles are doubted for several reasons, each with its own arithmetic: too few requests beyond them,
requests that are worth few independent ones, a queue that remembers longer than it was watched. Whoever
lengthens the window by one of them runs into the next. p95 decides, and asks for more than
p50; p99 is read as indicative.
"""

from __future__ import annotations

import math

from bench.analysis.early_stopping import least_requests
from bench.analysis.percentiles import correlation_of, relaxations_needed
from bench.analysis.recorded import length_s, scored, window_of
from bench.analysis.relaxation import relaxation_of
from bench.analysis.stats import minimum_count
from bench.analysis.summary import why_saturated
from bench.analysis.system import SystemRuns

DECIDING = {"p50": 0.50, "p95": 0.95}
"""The percentiles that decide, with their shares."""


def longer_windows(window_s: float | None) -> str:
    """Return the remedy: the line to write, as far as the length is known.

    >>> longer_windows(890.0)
    'set window_s = 890 under [protocol]'
    """
    if window_s is None:
        return "lengthen protocol.window_s"
    if math.isinf(window_s):
        return "lower the load: no window is long enough"
    return f"set window_s = {window_s:.0f} under [protocol]"


def window_needed_s(system: SystemRuns) -> float | None:
    """Return the shortest window, to two digits, in which every percentile that decides would be resolved.

    None where the windows suffice, or the system cannot carry the load at all; infinite where its queue never
    forgets.
    """
    runs = system.measured
    fewest = min((scored(run).n for run in runs), default=0)
    if fewest == 0 or why_saturated(system) is not None:
        return None
    share = max(DECIDING.values())
    times = [
        minimum_count(share) / fewest,
        least_requests(share) / max(correlation_of(system).effective, 1.0),
    ]
    if (relaxation := relaxation_of(system)) is not None:
        needed = relaxations_needed(share, len(runs))
        times.append(needed / relaxation.times if relaxation.times > 0 else math.inf)
    longest = max(times)
    if longest <= 1.0:
        return None
    return _rounded_up(longest * min(length_s(window_of(run)) for run in runs))


def _rounded_up(seconds: float) -> float:
    """Return a time with two digits, never a shorter one."""
    if math.isinf(seconds):
        return seconds
    digit = 10.0 ** max(math.floor(math.log10(seconds)) - 1, 0)
    return math.ceil(round(seconds / digit, 6)) * digit
