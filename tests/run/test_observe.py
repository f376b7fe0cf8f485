"""Idle power is measured when the device has become level, not while it still cools."""

from __future__ import annotations

from collections.abc import Callable

from bench.clock import VirtualClock
from bench.run.observe import LEVEL_S, SETTLE_S, Observer


class Device:
    """Readings of a device by laws of the time, once a second."""

    def __init__(
        self, clock: VirtualClock, power_w: Callable[[float], float], warm_c: Callable[[float], float]
    ):
        self.clock = clock
        self.laws = {"power_w": power_w, "temperature_c": warm_c}

    def sharpen(self, until_s: float) -> None:
        """Nothing is read densely."""

    def check(self) -> None:
        """The device is never lost."""

    def recent(self, field: str, since_s: float) -> list[float]:
        if field not in self.laws:
            return []
        return [self.laws[field](float(t)) for t in range(int(since_s), int(self.clock.now_s()) + 1)]


def settled(power_w: Callable[[float], float], warm_c: Callable[[float], float]) -> tuple[bool, float]:
    clock = VirtualClock()
    level = Observer(clock, Device(clock, power_w, warm_c)).settle(30.0)
    return level, clock.now_s()


def test_a_level_device_is_looked_at_once() -> None:
    assert settled(lambda t: 70.0, lambda t: 40.0) == (True, LEVEL_S)


def test_a_cooling_device_is_waited_for() -> None:
    level, took_s = settled(lambda t: 70.0, lambda t: 40.0 + max(0.0, 25.0 - t))
    assert level
    assert 25 <= took_s <= 40


def test_falling_power_is_waited_for_though_the_temperature_stands() -> None:
    level, took_s = settled(lambda t: 70.0 + 80.0 * 0.5 ** (t / 5.0), lambda t: 40.0)
    assert level
    assert 20 <= took_s <= 50


def test_a_device_that_never_becomes_level_is_given_up_and_said_so() -> None:
    level, took_s = settled(lambda t: 70.0 + 3.0 * t, lambda t: 40.0)
    assert not level
    assert SETTLE_S <= took_s <= SETTLE_S + LEVEL_S


def test_a_short_protocol_waits_no_longer_than_it_measures() -> None:
    clock = VirtualClock()
    assert Observer(clock, Device(clock, lambda t: 70.0, lambda t: 40.0)).settle(2.0)
    assert clock.now_s() == 2.0


def test_without_meters_there_is_nothing_to_wait_for() -> None:
    clock = VirtualClock()
    assert Observer(clock).settle(30.0)
    assert clock.now_s() == 0.0
