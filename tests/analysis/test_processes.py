from __future__ import annotations

import math
import statistics

import pytest

from bench.analysis.capacity import throughput
from bench.analysis.processes import spread
from bench.analysis.summary import offline_rps
from bench.analysis.system import SystemRuns
from tests.recorded import OBJECTIVES, completion, offline_run, system_runs, window_run


def test_the_spread_of_processes_is_that_of_their_time_per_token() -> None:
    # Of 0.2 s until the first token the rest is decoding: 0.3, 0.31 and 0.29 s.
    found = spread(system_runs(latencies_s=(0.5, 0.51, 0.49)))
    assert found == pytest.approx(statistics.stdev(map(math.log, (0.3, 0.31, 0.29))))


def test_only_requests_in_batches_of_the_usual_size_are_held_against_each_other() -> None:
    alone = [completion(10.0 + i) for i in range(6)]
    shared = [completion(17.0 + i / 10, 0.9, batch_size=4) for i in range(5)]
    runs = [window_run(alone + shared[:n], repeat=n + 1) for n in (0, 3, 5)]
    assert spread(SystemRuns(name="baseline", offline=offline_run(), windows=runs)) == pytest.approx(0.0)


def test_two_repeats_do_not_show_how_processes_differ() -> None:
    system = system_runs(latencies_s=(0.5, 0.6))
    assert spread(system) is None
    assert throughput(system, OBJECTIVES) == offline_rps(system)


def test_throughput_of_one_process_is_as_unsure_as_processes_differ() -> None:
    narrow, wide = (system_runs(latencies_s=latencies_s) for latencies_s in ((0.5,) * 3, (0.5, 0.52, 0.48)))
    alike, unlike = throughput(narrow, OBJECTIVES), throughput(wide, OBJECTIVES)
    one_run = offline_rps(wide)
    assert alike.value == unlike.value == one_run.value
    assert unlike.low is not None
    assert one_run.low is not None
    assert alike.low is not None
    assert unlike.low < one_run.low
    assert alike.low == pytest.approx(one_run.low, rel=1e-6)
    assert "between processes, by TPOT" in unlike.note
