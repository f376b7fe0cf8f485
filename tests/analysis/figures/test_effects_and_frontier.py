"""The figures of a factorial's effects and of what beats what, from systems whose answer is known."""

from __future__ import annotations

from bench.analysis.figures.effects import effects
from bench.analysis.figures.frontier import frontier
from bench.config import Objectives
from tests.analysis.figures.compared import row, rows, uncompared
from tests.analysis.many import DYNAMIC, INT8, system

CORNERS = (
    system("baseline", p95=100.0, throughput=10.0),
    system("int8", INT8, p95=200.0, throughput=10.0),
    system("dynamic", DYNAMIC, p95=50.0, throughput=20.0),
    system("both", INT8 | DYNAMIC, p95=100.0, throughput=20.0),
)
FAST = system("fast", p95=(100.0, 101.0, 99.0), throughput=(30.0, 30.5, 29.5))
SLOW = system("slow", p95=(200.0, 201.0, 199.0), throughput=(20.0, 20.5, 19.5))
SMALL = system("small", p95=(50.0, 50.5, 49.5), throughput=(5.0, 5.1, 4.9))
LOST = system("lost", p95="saturated", throughput=4.0)


def test_main_effects_and_interaction_of_a_factorial_are_those_of_its_corners() -> None:
    figure = effects(uncompared(*CORNERS))
    found = {str(one["short"]): one for one in rows(figure, "effects", metric="p95 latency")}
    assert {name: round(float(one["pct"] or 0.0), 6) for name, one in found.items()} == {
        "precision": 100.0,
        "batching": -50.0,
        "precision × batching": 0.0,
        "together": 0.0,
    }
    assert found["precision"]["of"] == "precision (fp16 to int8)"
    assert figure.reading.startswith("P95 latency: precision (fp16 to int8) +100.0 %")


def test_without_a_full_factorial_it_says_what_would_be_needed() -> None:
    assert "each is measured alone and both together" in effects(uncompared(*CORNERS[:3])).missing


def test_a_system_that_another_beats_in_both_figures_is_dominated_and_says_by_whom() -> None:
    figure = frontier(uncompared(FAST, SLOW, SMALL))
    pair = "p95 latency against throughput"
    assert row(figure, "frontier", pair=pair, system="slow")["place"] == "dominated"
    assert str(row(figure, "frontier", pair=pair, system="slow")["by"]).startswith("fast (")
    for name in ("fast", "small"):
        assert row(figure, "frontier", pair=pair, system=name)["place"] == "on the front"
    assert figure.reading == "By p95 latency and throughput, on the front: fast, small; dominated: slow."
    assert row(figure, "axes", pair=pair)["up"] == "p95 latency, ms (lower is better)"


def test_an_interval_that_leaves_it_open_makes_a_system_undecided() -> None:
    noisy = system("noisy", p95=(100.0, 190.0, 140.0), throughput=(30.0, 31.0, 29.0))
    figure = frontier(uncompared(FAST, noisy))
    found = row(figure, "frontier", pair="p95 latency against throughput", system="noisy")
    assert found["place"] == "undecided"
    low, high = found["y_low"], found["y_high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < 143.4 < high


def test_the_objective_stands_where_p95_is_drawn_and_only_there() -> None:
    found = frontier(uncompared(FAST, SLOW)).datasets["objective"].rows
    assert [(one["pair"], one["y"]) for one in found] == [("p95 latency against throughput", 1200.0)]
    free = frontier(uncompared(FAST, SLOW, objectives=Objectives()))
    assert not free.datasets["objective"].rows


def test_who_lacks_a_figure_is_left_out_with_the_reason() -> None:
    figure = frontier(uncompared(FAST, SLOW, LOST))
    assert not rows(figure, "frontier", system="lost")
    assert any(note.startswith("lost is left out") and "saturated" in note for note in figure.notes)


def test_a_perfect_system_keeps_its_row_and_says_why_it_is_not_drawn() -> None:
    perfect = system("perfect", kl=0.0, throughput=(30.0, 30.5, 29.5))
    others = [system(name, kl=kl, throughput=(20.0, 20.5, 19.5)) for name, kl in (("a", 0.1), ("b", 0.2))]
    figure = frontier(uncompared(perfect, *others))
    (found,) = rows(figure, "frontier", system="perfect")
    assert (found["x"], found["place"]) == (0.0, "on the front")
    assert [note for note in figure.notes if note.startswith("perfect is not drawn")] == [
        f"perfect is not drawn in {found['pair']}: 0 has no place on a logarithmic axis."
    ]


def test_fewer_than_two_systems_with_both_figures_have_no_front() -> None:
    assert frontier(uncompared(FAST)).missing == "there is one system only, and no front"
    assert frontier(uncompared(FAST, LOST)).missing == "p95 latency: saturated"
