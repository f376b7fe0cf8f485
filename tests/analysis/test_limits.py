"""The physical limits, held against hand calculations and published figures, and what they rule out."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bench.analysis import limits
from bench.analysis.reference import Gpu, gpus
from bench.config import Objectives
from bench.records import Footprint

LLAMA_3_8B = Footprint(
    parameters=8_030_261_248,
    weight_bytes=16_060_522_496,
    gathered_bytes=1_050_673_152,
    linear_parameters=6_979_321_856,
    head_parameters=525_336_576,
    attention_layers=32,
    attention_width=4096,
    kv_bytes_per_token=131_072,
    math="float16",
)
WHOLE = msgspec.structs.replace(
    LLAMA_3_8B,
    gathered_bytes=0,
    linear_parameters=LLAMA_3_8B.parameters,
    head_parameters=0,
    attention_layers=0,
    kv_bytes_per_token=0,
)
"""The published table counts every parameter and neither cache nor attention."""
SMALL = Footprint(
    parameters=1000,
    weight_bytes=2200,
    gathered_bytes=200,
    linear_parameters=900,
    head_parameters=100,
    attention_layers=2,
    attention_width=5,
    kv_bytes_per_token=10,
    math="float16",
)
ONE = Gpu(
    label="one",
    memory_gb=1,
    bandwidth_gb_per_s=1e-6,  # 1,000 bytes/s
    fp16_tflops=1e-9,  # 1,000 operations/s
    confidence="ok",
    source="invented",
    date="2026",
)
SERVICE = Objectives(p95_latency_ms=1200)


@pytest.mark.parametrize(
    ("gpu", "tpot_ms", "ttft_ms", "total_ms"),
    [
        ("Tesla T4", 50.2, 161, 11152),
        ("NVIDIA L4", 53.5, 86, 11810),
        ("NVIDIA A100-SXM4-80GB", 7.9, 34, 1758),
        ("NVIDIA H100 80GB HBM3", 4.8, 10.6, 1060),
        ("NVIDIA H200", 3.3, 10.6, 743),
        ("NVIDIA B200", 2.0, 4.6, 444),
    ],
)
def test_llama_3_8b_in_fp16_cannot_serve_650_in_and_220_out_faster_than_published(
    gpu: str, tpot_ms: float, ttft_ms: float, total_ms: float
) -> None:
    spec = gpus()[gpu]
    assert float(limits.decode_floor_s(WHOLE, spec, 0)) * 1e3 == pytest.approx(tpot_ms, abs=0.06)
    assert float(limits.prefill_floor_s(WHOLE, spec, 650)) * 1e3 == pytest.approx(ttft_ms, rel=0.02)
    assert float(limits.request_floor_s(WHOLE, spec, 650, 220)) * 1e3 == pytest.approx(total_ms, rel=2e-3)


def test_cache_and_attention_add_what_a_hand_calculation_says() -> None:
    spec = gpus()["NVIDIA A100-SXM4-80GB"]
    step = float(limits.decode_floor_s(LLAMA_3_8B, spec, 4 * 760))
    assert step == pytest.approx((15.00985e9 + 4 * 760 * 131_072) / 2.039e12, rel=1e-4)
    first = float(limits.prefill_floor_s(LLAMA_3_8B, spec, 650))
    attention = 2 * 32 * 650**2 * 4096
    assert first == pytest.approx((2 * (6.979322e9 * 650 + 0.5253e9) + attention) / 312e12, rel=1e-4)


def test_a_request_is_its_prefill_and_its_steps_one_after_the_other() -> None:
    for prompt, output in [(3, 1), (3, 2), (7, 12)]:
        steps_s = [float(limits.decode_floor_s(SMALL, ONE, prompt + i)) for i in range(1, output)]
        whole_s = float(limits.prefill_floor_s(SMALL, ONE, prompt)) + sum(steps_s)
        assert float(limits.request_floor_s(SMALL, ONE, prompt, output)) == pytest.approx(whole_s)


def test_a_short_prompts_prefill_is_bound_by_reading_the_weights() -> None:
    # 2,000 bytes at 1,000/s are 2 s; one token's 2,020 operations at 1,000/s are 2.02 s, and on a faster
    # GPU less.
    assert float(limits.prefill_floor_s(SMALL, ONE, 1)) == pytest.approx(2.02)
    fast = msgspec.structs.replace(ONE, fp16_tflops=1e-6)
    assert float(limits.prefill_floor_s(SMALL, fast, 1)) == pytest.approx(2.0)
    unknown = msgspec.structs.replace(ONE, fp16_tflops=None)
    assert float(limits.prefill_floor_s(SMALL, unknown, 1)) == pytest.approx(2.0)


def test_floors_fall_as_bandwidth_rises_and_rise_with_every_token() -> None:
    lengths = np.arange(1, 400)
    by_prompt = limits.request_floor_s(LLAMA_3_8B, gpus()["NVIDIA L4"], lengths, 100)
    by_output = limits.request_floor_s(LLAMA_3_8B, gpus()["NVIDIA L4"], 100, lengths)
    assert (np.diff(by_prompt) > 0).all()
    assert (np.diff(by_output) > 0).all()
    assert (by_output > limits.request_floor_s(LLAMA_3_8B, gpus()["NVIDIA H200"], 100, lengths)).all()


@pytest.mark.parametrize(
    ("gpu", "possible"),
    [("Tesla T4", False), ("NVIDIA A100-SXM4-80GB", False), ("NVIDIA H100 80GB HBM3", True)],
)
def test_an_objective_below_the_floor_is_refused_before_the_run(gpu: str, possible: bool) -> None:
    prompts, outputs = np.full(100, 650), np.full(100, 220)
    why = limits.impossible(SERVICE, LLAMA_3_8B, gpus()[gpu], prompts, outputs)
    assert (why is None) == possible
    if why is not None:
        assert why.startswith(
            "objectives.p95_latency_ms = 1200 cannot be met by this model at this precision on"
        )
        assert gpus()[gpu].label in why
        assert "15 GB of weights" in why


def test_eight_bit_weights_make_possible_what_sixteen_bit_ones_do_not() -> None:
    prompts, outputs = np.full(10, 650), np.full(10, 220)
    a100 = gpus()["NVIDIA A100-SXM4-80GB"]
    halved = msgspec.structs.replace(LLAMA_3_8B, weight_bytes=9_086_705_664, math="int8")
    assert limits.impossible(SERVICE, LLAMA_3_8B, a100, prompts, outputs) is not None
    assert limits.impossible(SERVICE, halved, a100, prompts, outputs) is None


def test_the_tail_of_the_lengths_decides_and_not_their_mean() -> None:
    h100 = gpus()["NVIDIA H100 80GB HBM3"]
    outputs = np.where(np.arange(100) < 90, 150, 600)
    why = limits.impossible(SERVICE, LLAMA_3_8B, h100, np.full(100, 650), outputs)
    assert why is not None
    assert "at p95 and 884 ms with the mean 650 tokens in and 195 out" in why
    rare = np.where(np.arange(100) < 99, 150, 600)
    assert limits.impossible(SERVICE, LLAMA_3_8B, h100, np.full(100, 650), rare) is None


def test_nothing_is_refused_without_an_objective_a_specification_or_requests() -> None:
    prompts = np.full(10, 650)
    assert limits.impossible(Objectives(), LLAMA_3_8B, gpus()["Tesla T4"], prompts, prompts) is None
    assert limits.impossible(SERVICE, LLAMA_3_8B, None, prompts, prompts) is None
    assert limits.impossible(SERVICE, LLAMA_3_8B, gpus()["Tesla T4"], prompts[:0], prompts[:0]) is None
