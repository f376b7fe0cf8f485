"""The gate: what becomes a baseline, what is comparable, what fails, and what the command says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from bench.analysis.metrics import METRICS
from bench.cli import app
from bench.errors import ConfigError, ResultError
from bench.records import Value
from bench.run.gate import SHARES, GateReport, Options, SystemGate, gate, judge_last
from bench.run.history import Acceptance, Entry, append, path_of, read_history
from tests.recorded import steady, window_run, write
from tests.run.gating import QUIET, acceptance, entry, figure, history, run_folder

P50 = "p50_latency_ms"


def judged(*after: Entry | Acceptance, last: Entry | None = None) -> SystemGate:
    """Judge the last run of a quiet history and these lines."""
    lines = (*QUIET, *after)
    last = last or [line for line in lines if isinstance(line, Entry)][-1]
    return judge_last("baseline", history(*lines), last, Options())


def outcome(system: SystemGate, metric: str = P50) -> str:
    (found,) = [found for found in system.findings if found.metric == metric]
    return found.why if found.judgement is None else found.judgement.outcome


def exit_code(system: SystemGate) -> int:
    return GateReport(experiment="demo", run="x", material_pct=5.0, systems=(system,)).exit_code


def test_one_slow_run_is_suspected_and_the_next_one_fails_with_an_interval() -> None:
    first = judged(entry("5", 600.0))
    assert (outcome(first), exit_code(first)) == ("suspected", 0)
    second = judged(entry("5", 600.0), entry("6", 600.0))
    assert (outcome(second), exit_code(second)) == ("regressed", 1)
    assert outcome(second, "throughput_requests_per_sec") == "in line"
    (found,) = second.of("regressed")
    assert found.judgement is not None
    assert found.judgement.low is not None
    assert 5 < found.judgement.low < found.judgement.change
    assert found.judgement.between
    assert found.judgement.group == ("5", "6")


def test_the_same_run_twice_confirms_nothing() -> None:
    system = judged(entry("5", 600.0), entry("5", 600.0))
    assert (outcome(system), exit_code(system)) == ("suspected", 0)


def test_a_run_is_judged_at_its_place_whatever_came_after() -> None:
    slow = entry("5", 600.0)
    system = judged(slow, entry("6", 600.0), acceptance("6"), last=slow)
    assert (outcome(system), exit_code(system)) == ("suspected", 0)


def test_without_an_acceptance_nothing_is_a_baseline() -> None:
    one = entry("1")
    system = judge_last("baseline", history(one, entry("2")), one, Options())
    assert (system.state, exit_code(system)) == ("no baseline", 2)
    assert "--accept" in system.text


def test_the_baseline_itself_is_held_against_nothing_and_does_not_pass() -> None:
    system = judge_last("baseline", history(*QUIET[:2]), entry("1", 500.0), Options())
    assert (system.state, exit_code(system)) == ("baseline", 2)


def test_an_accepted_regression_is_the_new_level_and_how_days_differ_stays_known() -> None:
    system = judged(entry("5", 600.0), entry("6", 600.0), acceptance("6"), entry("7", 601.0))
    assert (outcome(system), exit_code(system)) == ("in line", 0)
    assert system.baseline is not None
    assert system.baseline.run == "6"
    (found,) = [found for found in system.findings if found.metric == P50]
    assert found.judgement is not None
    assert found.judgement.clean == 1
    assert found.judgement.between


def test_a_persistent_improvement_is_said_and_passes() -> None:
    system = judged(entry("5", 400.0), entry("6", 400.0))
    assert (outcome(system), exit_code(system)) == ("improved", 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": {"gpu": "Another GPU"}}, "gpu: NVIDIA H200 against Another GPU"),
        ({"machine": {"source": "simulated"}}, "source: measured against simulated"),
        ({"settings": {"seed": 8}}, "seed: 7 against 8"),
        ({"settings": {"system": {"attention": "eager"}}}, "system.attention: sdpa against eager"),
    ],
)
def test_another_machine_source_or_setting_is_not_comparable_and_says_in_what(
    changes: dict[str, Any], said: str
) -> None:
    system = judged(entry("5", 900.0, **changes))
    assert (system.state, exit_code(system)) == ("not comparable", 2)
    assert said in system.text


def test_a_run_of_another_kind_neither_confirms_nor_clears_a_suspicion() -> None:
    other = entry("6", 500.0, settings={"seed": 8})
    assert outcome(judged(entry("5", 600.0), other, entry("7", 600.0))) == "regressed"
    other = entry("6", 600.0, settings={"seed": 8})
    assert outcome(judged(entry("5", 500.0), other, entry("7", 600.0))) == "suspected"


def test_each_kind_has_a_baseline_of_its_own() -> None:
    other = {"machine": {"gpu": "Another GPU"}}
    system = judged(entry("5", 900.0, **other), acceptance("5"), entry("6", 500.0))
    assert system.baseline is not None
    assert (system.baseline.run, outcome(system)) == ("1", "in line")


def test_other_code_and_other_libraries_are_comparable_and_named() -> None:
    system = judged(entry("5", 500.0, packages={"torch": "2.14"}, dirty=True, level="DEGRADED"))
    assert outcome(system) == "in line"
    assert system.text == "commit commit1 to commit5+; torch: 2.13 against 2.14"
    assert "the code had changes that are in no commit" in system.notes
    assert "the client or the device was DEGRADED" in system.notes


def test_latency_at_another_rate_is_not_judged_but_capacity_is() -> None:
    system = judged(entry("5", 900.0, rate_rps=1.3))
    assert "fix the rate" in outcome(system)
    assert outcome(system, "throughput_requests_per_sec") == "in line"


def test_joules_of_another_meter_are_not_judged() -> None:
    energy = "estimated_energy_kwh_per_1k_requests"
    figures = {energy: Value(value=0.03, source="measured", note="")}
    one = entry("1", energy_sources=("counter",), figures=figures)
    two = entry("2", energy_sources=("power",), figures=figures)
    system = judge_last("baseline", history(one, acceptance("1"), two), two, Options())
    assert outcome(system, energy) == "its joules come from another meter than the baseline's"


def test_what_one_side_lacks_is_not_judged_and_says_why() -> None:
    missing = Value(value=None, source="missing", note="no meter")
    system = judged(entry("5", figures={P50: missing}))
    assert (outcome(system), exit_code(system)) == ("this run has none: no meter", 0)
    one, two = entry("1", figures={P50: missing}), entry("2")
    system = judge_last("baseline", history(one, acceptance("1"), two), two, Options())
    assert outcome(system) == "the baseline has none: no meter"


def test_a_gate_that_judged_nothing_does_not_pass() -> None:
    other = entry("5", 900.0, rate_rps=1.3)
    system = judge_last("baseline", history(*QUIET, other), other, Options(metrics=(P50,)))
    assert (system.state, exit_code(system)) == ("judged", 2)


def test_every_judged_metric_without_a_unit_is_a_share_or_has_percent() -> None:
    unitless = {name for name, metric in METRICS.items() if metric.better and not metric.unit}
    in_percent = {"replicas", "perplexity", "perplexity_ratio", "tone_shift"}
    assert in_percent | SHARES == unitless
    assert not in_percent & SHARES


def test_a_format_that_the_baseline_never_lost_is_judged_by_points() -> None:
    drop = "format_drop"
    runs = [entry(str(i), figures={drop: figure(x)}) for i, x in enumerate((0.0, 0.0, 0.0, 0.05))]
    lines = history(runs[0], acceptance("0"), *runs[1:])
    system = judge_last("baseline", lines, runs[-1], Options(metrics=(drop,)))
    assert outcome(system, drop) == "suspected"


def test_figures_without_a_bound_fail_when_they_persist() -> None:
    crashed = {"error_rate": "1 of 3 repeats failed: out of memory"}
    runs = [entry(run, unbounded=crashed) for run in "56"]
    assert outcome(judged(runs[0]), "error_rate") == "suspected"
    system = judged(*runs)
    assert (outcome(system, "error_rate"), exit_code(system)) == ("regressed", 1)
    assert system.of("regressed")[0].why == crashed["error_rate"]


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="offered_requests_per_sec: cannot be judged"):
        Options(metrics=("offered_requests_per_sec",))
    with pytest.raises(ConfigError, match="history that may be written"):
        Options(accept="why", read_only=True)
    with pytest.raises(ConfigError, match="below 100 percent"):
        Options(material_pct=100)


def test_a_first_run_is_recorded_and_becomes_the_baseline_only_when_accepted(tmp_path: Path) -> None:
    systems = {"systems": {"baseline": {"precision": "fp16"}, "fast": {"precision": "int8"}}}
    folder = run_folder(tmp_path, 1, written=systems)
    report = gate([folder], Options())
    assert report.exit_code == 2
    assert [system.state for system in report.systems] == ["no baseline", "no baseline"]
    assert gate([folder], Options(accept="it is the release")).exit_code == 0
    for name in ("baseline", "fast"):
        found = read_history(tmp_path / "history" / "demo" / f"{name}.jsonl")
        assert [one.run for one in found.entries] == ["demo/20260101T000000Z-abc0001"]
        assert [one.why for one in found.acceptances] == ["it is the release"]


@pytest.mark.parametrize(("repeats", "warned"), [((0.5,), 1), ((0.5, 0.51), 1), ((0.5, 0.51, 0.49), 0)])
def test_a_baseline_of_few_repeats_is_accepted_with_a_warning(
    tmp_path: Path, repeats: tuple[float, ...], warned: int
) -> None:
    folder = run_folder(tmp_path, 1, repeats, written={"protocol": {"repeats": len(repeats)}})
    (system,) = gate([folder], Options(accept="the release")).systems
    assert system.accepted
    said = f"WARNING: the accepted run has {len(repeats)} repeat"
    assert sum(note.startswith(said) for note in system.notes) == warned


def test_a_resumed_run_is_judged_by_what_it_is_now_and_gating_it_again_adds_no_line(tmp_path: Path) -> None:
    first, crashed = run_folder(tmp_path, 1), run_folder(tmp_path, 2)
    write(crashed, window_run(steady(), repeat=3, status="failed", error="out of memory"))
    gate([first], Options(accept="it is the release"))
    (before,) = gate([crashed], Options()).systems
    assert outcome(before, "error_rate") == "suspected"
    run_folder(tmp_path, 2)  # as --resume leaves it
    for read_only in (True, False, False):
        (after,) = gate([crashed], Options(read_only=read_only)).systems
        assert outcome(after, "error_rate") == "too uncertain", "no error among a few requests"
    found = read_history(path_of(tmp_path / "history", "demo", "baseline"))
    assert [line.run for line in found.lines if isinstance(line, Entry)] == [
        "demo/20260101T000000Z-abc0001",
        *["demo/20260102T000000Z-abc0002"] * 2,
    ]


def test_runs_of_several_experiments_are_refused(tmp_path: Path) -> None:
    one, two = run_folder(tmp_path, 1), run_folder(tmp_path, 2, written={"name": "other"})
    with pytest.raises(ConfigError, match="several experiments: demo, other"):
        gate([one, two], Options())


def test_a_run_confirms_only_one_that_was_made_before_it_and_never_as_the_baseline(tmp_path: Path) -> None:
    first, slow, later = (run_folder(tmp_path, day, s) for day, s in ((1, 0.5), (2, 0.6), (3, 0.5)))
    gate([first], Options(accept="the release"))
    path = path_of(tmp_path / "history", "demo", "baseline")
    before = path.read_bytes()
    for runs in ([slow, first], [slow, slow]):
        with pytest.raises(ConfigError, match=f"--confirm demo/{runs[1].name}: was not made after demo/"):
            gate(runs, Options())
    assert path.read_bytes() == before
    append(path, [acceptance(f"demo/{later.name}")])
    with pytest.raises(ConfigError, match="is the accepted baseline of baseline"):
        gate([slow, later], Options(read_only=True))


def test_a_run_that_another_clears_keeps_its_own_judgement_in_the_report(tmp_path: Path) -> None:
    first, slow, later = (run_folder(tmp_path, day, s) for day, s in ((1, 0.5), (2, 0.6), (3, 0.5)))
    gate([first], Options(accept="the release"))
    (system,) = gate(
        [slow, later], Options(metrics=(P50, "throughput_requests_per_sec"), read_only=True)
    ).systems
    assert outcome(system) == "in line"
    assert f"demo/{slow.name} by itself: p50 latency suspected, throughput in line" in system.notes


def test_the_command_fails_with_the_metric_and_writes_the_junit_file_all_the_same(tmp_path: Path) -> None:
    baseline, *slow = [str(run_folder(tmp_path, day, s)) for day, s in ((1, 0.5), (2, 0.6), (3, 0.6))]
    assert CliRunner().invoke(app, ["gate", baseline, "--accept", "the release"]).exit_code == 0
    path, junit = path_of(tmp_path / "history", "demo", "baseline"), tmp_path / "out" / "junit.xml"
    before = path.read_bytes()
    args = ["gate", slow[0], "--confirm", slow[1], "--junit", str(junit), "--metric", P50]
    done = CliRunner().invoke(app, [*args, "--read-only"])
    assert done.exit_code == 1
    assert "REGRESSED: p50 latency +20.0 % (95 % interval +" in done.stderr
    cases = ElementTree.parse(junit).getroot().findall("testsuite/testcase")
    assert [(case.get("name"), case[0].tag) for case in cases] == [(P50, "failure")]
    assert path.read_bytes() == before, "read-only leaves no trace"
    done = CliRunner().invoke(app, [*args, "--material", "25", "--markdown"])
    assert done.exit_code == 0
    assert "| in line |" in done.stdout
    assert len(read_history(path).entries) == 3


def test_a_metric_may_be_called_by_its_short_name_and_a_slip_names_the_nearest(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 1)
    gate([folder], Options(accept="the release"))
    later = str(run_folder(tmp_path, 2))
    done = CliRunner().invoke(app, ["gate", later, "--metric", "p50", "--metric", P50, "--markdown"])
    assert done.stdout.count("| p50 latency, ms |") == 1
    done = CliRunner().invoke(app, ["gate", later, "--metric", "p95_latency"])
    assert isinstance(done.exception, ConfigError)
    assert "did you mean p95_latency_ms?" in str(done.exception)


def test_a_junit_file_that_cannot_be_written_costs_no_verdict_and_is_no_regression(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 1)
    (tmp_path / "file").write_text("")
    for target in (tmp_path, tmp_path / "file" / "junit.xml"):
        done = CliRunner().invoke(app, ["gate", str(folder), "--junit", str(target)])
        assert isinstance(done.exception, ResultError)
        assert str(done.exception).startswith(f"{target}: cannot be written (")
        assert "no baseline was ever accepted" in done.stdout


def test_a_damaged_history_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    folder, path = run_folder(tmp_path, 1), path_of(tmp_path / "history", "demo", "baseline")
    append(path, [entry("0")])
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(Exception, match="line 1: is no line of a history") as raised:
        CliRunner().invoke(app, ["gate", str(folder)], catch_exceptions=False)
    assert getattr(raised.value, "exit_code", None) == 2
