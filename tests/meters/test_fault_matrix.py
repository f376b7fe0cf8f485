"""What goes wrong with a GPU and its readings, and what a result says then: from the library to the verdict.

Every test models one failure, meters a run on it through the real binding, the real meter and the real
sampler, and asks the analysis what an experiment would be told. Time is virtual (`tests.fake_nvml.metered`),
except where a call hangs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from bench.analysis import idle, memory
from bench.analysis.comparability import check, context_of
from bench.analysis.device import HARDWARE, SOFTWARE, hidden_pids, others_on, throttled_share
from bench.analysis.energy import in_words, kwh_per_1k, sources
from bench.analysis.joules import Energy
from bench.analysis.metered import metered
from bench.analysis.metering import METERING
from bench.analysis.system import MetricSet, SystemRuns
from bench.analysis.validity import judge_run
from bench.clock import WallClock
from bench.errors import NotAvailable, ResultError
from bench.meters.faults import GpuLost
from bench.meters.nvml import open_gpu
from bench.meters.sampling import Sampler
from bench.meters.sharing import refuse_shared
from bench.records import Interval, Run
from tests import fake_nvml
from tests.fake_nvml.in_process import Modelled, behind_binding
from tests.fake_nvml.metered import PUNCTUAL, Disturbance, run_of, sampled, spread

WINDOW = Interval(start_s=20.0, end_s=30.0)
LONG = Interval(start_s=20.0, end_s=50.0)
NO_COUNTER = ("191:3", "83:3", "nvmlDeviceGetTotalEnergyConsumption:3")
NO_POWER = ("185:3", "186:3", "nvmlDeviceGetPowerUsage:3")
A_GB = 1_000_000_000
SEES_ALL = "8.6"
"""The compute capability of GPUs whose power sensor sees all of the time."""
A_QUARTER: dict[str, Any] = {"sensor": (25, 100, 30), "average": (1000, 100), "capability": "8.0"}
"""GPUs whose power sensor sees 25 ms of every 100."""


@pytest.fixture(scope="module")
def library() -> Iterator[Modelled]:
    if fake_nvml.compiler() is None:
        pytest.skip("no C compiler to build the modelled NVML library with")
    with behind_binding() as modelled:
        yield modelled


Measure = Callable[..., Run]


@pytest.fixture
def measure(library: Modelled) -> Iterator[Measure]:
    """Meters a window of ten seconds at 200 W, unless told otherwise, and returns the run."""

    def measured(
        *,
        gpus: int = 1,
        disturbance: Disturbance = PUNCTUAL,
        window: Interval = WINDOW,
        idle_spans: dict[str, Interval] | None = None,
        meta: dict[str, Any] | None = None,
        jitter: float = 0.5,
        step_s: float = 0.0425,
        **options: Any,
    ) -> Run:
        spans = [*(idle_spans or {}).values(), window]
        library.configure(**{"gpus": gpus, "power_w": "200", "pids": "self:1000000000", **options})
        meters = {("gpu", "gpu 1")[i]: open_gpu(fake_nvml.uuid(i)) for i in range(gpus)}
        try:
            log = sampled(
                library, meters, spans, np.random.default_rng(1), disturbance=disturbance, calibrate_s=0.8
            )
        finally:
            for meter in meters.values():
                meter.close()
        facts = {
            "idle": {name: {"start_s": s.start_s, "end_s": s.end_s} for name, s in (idle_spans or {}).items()}
        }
        requests = spread(window, 5, jitter, latency_s=step_s * 4)
        return run_of(window, log, requests, facts=facts, **(meta or {}))

    yield measured
    library.release()
    library.configure()


def energy_of(run: Run) -> Energy:
    devices = metered(run)
    assert not isinstance(devices, str), devices
    (energy,) = devices
    return energy


def faults_of(run: Run) -> list[tuple[str, str]]:
    return [(fault.level, fault.text) for fault in judge_run(run).faults]


def doubts_of(*runs: Run) -> dict[str, str]:
    system = SystemRuns(name="modelled", offline=None, windows=list(runs))
    found = {name: doubt(system) for name, doubt in METERING.items()}
    return {name: doubt[0] for name, doubt in found.items() if doubt is not None}


def compared(one: Run, two: Run) -> None:
    """Raises ResultError where the two may not be compared."""
    first, second = (
        MetricSet(
            name=name,
            origin=name,
            values={},
            context=context_of(SystemRuns(name="modelled", offline=None, windows=[run])),
        )
        for name, run in (("one", one), ("two", two))
    )
    check(first, second)


def test_without_a_failure_the_joules_are_true_and_nothing_is_said(
    measure: Measure, library: Modelled
) -> None:
    run = measure(power_w="square:100:300:0.5:0.5", capability=SEES_ALL)
    energy = energy_of(run)
    assert energy.source == "counter"
    assert energy.joules == pytest.approx(
        library.true_energy_j(0, energy.span.start_s, energy.span.end_s), rel=1e-3
    )
    assert judge_run(run).level == "VALID"
    assert faults_of(run) == []
    assert doubts_of(run) == {}


@pytest.mark.parametrize(
    ("code", "words"), [(12, "no NVML library"), (9, "driver is not loaded"), (18, "reboot")]
)
def test_without_library_or_driver_there_is_a_reason_and_no_joules(
    library: Modelled, code: int, words: str
) -> None:
    library.configure(faults=[f"nvmlInitWithFlags:{code}"])
    with pytest.raises(NotAvailable, match=words):
        open_gpu(fake_nvml.uuid(0))


def test_without_a_gpu_energy_is_missing_with_its_reason(measure: Measure) -> None:
    run = measure(meta={"device": "cpu", "missing": {"rapl_package_j": "rapl: no such zone"}})
    run.meta.facts["gpu_name"] = None
    assert kwh_per_1k(run).value is None
    assert "rapl: no such zone" in str(kwh_per_1k(run).why)


def test_without_a_counter_the_power_is_integrated_and_it_is_said(
    measure: Measure, library: Modelled
) -> None:
    run = measure(faults=NO_COUNTER)
    energy = energy_of(run)
    assert energy.source in ("instant_poll", "avg_poll")
    assert "Not Supported" in energy.instead
    assert energy.joules == pytest.approx(2000, rel=1e-3)
    assert not energy.distrusted


def test_with_neither_counter_nor_power_energy_is_missing_with_both_reasons(measure: Measure) -> None:
    run = measure(faults=[*NO_COUNTER, *NO_POWER])
    assert kwh_per_1k(run).value is None
    assert "Not Supported" in str(kwh_per_1k(run).why)
    assert judge_run(run).level == "VALID"


def test_an_old_driver_gives_joules_by_the_methods_that_it_has(measure: Measure) -> None:
    run = measure(faults=fake_nvml.OLD_DRIVER, capability="8.0")
    facts = run.meta.facts["meters"]["gpu"]
    assert energy_of(run).source == "counter"
    assert (facts["energy_method"], facts["memory_api"]) == ("field 83", "v1")
    assert facts["own_pid_listed"] is True
    assert judge_run(run).level == "VALID"


def test_a_forbidden_process_list_is_unknown_and_costs_nothing_else(measure: Measure) -> None:
    run = measure(faults=["nvmlDeviceGetComputeRunningProcesses_v3:4"])
    facts = run.meta.facts["meters"]["gpu"]
    assert facts["other_processes"] is None
    assert "Permission" in facts["unavailable"]["other_processes"]
    assert any("not known" in doubt for doubt in refuse_shared(facts, allow=False))
    assert energy_of(run).source == "counter"


@pytest.mark.parametrize(
    "fault", ["*:15:25s", "*:15:25s:0.2s", "186:16:25s"], ids=["for ever", "once", "reset required"]
)
def test_a_lost_gpu_keeps_its_samples_and_gives_no_joules(measure: Measure, fault: str) -> None:
    run = measure(faults=[fault])
    times_s = run.telemetry.column("t_s").to_numpy()
    assert times_s.min() < 20
    assert 24.5 < times_s.max() <= 25.1, "what was seen before is kept, and nothing is read again"
    assert kwh_per_1k(run).value is None
    assert "lost" in str(kwh_per_1k(run).why)
    assert any("gpu meter lost" in doubt for doubt in run.meta.doubts)


def test_a_lost_gpu_ends_the_run_while_it_goes_on(library: Modelled) -> None:
    library.configure(faults=["*:15:0.1s"], time_s=None, gpus=1)
    meter = open_gpu(fake_nvml.uuid(0))
    sampler = Sampler({"gpu": meter}, WallClock(), 0.01)
    sampler.start()
    sampler.check()

    def go_on() -> None:
        for _ in range(500):
            time.sleep(0.01)
            sampler.check()

    with pytest.raises(GpuLost, match="the gpu was lost"):
        go_on()
    sampler.stop()
    meter.close()


def test_three_transient_faults_in_a_row_are_a_gap_that_is_counted(measure: Measure) -> None:
    run = measure(faults=["186:999:25s:0.25s", "191:10:26s:0.25s"])
    facts = run.meta.facts["meters"]["gpu"]
    assert facts["transient_faults"] == {"power_w": 3, "energy_j": 3}
    assert run.meta.missing == {}
    assert energy_of(run).source == "counter"
    assert judge_run(run).level == "VALID"


def test_more_than_three_end_the_counter_and_the_power_stands_in(measure: Measure) -> None:
    run = measure(faults=["191:999:25s:1s"])
    assert "4 times in a row" in run.meta.missing["energy_j"]
    energy = energy_of(run)
    assert energy.source in ("instant_poll", "avg_poll")
    assert "4 times in a row" in energy.instead


@pytest.mark.parametrize("hang", ["nvmlDeviceGetFieldValues:hang:20", "nvmlDeviceGetMemoryInfo_v2:hang:2"])
def test_a_driver_that_hangs_costs_a_run_less_than_two_seconds_and_its_joules(
    library: Modelled, hang: str
) -> None:
    library.configure(time_s=None, gpus=1, tick_ms=5)
    meter = open_gpu(fake_nvml.uuid(0))
    # Only from here on: what opening calls comes back.
    library.configure(time_s=None, gpus=1, tick_ms=5, faults=[hang])
    clock = WallClock()
    sampler = Sampler({"gpu": meter}, clock, 0.01)
    sampler.start()
    time.sleep(0.6)
    window = Interval(start_s=0.0, end_s=clock.now_s())
    began_s = time.perf_counter()
    log = sampler.stop()
    meter.close()
    assert time.perf_counter() - began_s < 1.9
    library.release()
    run = run_of(window, log)
    assert [failure.kind for failure in log.failures] == ["stalled"]
    assert kwh_per_1k(run).value is None
    assert "stalled" in str(kwh_per_1k(run).why)
    assert [level for level, text in faults_of(run) if "stalled" in text] == ["DEGRADED"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reset_at_s": 25.0}, "went backwards"),
        ({"frozen_s": (24.0, 27.0)}, "stood still"),
        ({"frozen_s": (0.0,)}, "not advance twice"),
        ({"jump": (25.0, 5000.0)}, "jumped"),
    ],
    ids=["reset", "frozen for a while", "frozen for ever", "jump"],
)
def test_a_counter_that_lies_is_discarded_for_the_power_and_doubted(
    measure: Measure, library: Modelled, options: dict[str, Any], words: str
) -> None:
    run = measure(power_w="square:100:300:0.7:0.5", **options)
    energy = energy_of(run)
    assert energy.source in ("instant_poll", "avg_poll")
    assert words in energy.instead
    assert energy.low <= library.true_energy_j(0, 20.0, 30.0) <= energy.high
    assert energy.joules == pytest.approx(library.true_energy_j(0, 20.0, 30.0), rel=0.05)
    assert words in doubts_of(run)["counter discarded"]


def test_a_counter_that_runs_too_fast_is_believed_by_nobody(measure: Measure) -> None:
    run = measure(gain=(1.0, 4.0))  # 800 W on a board of 700 W
    assert energy_of(run).source in ("instant_poll", "avg_poll")
    assert "above the limit" in energy_of(run).instead


def test_counter_and_power_that_disagree_are_doubted(measure: Measure) -> None:
    run = measure(gain=(1.0, 1.08))
    assert energy_of(run).source == "counter"
    assert "disagree by" in doubts_of(run)["counter disagrees"]
    assert "counter disagrees" not in doubts_of(measure(gain=(1.0, 1.03)))


@pytest.mark.parametrize(
    ("throttle", "level"),
    [
        ({"sw_power": "0.005"}, "VALID"),
        ({"sw_power": "0.02"}, "DEGRADED"),
        ({"sw_thermal": "0.4"}, "DEGRADED"),
        ({"hw_thermal": "0.03"}, "DEGRADED"),
        ({"hw_thermal": "0,1@24,0@25"}, "INVALID"),
        ({"hw_power_brake": "0.06"}, "INVALID"),
    ],
    ids=str,
)
def test_throttling_degrades_a_run_and_by_the_hardware_spoils_it(
    measure: Measure, throttle: dict[str, str], level: str
) -> None:
    run = measure(throttle=throttle)
    assert judge_run(run).level == level
    assert [text for _, text in faults_of(run) if "throttled" in text] or level == "VALID"


def test_throttling_outside_the_window_is_nobodys_fault(measure: Measure) -> None:
    assert judge_run(measure(throttle={"hw_thermal": "1,0@19"})).level == "VALID"


def test_two_runs_that_throttled_differently_are_not_compared(measure: Measure) -> None:
    calm = measure()
    compared(calm, measure(throttle={"hw_thermal": "0.005"}))
    with pytest.raises(ResultError, match="throttling differs"):
        compared(calm, measure(throttle={"hw_thermal": "0.04"}))


@pytest.mark.parametrize("options", [{"limit_w": "700,400@25"}, {"clock_limit_mhz": "1980,1200@25"}], ids=str)
def test_a_limit_that_somebody_changed_spoils_the_run(measure: Measure, options: dict[str, str]) -> None:
    run = measure(**options)
    (fault,) = faults_of(run)
    assert fault[0] == "INVALID"
    assert "limits were changed" in fault[1]


def test_a_gpu_that_others_use_is_refused_unless_it_is_allowed(measure: Measure) -> None:
    run = measure(pids="self:1000000000,4242:2000000000")
    with pytest.raises(NotAvailable, match="4242"):
        refuse_shared(run.meta.facts["meters"]["gpu"], allow=False)
    assert kwh_per_1k(run).value is None
    assert "not attributable" in str(kwh_per_1k(run).why)
    assert [level for level, text in faults_of(run) if "4242" in text] == ["DEGRADED"]


def test_a_process_that_came_while_it_ran_takes_the_joules_with_it(measure: Measure) -> None:
    run = measure(pids="self:1000000000;25=self:1000000000,4242:-")
    assert refuse_shared(run.meta.facts["meters"]["gpu"], allow=False) == []
    assert "4242" in str(kwh_per_1k(run).why)
    assert judge_run(run).level == "DEGRADED"


def test_in_a_container_that_hides_process_ids_the_single_one_is_ones_own_and_is_doubted(
    measure: Measure,
) -> None:
    # Before loading nobody is listed; afterwards one process is, under the host's id.
    run = measure(pids="0=;10=987654:1000000000")
    assert energy_of(run).source == "counter"
    assert "987654" in doubts_of(run)["hidden process"]


def test_in_such_a_container_two_processes_are_one_too_many(measure: Measure) -> None:
    run = measure(pids="0=;10=987654:1000000000,987655:1000000000")
    assert kwh_per_1k(run).value is None
    assert judge_run(run).level == "DEGRADED"


def test_under_mig_neither_joules_nor_memory_are_the_runs(measure: Measure) -> None:
    run = measure(mig=True, used_bytes="60000000000")
    assert kwh_per_1k(run).value is None
    assert "mig" in str(kwh_per_1k(run).why)
    assert "memory_used_gb" in run.telemetry.column("field").to_pylist(), "what was read is kept"
    for read in (memory.average_gb, memory.peak_gb):
        assert (read(run).value, read(run).why) == (
            None,
            "mig: the memory of the whole GPU, not of this run's instance",
        )


def test_where_the_process_list_is_empty_nobody_knows_who_else_computes(measure: Measure) -> None:
    run = measure(pids="")
    assert "other processes cannot be seen" in doubts_of(run)["hidden process"]
    assert energy_of(run).source == "counter"
    assert "hidden process" not in doubts_of(measure())


def test_who_was_there_before_loading_is_somebody_else_though_ones_own_id_is_hidden(measure: Measure) -> None:
    run = measure(pids="4242:2000000000")
    assert "pids 4242" in str(kwh_per_1k(run).why)
    assert judge_run(run).level == "DEGRADED"
    came = measure(pids="4242:2000000000;10=4242:2000000000,987654:1000000000")
    assert others_on(came) == [4242]
    assert hidden_pids(came) == [987654]


NO_THROTTLE_COUNTERS = ("74:2", "269:2", "270:2", "271:2")
NO_MASK = ("nvmlDeviceGetCurrentClocksEventReasons:13", "nvmlDeviceGetCurrentClocksThrottleReasons:13")


@pytest.mark.parametrize(("share", "level"), [("0.6", "INVALID"), ("0", "VALID")])
def test_a_driver_without_throttle_counters_is_judged_by_the_mask_of_reasons(
    measure: Measure, share: str, level: str
) -> None:
    run = measure(faults=NO_THROTTLE_COUNTERS, throttle={"hw_thermal": share}, window=LONG)
    assert judge_run(run).level == level
    found = throttled_share(run, HARDWARE)
    assert found == pytest.approx(float(share), abs=0.04)
    assert throttled_share(run, SOFTWARE) == 0.0
    assert "throttling unknown" not in doubts_of(run)


def test_throttling_that_nobody_can_read_is_doubted(measure: Measure) -> None:
    run = measure(faults=[*NO_THROTTLE_COUNTERS, *NO_MASK])
    assert throttled_share(run) is None
    assert "hw thermal" in doubts_of(run)["throttling unknown"]
    assert "throttling unknown" not in doubts_of(measure(faults=NO_MASK))


def test_repeats_by_different_meters_are_doubted(measure: Measure) -> None:
    good, polled = measure(gain=(1.0, 1.04)), measure(gain=(1.0, 1.04), faults=["191:999:25s:1s"])
    assert "avg_poll, counter" in doubts_of(good, polled)["mixed energy sources"]
    assert sources(SystemRuns(name="modelled", offline=None, windows=[good])) == {"counter"}
    assert "mixed energy sources" not in doubts_of(good, good)


@pytest.mark.parametrize("phase_ms", [5, 30, 55, 80])
def test_a_ripple_in_step_with_a_sensor_of_part_of_the_time_is_within_the_bounds(
    measure: Measure, library: Modelled, phase_ms: int
) -> None:
    ripple = {"power_w": "square:200:400:0.1:0.5", "window": LONG, "step_s": 0.1}
    options = A_QUARTER | ripple | {"sensor": (25, 100, phase_ms)}
    polled = measure(faults=[*NO_COUNTER, "185:3"], **options)
    energy, true_j = energy_of(polled), library.true_energy_j(0, LONG.start_s, LONG.end_s)
    assert energy.source == "instant_poll"
    assert abs(energy.joules / true_j - 1) > 0.1, "the readings hardly differ and are far off"
    assert energy.low <= true_j <= energy.high
    said = doubts_of(polled)
    assert "bounded by the idle power and the power limit only" in said["part-time sensor"]
    assert "decode step takes 100 ms" in said["step lock"]


def test_a_counter_beside_a_sensor_of_part_of_the_time_is_doubted_and_one_beside_another_is_not(
    measure: Measure,
) -> None:
    blind = measure(counter="readings", **A_QUARTER)
    assert energy_of(blind).source == "counter"
    assert "documented nowhere" in doubts_of(blind)["part-time sensor"]
    assert "part-time sensor" not in doubts_of(measure(capability=SEES_ALL))
    mean = measure(faults=NO_COUNTER, **A_QUARTER)
    assert energy_of(mean).source == "avg_poll"
    assert "part-time sensor" not in doubts_of(mean), "the mean of a second misses nothing"


def test_a_missing_tail_is_open(measure: Measure, library: Modelled) -> None:
    import pyarrow.compute as pc

    window = Interval(start_s=14.0, end_s=30.0)
    options: dict[str, Any] = {"window": window, "power_w": "400,60@29.45"} | A_QUARTER
    run = measure(faults=NO_COUNTER, idle_spans={}, **options)
    cut = run.telemetry.filter(pc.field("t_s") <= 29.95)
    short = energy_of(Run(folder=run.folder, meta=run.meta, requests=run.requests, telemetry=cut))
    assert short.source == "avg_poll"
    assert short.high - short.low > energy_of(run).high - energy_of(run).low + 0.5 * 400.0
    assert short.low <= library.true_energy_j(0, 14.0, 30.0) <= short.high


def test_a_counter_of_the_whole_module_is_said_and_not_compared_with_a_gpus(measure: Measure) -> None:
    run = measure(module_scope=True, faults=["83:3"])
    assert energy_of(run).source == "counter"
    assert "scope module" in in_words(SystemRuns(name="modelled", offline=None, windows=[run]))
    assert "module" in doubts_of(run)["module energy"]
    with pytest.raises(ResultError, match="energy_scope differs"):
        compared(run, measure())


def test_a_module_is_not_held_against_the_limit_of_its_gpu(measure: Measure) -> None:
    run = measure(module_scope=True, faults=["83:3"], gain=(1.0, 4.0))  # CPU and GPU draw 800 W together
    energy = energy_of(run)
    assert (energy.source, energy.scope) == ("counter", "module")
    assert energy.power_w == pytest.approx(800.0, rel=0.01)
    assert "counter disagrees" not in doubts_of(run), "the GPU's power is another thing"


def test_power_polled_in_place_of_a_modules_counter_is_the_gpus(measure: Measure) -> None:
    run = measure(module_scope=True, faults=["83:3"], reset_at_s=25.0)
    assert (energy_of(run).source, energy_of(run).scope) == ("avg_poll", "gpu")
    assert "scope gpu" in in_words(SystemRuns(name="modelled", offline=None, windows=[run]))
    assert "module energy" not in doubts_of(run)


def test_idle_power_of_a_gpu_is_not_taken_off_the_energy_of_a_module(measure: Measure) -> None:
    options: dict[str, Any] = {"module_scope": True, "faults": ["83:3"], "utilization": "0,87@17"}
    run = measure(power_w="60,80@10,300@17", idle_spans=IDLE, reset_at_s=12.0, **options)
    assert energy_of(run).scope == "module"
    assert idle.net_kwh_per_1k(run).why == "the idle power is of the gpu, that under load of the module"


def test_of_two_gpus_the_joules_are_added_up(measure: Measure) -> None:
    devices = metered(measure(gpus=2, power_w="200;100"))
    assert not isinstance(devices, str)
    assert sorted(energy.power_w for energy in devices) == pytest.approx([100, 200], rel=1e-3)


def test_of_two_gpus_one_without_joules_makes_the_total_missing(measure: Measure) -> None:
    without = [f"{target.split(':')[0]}@1:3" for target in (*NO_COUNTER, *NO_POWER)]
    run = measure(gpus=2, faults=without)
    assert kwh_per_1k(run).value is None
    assert "Not Supported" in str(kwh_per_1k(run).why)


def test_a_gpu_is_read_by_its_uuid_whatever_its_index(library: Modelled) -> None:
    library.configure(gpus=2, power_w="100;300")
    meter = open_gpu(fake_nvml.uuid(1))
    try:
        assert ("power_w", 300.0, fake_nvml.uuid(1)) in meter.read()
    finally:
        meter.close()


def test_uncorrected_memory_errors_spoil_a_run_and_corrected_ones_are_doubted(measure: Measure) -> None:
    spoilt = measure(ecc=("0", "0,2@25"))
    assert [level for level, text in faults_of(spoilt) if "memory errors" in text] == ["INVALID"]
    doubtful = measure(ecc=("1,4@25", "0"))
    assert judge_run(doubtful).level == "VALID"
    assert "corrected 3 errors" in doubts_of(doubtful)["corrected memory errors"]
    old = measure(ecc=("7", "2"), capability=SEES_ALL)
    assert faults_of(old) == []
    assert doubts_of(old) == {}


IDLE = {"cold": Interval(start_s=4.0, end_s=9.0), "resident": Interval(start_s=11.0, end_s=16.0)}


def test_net_energy_is_what_the_load_adds_to_the_idle(measure: Measure) -> None:
    run = measure(power_w="60,80@10,300@17", idle_spans=IDLE, utilization="0,87@17")
    assert idle.cold_w(run).value == pytest.approx(60, rel=0.01)
    assert idle.resident_w(run).value == pytest.approx(80, rel=0.01)
    net, gross = idle.net_kwh_per_1k(run).value, kwh_per_1k(run).value
    assert net is not None
    assert gross is not None
    assert net / gross == pytest.approx(220 / 300, rel=0.01)


def test_an_idle_that_was_none_leaves_net_energy_missing_and_doubted(measure: Measure) -> None:
    run = measure(power_w="60,270@10,300@17", idle_spans=IDLE, utilization="0,87@17")
    assert idle.net_kwh_per_1k(run).value is None
    assert "idle was not idle" in str(idle.net_kwh_per_1k(run).why)
    assert "idle was not idle" in doubts_of(run)["idle not idle"]
    assert kwh_per_1k(run).value is not None, "gross energy does not depend on it"


def test_an_idle_that_differs_before_and_after_is_none(measure: Measure) -> None:
    spans = IDLE | {"resident_after": Interval(start_s=33.0, end_s=38.0)}
    run = measure(power_w="60,80@10,300@17,100@32", idle_spans=spans, utilization="0,87@17,0@32")
    assert "80 W before and 100 W after" in str(idle.net_kwh_per_1k(run).why)


def test_an_idle_in_which_somebody_computed_is_none(measure: Measure) -> None:
    options: dict[str, Any] = {"power_w": "60,80@10,300@17", "idle_spans": IDLE}
    resident = measure(utilization="0,30@10,87@17", **options)
    assert "kernels ran on the GPU for 30 % of the resident idle span" in doubts_of(resident)["idle not idle"]
    assert idle.net_kwh_per_1k(resident).value is None
    cold = measure(utilization="30,0@10,87@17", **options)
    assert "of the cold idle span" in doubts_of(cold)["idle not idle"]
    assert idle.net_kwh_per_1k(cold).value is not None, "the resident idle is taken off"
    # What ran within the second before a span is not of it.
    assert "idle not idle" not in doubts_of(measure(utilization="0,87@9,0@11.5,87@17", **options))


def test_a_power_below_half_of_the_idle_is_believed_by_nobody(measure: Measure) -> None:
    run = measure(power_w="200,40@17", idle_spans=IDLE)
    assert kwh_per_1k(run).value is None
    assert "below half of the idle" in str(kwh_per_1k(run).why)


STARVED = Disturbance(stall_every_s=1.0, stall_s=2.0)


def test_a_starved_sampler_leaves_the_counter_and_takes_the_polled_power(measure: Measure) -> None:
    window = Interval(start_s=20.0, end_s=60.0)
    counted = measure(disturbance=STARVED, window=window, power_w="square:100:300:0.5:0.5")
    assert energy_of(counted).source == "counter"
    assert "cover only" in doubts_of(counted)["sampler gaps"]
    assert counted.meta.facts["sampler"]["skipped"] > 0
    polled = measure(disturbance=STARVED, window=window, faults=NO_COUNTER)
    assert kwh_per_1k(polled).value is None
    assert "cover only" in str(kwh_per_1k(polled).why)


class HeldUp(Disturbance, frozen=True, kw_only=True):
    """The sampler is held up over the first tick of the window and the one that is searched at its end."""

    def stalls(self, rng: np.random.Generator) -> Iterator[Interval]:
        yield Interval(start_s=20.02, end_s=20.11)
        yield Interval(start_s=29.82, end_s=29.905)


def test_a_tick_that_fell_while_the_sampler_was_held_up_is_looked_for_once_more(measure: Measure) -> None:
    held_up = HeldUp(late_s=0.0, read_s=0.0)
    energy = energy_of(measure(disturbance=held_up, tick_ms=100, tick_phase_ms=50))
    assert energy.source == "counter"
    assert energy.aligned
    assert energy.timed_s is not None
    assert energy.timed_s < 0.005
    assert 20.1 < energy.span.start_s < 20.2
    assert 29.9 < energy.span.end_s < 30.0


def test_a_counter_that_was_never_seen_to_tick_sharply_is_still_better_than_power(measure: Measure) -> None:
    # Every tick is missed by tens of milliseconds, which leaves more than 0.5 % of ten seconds open.
    slow = Disturbance(late_s=0.06, late_spread=0.1, stall_every_s=math.inf)
    energy = energy_of(measure(disturbance=slow, power_w="square:60:300:0.73:0.5"))
    assert energy.source == "counter"
    assert not energy.aligned
    assert 0.005 < energy.open_share < 0.05


def test_a_window_that_is_too_short_for_counter_and_sensor_has_no_joules(measure: Measure) -> None:
    run = measure(window=Interval(start_s=20.0, end_s=20.8), sensor=(25, 100), average=(1000, 100))
    assert kwh_per_1k(run).value is None
    assert "window_short" in str(kwh_per_1k(run).why)


def test_a_wall_clock_that_was_set_is_doubted_and_durations_are_not(measure: Measure) -> None:
    run = measure()
    run.meta.facts["clock_step_s"] = -0.4
    assert "set by 400 ms" in doubts_of(run)["clock step"]
    assert judge_run(run).level == "VALID"


def test_a_modelled_library_is_never_taken_for_a_measurement(measure: Measure) -> None:
    run = measure(driver="590.48.01")
    assert run.meta.source == "simulated"
    real = measure(meta={"source": "measured"})
    with pytest.raises(ResultError, match="source differs"):
        compared(run, real)


def test_batches_in_step_with_a_sensor_that_looks_now_and_then_are_doubted(measure: Measure) -> None:
    options: dict[str, Any] = {
        "sensor": (25, 100),
        "average": (1000, 100),
        "capability": "8.0",
        "power_w": "square:100:300:0.1:0.3",
    }
    locked = measure(jitter=0.0, **options)  # a request every 200 ms, on the dot
    assert "in step with the power sensor" in doubts_of(locked)["phase lock"]
    assert "phase lock" not in doubts_of(measure(**options))


def _joules(runs: Sequence[Run]) -> list[float]:
    return [energy_of(run).joules for run in runs]


def test_the_same_failure_gives_the_same_figures_every_time(measure: Measure) -> None:
    runs = [
        measure(disturbance=Disturbance(), power_w="burst:60:600:0.3:0.4:3", faults=NO_COUNTER) for _ in "ab"
    ]
    one, two = _joules(runs)
    assert math.isfinite(one)
    assert one == two
