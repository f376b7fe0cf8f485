"""What is said of the machine before a run."""

from __future__ import annotations

import os

import pytest

from bench.run.preflight import busy


@pytest.mark.parametrize(("load", "is_busy"), [(7.3, True), (2.0, False)])
def test_a_busy_machine_is_warned_of_before_the_run(
    load: float, is_busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    said = busy()
    assert bool(said) == is_busy
    if is_busy:
        assert "load average 7.3 on 4 cores" in said[0]
        assert said[0].endswith("begin when `uptime` says less than 2")
