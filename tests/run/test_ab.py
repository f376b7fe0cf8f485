"""An A/B replay from experiment file and run folders to its result, through the recorded jobs of any run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import store
from bench.analysis.abtest import Plan, Result
from bench.errors import ConfigError, ResultError
from bench.records import Completion
from bench.run.ab import PLAN_FILE, evidence_of, go_on, planned_in_words, read_plan, replay_of
from bench.run.ab_plan import Asked, plan_in_words, prepare
from bench.run.plan import window_jobs
from tests.recorded import PRICE, START_S, completion, constant_power, offline_run, window_run, write

FILE = """
name = "pair"
[workload]
requests_per_day = 86_400
input_tokens = { kind = "constant", tokens = 8 }
output_tokens = { kind = "constant", tokens = 4 }
[load]
kind = "rate"
rps = 1
[protocol]
window_s = 10
order = "sequential"
[model]
id = "tiny"
[systems.first]
[systems.second]
batching = { kind = "static", size = 2 }
[systems.third]
batching = { kind = "static", size = 4 }
"""
Requests = Callable[[str, int], list[Completion]]


def config(tmp_path: Path, text: str = FILE) -> Path:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "pair.toml"
    path.write_text(text)
    return path


def test_two_systems_of_a_file_become_segments_of_one_trace(tmp_path: Path) -> None:
    parts, plan = prepare(config(tmp_path), Asked(pairs=6, segment_s=4, rate_rps=2))
    assert list(parts.systems) == ["first", "third"]
    assert (plan.pairs, plan.asked, plan.most_pairs) == (6, 6, 12)
    protocol = parts.experiment.protocol
    assert (protocol.repeats, protocol.min_repeats, protocol.stop) == (12, 6, "decided")
    assert (protocol.order, protocol.window_s) == ("interleaved", 4)
    assert parts.load.rate_rps(None, 1.0) == 2
    assert not parts.experiment.capacity.search
    assert plan_in_words(plan).startswith("A/B of first and third: 6 pairs of segments (at most 12)")


def test_systems_are_chosen_by_name_and_optimized_before_the_last(tmp_path: Path) -> None:
    _, plan = prepare(config(tmp_path), Asked(baseline="second", candidate="first"))
    assert (plan.baseline, plan.candidate) == ("second", "first")
    text = FILE.replace("systems.second", "systems.optimized")
    assert prepare(config(tmp_path, text), Asked())[1].candidate == "optimized"


def test_a_capacity_is_searched_only_where_the_load_is_a_share_of_it(tmp_path: Path) -> None:
    text = FILE.replace('kind = "rate"\nrps = 1', 'kind = "fraction_of_baseline_capacity"')
    assert prepare(config(tmp_path, text), Asked())[0].experiment.capacity.search
    assert not prepare(config(tmp_path, text), Asked(rate_rps=1))[0].experiment.capacity.search


def test_segments_of_a_recorded_trace_are_drawn_from_all_of_it(tmp_path: Path) -> None:
    rows = "".join(f"{i},{8 + i % 3},4\n" for i in range(50))
    (tmp_path / "rows.csv").write_text("timestamp,input_tokens,output_tokens\n" + rows)
    text = FILE.replace("[load]", 'arrivals = { kind = "trace", path = "rows.csv" }\n[load]')
    parts, _ = prepare(config(tmp_path, text), Asked())
    assert parts.resolved()["workload"]["arrivals"]["start"] == "drawn"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(candidate="fourth"), "no system 'fourth'; it has first, second, third"),
        (Asked(candidate="first"), "name two systems"),
        (Asked(metric="luck"), "is none of p50_latency_ms"),
        (Asked(pairs=8, most_pairs=4), "--max-pairs 4 is below --pairs 8"),
        (Asked(mde_pct=100), "nothing can fall by 100 %"),
        (Asked(pairs=1), "at least two"),
    ],
)
def test_a_plan_that_cannot_be_is_one_line(tmp_path: Path, asked: Asked, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prepare(config(tmp_path), asked)


@pytest.mark.parametrize("line", ["systems = 5", 'systems = "ab"', 'systems = ["a", "b"]', "workload = 5"])
def test_a_key_that_is_to_be_a_table_and_is_none_is_one_line(tmp_path: Path, line: str) -> None:
    key = line.split()[0]
    tables = {"systems": "[systems.a]\n[systems.b]", "workload": "[workload]\nrequests_per_day = 9"}
    text = "\n".join([line, *(table for name, table in tables.items() if name != key)])
    with pytest.raises(ConfigError, match=f"{key}: expected a table"):
        prepare(config(tmp_path, text), Asked())


RPS = 8.0


def served(latency_s: float, failing: int = 0) -> list[Completion]:
    """Return a window's requests, as many as p95 needs, of which some are errors; they scatter."""
    rows = [completion(START_S + i / RPS, latency_s * (1 + 0.02 * (i % 10))) for i in range(80)]
    failed = {"status": "error", "error": "boom", "done_s": None}
    return [msgspec.structs.replace(row, **failed) if i < failing else row for i, row in enumerate(rows)]


def replayed(tmp_path: Path, requests: Requests, pairs: int = 4, **meta: Any) -> Path:
    """Write the run folder of a replay whose segments brought `requests` of a system and pair."""
    parts, plan = prepare(config(tmp_path), Asked(candidate="second", pairs=pairs, mde_pct=10))
    resolved = parts.resolved()
    resolved["objectives"]["p95_latency_ms"] = 1200.0
    folder = tmp_path / "runs" / "pair" / "20260101T000000Z-abc"
    store.write_experiment(
        folder,
        store.ExperimentMeta(
            schema=store.SCHEMA,
            name="pair",
            config_file="pair.toml",
            config=resolved,
            written={},
            argv=[],
            provenance={},
            price=msgspec.to_builtins(PRICE),
            rate_rps=1.0,
        ),
    )
    store.write_json(folder / PLAN_FILE, plan)
    for name in parts.systems:
        write(folder, with_config(offline_run(4.0 * RPS, system=name), resolved))
    for job in window_jobs(folder, list(parts.systems), pairs, "interleaved", 1.0):
        extra = meta.get(job.name.replace(".", "_"), {})
        power = constant_power(100.0, hz=2.0)
        rows = requests(job.system, job.repeat)
        run = window_run(rows, power, system=job.system, repeat=job.repeat, offered_rps=RPS, **extra)
        write(folder, with_config(run, resolved))
    return folder


def with_config(run: Any, resolved: dict[str, Any]) -> Any:
    return msgspec.structs.replace(run, meta=msgspec.structs.replace(run.meta, config=resolved))


def latencies(first_s: float, second_s: float) -> Requests:
    """Return what a pair brings: a little scatter that both share, and a little of their own."""

    def requests(system: str, pair: int) -> list[Completion]:
        own_s = first_s if system == "first" else second_s * (1 + 0.004 * (pair % 2))
        return served(own_s * (1 + 0.05 * (pair % 3)))

    return requests


def test_a_faster_candidate_is_rolled_out_from_its_run_folder(tmp_path: Path) -> None:
    found = replay_of(replayed(tmp_path, latencies(0.5, 0.4)))
    assert found.result.decision == "rollout"
    assert found.evidence.pairs == 4
    assert {row.measured.name for row in found.evidence.rows if row.improvement_pct is not None} >= {
        "p50_latency_ms",
        "p95_latency_ms",
        "goodput_requests_per_sec",
        "estimated_energy_kwh_per_1k_requests",
    }
    assert [f.compared for f in found.evidence.failures] == [320, 320]


def test_a_candidate_that_fails_requests_is_rejected(tmp_path: Path) -> None:
    def requests(system: str, pair: int) -> list[Completion]:
        return served(0.5 if system == "first" else 0.4, 2 + pair % 2 if system == "second" else 0)

    found = replay_of(replayed(tmp_path, requests, pairs=6))
    assert found.result.decision == "reject"
    assert "more errors" in found.result.reason
    assert found.evidence.failures[0].only_candidate == 15


def test_a_segment_that_crashed_rejects_and_a_baselines_crash_drops_the_pair(tmp_path: Path) -> None:
    crash = {"status": "failed", "error": "out of memory", "window": None}
    found = replay_of(replayed(tmp_path / "one", latencies(0.5, 0.4), second_2=crash))
    assert found.result.decision == "reject"
    assert "1 of 4 segments, the first with: out of memory" in found.result.reason
    found = replay_of(replayed(tmp_path / "two", latencies(0.5, 0.4), first_2=crash))
    assert found.result.decision == "rollout"
    assert found.evidence.pairs == 3
    assert found.evidence.dropped == ("pair 2: first ended as failed: out of memory",)


@pytest.mark.parametrize("more", [0, 2])
def test_a_crash_of_the_candidate_is_not_made_again(tmp_path: Path, more: int) -> None:
    crash = {"status": "failed", "error": "out of memory", "window": None}
    folder = replayed(tmp_path / "one", latencies(0.5, 0.4), second_2=crash)
    with pytest.raises(ResultError, match=r"the candidate crashed \(1 of 4 .*out of memory\)"):
        go_on(folder, more)
    assert read_plan(folder).asked == 4
    assert replay_of(folder).result.decision == "reject"
    other = replayed(tmp_path / "two", latencies(0.5, 0.4), first_2=crash)
    assert go_on(other, more).asked == 4 + more


def test_an_interrupted_replay_concludes_nothing_and_says_how_to_go_on(tmp_path: Path) -> None:
    stopped = {"status": "cancelled", "window": None}
    folder = replayed(tmp_path, latencies(0.5, 0.4), second_4=stopped)
    found = replay_of(folder)
    assert (found.result.decision, found.evidence.dropped) == ("extend", ())
    assert found.result.reason == "3 of the planned 4 pairs have been made"
    shown = command(str(folder))
    assert shown.exit_code == 3
    assert f"bench ab --resume {folder}" in shown.output


def test_one_segment_in_which_many_fail_with_the_candidate_keeps_it_from_being_rolled_out(
    tmp_path: Path,
) -> None:
    def requests(system: str, pair: int) -> list[Completion]:
        rows = latencies(0.5, 0.4)(system, pair)
        return served(0.4, failing=5) if (system, pair) == ("second", 3) else rows

    found = replay_of(replayed(tmp_path, requests))
    assert not any(each.suspected for each in found.evidence.failures)
    assert [row.measured.name for row in found.evidence.rows if row.measured.unbounded] == ["p95_latency_ms"]
    assert found.result.decision == "extend"
    assert found.result.reason.startswith("p95 latency")


def test_a_pair_with_an_invalid_client_does_not_count(tmp_path: Path) -> None:
    def requests(system: str, pair: int) -> list[Completion]:
        rows = latencies(0.5, 0.4)(system, pair)
        if (system, pair) == ("first", 3):
            return [msgspec.structs.replace(row, sent_s=row.due_s + 0.1) for row in rows]
        return rows

    found = replay_of(replayed(tmp_path, requests))
    assert found.evidence.pairs == 3
    assert "pair 3: first: the client was INVALID" in found.evidence.dropped[0]


def test_an_extension_stays_within_the_plan(tmp_path: Path) -> None:
    folder = replayed(tmp_path, latencies(0.5, 0.5))
    assert go_on(folder).asked == 4
    assert go_on(folder, 3).asked == 7
    assert read_plan(folder).asked == 7
    with pytest.raises(ResultError, match="9 pairs are more than the 8 that were planned for"):
        go_on(folder, 2)


def test_intervals_hold_for_every_look_that_the_plan_allows(tmp_path: Path) -> None:
    found = replay_of(replayed(tmp_path, latencies(0.5, 0.5)))
    assert found.plan.confidence > 0.95
    assert all(
        row.measured.baseline.confidence == found.plan.confidence
        for row in found.evidence.rows
        if row.measured.baseline.low is not None
    )


def test_what_the_plan_can_detect_is_said_by_the_scatter_of_an_earlier_run(tmp_path: Path) -> None:
    folder = replayed(tmp_path, latencies(0.5, 0.4))
    plan = msgspec.structs.replace(read_plan(folder), asked=12)
    lines = planned_in_words(evidence_of(folder, plan), plan, "the first 3 pairs")
    (primary,) = [line for line in lines if line.startswith("p95 latency")]
    assert "12 pairs find" in primary
    assert "10 % takes" in primary


def test_a_folder_that_is_no_replay_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="is no A/B replay"):
        read_plan(tmp_path)
    (tmp_path / PLAN_FILE).write_text("{")
    with pytest.raises(ResultError, match="cannot be read"):
        read_plan(tmp_path)


def test_a_system_that_the_run_does_not_have_is_named(tmp_path: Path) -> None:
    folder = replayed(tmp_path, latencies(0.5, 0.4))
    plan: Plan = msgspec.structs.replace(read_plan(folder), candidate="third")
    with pytest.raises(ResultError, match="no system 'third' in this run; it has first, second"):
        evidence_of(folder, plan)


def command(*arguments: str) -> Any:
    """Return what `bench ab` comes to."""
    from typer.testing import CliRunner

    from bench.cli import app

    return CliRunner().invoke(app, ["ab", *arguments])


@pytest.mark.parametrize("option", ["--metric", "--mde", "--tolerate", "--pairs", "--candidate", "--results"])
@pytest.mark.parametrize("how", [(), ("--resume",)])
def test_what_is_stated_before_the_test_is_refused_after_it(
    tmp_path: Path, option: str, how: tuple[str, ...]
) -> None:
    folder = replayed(tmp_path, latencies(0.5, 0.5))
    said = command(*how, str(folder), option, "5")
    assert said.exit_code == 2
    assert option in said.output
    assert "stated before the" in said.output


@pytest.mark.parametrize(("more", "said"), [(3, "3"), (9, "4"), (None, "N (at most 4)")])
def test_an_extension_names_the_number_of_pairs_where_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int | None, said: str
) -> None:
    folder = replayed(tmp_path, latencies(0.5, 0.4))
    result = Result(decision="extend", reason="it is open", more=more)
    found = msgspec.structs.replace(replay_of(folder), result=result)
    monkeypatch.setattr("bench.run.ab.replay_of", lambda _: found)
    assert f"--extend {folder} --pairs {said}\n" in command(str(folder)).output


def test_the_primary_metric_may_be_called_by_its_short_name(tmp_path: Path) -> None:
    path = config(tmp_path)
    said = command(str(path), "--metric", "energy", "--mde", "100")
    assert "--mde 100" in str(said.exception)


def test_the_command_shows_a_replay_again_and_its_exit_code_is_asked_for(tmp_path: Path) -> None:
    folder = replayed(tmp_path, latencies(0.5, 0.5))
    shown = command(str(folder), "--markdown")
    assert shown.exit_code == 0
    assert "**Hold**: p95 latency" in shown.output
    assert command(str(folder), "--fail-on", "hold").exit_code == 1
    assert command(str(folder), "--fail-on", "reject").exit_code == 0
    assert command(str(folder), "--extend", str(folder)).exit_code == 2
    assert command("--extend", str(folder)).exit_code == 2
