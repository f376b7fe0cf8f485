"""The service law of a measured system: how long a prefill and a decode step take, from its own runs.

The law (`records.ServiceLaw`) is linear in what a step computes, and no part of it can be negative, so it
is a non-negative least-squares fit: decode steps against their rows and context, then what is left of the
spans with a prefill against the prompt positions computed. A coefficient whose cause never varied in the
run cannot be told from the constant part; it stays 0, its time is in the constant, and the fit says so.

The steps of one process are alike, and a few processes are all there are: how sure a coefficient is comes
from leaving out one job after the other, not from counting steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from bench.analysis.iterations import Iterations, static_iterations, stepped_iterations, together
from bench.analysis.stats import Array
from bench.errors import ResultError
from bench.records import Run, ServiceLaw

MIN_PREFILLS = 3
MIN_STEPS = 20
"""Spans that a fit needs at least."""
MIN_JOBS = 3
"""Jobs that a standard error needs at least."""
VARIES = 0.02
"""A cause whose standard deviation is below this share of its mean has not varied."""

Style = Literal["static", "steps", "alternating"]


class Coefficient(msgspec.Struct, frozen=True, kw_only=True):
    """One number of the law, from `n` spans, and what there is to say of it.

    `error` is the standard error by the jackknife over jobs; None with fewer than `MIN_JOBS` of them, and
    where the number was not fitted or hangs on one job alone.
    """

    value: float
    n: int
    error: float | None = None
    note: str = ""
    fitted: bool = True
    """Whether its cause varied, so that it could be told apart; else it is 0 and the note says why."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How well the law describes its spans: `residual` is the root mean square error over the mean.

    `r2` is the share of the variance explained, None where there is none to explain.
    """

    n: int
    r2: float | None
    residual: float


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A law, how requests share the engine under it, and how far to trust it."""

    law: ServiceLaw
    style: Style
    prefill_chunk: int | None
    jobs: int
    """How many runs the law was fitted to."""
    rows: tuple[int, int]
    """The fewest and the most rows of a decode step that the law was fitted to."""
    coefficients: dict[str, Coefficient]
    prefill: Quality
    decode: Quality | None
    """None where no output had a second token."""


def fit_law(runs: Sequence[Run]) -> Fit:
    """Return the law of one system from its runs.

    Raises ResultError where they hold too little to tell, or where their time cannot be told apart.
    """
    if not runs:
        raise ResultError("there is no run to fit a law to")
    system = runs[0].meta.config["systems"][runs[0].meta.system]
    style = style_of(system)
    chunk = _prefill_chunk(system, style)
    jobs = [_iterations(run, style, chunk) for run in runs]
    iterations = together(jobs)
    name = runs[0].meta.system
    n_prefills, n_steps = _counts(iterations)
    if n_prefills < MIN_PREFILLS or 0 < n_steps < MIN_STEPS:
        raise ResultError(
            f"{name}: {n_prefills} prefills and {n_steps} decode steps after the warm-up are too few for "
            f"a law (at least {MIN_PREFILLS} and {MIN_STEPS}); measure for longer"
        )
    whole = _estimate(iterations, style)
    coefficients = _with_errors(whole.coefficients, jobs, style)
    return Fit(
        law=ServiceLaw(**{key: coefficient.value for key, coefficient in coefficients.items()}),
        style=style,
        prefill_chunk=chunk,
        jobs=len(jobs),
        rows=_rows(iterations),
        coefficients={key: coefficients[key] for key in ServiceLaw.__struct_fields__},
        prefill=whole.prefill,
        decode=whole.decode,
    )


class _Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The coefficients, by name, and how well they describe what they were fitted to."""

    coefficients: dict[str, Coefficient]
    prefill: Quality
    decode: Quality | None


def _estimate(it: Iterations, style: Style) -> _Estimate:
    """Fit the decode steps, then what is left of the spans with a prefill."""
    prefilling = it.prefills > 0
    coefficients, decode = _fit_decode(it, ~prefilling)
    # A prompt that rides along with a decode step shares its constant part, whose own name is the prefill's.
    constant_s = 0.0 if style == "steps" else coefficients["decode_s"].value
    more, prefill = _fit_prefill(it, prefilling, coefficients, constant_s)
    outside_s = float(it.outside_s / it.requests) if it.requests else 0.0
    request = Coefficient(value=outside_s, n=it.requests, note="a mean", fitted=it.requests > 0)
    return _Estimate(
        coefficients=coefficients | more | {"request_s": request}, prefill=prefill, decode=decode
    )


def _with_errors(
    whole: Mapping[str, Coefficient], jobs: Sequence[Iterations], style: Style
) -> dict[str, Coefficient]:
    """Return the coefficients with their standard errors by the jackknife over jobs, where it can be done.

    With G jobs the variance is (G - 1) / G times the sum of the squares of b(g) - b, where b(g) is fitted
    without job g (CV3 of MacKinnon, Nielsen and Webb, Journal of Applied Econometrics 38, 2023). A job
    without which a cause no longer varies leaves every part of its fit without an error.
    """
    n = len(jobs)
    if n < MIN_JOBS:
        return dict(whole)
    others = [together([*jobs[:i], *jobs[i + 1 :]]) for i in range(n)]
    steps = whole["decode_s"].n > 0
    if not all(_counts(it)[0] > 0 and (_counts(it)[1] > 0 or not steps) for it in others):
        return dict(whole)
    left_out = [_estimate(it, style).coefficients for it in others]
    found = dict(whole)
    for stage, built_on in (("decode_s", ()), ("prefill_s", ("decode_s",)), ("request_s", ())):
        needed = [name for name in whole if name.startswith((stage, *built_on))]
        if any(part[name].fitted != whole[name].fitted for part in left_out for name in needed):
            continue
        for name in (name for name in needed if name.startswith(stage) and whole[name].value > 0):
            squares = math.fsum((part[name].value - whole[name].value) ** 2 for part in left_out)
            found[name] = msgspec.structs.replace(whole[name], error=math.sqrt((n - 1) / n * squares))
    return found


def _counts(it: Iterations) -> tuple[int, int]:
    """Return how many spans hold a prefill and how many only a decode step."""
    prefills = int((it.prefills > 0).sum())
    return prefills, len(it.prefills) - prefills


def _rows(it: Iterations) -> tuple[int, int]:
    rows = it.rows[it.rows > 0]
    return (int(rows.min()), int(rows.max())) if len(rows) else (0, 0)


def iterations_of(run: Run) -> Iterations:
    """Return the prefills and decode steps of a run after its warm-up, however its engine shares them."""
    system = run.meta.config["systems"][run.meta.system]
    style = style_of(system)
    return _iterations(run, style, _prefill_chunk(system, style))


def style_of(system: Mapping[str, Any]) -> Style:
    """Return how requests share the engine of a system as configured (see `bench.model.fake`)."""
    if _table(system.get("engine", "generate"))["kind"] == "generate":
        return "static"
    return "alternating" if system.get("compile") else "steps"


def _prefill_chunk(system: Mapping[str, Any], style: Style) -> int | None:
    return None if style == "static" else _table(system.get("batching", "none")).get("prefill_chunk")


def _iterations(run: Run, style: Style, chunk: int | None) -> Iterations:
    if style == "static":
        return static_iterations(run)
    return stepped_iterations(run, chunk, alternating=style == "alternating")


def _fit_decode(it: Iterations, chosen: Array) -> tuple[dict[str, Coefficient], Quality | None]:
    if not chosen.any():
        why = "no output had a second token"
        names = ("decode_s", "decode_s_per_sequence", "decode_s_per_context_token")
        return {name: Coefficient(value=0.0, n=0, note=why, fitted=False) for name in names}, None
    return _non_negative(
        it.duration_s[chosen],
        {
            "decode_s": np.ones(int(chosen.sum())),
            "decode_s_per_sequence": it.rows[chosen],
            "decode_s_per_context_token": it.context[chosen],
        },
    )


def _fit_prefill(
    it: Iterations, chosen: Array, decode: Mapping[str, Coefficient], constant_s: float
) -> tuple[dict[str, Coefficient], Quality]:
    """Fit the spans with a prefill, less the decode step that some of them hold as well."""
    rows, context = it.rows[chosen], it.context[chosen]
    decode_s = np.where(rows > 0, constant_s, 0.0)
    decode_s += decode["decode_s_per_sequence"].value * rows
    decode_s += decode["decode_s_per_context_token"].value * context
    causes = {"prefill_s": it.prefills[chosen], "prefill_s_per_token": it.positions[chosen]}
    return _non_negative(np.maximum(it.duration_s[chosen] - decode_s, 0.0), causes)


def _non_negative(duration_s: Array, causes: Mapping[str, Array]) -> tuple[dict[str, Coefficient], Quality]:
    """Fit `duration_s` as a sum of non-negative multiples of `causes`, the first of which is the constant."""
    from scipy.optimize import nnls  # 0.2 s to import: only a fit needs it

    n = len(duration_s)
    constant, *others = causes
    varied = [name for name in others if float(causes[name].std()) > VARIES * float(causes[name].mean())]
    names = [constant, *varied]
    design = np.stack([causes[name] for name in names], axis=1).astype(np.float64)
    scale = np.abs(design).max(axis=0)
    solution = nnls(design / scale, duration_s)[0] / scale
    residuals_s = duration_s - design @ solution
    found = {}
    for name in causes:
        if name not in names:
            note = (
                f"0: it never varied (always {float(causes[name].mean()):.4g}), so {constant} holds its part"
            )
            found[name] = Coefficient(value=0.0, n=n, note=note, fitted=False)
            continue
        value = float(solution[names.index(name)])
        note = "" if value > 0 else "0: a positive part would fit worse"
        found[name] = Coefficient(value=value, n=n, note=note)
    return found, _quality(duration_s, residuals_s)


def _quality(duration_s: Array, residuals_s: Array) -> Quality:
    spread = float(((duration_s - duration_s.mean()) ** 2).sum())
    left = float(residuals_s @ residuals_s)
    mean_s = float(duration_s.mean())
    return Quality(
        n=len(duration_s),
        # Below rounding there is nothing to explain.
        r2=1.0 - left / spread if spread > 1e-18 * len(duration_s) * mean_s**2 else None,
        residual=math.sqrt(left / len(duration_s)) / mean_s if mean_s > 0 else 0.0,
    )


def _table(written: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"kind": written} if isinstance(written, str) else written
