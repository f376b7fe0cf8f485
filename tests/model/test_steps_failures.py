"""What the steps engine refuses, what fails alone, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.clock import WallClock
from bench.errors import EngineLost, NotAvailable, TreatmentError
from bench.model.kv_cache import Static
from bench.model.load import LoadedModel
from bench.model.steps import StepEngine
from bench.model.treatment import check_engine
from bench.records import Failure, Generation
from tests.model.drawn import requests
from tests.model.driving import generations, run_batch
from tests.model.small import load_small
from tests.model.stepping import MIXED, engine_of, stock, tokens


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_ids": (5, 2**40)},
        {"prompt_ids": ()},
        {"output_tokens": 0},
        {"output_tokens": 10**6},
        {"text": "another number of tokens than stated"},
    ],
)
def test_a_request_at_fault_fails_alone(tiny: LoadedModel, change: dict[str, Any]) -> None:
    good, other, last = requests(2000, [(9, 6), (4, 3), (12, 4)])
    bad = msgspec.structs.replace(other, **change)
    ended = run_batch(engine_of(tiny), [good, bad, last])
    failure = ended.pop(1)
    assert isinstance(failure, Failure)
    assert failure.error.startswith("request 1: ")
    found = [g for g in (ended[0], ended[2]) if isinstance(g, Generation)]
    assert tokens(found) == stock(tiny, [good, last])


def test_a_step_whose_requests_are_all_at_fault_computes_nothing(tiny: LoadedModel) -> None:
    engine = engine_of(tiny)
    engine.admit([msgspec.structs.replace(requests(2000, [(4, 3)])[0], output_tokens=0)])
    assert [type(outcome) for outcome in engine.step(0.0)] == [Failure]
    assert engine.facts["prefill_positions"] == 0


def broken(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(loaded.model, "forward", fail)


def test_out_of_memory_goes_up_as_it_came_and_after_clear_the_engine_serves_on(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    engine = engine_of(tiny)
    batch = requests(2000, MIXED)
    engine.admit(batch)
    engine.step(0.0)
    with monkeypatch.context() as patch:
        broken(patch, tiny, torch.OutOfMemoryError("CUDA out of memory"))
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            engine.step(0.0)
    engine.clear()
    with pytest.raises(RuntimeError, match="nothing runs"):
        engine.step(0.0)
    assert tokens(generations(engine, batch)) == stock(tiny, batch)


def test_a_device_that_fails_for_good_is_lost(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    engine = engine_of(tiny)
    engine.admit(requests(2000, [(4, 3)]))
    broken(monkeypatch, tiny, torch.AcceleratorError("CUDA error: an illegal access\nmore"))
    with pytest.raises(EngineLost, match=r"CUDA error: an illegal access$"):
        engine.step(0.0)


def test_the_model_attends_as_it_was_loaded_between_steps(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(tiny)
    engine.admit(requests(2000, [(4, 3)]))
    assert tiny.model.config._attn_implementation == "sdpa"
    engine.step(0.0)
    assert tiny.model.config._attn_implementation == "sdpa"
    broken(monkeypatch, tiny, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        engine.step(0.0)
    assert tiny.model.config._attn_implementation == "sdpa"


def test_the_caches_bytes_are_those_of_the_formula_for_what_it_holds(tiny: LoadedModel) -> None:
    engine = engine_of(tiny, slots=4)
    generations(engine, requests(2000, [(60, 5), (10, 20)]))
    cache = engine.facts["kv_cache"]
    assert (cache["kind"], cache["slots"], cache["capacity"]) == ("dynamic", 2, 128)
    assert cache["bytes_per_token"] == cache["bytes_per_token_by_formula"] > 0
    assert cache["bytes_held"] == cache["bytes_held_by_formula"] == 2 * 128 * cache["bytes_per_token"]
    # After both first tokens 70 positions are held, two more with each step until the first ends.
    assert cache["peak_tokens_in_use"] == 70 + 2 * 4
    assert cache["peak_bytes_in_use"] == 78 * cache["bytes_per_token"]


def test_a_static_cache_is_held_from_the_start_at_the_whole_context(tiny: LoadedModel) -> None:
    engine = engine_of(msgspec.structs.replace(tiny, max_context=100), slots=3, static=True)
    cache = engine.facts["kv_cache"]
    assert (cache["kind"], cache["slots"], cache["capacity"]) == ("static", 3, 128)
    generations(engine, requests(2000, [(60, 40), (10, 20)]))
    engine.clear()
    assert engine.facts["kv_cache"]["bytes_held"] == cache["bytes_held"]


def test_facts_outlive_the_engine(tiny: LoadedModel) -> None:
    engine = engine_of(tiny)
    generations(engine, requests(2000, [(4, 3)]))
    facts = engine.facts
    engine.close()
    assert engine.facts == facts


def test_closing_never_raises_may_be_done_twice_and_nothing_runs_after_it(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.model.slot_cache import SlotCache

    def gone(_: object) -> None:
        raise RuntimeError("CUDA error: the device is gone")

    engine = engine_of(tiny)
    engine.admit(requests(2000, [(4, 3)]))
    engine.step(0.0)
    with monkeypatch.context() as patch:
        patch.setattr(SlotCache, "release", gone)
        engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="nothing runs"):
        engine.step(0.0)


def test_a_cache_that_was_not_allocated_before_the_traffic_does_not_pass_for_static(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.model.packed import Packed

    monkeypatch.setattr(Packed, "allocate", lambda *_: None)
    engine = engine_of(tiny, static=True)
    generations(engine, requests(2000, [(4, 3)]))
    with pytest.raises(TreatmentError, match="kv_cache is not in force: expected static, found dynamic"):
        check_engine(engine.facts, Static(), None)


def test_a_trial_that_gives_other_logits_refuses_the_model(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from bench.model import ragged

    def everything(positions: Any, length: int, *_: object) -> Any:
        return torch.zeros(len(positions), length)

    monkeypatch.setattr(ragged, "mask", everything)
    with pytest.raises(NotAvailable, match=r"cannot run llama models: in a trial its logits were off"):
        engine_of(tiny)


def test_layers_that_do_not_hand_on_the_layout_are_refused_in_one_line(tmp_path: Path) -> None:
    loaded = load_small("stablelm", tmp_path)
    with pytest.raises(NotAvailable, match=r"^the steps engine cannot run stablelm .* hand no arguments on"):
        engine_of(loaded)


def test_a_trial_that_raises_refuses_the_model(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = StepEngine(tiny, WallClock(), slots=2, prefill_chunk=None, static=False, compile=None)
    broken(monkeypatch, tiny, TypeError("unexpected argument 'ragged'"))
    with pytest.raises(NotAvailable, match=r"a trial failed: TypeError: .*'ragged'; use engine = .generate"):
        engine.prepare()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gptj": ({"n_embd": 32, "n_layer": 1, "n_head": 4, "rotary_dim": 4}, "attention interface"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 1}, "no past_key_values"),
    "llama": (
        {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_hidden_layers": 1,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
        },
        "dynamic rotary embedding",
    ),
    "llama4_text": (
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "intermediate_size": 32,
            "intermediate_size_mlp": 32,
            "num_local_experts": 2,
        },
        "attends in chunks",
    ),
    "lfm2": (
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 32,
            "layer_types": ["conv", "full_attention"],
        },
        "layer 0 keeps no ordinary keys and values",
    ),
    "deepseek_v3": ({"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}, "compressed keys"),
    "t5": ({"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}, "encoder-decoder"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_a_model_that_cannot_run_in_slots_is_refused_in_one_line(family: str, tiny: LoadedModel) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    settings, why = REFUSED[family]
    config = AutoConfig.for_model(family, vocab_size=50, pad_token_id=0, **settings)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    loaded = msgspec.structs.replace(tiny, model=model, facts=tiny.facts | {"model_type": family})
    with pytest.raises(NotAvailable, match=why) as refused:
        engine_of(loaded)
    assert str(refused.value).startswith(f"the steps engine cannot run {family} models: ")
    assert "\n" not in str(refused.value)
