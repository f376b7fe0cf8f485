"""`bench selftest` for people: what the harness costs, with its interval, and what follows from that.

Readable at 80 columns and without colour.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.analysis.numbers import shown
from bench.analysis.paired import Median
from bench.run.selftest import Cost, SelfTest
from bench.units import PERCENT

_PARTS = "; serving is its queue, loop and sender, token times what it takes to time each token"


def render_selftest(result: SelfTest) -> Group:
    """Return the verdict, the costs, the checks and what to do."""
    lines: list[RenderableType] = [Text(f"- {line}") for line in _notes(result)]
    return Group(Text(_verdict(result)), _costs(result), *lines)


def _verdict(result: SelfTest) -> str:
    limit = f"{result.limit * PERCENT:g} % of throughput"
    said = {
        "passed": f"passed: sampler and harness cost at most {limit} here",
        "exceeded": f"EXCEEDED: the harness costs more than {limit} here",
        "not resolved": f"not resolved: whether the harness costs more than {limit} cannot be told from this",
    }
    return f"Self-test {said[result.verdict]}"


def _costs(result: SelfTest) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("change in %", "throughput", "95 % interval", "p95", "CPU", "pairs", "verdict"):
        left = heading in ("change in %", "verdict")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for cost in result.costs:
        table.add_row(
            cost.what if cost.verdict else f"  {cost.what}",
            _change(cost.throughput),
            _interval(cost.throughput),
            _change(cost.p95),
            _change(cost.processor),
            str(cost.pairs),
            cost.verdict or "",
        )
    return table


def _notes(result: SelfTest) -> Iterator[str]:
    names = result.subject
    place = names.get("gpu") or result.provenance.get("cpu") or "an unknown machine"
    bare_s = shown(next(iter(result.seconds.values())), 2)
    yield (
        f"tried: {names.get('system')} of {result.config_file}, {names.get('model')} in "
        f"{names.get('precision')} with engine {names.get('engine')} and {names.get('policy')}, on {place}; "
        f"{names.get('requests_per_trial')} requests a trial, {bare_s} s bare"
    )
    yield f"the harness is held against {result.bare}" + (_PARTS if len(result.costs) > 2 else "")
    yield "p95 is that of the time from admission to the answer, CPU the processor time of all threads"
    yield "the sampler's cost includes that of telling progress, twice a second"
    yield _sampler(result)
    yield from _unresolved(result)
    yield _pacing(result)
    queue, holds = (
        result.queueing,
        "holds" if result.queueing.ok else "does NOT hold; report this as a defect",
    )
    yield (
        f"M/D/1 at load {queue.load:g} on virtual time: mean wait {queue.wait:.3f} service times "
        f"({queue.low:.3f} to {queue.high:.3f}), theory {queue.theory:.3f}: {holds}"
    )


def _sampler(result: SelfTest) -> str:
    sampler = result.sampler
    meters = " and ".join(sampler.get("meters", [])) or "nothing"
    if not sampler.get("reads"):
        return f"sampler: {meters} every {sampler['period_s']:g} s; no reading fell into the last trial"
    text = (
        f"sampler: {meters} every {sampler['period_s']:g} s; a read takes "
        f"{shown(sampler['read_ms_median'], 2)} ms at the median, {shown(sampler['read_ms_max'], 2)} at most"
    )
    if sampler.get("simulated"):
        text += "; the device is MODELLED"
    return "; ".join([text, *sampler.get("failures", [])])


def _unresolved(result: SelfTest) -> Iterator[str]:
    for cost in result.costs:
        if cost.pairs < cost.rounds:
            n = cost.rounds - cost.pairs
            yield f"the {cost.what}: {n} of {cost.rounds} pairs left out, as their batches differed"
        if cost.verdict == "exceeded":
            yield f"the {cost.what} costs too much: {_remedy(cost, result)}"
        elif cost.verdict == "not resolved":
            yield f"the {cost.what}: {_why_not_resolved(cost, result.limit)}"


def _remedy(cost: Cost, result: SelfTest) -> str:
    if cost.what == "sampler":
        return f"halve protocol.sample_hz (now {1.0 / result.sampler['period_s']:g}) and try again"
    return "figures of runs on this machine include it; give the process another core, or a larger model"


def _why_not_resolved(cost: Cost, limit: float) -> str:
    ratio = cost.throughput
    if ratio is None or ratio.low is None or ratio.high is None:
        return f"{cost.pairs} pairs give no interval; at least 6 are needed"
    return (
        f"the interval reaches from {_interval(ratio)} %, the limit is "
        f"-{limit * PERCENT:g} %; take more pairs, on a quieter machine"
    )


def _pacing(result: SelfTest) -> str:
    pacing = result.pacing
    text = (
        f"requests to an engine that takes no time ({pacing.requests} at {pacing.rate_rps:g}/s, scheduled "
        f"{pacing.scheduling}) left {shown(pacing.lag_p50_ms, 2)} ms late at the median, p99 "
        f"{shown(pacing.lag_p99_ms, 2)} ms, {shown(pacing.lag_max_ms, 2)} ms at most"
    )
    return text if pacing.ok else f"{text}: LATE, over 1 ms; windows measured now may be INVALID"


def _change(ratio: Median | None) -> str:
    return "-" if ratio is None else _percent(ratio.median)


def _interval(ratio: Median | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "-"
    return f"{_percent(ratio.low)} to {_percent(ratio.high)}"


def _percent(ratio: float) -> str:
    change = (ratio - 1.0) * PERCENT
    return f"{change:+.2f}" if abs(change) < 10.0 else f"{change:+.1f}"
