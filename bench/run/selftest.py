"""`bench selftest`: what the harness itself costs on this machine, and whether its clockwork is right.

The experiment's first system is served with the harness and without it, in turn (`overhead`), and the
harness may cost 1 % of its throughput. Beside that stand two checks with known answers (`clockwork`). The
result is stored under `results/selftest/`: what the figures of a machine are worth belongs to them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench import provenance
from bench.analysis.paired import Median, Resolution, median_interval, resolve
from bench.clock import Clock, WallClock
from bench.errors import ResultError
from bench.model.bare import generate_bare
from bench.model.device import use_cpu_threads
from bench.model.engines import Generate
from bench.model.engines import name_of as engine_name
from bench.model.kv_cache import Dynamic
from bench.model.load import LoadedModel, load_model, resolve_device
from bench.model.precision import name_of as precision_name
from bench.model.treatment import check_engine, check_treatment
from bench.protocols import Meter
from bench.records import Request
from bench.run.assemble import Parts, SystemParts, build_engine
from bench.run.clockwork import Pacing, Queueing, pacing, queueing
from bench.run.drive import Emit
from bench.run.drive import Subject as Driven
from bench.run.metered import open_meters
from bench.run.overhead import Rounds, Subject, Trial, measure
from bench.store import write_json
from bench.units import to_ms
from bench.workload.schedule import draw_saturating

SCHEMA = 1
LIMIT = 0.01
"""The share of throughput that the harness may cost."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one part of the harness costs, from pairs with and without it.

    `throughput` is the ratio with over without, `p95` that of the 95th percentile of the time from admission
    to the answer, `processor` that of the time which this process computed, all threads together. None where
    no pair counted; `pairs` of `rounds` did: in the others the two made different batches. On a machine that
    is busy otherwise `processor` is the quieter figure, and where meters and sender have a core of their own,
    the larger one; only throughput is judged. `verdict` is None for a part of the harness.
    """

    what: str
    throughput: Median | None
    p95: Median | None
    processor: Median | None
    pairs: int
    rounds: int
    verdict: Resolution | None


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """The stored result: what the harness costs, the parts of that, and the checks.

    `trials_s` is how long each way took, round by round, `seconds` the medians.
    `subject` names the system, the model and the engine that were tried, `bare` what the bare engine was;
    `sampler` says how often and how long the meters were read in a trial.
    """

    schema: int
    limit: float
    verdict: Resolution
    costs: tuple[Cost, ...]
    pacing: Pacing
    queueing: Queueing
    subject: dict[str, Any]
    bare: str
    sampler: dict[str, Any]
    seconds: dict[str, float]
    trials_s: dict[str, list[float]]
    provenance: dict[str, Any]
    config_file: str

    @property
    def exit_code(self) -> int:
        """1 where the harness costs more than its limit or its clockwork is wrong, else 0."""
        return int(self.verdict == "exceeded" or not self.queueing.ok)


def selftest(parts: Parts, *, pairs: int, seconds: float, emit: Emit) -> SelfTest:
    """Measure the harness's cost to the experiment's first system, by `pairs` rounds of `seconds` a way.

    Takes the model into this process. Raises NotAvailable, ConfigError and TreatmentError as a run would, and
    RunFailed where a request is not served.
    """
    name = parts.experiment.baseline
    system = parts.systems[name]
    emit("load")
    device = resolve_device(parts.experiment.model.device)
    threads = use_cpu_threads(parts.experiment.model.cpu_threads)
    loaded = load_model(parts.experiment.model, system.precision, system.attention, device)
    check_treatment(loaded, system.precision, system.attention)
    opened = open_meters(device, parts.experiment.model.device)
    subject = _subject(parts, system, loaded, WallClock(), opened.meters)
    try:
        draw = _drawing(parts, loaded, subject)
        rounds = measure(subject, draw, pairs=pairs, seconds=seconds, emit=emit)
        check_engine(subject.engine.facts, system.kv_cache, system.compile)
    finally:
        subject.engine.close()
        for meter in opened.meters.values():
            meter.close()
    emit("clockwork")
    return result_of(
        rounds,
        subject,
        pacing=pacing(max(1.0, seconds)),
        queueing=queueing(),
        names={
            "system": name,
            "model": parts.experiment.model.id,
            "precision": precision_name(system.precision),
            "engine": engine_name(system.engine),
            "device": device,
            "gpu": opened.facts.get("gpu_name"),
            "cpu_threads": threads,
        },
        config_file=parts.config_file,
    )


def result_of(
    rounds: Rounds,
    subject: Subject,
    *,
    pacing: Pacing,
    queueing: Queueing,
    names: Mapping[str, Any],
    config_file: str,
) -> SelfTest:
    """Return the result of measured rounds and checks; `names` say what was tried."""
    costs = _costs(rounds)
    trials_s = {way: [trial.took_s for trial in trials] for way, trials in rounds.trials.items()}
    return SelfTest(
        schema=SCHEMA,
        limit=LIMIT,
        verdict=_worst([cost.verdict for cost in costs]),
        costs=costs,
        pacing=pacing,
        queueing=queueing,
        subject={**names, "policy": type(subject.policy).__name__, "requests_per_trial": rounds.requests},
        bare="stock generate" if rounds.bare == "stock" else "the engine's own steps in a plain loop",
        sampler=_sampling(subject),
        seconds={way: statistics.median(times) for way, times in trials_s.items()},
        trials_s=trials_s,
        provenance=provenance.collect(),
        config_file=config_file,
    )


def store(result: SelfTest, results: Path) -> Path:
    """Write the result to `results/selftest/<stamp>-<commit>.json` and return where it is."""
    path = results / "selftest" / f"{provenance.stamp(result.provenance.get('commit'))}.json"
    write_json(path, result)
    return path


def read(path: Path) -> SelfTest:
    """Read a stored result; ResultError where it is none, damaged, or written by a newer bench."""
    try:
        found = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror}); name a stored self-test") from error
    except msgspec.DecodeError as error:
        raise ResultError(f"{path}: is no valid JSON ({error}); run bench selftest again") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, int):
        raise ResultError(f"{path}: has no schema number; it is no self-test of bench")
    if schema > SCHEMA:
        raise ResultError(
            f"{path}: has schema {schema}, newer than the {SCHEMA} that this bench reads; upgrade bench"
        )
    try:
        return msgspec.convert(found, SelfTest)
    except msgspec.ValidationError as error:
        raise ResultError(f"{path}: does not fit schema {schema}: {error}") from error


def _costs(rounds: Rounds) -> tuple[Cost, ...]:
    """Return what the whole harness costs and the sampler alone, then the other parts of it."""
    parts = [_cost("harness", rounds, "sampled", rounds.bare), _cost("sampler", rounds, "sampled", "served")]
    others = [("serving", "served", "engine"), ("token times", "engine", "stock")]
    for what, way, other in others:
        if rounds.bare == "stock":  # else the first is the rest, and there is no second
            parts.append(msgspec.structs.replace(_cost(what, rounds, way, other), verdict=None))
    return tuple(parts)


def _cost(what: str, rounds: Rounds, way: str, other: str) -> Cost:
    def median(one: str, two: str, figure: Callable[[Trial], float]) -> Median | None:
        found = rounds.ratios(one, two, figure)
        return median_interval(found) if found else None

    throughput = median(other, way, lambda trial: trial.took_s)
    return Cost(
        what=what,
        throughput=throughput,
        p95=median(way, other, lambda trial: trial.service_p95_s),
        processor=median(way, other, lambda trial: trial.processor_s),
        pairs=0 if throughput is None else throughput.n,
        rounds=len(rounds.trials[way]),
        verdict=resolve(throughput, 1.0 - LIMIT),
    )


def _worst(verdicts: Collection[Resolution | None]) -> Resolution:
    order: tuple[Resolution, ...] = ("exceeded", "not resolved", "passed")
    return next(verdict for verdict in order if verdict in verdicts)


def _subject(
    parts: Parts, system: SystemParts, loaded: LoadedModel, clock: Clock, meters: Mapping[str, Meter]
) -> Subject:
    """Return the system with its engine, and stock `generate` where the engine stands for that."""
    engine = build_engine(parts, system, loaded, clock)
    stock = isinstance(system.engine, Generate) and isinstance(system.kv_cache, Dynamic)
    return Subject(
        engine=engine,
        policy=system.policy,
        clock=clock,
        meters=meters,
        period_s=1.0 / parts.experiment.protocol.sample_hz,
        generate=partial(generate_bare, loaded) if stock else None,
    )


def _drawing(parts: Parts, loaded: LoadedModel, subject: Subject) -> Callable[[int], list[Request]]:
    """Return what draws the workload's requests: of exact lengths, without text, so that all do the same."""
    driven = Driven(parts, subject.policy, subject.engine, loaded.vocabulary, subject.clock)

    def draw(n: int) -> list[Request]:
        return [
            msgspec.structs.replace(request, text=None, stop="exact")
            for request in draw_saturating(driven.traffic(0), n=n)
        ]

    return draw


def _sampling(subject: Subject) -> dict[str, Any]:
    """Return how the meters were read in the last trial: how often, and what a read took."""
    how: dict[str, Any] = {"meters": sorted(subject.meters), "period_s": subject.period_s, "reads": 0}
    log = subject.log
    if log is None or log.read_s_median is None or log.read_s_max is None:
        return how
    return how | {
        "reads": len({sample.t_s for sample in log.samples}),
        "read_ms_median": to_ms(log.read_s_median),
        "read_ms_max": to_ms(log.read_s_max),
        "skipped": log.skipped,
        "simulated": log.simulated,
        "failures": [f"{failure.meter} {failure.kind}: {failure.error}" for failure in log.failures],
    }
