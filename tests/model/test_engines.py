from __future__ import annotations

from typing import Any, Literal

import pytest

from bench.config import Compile, choose
from bench.errors import ConfigError
from bench.model.engines import (
    ENGINES,
    EngineKind,
    Generate,
    Steps,
    TransformersContinuous,
    check_combination,
)
from bench.model.kv_cache import KV_CACHES, Auto, Dynamic, KvCache, Off, Paged, Quantized, Static, resolve
from bench.model.precision import Bf16, Fp16, Fp32, Int8, Nf4, Precision
from bench.protocols import Admission


class AnyPolicy:
    """A policy of which only the demands on an engine count."""

    def __init__(self, *, joins: bool = False, prefill_chunk: int | None = None) -> None:
        self.max_batch = 8
        self.backlog = 8
        self.joins = joins
        self.prefill_chunk = prefill_chunk

    def admit(self, *_: Any, **__: Any) -> Admission:
        raise AssertionError("a check of the combination does not ask the policy")


def check(
    engine: EngineKind,
    cache: KvCache | None = None,
    compile: Compile | None = None,
    precision: Precision | None = None,
    policy: AnyPolicy | None = None,
) -> None:
    check_combination(
        engine, cache or Auto(), compile, precision or Fp16(), policy or AnyPolicy(), "x.toml", "systems.fast"
    )


def why_not(*args: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(*args, **options)
    line = str(caught.value)
    assert line.startswith("x.toml: systems.fast.")
    assert "\n" not in line
    return line.removeprefix("x.toml: systems.fast.")


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_runs_with_each_of_its_caches_and_no_other(name: str) -> None:
    engine = choose(ENGINES, name, "x.toml", "systems.fast.engine")
    for kind, row in KV_CACHES.items():
        cache = row(backend="fp8") if row is Quantized else row()
        if kind == "auto" or kind in engine.kv_caches:
            check(engine, cache)
        else:
            assert f'kv_cache = "{kind}" does not work with engine = "{name}"' in why_not(engine, cache)


def test_auto_is_the_engines_own_cache_and_with_compile_one_that_it_compiles_with() -> None:
    assert resolve(Auto(), Generate()) == Dynamic()
    assert resolve(Auto(), Steps()) == Dynamic()
    assert resolve(Auto(), Steps(), Compile()) == Static()
    assert resolve(Auto(), TransformersContinuous()) == Paged()
    assert resolve(Off(), Generate()) == Off()


def test_a_policy_that_lets_requests_join_needs_an_engine_that_can() -> None:
    for engine in (Steps(), TransformersContinuous()):
        check(engine, policy=AnyPolicy(joins=True, prefill_chunk=64))
    assert why_not(Generate(), policy=AnyPolicy(joins=True)).startswith("batching lets requests join")
    line = why_not(Generate(), policy=AnyPolicy(joins=True))
    assert 'it needs engine = "steps" or "transformers-continuous"' in line


def test_chunked_prefill_needs_an_engine_that_can() -> None:
    assert "computes prompts in chunks" in why_not(Generate(), policy=AnyPolicy(prefill_chunk=64))


def test_two_keys_that_bound_the_tokens_of_a_step_are_refused_together() -> None:
    chunked = AnyPolicy(prefill_chunk=64)
    line = why_not(TransformersContinuous(max_batch_tokens=512), policy=chunked)
    assert line.startswith("engine: max_batch_tokens = 512 and batching's prefill_chunk = 64 both bound")
    check(TransformersContinuous(max_batch_tokens=512))
    check(TransformersContinuous(), policy=chunked)


@pytest.mark.parametrize(("backend", "package"), [("hqq", "hqq"), ("quanto", "optimum-quanto")])
def test_a_cache_whose_package_is_missing_is_refused_when_the_file_is_read(
    backend: Literal["hqq", "quanto"], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = why_not(Generate(), Quantized(backend=backend))
    assert line == f'kv_cache: backend = "{backend}" needs {package}; run: pip install {package}'
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    check(Generate(), Quantized(backend=backend))


def test_a_paged_cache_that_cannot_hold_the_longest_request_says_how_many_blocks_can() -> None:
    engine = TransformersContinuous(num_blocks=8, block_size=16)
    engine.check_context(128)
    with pytest.raises(ValueError, match=r"hold 128 tokens, .* up to 129; num_blocks must be at least 9"):
        engine.check_context(129)
    for other in (TransformersContinuous(), Steps(), Generate()):
        other.check_context(10**9)


@pytest.mark.parametrize("precision", [Fp32(), Bf16(), Fp16()], ids=repr)
def test_plain_weights_are_compiled_by_steps_with_a_static_cache(precision: Precision) -> None:
    check(Steps(), Static(), Compile(), precision)
    check(Steps(), Auto(), Compile(), precision)


@pytest.mark.parametrize("precision", [Int8(), Nf4()], ids=repr)
def test_bitsandbytes_layers_cannot_be_compiled(precision: Precision) -> None:
    assert "bitsandbytes layers cannot be compiled" in why_not(Steps(), Auto(), Compile(), precision)
    check(Steps(), Auto(), None, precision)


def test_compile_needs_a_cache_whose_shape_stays() -> None:
    assert 'so kv_cache = "static", not "dynamic"' in why_not(Steps(), Dynamic(), Compile())


@pytest.mark.parametrize("engine", [Generate(), TransformersContinuous()], ids=repr)
def test_an_engine_that_cannot_be_compiled_says_why_and_which_can(engine: EngineKind) -> None:
    line = why_not(engine, Auto(), Compile())
    assert "cannot be compiled: its " in line
    assert line.endswith('it needs engine = "steps"')


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"kind": "transformers-continuous", "block_size": 2}, "block_size = 2 must be at least 4"),
        ({"kind": "transformers-continuous", "safety_margin": 1.5}, "a share and at most 1"),
        ({"kind": "generate", "num_blocks": 3}, "num_blocks is an unknown key; valid here: none"),
        ("step", "did you mean 'steps'"),
    ],
    ids=repr,
)
def test_a_wrong_engine_table_is_one_line_that_says_what_is_valid(table: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        choose(ENGINES, table, "x.toml", "systems.fast.engine")
