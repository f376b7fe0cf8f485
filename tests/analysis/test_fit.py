"""A law that a simulation kept is found again in its records, whatever else was in the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench import store
from bench.analysis.fit import Fit, Style, fit_law
from bench.analysis.stats import t_quantile
from bench.clock import VirtualClock
from bench.errors import ResultError
from bench.model.fake import FakeEngine
from bench.protocols import Policy
from bench.records import Completion, Interval, Request, Run, RunMeta, ServiceLaw
from bench.serving.loop import simulate
from bench.serving.policies import ContinuousBatching, DynamicBatching, NoBatching

LAW = ServiceLaw(
    prefill_s=0.012,
    prefill_s_per_token=4e-4,
    decode_s=0.02,
    decode_s_per_sequence=1.5e-3,
    decode_s_per_context_token=2e-6,
    request_s=0.001,
)
DYNAMIC = DynamicBatching(max_size=6, max_wait_ms=20)
FITTED = ("prefill_s", "prefill_s_per_token", "decode_s", "decode_s_per_sequence")


def requests(n: int = 120, rate_rps: float = 3.0, outputs: tuple[int, int] = (2, 60)) -> list[Request]:
    rng = np.random.default_rng(5)
    due_s = np.cumsum(rng.exponential(1 / rate_rps, n))
    prompts, lengths = rng.integers(10, 400, n), rng.integers(*outputs, n)
    return [
        Request(uid=i, due_s=float(due), prompt_ids=range(i, i + int(p)), output_tokens=int(o))
        for i, (due, p, o) in enumerate(zip(due_s, prompts, lengths, strict=True))
    ]


def recorded(
    tmp_path: Path,
    style: Style,
    policy: Policy,
    *,
    traffic: Sequence[Request] | None = None,
    law: ServiceLaw = LAW,
    warm_s: float = 0.0,
) -> Run:
    """Simulate a run under `law`, write it as a measured one would be, and read it back."""
    clock = VirtualClock()
    fake = FakeEngine(clock, law, style=style, prefill_chunk=policy.prefill_chunk)
    outcomes: list[Completion] = simulate(
        traffic or requests(), policy, fake, clock, queue_limit=10_000, timeout_s=math.inf
    )
    system = {
        "engine": "generate" if style == "static" else {"kind": "steps"},
        "batching": {"kind": "none", "prefill_chunk": policy.prefill_chunk},
        "compile": {"mode": "default"} if style == "alternating" else None,
    }
    meta = RunMeta(
        schema=store.SCHEMA,
        status="complete",
        source="simulated",
        kind="window",
        system="baseline",
        repeat=1,
        config={"systems": {"baseline": system}},
        written={},
        provenance={},
        device="cpu",
        window=Interval(start_s=warm_s, end_s=1e6),
    )
    store.write_run(tmp_path / "baseline.1", meta, outcomes, [])
    return store.read_run(tmp_path / "baseline.1")


def assert_found(fit: Fit, law: ServiceLaw = LAW, *, rel: float = 1e-3) -> None:
    for name in FITTED:
        assert fit.coefficients[name].value == pytest.approx(getattr(law, name), rel=rel), name
    context = fit.coefficients["decode_s_per_context_token"].value
    assert context == pytest.approx(law.decode_s_per_context_token, rel=20 * rel)
    assert fit.law.request_s == pytest.approx(law.request_s, rel=0.01)
    assert fit.decode is not None
    assert fit.decode.residual < 1e-3
    assert fit.prefill.residual < 1e-3


def test_the_law_of_static_batches_is_found_again(tmp_path: Path) -> None:
    fit = fit_law([recorded(tmp_path, "static", DYNAMIC)])
    assert fit.style == "static"
    assert_found(fit)
    assert fit.rows == (1, 6)
    assert fit.decode is not None
    assert fit.decode.r2 == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("style", ["steps", "alternating"])
@pytest.mark.parametrize(
    "policy",
    [DYNAMIC, ContinuousBatching(max_size=6), ContinuousBatching(max_size=6, prefill_chunk=64)],
    ids=["dynamic", "continuous", "chunked"],
)
def test_the_law_of_a_step_engine_is_found_from_its_token_times_alone(
    tmp_path: Path, policy: Policy, style: Style
) -> None:
    fit = fit_law([recorded(tmp_path, style, policy)])
    assert fit.style == style
    assert fit.prefill_chunk == policy.prefill_chunk
    assert_found(fit, rel=0.02 if policy.prefill_chunk else 1e-3)


def slowed(run: Run, factor: float, rng: np.random.Generator | None = None) -> Run:
    """Return a run whose decode steps took `factor` times as long; with `rng`, each with 10 % of noise."""
    table = run.requests
    itl_ms = table.column("itl_ms").combine_chunks()
    values = itl_ms.flatten().to_numpy() * factor
    if rng is not None:
        values = values * rng.normal(1.0, 0.1, len(values))
    again = type(itl_ms).from_arrays(itl_ms.offsets, pa.array(values, type=itl_ms.type.value_type))
    index = table.schema.get_field_index("itl_ms")
    table = table.set_column(index, table.schema.field(index), again)
    return Run(folder=run.folder, meta=run.meta, requests=table, telemetry=run.telemetry)


def test_noise_within_the_jobs_leaves_the_law_within_its_errors(tmp_path: Path) -> None:
    run = recorded(tmp_path, "static", DYNAMIC)
    rng = np.random.default_rng(1)
    fit = fit_law([slowed(run, 1.0, rng) for _ in range(6)])
    assert fit.jobs == 6
    for name in ("decode_s", "decode_s_per_sequence"):
        found = fit.coefficients[name]
        assert found.error is not None
        assert abs(found.value - getattr(LAW, name)) < 4 * found.error
        assert found.error < 0.2 * found.value
    assert fit.decode is not None
    assert fit.decode.residual == pytest.approx(0.1, rel=0.2)


def test_the_errors_cover_the_law_when_jobs_differ_as_a_whole(tmp_path: Path) -> None:
    """The steps of a job are slow or fast together: to count them one by one would be far too sure."""
    run = recorded(tmp_path, "static", DYNAMIC)
    rng = np.random.default_rng(2)
    tries, jobs, inside = 60, 5, 0
    for _ in range(tries):
        found = fit_law([slowed(run, factor) for factor in rng.normal(1.0, 0.05, jobs)]).coefficients
        assert found["decode_s"].error is not None
        distance_s = abs(found["decode_s"].value - LAW.decode_s)
        inside += distance_s < t_quantile(jobs - 1) * found["decode_s"].error
    assert inside > 0.88 * tries


def test_too_few_jobs_give_no_errors(tmp_path: Path) -> None:
    run = recorded(tmp_path, "static", DYNAMIC)
    two = [slowed(run, 1.0), slowed(run, 1.1)]
    assert all(coefficient.error is None for coefficient in fit_law(two).coefficients.values())
    three = fit_law([*two, slowed(run, 0.9)]).coefficients
    assert three["decode_s"].error is not None


def test_a_number_that_hangs_on_one_job_gets_no_error(tmp_path: Path) -> None:
    alone = recorded(tmp_path / "alone", "static", NoBatching())
    fit = fit_law([recorded(tmp_path / "batched", "static", DYNAMIC), alone, alone])
    assert fit.coefficients["decode_s_per_sequence"].value > 0
    assert fit.coefficients["decode_s_per_sequence"].error is None
    assert fit.coefficients["decode_s"].error is None
    assert fit.coefficients["request_s"].error is not None


def test_what_never_varied_is_merged_and_said(tmp_path: Path) -> None:
    fit = fit_law([recorded(tmp_path, "static", NoBatching())])
    assert fit.law.decode_s_per_sequence == 0
    assert "never varied (always 1)" in fit.coefficients["decode_s_per_sequence"].note
    merged_s = LAW.decode_s + LAW.decode_s_per_sequence
    assert fit.law.decode_s == pytest.approx(merged_s, rel=1e-3)
    assert fit.rows == (1, 1)


def test_equal_prompts_leave_the_price_of_a_position_unknown(tmp_path: Path) -> None:
    same = [Request(uid=i, due_s=10.0 * i, prompt_ids=range(i, i + 100), output_tokens=20) for i in range(10)]
    fit = fit_law([recorded(tmp_path, "static", NoBatching(), traffic=same)])
    assert "never varied (always 100)" in fit.coefficients["prefill_s_per_token"].note
    assert fit.law.prefill_s == pytest.approx(LAW.prefill_s + 100 * LAW.prefill_s_per_token, rel=1e-6)


def test_outputs_of_one_token_have_no_decode_law(tmp_path: Path) -> None:
    fit = fit_law([recorded(tmp_path, "static", DYNAMIC, traffic=requests(outputs=(1, 2)))])
    assert fit.decode is None
    assert fit.law.decode_s == 0
    assert fit.coefficients["decode_s"].note == "no output had a second token"
    assert fit.law.prefill_s_per_token == pytest.approx(LAW.prefill_s_per_token, rel=1e-3)


def test_the_warm_up_is_left_out(tmp_path: Path) -> None:
    everything = fit_law([recorded(tmp_path / "all", "static", NoBatching())])
    later = fit_law([recorded(tmp_path / "late", "static", NoBatching(), warm_s=60.0)])
    assert 0 < later.prefill.n < everything.prefill.n


def test_several_runs_are_fitted_together(tmp_path: Path) -> None:
    run = recorded(tmp_path, "static", DYNAMIC)
    assert fit_law([run, run]).prefill.n == 2 * fit_law([run]).prefill.n


@pytest.mark.parametrize("style", ["static", "steps"])
def test_a_run_that_is_too_short_is_refused(tmp_path: Path, style: Style) -> None:
    run = recorded(tmp_path, style, NoBatching(), traffic=requests(2))
    with pytest.raises(ResultError, match=r"baseline: 2 prefills and .* too few"):
        fit_law([run])


def test_a_run_that_served_nothing_is_refused(tmp_path: Path) -> None:
    run = recorded(tmp_path, "static", NoBatching())
    empty = Run(folder="", meta=run.meta, requests=run.requests.slice(0, 0), telemetry=run.telemetry)
    with pytest.raises(ResultError, match="0 prefills and 0 decode steps"):
        fit_law([empty])
    with pytest.raises(ResultError, match="no run"):
        fit_law([])


def test_a_batch_in_which_a_request_failed_is_left_out(tmp_path: Path) -> None:
    run = recorded(tmp_path, "static", DYNAMIC)
    rows = run.requests.to_pylist()
    shared = next(row["batch_id"] for row in rows if row["batch_size"] > 1)
    victim = next(row for row in rows if row["batch_id"] == shared)
    victim |= {"first_token_s": None, "itl_ms": None, "status": "error"}
    table = type(run.requests).from_pylist(rows, schema=run.requests.schema)
    fit = fit_law([Run(folder="", meta=run.meta, requests=table, telemetry=run.telemetry)])
    assert fit.prefill.n == len({row["batch_id"] for row in rows}) - 1
    assert_found(fit)
