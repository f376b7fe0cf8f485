"""A simulation of a recorded system: the law is found, the recording replayed, other traffic predicted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from bench import store
from bench.clock import VirtualClock
from bench.config import Experiment, choose, decode_experiment
from bench.errors import BenchError, ConfigError, ResultError
from bench.model.fake import FakeEngine
from bench.records import Completion, Interval, JobKind, Request, RunMeta, ServiceLaw
from bench.report.simulation import render_fit, render_prediction
from bench.run.simulate import Prediction, fit, parse_batching, predict
from bench.run.synthetic import Laws, laws_of, recorded_requests
from bench.serving.loop import simulate
from bench.serving.policies import POLICIES

LAW = ServiceLaw(
    prefill_s=0.01,
    prefill_s_per_token=2e-4,
    decode_s=0.02,
    decode_s_per_sequence=0.002,
    decode_s_per_context_token=1e-6,
)
DYNAMIC = {"kind": "dynamic", "max_size": 4, "max_wait_ms": 20}
CONTINUOUS = {"kind": "continuous", "max_size": 4}
RATE_RPS, WARMUP_S, WINDOW_S = 1.0, 10.0, 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of three systems that kept LAW: unbatched, dynamic over static batches, continuous."""
    systems = {
        "baseline": {"batching": "none"},
        "dynamic": {"batching": DYNAMIC},
        "continuous": {"engine": "steps", "batching": CONTINUOUS},
    }
    return record(tmp_path_factory.mktemp("runs") / "demo" / "20260101T000000Z-abc", systems)


def record(folder: Path, systems: dict[str, Any], **workload: Any) -> Path:
    """Write an experiment's folder as a run would, with the law's times for measured ones."""
    written = {
        "name": "demo",
        "seed": 7,
        "workload": {
            "requests_per_day": 86_400,
            "arrivals": "poisson",
            "input_tokens": {"kind": "lognormal", "mean": 100, "cv": 0.5, "max": 400},
            "output_tokens": {"kind": "lognormal", "mean": 20, "cv": 0.5, "max": 60},
            **workload,
        },
        "model": {"id": "m"},
        "systems": systems,
        "protocol": {"warmup_s": WARMUP_S, "window_s": WINDOW_S, "timeout_s": 30, "repeats": 2},
    }
    experiment = decode_experiment(written, "demo.toml")
    meta = store.ExperimentMeta(
        schema=store.SCHEMA,
        name="demo",
        config_file="demo.toml",
        config=msgspec.to_builtins(experiment),
        written=written,
        argv=["bench", "run", "demo.toml"],
        provenance={},
        rate_rps=RATE_RPS,
    )
    store.write_experiment(folder, meta)
    laws = Laws(experiment=experiment)
    for name in systems:
        outcomes = serve(laws.saturating(60, (7, 0, 0)), meta.config["systems"][name], math.inf)
        ends_s = sorted(outcome.done_s for outcome in outcomes if outcome.done_s is not None)
        facts = {"offline_started_s": ends_s[15], "offline_ended_s": ends_s[-1]}
        write_job(folder, meta, name, "offline", 0, outcomes, facts=facts)
        for repeat in (1, 2):
            drawn = laws.open_loop(int(RATE_RPS * (WARMUP_S + 2 * WINDOW_S)), RATE_RPS, (7, repeat))
            # The clock of a run does not start with its traffic.
            requests = [msgspec.structs.replace(request, due_s=request.due_s + 5.0) for request in drawn]
            window = Interval(start_s=5.0 + WARMUP_S, end_s=5.0 + WARMUP_S + WINDOW_S)
            outcomes = serve(requests, meta.config["systems"][name], 30)
            write_job(folder, meta, name, "window", repeat, outcomes, window=window)
    return folder


def serve(requests: list[Request], system: dict[str, Any], timeout_s: float) -> list[Completion]:
    clock = VirtualClock()
    engine = FakeEngine(clock, LAW, style="static" if system["engine"] == "generate" else "steps")
    policy = choose(POLICIES, system["batching"], "test", "batching")
    return simulate(requests, policy, engine, clock, queue_limit=1024, timeout_s=timeout_s)


def write_job(
    folder: Path,
    experiment: store.ExperimentMeta,
    system: str,
    kind: JobKind,
    repeat: int,
    outcomes: list[Completion],
    *,
    window: Interval | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    meta = RunMeta(
        schema=store.SCHEMA,
        status="complete",
        source="measured",
        kind=kind,
        system=system,
        repeat=repeat,
        config=experiment.config,
        written=experiment.written,
        provenance={},
        device="cpu",
        offered_rps=RATE_RPS if kind == "window" else None,
        window=window,
        facts=facts or {},
    )
    store.write_run(folder / f"{system}.{'offline' if kind == 'offline' else repeat}", meta, outcomes, [])


def figures(prediction: Prediction) -> dict[str, tuple[float | None, float | None]]:
    return {figure.name: (figure.predicted.value, figure.measured.value) for figure in prediction.figures}


def test_every_system_gets_its_law_and_one_can_be_named(folder: Path) -> None:
    report = fit(folder)
    assert [system.system for system in report.systems] == ["baseline", "dynamic", "continuous"]
    assert [system.fit.style for system in report.systems] == ["static", "static", "steps"]
    for system in report.systems[1:]:
        assert system.fit.law.decode_s == pytest.approx(LAW.decode_s, rel=0.01)
        assert system.fit.law.prefill_s_per_token == pytest.approx(LAW.prefill_s_per_token, rel=0.01)
        assert len(system.jobs) == 3
    assert [system.system for system in fit(folder / "dynamic").systems] == ["dynamic"]


@pytest.mark.parametrize("system", ["baseline", "dynamic", "continuous"])
def test_replaying_the_recorded_requests_gives_the_measured_figures(folder: Path, system: str) -> None:
    [prediction] = predict(folder / system)
    assert prediction.replayed
    assert prediction.alike
    found = figures(prediction)
    for name in ("p50_latency_ms", "p95_latency_ms", "ttft_p95_ms", "completed_requests_per_sec"):
        predicted, measured = found[name]
        assert measured is not None
        assert predicted == pytest.approx(measured, rel=5e-3), name
    predicted, measured = found["mean_batch_size"]
    assert predicted == pytest.approx(measured, rel=0.02)
    predicted, measured = found["throughput_requests_per_sec"]
    assert predicted == pytest.approx(measured, rel=0.1)
    assert all(figure.predicted.source == "simulated" for figure in prediction.figures)
    assert all(figure.measured.source == "measured" for figure in prediction.figures)


def test_drawn_requests_at_the_measured_rate_agree_with_the_recorded_ones(folder: Path) -> None:
    [prediction] = predict(folder / "dynamic", requests=300, seed=1)
    assert not prediction.replayed
    assert prediction.alike
    assert prediction.requests == pytest.approx(1500, rel=0.1)
    predicted, measured = figures(prediction)["p50_latency_ms"]
    assert predicted == pytest.approx(measured, rel=0.2)


def test_a_higher_rate_is_slower_and_has_no_deviation_from_the_measured_one(folder: Path) -> None:
    [prediction] = predict(folder / "dynamic", rate_rps=2.0, requests=300)
    deviations = {figure.name: figure.deviation for figure in prediction.figures}
    assert deviations["p95_latency_ms"] is None
    assert deviations["throughput_requests_per_sec"] is not None
    predicted, measured = figures(prediction)["p95_latency_ms"]
    assert predicted is not None
    assert measured is not None
    assert predicted > measured
    assert figures(prediction)["mean_batch_size"][0] > figures(prediction)["mean_batch_size"][1]  # type: ignore[operator]


def test_another_policy_serves_the_same_recorded_requests(folder: Path) -> None:
    [prediction] = predict(folder / "continuous", batching='{ kind = "continuous", max_size = 2 }')
    assert prediction.replayed
    assert not prediction.alike
    assert prediction.batching["max_size"] == 2
    assert prediction.measured_batching["max_size"] == 4
    predicted, measured = figures(prediction)["throughput_requests_per_sec"]
    assert predicted is not None
    assert measured is not None
    assert predicted < 0.9 * measured


def test_a_time_in_seconds_says_how_many_requests_are_scored(folder: Path) -> None:
    [prediction] = predict(folder / "dynamic", rate_rps=0.5, seconds=100)
    assert prediction.requests == pytest.approx(5 * 50, rel=0.1)


def test_an_overload_is_called_saturated_and_not_given_a_percentile(folder: Path) -> None:
    [prediction] = predict(folder / "dynamic", rate_rps=50.0, requests=400)
    found = {figure.name: figure.predicted for figure in prediction.figures}
    assert found["p95_latency_ms"].value is None
    assert "saturated" in found["p95_latency_ms"].note


def test_unserved_requests_are_replayed_with_the_lengths_they_were_drawn_with(tmp_path: Path) -> None:
    folder = record(tmp_path / "demo" / "stamp", {"baseline": {"batching": DYNAMIC}})
    run = store.read_run(folder / "baseline.1")
    rows = run.requests.to_pylist()
    asked = rows[40]["output_tokens"]
    lost = {"status": "error", "output_tokens": 0, "first_token_s": None, "itl_ms": None}
    rows[40] |= lost
    table = type(run.requests).from_pylist(rows, schema=run.requests.schema)
    experiment = msgspec.convert(run.meta.config, Experiment)
    broken = msgspec.structs.replace(run, requests=table)
    [again] = [r for r in recorded_requests(broken, laws_of(experiment, [broken])) if r.uid == 40]
    assert again.output_tokens == asked > 1


def test_where_the_model_stops_by_itself_its_recorded_lengths_are_drawn_again(tmp_path: Path) -> None:
    folder = record(tmp_path / "demo" / "stamp", {"baseline": {"batching": DYNAMIC}}, stop="natural")
    for path in folder.glob("baseline.*"):
        run = store.read_run(path)
        assert max(run.requests.column("output_tokens").to_pylist()) > 10
    [prediction] = predict(folder, rate_rps=1.0, requests=300)
    predicted, measured = figures(prediction)["p50_latency_ms"]
    assert predicted == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(
    ("system", "batching", "error", "says"),
    [
        ("dynamic", "continous", ConfigError, "neither a kind"),
        ("dynamic", '{ kind = "continous" }', ConfigError, "did you mean 'continuous'"),
        ("dynamic", '{ kind = "continuous", max_size = 4 }', ConfigError, "cannot be joined"),
        ("dynamic", "4", ConfigError, "expected such as"),
        ("baseline", '{ kind = "dynamic", max_size = 4, max_wait_ms = 1 }', ResultError, "1 row"),
        ("nobody", "none", ResultError, "it has baseline, dynamic, continuous"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line(
    folder: Path, system: str, batching: str, error: type[BenchError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        predict(folder / system, batching=batching)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="run folder"):
        fit(tmp_path)


def test_requests_and_seconds_exclude_each_other(folder: Path) -> None:
    with pytest.raises(ConfigError, match="either"):
        predict(folder, requests=10, seconds=10)


def test_a_policy_is_written_as_in_an_experiment_file() -> None:
    assert parse_batching("none") == parse_batching('"none"') == "none"
    assert parse_batching('{ kind = "static", size = 4 }') == {"kind": "static", "size": 4}


def shown(renderable: Any) -> str:
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_report_shows_the_law_and_what_is_not_known_of_it(folder: Path) -> None:
    text = shown(render_fit(fit(folder)))
    assert "dynamic: service law on cpu" in text
    assert "ms per prompt position" in text
    assert "decode_per_sequence: 0: it never varied (always 1)" in text


def test_the_report_sets_simulated_beside_measured_and_says_what_it_is(folder: Path) -> None:
    same = shown(render_prediction(predict(folder / "dynamic")))
    assert "simulated" in same
    assert "measured" in same
    assert "the recorded requests again" in same
    assert "p95 latency" in same
    other = shown(
        render_prediction(
            predict(
                folder / "dynamic",
                rate_rps=0.5,
                requests=100,
                batching='{ kind = "dynamic", max_size = 9, max_wait_ms = 1 }',
            )
        )
    )
    assert "measured: at 1 requests/s, batching dynamic (max_size 4" in other
    assert "extrapolated: steps may have 9 rows, the law was fitted to 1 to 4" in other
