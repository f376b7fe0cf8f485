"""The search for a system's capacity: probes at one steady rate each, in one process, with one server.

Which rate comes next, and when the answer is good enough, is `analysis.capacity`'s to say, from the records
alone; here the probes are driven. What a probe leaves waiting is turned away before the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.analysis.capacity import Ask, Settings, next_probe
from bench.analysis.trials import Trial, trial
from bench.errors import RunFailed
from bench.records import Completion, Probe, Run
from bench.run.drive import Drive, Emit, Subject, serving
from bench.run.window import OpenLoop

USUAL_PROBES = 8
"""So many probes a search is planned with."""
View = Callable[[Sequence[Completion]], Run]
"""Shows requests as a run, so that the search sees what an analysis of the records will see."""


def drive_capacity(drive: Drive, subject: Subject, emit: Emit, *, guess_rps: float, view: View) -> None:
    """Probe until the capacity is known, beginning near `guess_rps`; fills `drive.probes`.

    Raises RunFailed when what a probe left running does not end within the users' timeout.
    """
    experiment = subject.parts.experiment
    protocol, capacity = experiment.protocol, experiment.capacity
    window_s = capacity.probe_s or protocol.window_s
    settings = Settings(
        guess_rps=guess_rps,
        tolerance=capacity.tolerance,
        max_probes=capacity.max_probes,
        probe_s=window_s,
    )
    drive.timeout_s = protocol.timeout_s
    server = subject.server(queue_limit=protocol.queue_limit, timeout_s=protocol.timeout_s)
    loop = OpenLoop(drive, subject, server, emit)
    trials: list[Trial] = []
    emit("prepare")
    with serving(drive, subject, server):
        while (ask := next_probe(trials, settings)) is not None:
            number = len(trials)
            loop.label = f"probe {number + 1} at {ask.rate_rps:.3g}/s"
            # How many there will be is not known: each is a part of what is left of the usual number.
            loop.begun, loop.share = _done(number), _done(number + 1) - _done(number)
            first = len(drive.tickets)
            drive.probes.append(_probe(loop, ask, window_s))
            run = view(drive.completions(first))
            trials.append(trial(run, drive.probes[-1], experiment.objectives))
        server.close()


def _done(probes: int) -> float:
    """Return the share of a search that so many probes are, by the usual number."""
    return probes / (probes + max(USUAL_PROBES - probes, 1))


def _probe(loop: OpenLoop, ask: Ask, window_s: float) -> Probe:
    """Drive one probe, and leave the server without work."""
    schedule = loop.draw(ask.rate_rps, window_s, ask.repeat)
    warm = loop.warm_up(ask.rate_rps, ask.repeat)
    scored = warm.scored or loop.score(schedule, window_s, ask.rate_rps)
    loop.server.dismiss("the probe had ended")
    if not loop.settle():
        raise RunFailed(f"what ran at {ask.rate_rps:.3g} requests/s did not end; the system hangs")
    return Probe(
        rate_rps=ask.rate_rps,
        window=scored.window,
        repeat=ask.repeat,
        stopped=scored.stopped,
        warmup_s=warm.took_s,
        due=scored.due,
        pacer=scored.pacer,
    )
