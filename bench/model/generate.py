"""The stock engine: one call of transformers' `generate` per batch, greedy, each token's time taken.

Prompts of different length share a batch by *left* padding: every row's last prompt token stands at the
same place, the attention mask hides the padding, and position ids count from each row's own first token.
So a request's tokens do not depend on its neighbours (exactly in FP32; in 16 bit up to rounding).

`generate` runs a batch until its last row has ended. The rows that ended earlier go on computing tokens
that nobody asked for: those are dropped and counted as padding, apart from the padded prompt positions,
since that waste is what a batching policy is judged by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bench.clock import Clock
from bench.errors import NotAvailable
from bench.model.device import DeviceErrors
from bench.model.kv_cache import (
    Dynamic,
    KvCache,
    Off,
    Quantized,
    Static,
    bytes_per_token,
    cache_bytes,
    check_cache,
    kv_elements,
    name_of,
)
from bench.model.load import LoadedModel
from bench.model.requests import Tokenized, detokenize, not_finite, tokenize
from bench.model.token_hook import TokenHook
from bench.records import Failure, Generation, Request

_PAD_ID = 0
"""Any valid id: the attention mask hides it."""
_STATIC_LENGTH = "_previous_max_cache_length"
"""Where transformers remembers on the model how long its last static cache was."""


class GenerateEngine:
    """`protocols.Engine` over stock `generate`: a batch goes in together and comes out together."""

    joins = False

    def __init__(self, loaded: LoadedModel, clock: Clock, *, cache: KvCache | None = None) -> None:
        """Generate with `loaded` and this kind of `cache` (dynamic by default), stamping on `clock`."""
        self._loaded = loaded
        self._clock = clock
        self._cache = cache or Dynamic()
        self._batch: list[Request] = []
        self._device_errors = DeviceErrors()
        self._cache_class: str | None = None
        self._peak_bytes = self._peak_positions = 0

    @property
    def max_context(self) -> int:
        """The most prompt plus output tokens that a request may have."""
        return self._loaded.max_context

    @property
    def facts(self) -> Mapping[str, Any]:
        """The cache's kind, its class and, over all batches, its most bytes beside the formula's.

        The formula is 2 · layers · kv heads · head size · bytes of the compute dtype for every position that
        was held, so for a quantized cache it is what it saved against.
        """
        per_token = bytes_per_token(self._loaded.model)
        return {
            "engine": "generate",
            "kv_cache": {
                "kind": name_of(self._cache),
                "class": self._cache_class,
                "bytes_held": self._peak_bytes,
                "bytes_held_by_formula": per_token and per_token * self._peak_positions,
                "bytes_per_token_by_formula": per_token,
            },
        }

    def prepare(self) -> None:
        """Run one small batch: whatever the cache kind lacks shows before any traffic.

        Raises NotAvailable where a package, the model or the memory cannot give the cache, TreatmentError
        where transformers took another cache than asked for.
        """
        import torch

        self._require_cache()
        ids = tuple(self._loaded.vocabulary.ordinary_ids[:4])
        warm = Request(uid=-1, due_s=0.0, prompt_ids=ids, output_tokens=2)
        try:
            self._run([Tokenized(warm, ids)], TokenHook([warm], self._loaded, self._clock))
        except torch.OutOfMemoryError as error:
            raise NotAvailable(
                f"{self._loaded.facts['id']}: not even one request of 6 tokens fits in memory with "
                f"kv_cache = {name_of(self._cache)!r} (context {self.max_context}); choose a smaller model, "
                "precision or context"
            ) from error
        self._peak_bytes = self._peak_positions = 0

    def admit(self, batch: Sequence[Request]) -> None:
        """Take `batch` as the one that the next step computes."""
        self._batch.extend(batch)

    def step(self, until_s: float) -> list[Generation | Failure]:
        """Generate the whole batch, whatever `until_s` says, and return all of it.

        Raises torch.OutOfMemoryError as it came, so that the caller may try a smaller batch (the next step
        then begins by emptying torch's cache); EngineLost where the device fails for good; RuntimeError if
        there is no batch.
        """
        if not self._batch:
            raise RuntimeError("nothing runs")
        checked = [tokenize(request, self._loaded, self._clock) for request in self._batch]
        failures = [outcome for outcome in checked if isinstance(outcome, Failure)]
        rows = [outcome for outcome in checked if isinstance(outcome, Tokenized)]
        with self._device_errors.handled():
            generations = self._generate(rows) if rows else []
        self._batch = []
        return [*generations, *failures]

    def clear(self) -> None:
        """Forget the batch."""
        self._batch = []

    def close(self) -> None:
        """Forget the batch, and what `generate` left on the model."""
        self.clear()
        with suppress(AttributeError):  # only a static cache left it there
            delattr(self._loaded.model, _STATIC_LENGTH)

    def _require_cache(self) -> None:
        """Raise NotAvailable where the cache cannot be had."""
        model, cache = self._loaded.model, self._cache
        if not isinstance(cache, Off) and not model._supports_default_dynamic_cache():
            raise NotAvailable(
                f"{self._loaded.facts['id']}: {self._loaded.facts['model_type']} models have no standard KV "
                'cache; they run with engine = "generate" and kv_cache = "off" only'
            )
        if not isinstance(cache, Quantized):
            return
        if cache.missing is not None:
            raise NotAvailable(f"kv_cache.{cache.missing}")
        from transformers import QuantizedCache

        why = cache.why_not(kv_elements(model))
        if why is None:
            try:
                QuantizedCache(config=model.config, **cache.options())
            except (ImportError, ValueError, TypeError) as error:
                why = str(error).strip().splitlines()[0]
        if why is not None:
            raise NotAvailable(
                f'{self._loaded.facts["id"]}: kv_cache.backend = "{cache.backend}" cannot be had here: {why}'
            )

    def _generate(self, rows: Sequence[Tokenized]) -> list[Generation | Failure]:
        hook = TokenHook([row.request for row in rows], self._loaded, self._clock)
        sequences = self._run(rows, hook)
        finished_s = self._clock.now_s()
        width = max(len(row.ids) for row in rows)
        outputs = [hook.own_tokens(i, sequence[width:]) for i, sequence in enumerate(sequences)]
        finite = hook.finite_steps()
        return [
            not_finite(row.request, self._loaded)
            if finite[i] < len(own)
            else Generation(
                uid=row.request.uid,
                token_ids=own,
                token_s=hook.times_s[: len(own)],
                finished_s=finished_s,
                tokenized_s=row.tokenized_s,
                detokenized_s=detokenize(own, self._loaded, self._clock),
                padded_prefill_tokens=width - len(row.ids),
                padded_decode_tokens=len(hook.times_s) - len(own),
            )
            for i, (row, own) in enumerate(zip(rows, outputs, strict=True))
        ]

    def _run(self, rows: Sequence[Tokenized], hook: TokenHook) -> list[list[int]]:
        """Generate until the hook has ended all rows; return the rows with their prompts."""
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        width = max(len(row.ids) for row in rows)
        ids = [[_PAD_ID] * (width - len(row.ids)) + list(row.ids) for row in rows]
        mask = [[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows]
        device = self._loaded.device
        with torch.inference_mode():
            generated = self._loaded.model.generate(
                torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=self._greedy(max(row.request.output_tokens for row in rows)),
                logits_processor=LogitsProcessorList([hook.scores]),
                stopping_criteria=StoppingCriteriaList([hook]),
            )
        self._measure(generated.past_key_values, len(rows), width + len(hook.times_s) - 1)
        sequences: list[list[int]] = generated.sequences.tolist()
        return sequences

    def _greedy(self, steps: int) -> Any:
        """Return what `generate` is to do. It would compile by itself on CUDA with a static cache."""
        from transformers import GenerationConfig

        cache: dict[str, Any] = {}
        if isinstance(self._cache, Static):  # always the whole context, so that no batch finds another shape
            cache = {"cache_implementation": "static", "max_cache_len": self.max_context}
        elif isinstance(self._cache, Quantized):
            cache = {"cache_implementation": "quantized", "cache_config": self._cache.options()}
        return GenerationConfig(
            max_new_tokens=steps,
            do_sample=False,
            num_beams=1,
            use_cache=not isinstance(self._cache, Off),
            pad_token_id=_PAD_ID,
            disable_compile=True,
            return_dict_in_generate=True,  # hands the cache out, for nothing
            **cache,
        )

    def _measure(self, cache: Any, rows: int, positions: int) -> None:
        """Hold the batch's cache against what was asked for, and note its bytes."""
        check_cache(self._cache, cache)
        if cache is None:
            return
        self._cache_class = type(cache).__name__
        held = self.max_context if isinstance(self._cache, Static) else positions
        self._peak_bytes = max(self._peak_bytes, cache_bytes(cache))
        self._peak_positions = max(self._peak_positions, rows * held)
