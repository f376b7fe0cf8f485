"""Figures of the quality pass from recorded tables, with their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.analysis.quality import AGAINST_REFERENCE, measured, perplexity, quality_of
from bench.analysis.quality_gate import SHOWN
from bench.analysis.system import SystemRuns
from bench.records import Value
from tests.analysis.answering import answer, outputs_table, pair, scored_table, system
from tests.recorded import number, quality

SAME = [pair(answer((i, 2, 3)), answer((i, 2, 3))) for i in range(40)]


def figure(runs: SystemRuns, name: str) -> Value:
    return measured(name)(runs)


def test_the_ratio_is_paired_and_so_far_surer_than_either_perplexity() -> None:
    table = scored_table(worse=1e-3)
    ratio = figure(system("optimized", table), "perplexity_ratio")
    assert ratio.value == pytest.approx(math.exp(np.mean(table["nll"] - table["ref_nll"])))
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < math.exp(1e-3) < ratio.high
    # Unpaired, the scatter of the text itself (1.4 nats over 4,000 positions) would be in it.
    assert ratio.high - ratio.low < 0.2 * 2 * 1.96 * 1.414 / 4000**0.5


def test_what_the_positions_say_of_the_distributions() -> None:
    table = scored_table(kl=1e-3, agree=0.99)
    runs = system("optimized", table)
    assert number(figure(runs, "mean_kl")) == pytest.approx(float(np.mean(table["kl"])))
    p99 = figure(runs, "kl_p99")
    assert p99.value == pytest.approx(float(np.quantile(table["kl"], 0.99)))
    assert p99.low is not None
    assert p99.high is not None
    assert p99.low < 1e-3 * math.log(100) < p99.high
    assert number(figure(runs, "top1_agreement")) == pytest.approx(float(np.mean(table["agree"])))
    found = quality_of(runs)
    assert found is not None
    assert found.against_baseline is not None
    rms = found.against_baseline.measures["probability_rms"]
    assert number(rms) == pytest.approx(
        float(np.sqrt(np.mean((np.exp(-table["nll"]) - np.exp(-table["ref_nll"])) ** 2)))
    )


def test_a_share_of_positions_has_an_interval_of_shares() -> None:
    """Nearly all agree and the few that do not stand together, so that the blocks differ."""
    table = scored_table()
    share = figure(system("optimized", table | {"agree": np.arange(4000) >= 5}), "top1_agreement")
    assert (share.high, share.low is not None and share.low < 0.9988) == (1.0, True)


def test_correlated_positions_widen_the_interval() -> None:
    table = scored_table()
    rng = np.random.default_rng(2)
    hard = np.repeat(rng.normal(0, 0.02, 80), 50)  # passages of 50 positions that share their loss
    runs = [system("optimized", table | {"nll": table["ref_nll"] + extra}) for extra in (
        hard, rng.permutation(hard))]  # fmt: skip
    widths = [(value.high or 0) - (value.low or 0) for value in (figure(r, "perplexity_ratio") for r in runs)]
    assert widths[0] > 2.5 * widths[1]


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_quantiles_interval_covers_it_about_as_often_as_it_says(share: float) -> None:
    name = "median_kl" if share == 0.5 else "kl_p99"
    truth = -math.log(1 - share)
    inside = 0
    for seed in range(100):
        found = quality_of(system("optimized", scored_table(2000, kl=1.0, seed=seed)))
        assert found is not None
        assert found.against_baseline is not None
        value = found.against_baseline.measures[name]
        inside += (value.low or 0) <= truth <= (value.high or 0)
    assert inside >= 89


def test_the_noise_floor_is_the_baseline_against_itself() -> None:
    table = scored_table()
    again = {"position": table["position"], "nll": table["ref_nll"], "again_nll": table["nll"]} | {
        f"again_{name}": table[name] for name in ("kl", "agree")
    }
    pairs = [*SAME[:30], *[pair(answer((9, 9, 9)), answer((1, 2, 3)))] * 10]
    facts = {"quality_windows_again": 4, "outputs_again": 16}
    found = quality_of(system("baseline", again, outputs_table(pairs, "again_"), facts=facts))
    assert found is not None
    assert found.against_baseline is None
    assert found.floor == "with 4 windows at a time and 16 prompts at a time"
    floor = found.against_itself
    assert floor is not None
    assert number(floor.measures["perplexity_ratio"]) == pytest.approx(
        float(np.exp(np.mean(table["nll"] - table["ref_nll"])))
    )
    assert floor.measures["identical_outputs"].value == 0.75


def test_a_baseline_has_no_figure_against_itself_in_its_rows() -> None:
    runs = system("baseline", {"position": [1, 2], "nll": [2.0, 2.0]})
    assert number(perplexity(runs)) == pytest.approx(math.exp(2))
    for name in AGAINST_REFERENCE:
        value = figure(runs, name)
        assert value.value is None
        assert value.note


def test_a_run_of_before_has_what_it_recorded() -> None:
    old = SystemRuns(name="optimized", offline=system("optimized", None).offline, windows=[])
    assert old.offline is not None
    table = quality(kl=1e-3, agree=0.98, n=1000)
    runs = system("optimized", {name: table.column(name) for name in table.column_names})
    assert number(figure(runs, "mean_kl")) == pytest.approx(1e-3)
    assert "did not record the reference's likelihood" in figure(runs, "perplexity_ratio").note
    assert "continued no prompts" in figure(runs, "identical_outputs").note


def test_a_noise_floor_that_failed_says_so_and_claims_nothing() -> None:
    table = {"position": [1, 2], "nll": [2.0, 2.0]}
    why = {"again": "the quality pass failed: out of memory"}
    found = quality_of(system("baseline", table, facts={"outputs_again": 16}, missing=why))
    assert found is not None
    assert found.floor == (
        "with 16 prompts at a time; with other windows, the quality pass failed: out of memory"
    )


def test_a_system_that_rules_out_what_the_reference_finds_possible_is_infinitely_far() -> None:
    table = scored_table()
    table["kl"][:3] = np.inf
    found = quality_of(system("optimized", table))
    assert found is not None
    assert found.against_baseline is not None
    measures = found.against_baseline.measures
    assert measures["mean_kl"].value == math.inf
    assert "at 3 of 4000 positions" in measures["mean_kl"].note
    assert 0 < number(measures["median_kl"]) < 1e-2
    assert number(measures["top1_agreement"]) == pytest.approx(float(np.mean(table["agree"])))
    everywhere = quality_of(system("optimized", table | {"kl": np.full(4000, np.inf)}))
    assert everywhere is not None
    assert everywhere.against_baseline is not None
    assert everywhere.against_baseline.measures["median_kl"].value == math.inf


def test_a_divergence_that_is_no_number_is_not_said_to_lack_a_reference() -> None:
    table = scored_table() | {"kl": np.full(4000, np.nan)}
    assert "is a number at no position" in figure(system("optimized", table), "mean_kl").note


def test_outputs_that_were_asked_for_and_are_not_there_are_lacking() -> None:
    found = quality_of(system("optimized", scored_table(), prompts=160))
    assert found is not None
    assert found.lacking == "the outputs are not in the run folder"


def test_outputs_that_were_asked_for_and_failed_are_lacking() -> None:
    why = {"outputs": "the quality pass failed: out of memory"}
    runs = system("optimized", scored_table(), prompts=160, missing=why)
    found = quality_of(runs)
    assert found is not None
    assert "out of memory" in found.lacking
    assert "out of memory" in figure(runs, "tone_shift").note


def test_every_measure_is_shown_in_the_report() -> None:
    assert set(SHOWN) == set(AGAINST_REFERENCE)
