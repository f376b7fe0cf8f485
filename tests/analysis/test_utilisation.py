"""MBU and MFU of recorded runs whose steps take a known share of what the device can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.analysis import utilisation
from bench.analysis.doubts import find_doubts
from bench.analysis.system import SystemRuns
from bench.records import Footprint, Request, Run, ServiceLaw, Value
from bench.serving.policies import DynamicBatching, NoBatching
from tests.analysis.test_fit import recorded

H200_BYTES_PER_S = 4.8e12
H200_OPERATIONS_PER_S = 989e12
MODEL = Footprint(
    parameters=8_000_000_000,
    weight_bytes=17_000_000_000,
    gathered_bytes=1_000_000_000,
    linear_parameters=7_500_000_000,
    head_parameters=500_000_000,
    attention_layers=32,
    attention_width=4096,
    kv_bytes_per_token=131_072,
    math="float16",
)
TRAFFIC = [Request(uid=i, due_s=20.0 * i, prompt_ids=range(100), output_tokens=20) for i in range(30)]
PREFILL_OPERATIONS = 2 * 7.5e9 * 100 + 2 * 0.5e9 + 2 * 32 * 4096 * 100**2


def law(mbu: float, mfu: float = 0.5, *, bandwidth: float = H200_BYTES_PER_S) -> ServiceLaw:
    """Return the law of a device that reaches these shares: steps bound by bytes, prefills by operations."""
    return ServiceLaw(
        prefill_s=PREFILL_OPERATIONS / H200_OPERATIONS_PER_S / mfu,
        decode_s=16e9 / bandwidth / mbu,
        decode_s_per_context_token=131_072 / bandwidth / mbu,
    )


def system(
    tmp_path: Path,
    service: ServiceLaw,
    *,
    device: str = "cuda",
    facts: dict[str, Any] | None = None,
    peaks: dict[str, Any] | None = None,
    footprint: Footprint | None = MODEL,
    batched: bool = False,
) -> SystemRuns:
    """Return a system with one repeat that kept `service`, as if measured on an H200."""
    policy = DynamicBatching(max_size=4, max_wait_ms=90_000) if batched else NoBatching()
    run = recorded(tmp_path, "static", policy, traffic=TRAFFIC, law=service)
    model = {} if footprint is None else {"footprint": msgspec.to_builtins(footprint)}
    meta = msgspec.structs.replace(
        run.meta,
        source="measured",
        device=device,
        facts={"gpu_name": "NVIDIA H200", "model": model} | (facts or {}),
    )
    window = Run(folder=run.folder, meta=meta, requests=run.requests, telemetry=run.telemetry)
    told = msgspec.structs.replace(meta, kind="offline", window=None, facts={"peaks": peaks or {}})
    offline = Run(folder="", meta=told, requests=run.requests, telemetry=run.telemetry)
    return SystemRuns(name="baseline", offline=offline, windows=[window])


def figure(value: Value) -> float:
    assert value.value is not None, value.note
    return value.value


@pytest.mark.parametrize("batched", [False, True])
def test_a_device_that_moves_half_of_what_it_can_has_an_mbu_of_one_half(
    tmp_path: Path, batched: bool
) -> None:
    runs = system(tmp_path, law(0.5), batched=batched)
    found = utilisation.decode_mbu(runs)
    assert figure(found) == pytest.approx(0.5, rel=1e-3)
    assert "of 4800 GB/s (specification)" in found.note


def test_the_decode_floor_is_the_mean_steps_bytes_over_the_bandwidth(tmp_path: Path) -> None:
    floor = utilisation.decode_floor_ms(system(tmp_path, law(0.5)))
    # 19 steps over 101 to 119 tokens: 110 on average.
    assert figure(floor) == pytest.approx((16e9 + 110 * 131_072) / H200_BYTES_PER_S * 1e3, rel=1e-4)


def test_a_prefill_at_a_third_of_the_peak_has_an_mfu_of_one_third(tmp_path: Path) -> None:
    runs = system(tmp_path, law(0.5, 1 / 3))
    assert figure(utilisation.prefill_mfu(runs)) == pytest.approx(1 / 3, rel=1e-3)
    # 1.5 TFLOP at 989 TFLOP/s take 1.5 ms, reading 16 GB 3.3 ms: the memory is the limit.
    assert figure(utilisation.prefill_floor_ms(runs)) == pytest.approx(16e9 / H200_BYTES_PER_S * 1e3)
    assert PREFILL_OPERATIONS / H200_OPERATIONS_PER_S < 16e9 / H200_BYTES_PER_S


def test_bytes_as_found_in_memory_go_before_those_predicted(tmp_path: Path) -> None:
    runs = system(tmp_path, law(0.5))
    (run,) = runs.windows
    halved = msgspec.structs.replace(run.meta, treatment={"total_bytes": 9_000_000_000})
    window = Run(folder="", meta=halved, requests=run.requests, telemetry=run.telemetry)
    found = utilisation.decode_mbu(SystemRuns(name="baseline", offline=None, windows=[window]))
    assert figure(found) == pytest.approx(0.25, rel=1e-2)


def test_the_note_has_the_share_of_what_was_measured_at_start_up(tmp_path: Path) -> None:
    peaks = {"copy_gb_per_s": 4000.0, "matmul_tflops": {"float16": 780.0}}
    runs = system(tmp_path, law(0.5, 0.4), peaks=peaks)
    assert "60 % of 4000 GB/s (a measured copy)" in utilisation.decode_mbu(runs).note
    assert "51 % of 780 TFLOP/s in float16 (a measured product)" in utilisation.prefill_mfu(runs).note


def test_on_a_cpu_the_measured_copy_is_the_limit(tmp_path: Path) -> None:
    slow = law(0.5, bandwidth=10e9)
    runs = system(tmp_path, slow, device="cpu", peaks={"copy_gb_per_s": 10.0, "why": {"float16": "no room"}})
    found = utilisation.decode_mbu(runs)
    assert figure(found) == pytest.approx(0.5, rel=1e-3)
    assert "of 10 GB/s (a measured copy)" in found.note
    assert "no product in float16 was measured (no room)" in utilisation.prefill_mfu(runs).note
    nothing = utilisation.decode_mbu(system(tmp_path / "b", slow, device="cpu"))
    assert nothing.value is None
    assert "no specification of a CPU here, and no copy was measured" in nothing.note


def test_what_is_unknown_is_missing_with_its_reason(tmp_path: Path) -> None:
    def note(name: str, **changes: Any) -> str:
        found = utilisation.decode_mbu(system(tmp_path / name, law(0.5), **changes))
        assert found.value is None
        return found.note

    assert "footprint was not recorded" in note("a", footprint=None)
    assert "no specification of NVIDIA Unheard Of" in note("b", facts={"gpu_name": "NVIDIA Unheard Of"})
    assert "MIG" in note("c", facts={"meters": {"gpu": {"mig": True}}})


def test_more_than_the_limit_is_shown_and_our_own_count_is_doubted(tmp_path: Path) -> None:
    runs = system(tmp_path, law(1.2))
    assert figure(utilisation.decode_mbu(runs)) == pytest.approx(1.2, rel=1e-3)
    doubt = utilisation.beyond_limit(runs)
    assert doubt is not None
    assert "120 % of the memory bandwidth (4800 GB/s (specification)): above the physical limit" in doubt[0]
    assert "beyond limit" in [found.key for found in find_doubts(runs, {})]
    assert utilisation.beyond_limit(system(tmp_path / "b", law(0.97))) is None


def test_a_specification_without_a_second_source_is_blamed_as_well(tmp_path: Path) -> None:
    def on(name: str, service: ServiceLaw) -> SystemRuns:
        return system(tmp_path / name, service, facts={"gpu_name": "NVIDIA GeForce RTX 3090"})

    assert "(specification; check: no second source agrees)" in utilisation.decode_mbu(on("a", law(0.1))).note
    doubt = utilisation.beyond_limit(on("b", law(1.2, bandwidth=936e9)))
    assert doubt is not None
    assert "our count of bytes or operations, or the specification, with which no second source" in doubt[0]
    firm = utilisation.beyond_limit(system(tmp_path / "c", law(1.2)))
    assert firm is not None
    assert "or the specification" not in firm[0]


def test_too_many_operations_are_doubted_as_well(tmp_path: Path) -> None:
    doubt = utilisation.beyond_limit(system(tmp_path, law(0.5, 1.1)))
    assert doubt is not None
    assert "110 % of the peak rate of products" in doubt[0]


def test_weights_that_fit_in_the_cache_are_told_and_not_doubted(tmp_path: Path) -> None:
    small = msgspec.structs.replace(MODEL, weight_bytes=40_000_000, gathered_bytes=0, kv_bytes_per_token=0)
    quick = ServiceLaw(prefill_s=1.0, decode_s=40e6 / H200_BYTES_PER_S / 2.0)
    runs = system(tmp_path, quick, footprint=small)
    found = utilisation.decode_mbu(runs)
    assert figure(found) > 1
    assert "the weights fit in the cache" in found.note
    assert utilisation.beyond_limit(runs) is None
    larger = msgspec.structs.replace(small, weight_bytes=60_000_000)
    slower = ServiceLaw(prefill_s=1.0, decode_s=60e6 / H200_BYTES_PER_S / 2.0)
    assert utilisation.beyond_limit(system(tmp_path / "b", slower, footprint=larger)) is not None


def test_a_cpus_cache_is_known_from_the_start_up(tmp_path: Path) -> None:
    small = msgspec.structs.replace(MODEL, weight_bytes=40_000_000, gathered_bytes=0, kv_bytes_per_token=0)
    quick = ServiceLaw(prefill_s=100.0, decode_s=40e6 / 10e9 / 3.0)
    peaks = {"copy_gb_per_s": 10.0}
    one = system(tmp_path, quick, device="cpu", footprint=small, peaks=peaks)
    assert utilisation.beyond_limit(one) is not None
    two = system(tmp_path / "b", quick, device="cpu", footprint=small, peaks=peaks | {"cache_bytes": 50e6})
    assert utilisation.beyond_limit(two) is None


def test_without_a_cache_or_with_a_quantized_one_a_step_reads_less(tmp_path: Path) -> None:
    heavy = msgspec.structs.replace(MODEL, kv_bytes_per_token=131_072_000)
    full = figure(utilisation.decode_floor_ms(system(tmp_path, law(0.5), footprint=heavy)))
    quarter = {"kv_cache": {"kind": "quantized", "bytes_held": 25.0, "bytes_held_by_formula": 100.0}}
    less = system(tmp_path / "q", law(0.5), footprint=heavy, facts={"engine": quarter})
    none = system(tmp_path / "o", law(0.5), footprint=heavy, facts={"engine": {"kv_cache": {"kind": "off"}}})
    weights_ms = 16e9 / H200_BYTES_PER_S * 1e3
    assert figure(utilisation.decode_floor_ms(none)) == pytest.approx(weights_ms)
    assert figure(utilisation.decode_floor_ms(less)) == pytest.approx(weights_ms + (full - weights_ms) / 4)
