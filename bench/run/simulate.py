"""What a measured system would do at another rate or under another policy: its own serving loop, simulated.

The service law is fitted to the system's recorded runs and put into the fake engine; queue, policy and loop
are those that serve on real time. Without another rate, policy or seed the recorded requests themselves are
served again: predicted beside measured then shows how far the law can be trusted. Figures of both sides
come from the same functions, and everything predicted is marked as simulated.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from bench.analysis.fit import Fit
from bench.analysis.metrics import METRICS
from bench.analysis.system import SystemRuns
from bench.config import choose
from bench.errors import ConfigError, ResultError
from bench.protocols import Policy
from bench.records import Run, Value
from bench.run.fitted import LeftOut, Recorded, each_system
from bench.run.results import terms_of
from bench.run.virtual import drawn, n_scored, replayed, saturated
from bench.serving.policies import POLICIES

FIGURES = (
    "p50_latency_ms",
    "p95_latency_ms",
    "ttft_p95_ms",
    "completed_requests_per_sec",
    "saturated_requests_per_sec",
    "mean_batch_size",
    "error_rate",
)
"""Metrics that a simulation predicts."""
REPLICATIONS = 5
"""Independent draws of a simulation at other than the recorded requests.

Their spread is the interval: of the draws only, as the law's own error is the same in all of them.
"""
DEFAULT_REQUESTS = 2_000
MAX_REQUESTS = 1_000_000
"""Scored requests of each, by default and at most."""


class SystemFit(msgspec.Struct, frozen=True, kw_only=True):
    """A system's law and the jobs that it was fitted to."""

    system: str
    jobs: tuple[str, ...]
    device: str
    fit: Fit


class FitReport(msgspec.Struct, frozen=True, kw_only=True):
    """The laws of an experiment's systems."""

    folder: str
    systems: tuple[SystemFit, ...]
    left_out: tuple[LeftOut, ...] = ()


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric as predicted and as measured; `deviation` is the prediction's, as a share.

    It is None where either is missing or the two are not of the same rate and policy.
    """

    name: str
    predicted: Value
    measured: Value
    deviation: float | None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulation says of one system.

    `replayed` says that the recorded requests were served again; `alike` that prediction and measurement
    are of the same rate and policy. `requests` counts those scored in all `draws`, `fewest` those of the
    draw that has the fewest.
    """

    system: str
    rate_rps: float
    measured_rps: float
    batching: dict[str, Any]
    measured_batching: dict[str, Any]
    replayed: bool
    alike: bool
    requests: int
    draws: int
    fewest: int
    max_batch: int
    fit: Fit
    figures: tuple[Figure, ...]


class PredictionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulation says of an experiment's systems."""

    folder: str
    systems: tuple[Prediction, ...]
    left_out: tuple[LeftOut, ...] = ()


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller wants simulated; None is as recorded."""

    rate_rps: float | None
    batching: str | dict[str, Any] | None
    policy: Policy | None
    requests: int | None
    seconds: float | None
    seed: int | None

    @property
    def replays(self) -> bool:
        """Whether the recorded requests are served again."""
        return all(asked is None for asked in (self.rate_rps, self.requests, self.seconds, self.seed))


def fit(path: Path) -> FitReport:
    """Fit the law of every system of an experiment's folder, or of the one that `FOLDER/system` names.

    A system whose runs do not determine a law is left out, with the reason. Raises ResultError where none
    is left, or where it was the one named.
    """
    systems, left_out = each_system(path, _fit)
    return FitReport(folder=str(path), systems=systems, left_out=left_out)


def _fit(recorded: Recorded) -> SystemFit:
    return SystemFit(
        system=recorded.runs.name,
        jobs=tuple(run.folder for run in recorded.runs.runs),
        device=_device(recorded.runs.runs[0]),
        fit=recorded.fit,
    )


def predict(
    path: Path,
    *,
    rate_rps: float | None = None,
    batching: str | None = None,
    requests: int | None = None,
    seconds: float | None = None,
    seed: int | None = None,
) -> PredictionReport:
    """Simulate every system of an experiment's folder, or the one that `FOLDER/system` names.

    `batching` is written as in an experiment file, by default the measured policy; `rate_rps` is by default
    the measured rate. `requests` or `seconds` say how much is scored per replication. With none of
    `rate_rps`, `requests`, `seconds` and `seed` the recorded requests are replayed. A system of which this
    cannot be told is left out as in `fit`. Raises ConfigError for a policy that does not exist or that the
    engine of the system named cannot serve, ResultError as `fit` does.
    """
    if requests is not None and seconds is not None:
        raise ConfigError("give either a number of requests or of seconds to simulate")
    table = None if batching is None else parse_batching(batching)
    asked = _Asked(
        rate_rps=rate_rps,
        batching=table,
        policy=None if table is None else choose(POLICIES, table, "simulate", "batching"),
        requests=requests,
        seconds=seconds,
        seed=seed,
    )
    systems, left_out = each_system(path, lambda recorded: _predict(recorded, asked))
    return PredictionReport(folder=str(path), systems=systems, left_out=left_out)


def _predict(recorded: Recorded, asked: _Asked) -> Prediction:
    name, windows = recorded.runs.name, recorded.runs.measured
    if not windows or not windows[0].meta.offered_rps:
        raise ResultError(f"{name} has no completed window, so its traffic is unknown; measure or resume one")
    written = recorded.meta.config["systems"][name]["batching"]
    own = choose(POLICIES, written, "the recorded run", f"systems.{name}.batching")
    policy = asked.policy or own
    _check_policy(policy, recorded)
    measured_rps = windows[0].meta.offered_rps
    rate_rps = measured_rps if asked.rate_rps is None else asked.rate_rps
    if asked.replays:
        simulated = [replayed(run, policy, recorded) for run in windows]
    else:
        n = _how_many(asked, rate_rps)
        seed = recorded.experiment.seed if asked.seed is None else asked.seed
        simulated = [
            drawn(windows[0], policy, recorded, n=n, rate_rps=rate_rps, seed=(seed, number))
            for number in range(REPLICATIONS)
        ]
    same_policy, same_rate = policy == own, math.isclose(rate_rps, measured_rps)
    runs = SystemRuns(name=name, offline=saturated(policy, recorded, alike=same_policy), windows=simulated)
    scored = [n_scored(run) for run in simulated]
    return Prediction(
        system=name,
        rate_rps=rate_rps,
        measured_rps=measured_rps,
        batching=_named(asked.batching or written, policy),
        measured_batching=_named(written, own),
        replayed=asked.replays,
        alike=same_policy and same_rate,
        requests=sum(scored),
        draws=len(scored),
        fewest=min(scored),
        max_batch=policy.max_batch,
        fit=recorded.fit,
        figures=_figures(runs, recorded, same_policy=same_policy, same_rate=same_rate),
    )


def _how_many(asked: _Asked, rate_rps: float) -> int:
    """Return how many requests a draw is to score; ConfigError where nobody would wait for that many."""
    n = asked.requests or DEFAULT_REQUESTS
    if asked.seconds is not None:
        n = max(1, round(min(asked.seconds * rate_rps, 2.0 * MAX_REQUESTS)))
    if n > MAX_REQUESTS:
        raise ConfigError(
            f"more than {MAX_REQUESTS:,} requests per draw are too many to simulate; ask for fewer "
            "requests, or for a shorter time"
        )
    return n


def parse_batching(text: str) -> str | dict[str, Any]:
    """Return a policy as written in an experiment file: a kind, or an inline table."""
    try:
        value = tomllib.loads(f"batching = {text}")["batching"]
    except tomllib.TOMLDecodeError as error:
        if text in POLICIES:
            return text
        raise ConfigError(
            f"--batching {text!r} is neither a kind ({', '.join(POLICIES)}) nor an inline table: {error}"
        ) from error
    if not isinstance(value, (str, dict)):
        raise ConfigError(f'--batching {text!r}: expected such as {{ kind = "dynamic", max_size = 8, … }}')
    return value


def _check_policy(policy: Policy, recorded: Recorded) -> None:
    """Refuse a policy that the measured engine could not serve, or about which the law knows nothing."""
    name, fitted = recorded.runs.name, recorded.fit
    if policy.joins and fitted.style == "static":
        raise ConfigError(
            f"{name} was measured with an engine whose batches cannot be joined, so this policy cannot be "
            "simulated on it; name a system with another engine (RUN/SYSTEM)"
        )
    fewest, most = fitted.rows
    if 0 < fewest == most < policy.max_batch:
        raise ResultError(
            f"every step of {name} had {most} row(s), so what batches of up to {policy.max_batch} would take "
            "is unknown; name a system that was measured with batching (RUN/SYSTEM)"
        )


def _figures(
    simulated: SystemRuns, recorded: Recorded, *, same_policy: bool, same_rate: bool
) -> tuple[Figure, ...]:
    terms = terms_of(recorded.folder, recorded.meta)
    found = []
    for name in FIGURES:
        measure = METRICS[name].measure
        predicted = measure(simulated, terms.assumed, terms.objectives)
        measured = measure(recorded.runs, terms.assumed, terms.objectives)
        # What a saturated system serves does not depend on the rate.
        alike = same_policy and (same_rate or name == "saturated_requests_per_sec")
        deviation = None
        if alike and predicted.value is not None and measured.value:
            deviation = predicted.value / measured.value - 1.0
        found.append(Figure(name=name, predicted=predicted, measured=measured, deviation=deviation))
    return tuple(found)


def _named(table: str | dict[str, Any], policy: Policy) -> dict[str, Any]:
    kind = table if isinstance(table, str) else table["kind"]
    options: dict[str, Any] = msgspec.to_builtins(policy)
    return {"kind": kind} | options


def _device(run: Run) -> str:
    return str(run.meta.facts.get("gpu_name") or run.meta.device or "an unknown device")
