"""Idle power, what it leaves for the requests, and when it cannot be taken off."""

from __future__ import annotations

from typing import Any

import pytest

from bench.analysis import idle
from bench.analysis.energy import kwh_per_1k
from bench.records import Completion, Interval, Run, Sample
from tests.recorded import completion, number, sample, window_run

COLD, RESIDENT, LOAD, AFTER = (0.0, 30.0), (30.0, 60.0), (70.0, 80.0), (90.0, 120.0)
SPANS = {"cold": COLD, "resident": RESIDENT, "resident_after": AFTER}


def stepped(cold: float, resident: float, load: float, after: float, *, counter: bool = True) -> list[Sample]:
    """Return power and counter of 20 ms ticks over cold idle, resident idle, load and idle again."""
    samples, joules = [], 1000.0
    for i in range(6500):
        t_s = i * 0.02
        watts = cold if t_s < 30 else resident if t_s < 65 else load if t_s < 85 else after
        samples.append(sample(t_s, "power_w", watts))
        if counter:
            samples.append(sample(t_s, "energy_j", joules))
        joules += watts * 0.02
    return samples


def metered(
    cold: float = 60.0,
    resident: float = 80.0,
    load: float = 200.0,
    after: float = 80.0,
    *,
    spans: tuple[str, ...] = ("cold", "resident", "resident_after"),
    **changes: Any,
) -> Run:
    known = {name: dict(zip(("start_s", "end_s"), SPANS[name], strict=True)) for name in spans}
    return window_run(
        requests=ten_requests(),
        telemetry=stepped(cold, resident, load, after, counter=changes.pop("counter", True)),
        window=Interval(start_s=LOAD[0], end_s=LOAD[1]),
        facts={"idle": known} | changes.pop("facts", {}),
        **changes,
    )


def ten_requests() -> list[Completion]:
    return [completion(LOAD[0] + i, 0.9, admitted_s=LOAD[0] + i) for i in range(10)]


def per_1k(watts: float) -> float:
    """Return kWh per 1,000 of ten requests in 10 s."""
    return watts * 1000 / 3.6e6


@pytest.mark.parametrize("counter", [True, False])
def test_idle_power_cold_and_resident_come_from_their_own_spans(counter: bool) -> None:
    run = metered(resident=80.0, after=84.0, counter=counter)
    assert number(idle.cold_w(run)) == pytest.approx(60.0, rel=0.002)
    assert number(idle.resident_w(run)) == pytest.approx(82.0, rel=0.002)
    assert idle.resident_w(run).how.startswith("mean of before and after; gross")


def test_net_energy_is_what_the_requests_added_to_the_resident_idle() -> None:
    run = metered()
    assert number(kwh_per_1k(run)) == pytest.approx(per_1k(200.0), rel=0.01)
    assert number(idle.net_kwh_per_1k(run)) == pytest.approx(per_1k(120.0), rel=0.01)
    assert number(idle.active_share(run)) == pytest.approx(0.6, rel=0.002)


def test_the_bounds_of_net_hold_those_of_gross_and_of_the_idle() -> None:
    run = metered(counter=False, facts={"meters": {"gpu": {"sensor": {"window_s": 1.0, "update_s": 0.1}}}})
    gross, net = kwh_per_1k(run), idle.net_kwh_per_1k(run)
    assert None not in (gross.low, gross.high, net.low, net.high)
    assert net.high - net.low > gross.high - gross.low  # type: ignore[operator]
    assert net.low < number(net) < net.high  # type: ignore[operator]


def test_one_idle_span_suffices() -> None:
    for spans in (("resident",), ("resident_after",)):
        assert number(idle.resident_w(metered(spans=spans))) == pytest.approx(80.0, rel=0.002)


def test_an_idle_span_that_was_not_measured_leaves_net_missing_with_the_recorded_reason() -> None:
    run = metered(spans=("cold",), missing={"idle_resident": "the meters cannot read power"})
    for read in (idle.resident_w, idle.net_kwh_per_1k, idle.active_share):
        assert read(run).value is None
        assert read(run).why == "the meters cannot read power"
    assert idle.cold_w(metered(spans=())).why == "no cold idle span was recorded"
    assert number(kwh_per_1k(run)) > 0


@pytest.mark.parametrize(
    ("watts", "why"),
    [
        ({"resident": 170.0, "after": 170.0}, "idle was not idle: 170 W are 85 % of the 200 W under load"),
        ({"after": 100.0}, "idle was not idle: 80 W before and 100 W after (limit 10 %)"),
    ],
)
def test_an_idle_that_was_none_is_not_taken_off(watts: dict[str, float], why: str) -> None:
    run = metered(**watts)  # type: ignore[arg-type]
    assert idle.net_kwh_per_1k(run).value is None
    assert why in idle.net_kwh_per_1k(run).why
    assert why in (idle.why_no_idle(run) or "")


def test_a_sound_idle_has_nothing_against_it_and_neither_has_one_that_was_not_measured() -> None:
    assert idle.why_no_idle(metered()) is None
    assert idle.why_no_idle(metered(spans=())) is None


def test_net_energy_below_nothing_is_no_zero_but_missing() -> None:
    found = idle.net_kwh_per_1k(metered(resident=210.0, after=210.0))
    assert found.value is None
    assert "105 % of the 200 W under load" in found.why


def test_on_a_cpu_there_is_no_idle_power_and_it_is_said() -> None:
    run = window_run(device="cpu", facts={"gpu_name": None})
    assert idle.cold_w(run).why == "idle power is measured on a GPU only"
