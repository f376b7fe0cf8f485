"""The common rate comes from the baseline's capacity, a number, or the workload; or clients wait in turn."""

from __future__ import annotations

import pytest

from bench.config import choose
from bench.errors import ConfigError, RunFailed
from bench.workload.load import LOADS


@pytest.mark.parametrize(
    ("table", "rate_rps"),
    [
        ("fraction_of_baseline_capacity", 7.0),
        ({"kind": "fraction_of_baseline_capacity", "fraction": 0.5}, 5.0),
        ({"kind": "rate", "rps": 3.5}, 3.5),
        ("requests_per_day", 2.89),
    ],
)
def test_each_kind_of_load_gives_its_rate(table: str | dict[str, object], rate_rps: float) -> None:
    load = choose(LOADS, table, "x.toml", "load")
    assert load.rate_rps(10.0, 2.89) == pytest.approx(rate_rps)


@pytest.mark.parametrize("capacity_rps", [None, 0.0])
def test_a_fraction_of_an_unknown_capacity_is_no_number(capacity_rps: float | None) -> None:
    load = choose(LOADS, "fraction_of_baseline_capacity", "x.toml", "load")
    with pytest.raises(RunFailed, match="capacity was not measured"):
        load.rate_rps(capacity_rps, 2.89)


@pytest.mark.parametrize("table", [{"kind": "rate", "rps": 3.5}, "requests_per_day"])
def test_an_open_load_knows_no_clients(table: str | dict[str, object]) -> None:
    load = choose(LOADS, table, "x.toml", "load")
    assert load.clients is None
    assert load.think_s == 0


def test_a_closed_loop_has_clients_and_no_rate_of_its_own() -> None:
    load = choose(LOADS, {"kind": "closed_loop", "clients": 8, "think_s": 0.5}, "x.toml", "load")
    assert (load.clients, load.think_s) == (8, 0.5)
    with pytest.raises(RunFailed, match="no rate that could be asked for"):
        load.rate_rps(10.0, 2.89)


@pytest.mark.parametrize("table", [{"kind": "closed_loop"}, {"kind": "closed_loop", "clients": 0}])
def test_a_closed_loop_without_clients_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"load\.clients"):
        choose(LOADS, table, "x.toml", "load")


@pytest.mark.parametrize("table", [{"kind": "rate", "rps": 3.5}, {"kind": "requests_per_day"}])
def test_the_other_kinds_do_not_need_the_capacity(table: dict[str, object]) -> None:
    assert choose(LOADS, table, "x.toml", "load").rate_rps(None, 2.89) > 0
