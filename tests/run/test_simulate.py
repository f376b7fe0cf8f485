"""A simulation of a recorded system: the law is found, the recording replayed, other traffic predicted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from bench import store
from bench.clock import VirtualClock
from bench.config import Experiment, choose
from bench.errors import BenchError, ConfigError, ResultError
from bench.model.fake import FakeEngine
from bench.records import Request
from bench.report.simulation import render_fit, render_prediction
from bench.run.results import metric_sets
from bench.run.simulate import MAX_REQUESTS, Prediction, fit, parse_batching, predict
from bench.run.synthetic import Laws, laws_of, recorded_requests
from bench.run.virtual import ClosedLoop
from bench.serving.loop import EngineLoop
from bench.serving.policies import POLICIES
from tests.run.lawful import CONTINUOUS, DYNAMIC, LAW, SATURATING, WARM, record, write_saturated

BUCKET: dict[str, Any] = {
    "kind": "bucket",
    "max_size": 4,
    "max_wait_ms": 1000,
    "edges": [40, 80, 120, 160, 240],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of three systems that kept LAW: unbatched, dynamic over static batches, continuous."""
    systems = {
        "baseline": {"batching": "none"},
        "dynamic": {"batching": DYNAMIC},
        "continuous": {"engine": "steps", "batching": CONTINUOUS},
    }
    return record(tmp_path_factory.mktemp("runs") / "demo" / "20260101T000000Z-abc", systems)


def figures(prediction: Prediction) -> dict[str, tuple[float | None, float | None]]:
    return {figure.name: (figure.predicted.value, figure.measured.value) for figure in prediction.figures}


def closed_loop_of_buckets(requests: list[Request], outstanding: int) -> tuple[list[float], float]:
    """Serve by BUCKET over static batches under LAW in a plain loop; return the ends and the last sending.

    The clients of a batch send again when the next one has been chosen.
    """
    waiting = [(0.0, request) for request in requests[:outstanding]]
    coming, now_s, sent_s = requests[outstanding:], 0.0, 0.0
    late: list[tuple[float, Request]] = []
    ends_s: list[float] = []
    while coming or late:
        buckets: dict[int, list[tuple[float, Request]]] = {}
        for one in waiting:
            number = sum(len(one[1].prompt_ids) > edge for edge in BUCKET["edges"])
            buckets.setdefault(number, []).append(one)
        oldest = next(iter(buckets.values()))
        window_s = oldest[0][0] + BUCKET["max_wait_ms"] / 1000
        full = [bucket for bucket in buckets.values() if len(bucket) >= 4]
        if now_s < window_s and not full:
            if not late:
                now_s = window_s
            waiting, late = waiting + late, []
            continue
        batch = (oldest if now_s >= window_s else full[0])[:4]
        waiting = [one for one in waiting if one not in batch] + late
        width, rows = max(len(request.prompt_ids) for _, request in batch), len(batch)
        now_s += LAW.prefill_s + LAW.prefill_s_per_token * rows * width
        for step in range(1, max(request.output_tokens for _, request in batch)):
            now_s += LAW.decode_s + LAW.decode_s_per_sequence * rows
            now_s += LAW.decode_s_per_context_token * rows * (width + step)
        ends_s += [now_s] * rows
        late = [(now_s, request) for request in coming[:rows]]
        del coming[:rows]
        sent_s = now_s if late else sent_s
    return ends_s, sent_s


def shown(renderable: Any) -> str:
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


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
    [prediction] = predict(folder / system).systems
    assert prediction.replayed
    assert prediction.alike
    found = figures(prediction)
    for name in ("p50_latency_ms", "p95_latency_ms", "ttft_p95_ms", "completed_requests_per_sec"):
        predicted, measured = found[name]
        assert measured is not None
        assert predicted == pytest.approx(measured, rel=5e-3), name
    predicted, measured = found["mean_batch_size"]
    assert predicted == pytest.approx(measured, rel=0.02)
    predicted, measured = found["saturated_requests_per_sec"]
    assert predicted == pytest.approx(measured, rel=0.01)
    assert all(figure.predicted.source == "simulated" for figure in prediction.figures)
    assert all(figure.measured.source == "measured" for figure in prediction.figures)


def test_drawn_requests_at_the_measured_rate_agree_with_the_recorded_ones(folder: Path) -> None:
    [prediction] = predict(folder / "dynamic", requests=300, seed=1).systems
    assert not prediction.replayed
    assert prediction.alike
    assert prediction.requests == pytest.approx(1500, rel=0.1)
    predicted, measured = figures(prediction)["p50_latency_ms"]
    assert predicted == pytest.approx(measured, rel=0.2)


def test_a_higher_rate_is_slower_and_has_no_deviation_from_the_measured_one(folder: Path) -> None:
    [prediction] = predict(folder / "dynamic", rate_rps=2.0, requests=300).systems
    deviations = {figure.name: figure.deviation for figure in prediction.figures}
    assert deviations["p95_latency_ms"] is None
    assert deviations["saturated_requests_per_sec"] is not None
    predicted, measured = figures(prediction)["p95_latency_ms"]
    assert predicted is not None
    assert measured is not None
    assert predicted > measured
    assert figures(prediction)["mean_batch_size"][0] > figures(prediction)["mean_batch_size"][1]  # type: ignore[operator]


def test_another_policy_serves_the_same_recorded_requests(folder: Path) -> None:
    [prediction] = predict(folder / "continuous", batching='{ kind = "continuous", max_size = 2 }').systems
    assert prediction.replayed
    assert not prediction.alike
    assert prediction.batching["max_size"] == 2
    assert prediction.measured_batching["max_size"] == 4
    predicted, measured = figures(prediction)["saturated_requests_per_sec"]
    assert predicted is not None
    assert measured is not None
    assert predicted < 0.9 * measured


def test_the_saturated_run_is_simulated_with_as_many_outstanding_as_when_measured(tmp_path: Path) -> None:
    """A policy that picks finds more to its liking the more there is to choose from."""
    folder = record(tmp_path / "demo" / "stamp", {"baseline": {"batching": BUCKET}})
    meta = store.read_experiment(folder)
    laws = Laws(experiment=msgspec.convert(meta.config, Experiment))
    found = []
    for outstanding in (8, 28):
        write_saturated(folder, meta, "baseline", outstanding)
        [prediction] = predict(folder).systems
        predicted, measured = figures(prediction)["saturated_requests_per_sec"]
        ends_s, last_sent_s = closed_loop_of_buckets(laws.saturating(SATURATING, (7, 0, 0)), outstanding)
        scored = [end_s for end_s in ends_s if ends_s[WARM - 1] < end_s <= last_sent_s]
        assert measured == pytest.approx(len(scored) / (scored[-1] - ends_s[WARM - 1]), rel=1e-6)
        assert predicted == pytest.approx(measured, rel=0.01)
        found.append(measured or 0.0)
    assert found[1] > 1.05 * found[0]


def test_a_policy_that_waits_for_what_cannot_come_is_an_error_and_no_endless_loop() -> None:
    clock = VirtualClock()
    requests = [Request(uid=i, due_s=0.0, prompt_ids=range(9), output_tokens=1) for i in range(20)]
    inbox = ClosedLoop(requests, clock, 2)
    policy = choose(POLICIES, {"kind": "static", "size": 8}, "test", "batching")
    with pytest.raises(RuntimeError, match="come only when"):
        EngineLoop(inbox, policy, FakeEngine(clock), clock, math.inf).run()
    assert [ticket.completion().status for ticket in inbox.tickets] == ["error", "error"]


def test_a_system_that_crashed_is_left_out_and_said(tmp_path: Path) -> None:
    folder = record(
        tmp_path / "demo" / "stamp", {"baseline": {"batching": DYNAMIC}, "broken": {"batching": DYNAMIC}}
    )
    for path in folder.glob("broken.*"):
        run = store.read_run(path)
        failed = msgspec.structs.replace(run.meta, status="failed", error="out of memory")
        store.write_run(path, failed, [], [])
    laws, predictions = fit(folder), predict(folder, requests=200)
    for report in (laws, predictions):
        assert [system.system for system in report.systems] == ["baseline"]
        assert [system.system for system in report.left_out] == ["broken"]
    for text in (shown(render_fit(laws)), shown(render_prediction(predictions))):
        line = " ".join(text.split())
        assert "broken is left out" in line
        assert "no completed job" in line
    with pytest.raises(ResultError, match="broken has no completed job"):
        fit(folder / "broken")


def test_a_policy_that_only_some_engines_can_serve_is_simulated_on_those(folder: Path) -> None:
    report = predict(folder, batching='{ kind = "continuous", max_size = 2 }')
    assert [system.system for system in report.systems] == ["continuous"]
    assert [system.system for system in report.left_out] == ["baseline", "dynamic"]
    with pytest.raises(ConfigError, match="did you mean"):
        predict(folder, batching='{ kind = "continous" }')


def test_where_nothing_can_be_said_of_any_system_the_first_reason_is_the_error(tmp_path: Path) -> None:
    folder = record(
        tmp_path / "demo" / "stamp", {"baseline": {"batching": "none"}, "b": {"batching": "none"}}
    )
    with pytest.raises(ResultError, match=r"every step of baseline had 1 row") as raised:
        predict(folder, batching='{ kind = "static", size = 4 }')
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("ask", [fit, predict, metric_sets])
def test_a_damaged_experiment_is_named_with_what_to_do(tmp_path: Path, ask: Callable[[Path], Any]) -> None:
    folder = record(tmp_path / "demo" / "stamp", {"baseline": {"batching": "none"}})
    path = folder / store.EXPERIMENT_FILE
    whole = json.loads(path.read_bytes())
    damages: list[tuple[dict[str, Any], str]] = [
        ({"config": whole["config"] | {"protocol": {"repeats": "x"}}}, r"protocol\.repeats"),
        ({"config": {key: value for key, value in whole["config"].items() if key != "systems"}}, "systems"),
    ]
    for damage, where in damages:
        path.write_text(json.dumps(whole | damage))
        with pytest.raises(ResultError, match=where) as raised:
            ask(folder)
        assert str(path) in str(raised.value)
        assert "run again" in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_damaged_price_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = record(tmp_path / "demo" / "stamp", {"baseline": {"batching": "none"}})
    path = folder / store.EXPERIMENT_FILE
    path.write_text(
        json.dumps(json.loads(path.read_bytes()) | {"price": {"value": "x", "source": "assumed"}})
    )
    with pytest.raises(ResultError, match=r"price: .*run again"):
        metric_sets(folder)


def test_few_scored_requests_are_called_too_few_for_a_p95(folder: Path) -> None:
    few = " ".join(shown(render_prediction(predict(folder / "dynamic", requests=1))).split())
    assert "too few for p95, which needs 200" in few
    enough = shown(render_prediction(predict(folder / "dynamic", rate_rps=0.5, requests=260)))
    assert "too few" not in enough


@pytest.mark.parametrize("asked", [{"requests": MAX_REQUESTS + 1}, {"seconds": 1e300}])
def test_more_requests_than_anybody_would_wait_for_are_refused(folder: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"1,000,000 requests per draw"):
        predict(folder / "dynamic", **asked)


def test_a_time_in_seconds_says_how_many_requests_are_scored(folder: Path) -> None:
    [prediction] = predict(folder / "dynamic", rate_rps=0.5, seconds=100).systems
    assert prediction.requests == pytest.approx(5 * 50, rel=0.1)


def test_an_overload_is_called_saturated_and_not_given_a_percentile(folder: Path) -> None:
    [prediction] = predict(folder / "dynamic", rate_rps=50.0, requests=400).systems
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
    [prediction] = predict(folder, rate_rps=1.0, requests=300).systems
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


def test_the_report_shows_the_law_and_what_is_not_known_of_it(folder: Path) -> None:
    text = shown(render_fit(fit(folder)))
    assert "(jackknife)" in text
    assert "± s.e.: the jackknife over the 3 jobs" in text
    assert "dynamic: service law on cpu" in text
    assert "ms per prompt position" in text
    assert "decode_per_sequence: 0: it never varied (always 1)" in text


def test_the_report_sets_simulated_beside_measured_and_says_what_it_is(folder: Path) -> None:
    same = shown(render_prediction(predict(folder / "dynamic")))
    assert "simulated" in same
    assert "measured" in same
    assert "the recorded requests again" in same
    words = " ".join(same.split())
    assert "95 % interval of the draws (the repeats' own traffic); the law's own error is not in it" in words
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
