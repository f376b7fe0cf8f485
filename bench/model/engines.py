"""The engines: what generates, one row each, and which treatments each can be combined with.

`generate` is one call of transformers' `generate` per batch, what most people run today: the honest
baseline. `steps` is bench's own loop over the stock model, which requests may join and leave at every step.
`transformers-continuous` is transformers' own continuous batching. A row states what its engine can, so that
an experiment which asks for more is refused when it is read and not when a GPU has been loaded for it.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from bench.clock import Clock
from bench.config import Compile, NonNegative, PositiveInt
from bench.errors import ConfigError
from bench.model.kv_cache import KvCache, Quantized, Static, resolve
from bench.model.kv_cache import name_of as cache_name
from bench.model.load import LoadedModel
from bench.model.precision import Precision
from bench.model.precision import name_of as precision_name
from bench.protocols import Engine, Policy


class EngineKind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every row states; a subclass's fields are its TOML keys."""

    joins: ClassVar[bool] = False
    """Whether requests may be admitted while others run."""
    chunks_prefill: ClassVar[bool] = False
    """Whether it can compute a prompt in pieces beside the running requests."""
    kv_caches: ClassVar[tuple[str, ...]]
    """The kinds of KV cache that it runs with, that of `auto` first."""
    compiles_with: ClassVar[tuple[str, ...]] = ()
    """The kinds with which it can compile, that of `auto` first; empty where it cannot."""
    why_not_compiled: ClassVar[str] = ""
    """Where it cannot: the reason, continuing "cannot be compiled: "."""

    def why_not(self, policy: Policy) -> str | None:
        """Return why the engine's own keys do not fit `policy`, continuing the system's key, else None."""
        return None

    def check_context(self, longest: int) -> None:
        """Raise ValueError where requests of up to `longest` tokens, output included, cannot be served."""

    def build(
        self,
        loaded: LoadedModel,
        clock: Clock,
        *,
        slots: int,
        prefill_chunk: int | None,
        cache: KvCache,
        compile: Compile | None,
    ) -> Engine:
        """Return the engine for at most `slots` requests at once; `prepare` it before use.

        `cache` is a resolved kind, the combination one that `check_combination` lets pass.
        """
        raise NotImplementedError


class Generate(EngineKind, frozen=True):
    """One call of transformers' `generate` per batch; a batch runs until its last request has ended."""

    kv_caches = ("dynamic", "static", "quantized", "off")
    why_not_compiled = "its batches differ in size, and each size would be compiled anew under traffic"

    def build(
        self,
        loaded: LoadedModel,
        clock: Clock,
        *,
        slots: int,
        prefill_chunk: int | None,
        cache: KvCache,
        compile: Compile | None,
    ) -> Engine:
        """Return a GenerateEngine; the number of slots does not matter to it."""
        from bench.model.generate import GenerateEngine

        return GenerateEngine(loaded, clock, cache=cache)


class Steps(EngineKind, frozen=True):
    """bench's own loop of prefill and decode steps over the stock model."""

    joins = True
    chunks_prefill = True
    kv_caches = ("dynamic", "static")
    compiles_with = ("static",)

    def build(
        self,
        loaded: LoadedModel,
        clock: Clock,
        *,
        slots: int,
        prefill_chunk: int | None,
        cache: KvCache,
        compile: Compile | None,
    ) -> Engine:
        """Return a StepEngine."""
        from bench.model.steps import StepEngine

        return StepEngine(
            loaded,
            clock,
            slots=slots,
            prefill_chunk=prefill_chunk,
            static=isinstance(cache, Static),
            compile=compile,
        )


class TransformersContinuous(EngineKind, frozen=True):
    """transformers' own continuous batching, with what it would choose by itself pinned.

    The cache is `num_blocks` blocks of `block_size` tokens; without `num_blocks` as many as all requests of
    the policy's largest batch need at the whole context. A step computes at most `max_batch_tokens` tokens,
    those of prompts and of running requests; without it as many as the policy's prefill chunk (but one a
    request), or where it has none, as a whole context and the other requests take. Both together are refused,
    as one would do nothing. `safety_margin` is the share of free blocks below which no request is let start:
    0, as the policy has decided that already.
    """

    block_size: PositiveInt = 32
    num_blocks: PositiveInt | None = None
    max_batch_tokens: PositiveInt | None = None
    safety_margin: NonNegative = 0.0

    joins = True
    chunks_prefill = True
    kv_caches = ("paged",)
    why_not_compiled = "its steps take any number of tokens, and each number would be compiled anew"

    def __post_init__(self) -> None:
        """Refuse what transformers would refuse later, in other words."""
        if self.block_size < 4:
            raise ValueError(f"block_size = {self.block_size} must be at least 4")
        if self.safety_margin > 1:
            raise ValueError(f"safety_margin = {self.safety_margin} is a share and at most 1")

    def why_not(self, policy: Policy) -> str | None:
        """Return that two keys bound a step's tokens, where they do."""
        if self.max_batch_tokens is None or policy.prefill_chunk is None:
            return None
        return (
            f"engine: max_batch_tokens = {self.max_batch_tokens} and batching's prefill_chunk = "
            f"{policy.prefill_chunk} both bound the tokens of a step; leave one of them away"
        )

    def check_context(self, longest: int) -> None:
        """Raise ValueError where a request of `longest` tokens does not fit into the whole cache."""
        if self.num_blocks is not None and self.num_blocks * self.block_size < longest:
            raise ValueError(
                f"num_blocks = {self.num_blocks} of block_size = {self.block_size} hold "
                f"{self.num_blocks * self.block_size} tokens, a request takes up to {longest}; "
                f"num_blocks must be at least {-(-longest // self.block_size)}"
            )

    def build(
        self,
        loaded: LoadedModel,
        clock: Clock,
        *,
        slots: int,
        prefill_chunk: int | None,
        cache: KvCache,
        compile: Compile | None,
    ) -> Engine:
        """Return a ContinuousEngine; nothing is allocated or started before its `prepare`."""
        from bench.model.paged_batching import Limits
        from bench.model.transformers_continuous import ContinuousEngine

        context = loaded.max_context
        blocks = self.num_blocks or slots * -(-context // self.block_size)
        chunk = context + slots if prefill_chunk is None else max(prefill_chunk, slots)
        return ContinuousEngine(
            loaded,
            clock,
            Limits(
                requests=slots,
                block_size=self.block_size,
                blocks=blocks,
                step_tokens=self.max_batch_tokens or chunk,
                safety_margin=self.safety_margin,
            ),
        )


ENGINES: dict[str, type[EngineKind]] = {
    "generate": Generate,
    "steps": Steps,
    "transformers-continuous": TransformersContinuous,
}


def name_of(engine: EngineKind) -> str:
    """Return the row's key in `ENGINES`."""
    return next(key for key, row in ENGINES.items() if row is type(engine))


def check_combination(
    engine: EngineKind,
    cache: KvCache,
    compile: Compile | None,
    precision: Precision,
    policy: Policy,
    where: str,
    key: str,
) -> None:
    """Refuse what cannot be together, before anything is loaded.

    `cache` may still be `auto`; `where` is the file and `key` the system's dotted key (`systems.NAME`).
    Raises ConfigError with one line.
    """
    name = name_of(engine)
    kind = cache_name(resolve(cache, engine, compile))
    missing = cache.missing if isinstance(cache, Quantized) else None
    unfit = engine.why_not(policy)
    claims = [
        (
            engine.joins or not policy.joins,
            f'batching lets requests join running ones, which engine = "{name}" cannot; '
            f"it needs {_any_of(row for row in ENGINES if ENGINES[row].joins)}",
        ),
        (
            engine.chunks_prefill or policy.prefill_chunk is None,
            f'batching computes prompts in chunks, which engine = "{name}" cannot; '
            f"it needs {_any_of(row for row in ENGINES if ENGINES[row].chunks_prefill)}",
        ),
        (
            kind in engine.kv_caches,
            f'kv_cache = "{kind}" does not work with engine = "{name}"; it runs with '
            f"{_listed(engine.kv_caches)}",
        ),
        (missing is None, f"kv_cache: {missing}"),
        (unfit is None, f"{unfit}"),
        (
            compile is None or bool(engine.compiles_with),
            f'compile: engine = "{name}" cannot be compiled: {engine.why_not_compiled}; '
            f"it needs {_any_of(row for row in ENGINES if ENGINES[row].compiles_with)}",
        ),
        (
            compile is None or not precision.quantized,
            f'compile: bitsandbytes layers cannot be compiled, and precision = "{precision_name(precision)}" '
            "has them; use fp16, bf16 or fp32, or leave compile away",
        ),
        (
            compile is None or kind in engine.compiles_with,
            f'compile: needs shapes that stay, so kv_cache = {_listed(engine.compiles_with)}, not "{kind}"',
        ),
    ]
    for holds, why in claims:
        if not holds:
            raise ConfigError(f"{where}: {key}.{why}")


def _any_of(engines: object) -> str:
    return "engine = " + _listed(engines)


def _listed(names: object) -> str:
    return " or ".join(f'"{name}"' for name in names)  # type: ignore[attr-defined]
