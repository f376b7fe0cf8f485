"""Free-running outputs: what a loaded model writes after given prompts, greedily.

Through stock `generate` in batches of a stated size, in the order of the prompts: every system computes the
same shapes, so a difference is the model's. The system's own kind of KV cache is used, since a quantized one
changes the output, too; its batching policy and engine are not, for what they change is rounding, as the
noise floor shows it. An answer ends at an end token of the model or after `new_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.clock import Clock
from bench.errors import RunFailed
from bench.model.generate import GenerateEngine
from bench.model.kv_cache import Auto, Dynamic, KvCache, Paged
from bench.model.load import LoadedModel
from bench.model.probes import Probe
from bench.records import Failure, Request


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: its tokens without the end token, and whether it ended by itself."""

    ids: tuple[int, ...]
    text: str
    ended: bool


def continue_probes(
    loaded: LoadedModel, probes: Sequence[Probe], new_tokens: int, batch: int, cache: KvCache, clock: Clock
) -> list[Continuation]:
    """Return the continuation of each prompt, at most `new_tokens` tokens long, in the prompts' order.

    Raises RunFailed where an output cannot be computed, as with logits that are no numbers.
    """
    longest = max(len(probe.ids) for probe in probes) + new_tokens
    bounded = msgspec.structs.replace(loaded, max_context=min(loaded.max_context, longest))
    # A paged pool belongs to another engine; what it holds are plain keys and values.
    engine = GenerateEngine(bounded, clock, cache=Dynamic() if isinstance(cache, Auto | Paged) else cache)
    found: dict[int, Continuation] = {}
    try:
        for begin in range(0, len(probes), batch):
            rows = enumerate(probes[begin : begin + batch], start=begin)
            engine.admit([_request(uid, probe, new_tokens) for uid, probe in rows])
            for outcome in engine.step(until_s=0.0):
                if isinstance(outcome, Failure):
                    raise RunFailed(f"quality: a prompt cannot be continued: {outcome.error}")
                found[outcome.uid] = _continuation(outcome.token_ids, loaded)
    finally:
        engine.close()
    return [found[uid] for uid in range(len(probes))]


def _request(uid: int, probe: Probe, new_tokens: int) -> Request:
    return Request(uid=uid, due_s=0.0, prompt_ids=probe.ids, output_tokens=new_tokens, stop="natural")


def _continuation(token_ids: Sequence[int], loaded: LoadedModel) -> Continuation:
    tokenizer = loaded.vocabulary.tokenizer
    assert tokenizer is not None
    ended = bool(token_ids) and token_ids[-1] in loaded.eos_ids
    own = tuple(token_ids[:-1] if ended else token_ids)
    return Continuation(ids=own, text=tokenizer.decode(own), ended=ended)
