"""The service law of a measured system: how long a prefill and a decode step take, from its own runs.

The law (`records.ServiceLaw`) is linear in what a step computes, and no part of it can be negative, so it
is a non-negative least-squares fit: decode steps against their rows and context, then what is left of the
spans with a prefill against the prompt positions computed. A coefficient whose cause never varied in the
run cannot be told from the constant part; it stays 0, its time is in the constant, and the fit says so.
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
VARIES = 0.02
"""A cause whose standard deviation is below this share of its mean has not varied."""

Style = Literal["static", "steps", "alternating"]


class Coefficient(msgspec.Struct, frozen=True, kw_only=True):
    """One number of the law: its standard error, None where it was not fitted, and what there is to say.

    `n` is the number of spans behind it.
    """

    value: float
    n: int
    error: float | None = None
    note: str = ""


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
    chunk = _table(system.get("batching", "none")).get("prefill_chunk") if style != "static" else None
    iterations = together([_iterations(run, style, chunk) for run in runs])
    name = runs[0].meta.system
    prefilling = iterations.prefills > 0
    n_prefills, n_steps = int(prefilling.sum()), int((~prefilling).sum())
    if n_prefills < MIN_PREFILLS or 0 < n_steps < MIN_STEPS:
        raise ResultError(
            f"{name}: {n_prefills} prefills and {n_steps} decode steps after the warm-up are too few for "
            f"a law (at least {MIN_PREFILLS} and {MIN_STEPS}); measure for longer"
        )
    coefficients, decode = _fit_decode(iterations, ~prefilling)
    # A prompt that rides along with a decode step shares its constant part, whose own name is the prefill's.
    constant_s = 0.0 if style == "steps" else coefficients["decode_s"].value
    more, prefill = _fit_prefill(iterations, prefilling, coefficients, constant_s)
    coefficients |= more
    outside_s = float(iterations.outside_s / iterations.requests) if iterations.requests else 0.0
    coefficients["request_s"] = Coefficient(value=outside_s, n=iterations.requests, note="a mean")
    law = ServiceLaw(**{key: coefficient.value for key, coefficient in coefficients.items()})
    return Fit(
        law=law,
        style=style,
        prefill_chunk=chunk,
        rows=_rows(iterations),
        coefficients={key: coefficients[key] for key in ServiceLaw.__struct_fields__},
        prefill=prefill,
        decode=decode,
    )


def _rows(it: Iterations) -> tuple[int, int]:
    rows = it.rows[it.rows > 0]
    return (int(rows.min()), int(rows.max())) if len(rows) else (0, 0)


def style_of(system: Mapping[str, Any]) -> Style:
    """Return how requests share the engine of a system as configured (see `bench.model.fake`)."""
    if _table(system.get("engine", "generate"))["kind"] == "generate":
        return "static"
    return "alternating" if system.get("compile") else "steps"


def _iterations(run: Run, style: Style, chunk: int | None) -> Iterations:
    if style == "static":
        return static_iterations(run)
    return stepped_iterations(run, chunk, alternating=style == "alternating")


def _fit_decode(it: Iterations, chosen: Array) -> tuple[dict[str, Coefficient], Quality | None]:
    if not chosen.any():
        why = "no output had a second token"
        names = ("decode_s", "decode_s_per_sequence", "decode_s_per_context_token")
        return {name: Coefficient(value=0.0, n=0, note=why) for name in names}, None
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
    errors = _standard_errors(design / scale, residuals_s, solution > 0) / scale
    found = {}
    for name in causes:
        if name not in names:
            note = (
                f"0: it never varied (always {float(causes[name].mean()):.4g}), so {constant} holds its part"
            )
            found[name] = Coefficient(value=0.0, n=n, note=note)
            continue
        value, error = float(solution[names.index(name)]), float(errors[names.index(name)])
        if value > 0:
            found[name] = Coefficient(value=value, n=n, error=None if math.isnan(error) else error)
        else:
            found[name] = Coefficient(value=0.0, n=n, note="0: a positive part would fit worse")
    return found, _quality(duration_s, residuals_s)


def _standard_errors(design: Array, residuals_s: Array, used: Array) -> Array:
    """Return the standard errors of the coefficients in use; NaN for the others and without freedom."""
    errors = np.full(design.shape[1], math.nan)
    freedom = len(residuals_s) - int(used.sum())
    if freedom > 0 and used.any():
        part = design[:, used]
        variance = float(residuals_s @ residuals_s) / freedom
        errors[used] = np.sqrt(np.maximum(np.diag(np.linalg.pinv(part.T @ part)) * variance, 0.0))
    return errors


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
