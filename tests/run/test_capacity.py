"""The capacity search drives real probes through one server, and answers within what the system can serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench import store
from bench.analysis.capacity import Settings, conclude
from bench.analysis.trials import trial
from bench.clock import WallClock
from bench.model.fake import FakeEngine
from bench.records import Completion, Run, RunMeta, ServiceLaw
from bench.run.capacity import drive_capacity
from bench.run.drive import Drive
from tests.run.driving import quiet, subject


def seen_as(drive: Drive) -> Callable[[Sequence[Completion]], Run]:
    def view(requests: Sequence[Completion]) -> Run:
        meta = RunMeta(
            schema=store.SCHEMA,
            status="complete",
            source="measured",
            kind="capacity",
            system="one",
            repeat=0,
            config={},
            written={},
            provenance={},
            device="cpu",
            probes=drive.probes,
        )
        table = store.requests_table(requests)
        return Run(folder="one.capacity", meta=meta, requests=table, telemetry=store.telemetry_table(()))

    return view


def test_a_search_ends_near_what_the_system_can_serve() -> None:
    clock = WallClock()
    drive = Drive(clock)
    # Four at a time, four steps of 4 ms each: 250 a second at the most.
    tested = subject(
        FakeEngine(clock, ServiceLaw(decode_s=0.004)),
        clock,
        capacity={"probe_s": 0.8, "max_probes": 4},
        objectives={"p95_latency_ms": 100},
    )

    view = seen_as(drive)
    drive_capacity(drive, tested, quiet, guess_rps=190, view=view)
    assert 2 <= len(drive.probes) <= 4
    assert len({c.uid for c in drive.completions()}) == len(drive.completions())
    recorded = view(drive.completions())
    trials = [trial(recorded, probe, tested.parts.experiment.objectives) for probe in drive.probes]
    found = conclude(trials, Settings(guess_rps=190, max_probes=4)).capacity
    assert found.value is not None
    assert 100 < found.value < 260  # on a busy machine less than on a quiet one


def test_each_probe_leaves_nothing_to_the_next() -> None:
    clock = WallClock()
    drive = Drive(clock)
    tested = subject(
        FakeEngine(clock, ServiceLaw(decode_s=0.02)),
        clock,
        capacity={"probe_s": 5.0, "max_probes": 2},
        objectives={"p95_latency_ms": 150},
        timeout_s=20,
    )
    seen: list[list[Completion]] = []

    def view(requests: Sequence[Completion]) -> Run:
        seen.append(list(requests))
        return seen_as(drive)(requests)

    drive_capacity(drive, tested, quiet, guess_rps=260, view=view)  # 50 a second are served
    assert drive.probes[0].stopped
    last_done_s = max(c.done_s for c in seen[0] if c.done_s is not None)
    assert last_done_s <= min(c.due_s for c in seen[1])
