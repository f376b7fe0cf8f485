"""The stock engine: one call of transformers' `generate` per batch, greedy, each token's time taken.

Prompts of different length share a batch by *left* padding: every row's last prompt token stands at the
same place, the attention mask hides the padding, and position ids count from each row's own first token.
So a request's tokens do not depend on its neighbours (exactly in FP32; in 16 bit up to rounding).

`generate` runs a batch until its last row has ended. The rows that ended earlier go on computing tokens
that nobody asked for: those are dropped, and counted as padding together with the padded prompt
positions, since that waste is what a batching policy is judged by.

A token's time is taken where `generate` asks whether to stop, once per step after the token is chosen;
on CUDA the device is synchronized first, so that the stamp is when the token was known and not when its
kernels were queued. That hook also decides when each row has ended; `generate` itself knows no end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.clock import Clock
from bench.errors import EngineLost, RunFailed
from bench.model.load import LoadedModel
from bench.records import Generation, Request

_PAD_ID = 0
"""Any valid id: the attention mask hides it."""


class GenerateEngine:
    """`protocols.Engine` over stock `generate`."""

    def __init__(self, loaded: LoadedModel, clock: Clock) -> None:
        """Generate with `loaded`, stamping times on `clock`."""
        self._loaded = loaded
        self._clock = clock
        self._ran_out_of_memory = False

    @property
    def max_context(self) -> int:
        """The most prompt plus output tokens that a request may have."""
        return self._loaded.max_context

    def generate(self, batch: Sequence[Request]) -> list[Generation]:
        """Return one generation per request, in the batch's order.

        Raises torch.OutOfMemoryError as it came, so that the caller may try a smaller batch (the next call
        then begins by emptying torch's cache); EngineLost where the device fails for good; ValueError for
        a request beyond `max_context`; RunFailed where a text does not tokenize to the number of tokens
        that its request states.
        """
        import torch

        self._check(batch)
        if self._ran_out_of_memory:
            # Only now: while the exception was on its way, its traceback held the batch's tensors.
            torch.cuda.empty_cache()
            self._ran_out_of_memory = False
        prompts, tokenized_s = self._tokenize(batch)
        hook = _TokenHook(batch, self._loaded, self._clock)
        try:
            sequences = self._run(prompts, hook, max(request.output_tokens for request in batch))
        except torch.OutOfMemoryError:
            self._ran_out_of_memory = True
            raise
        except torch.AcceleratorError as error:
            reason = str(error).splitlines()[0]
            raise EngineLost(
                f"the GPU failed and cannot be used by this process any more: {reason}"
            ) from error
        finished_s = self._clock.now_s()
        width = max(map(len, prompts))
        outputs = [hook.own_tokens(i, row[width:]) for i, row in enumerate(sequences)]
        detokenized_s = self._detokenize(outputs)
        return [
            Generation(
                uid=request.uid,
                token_ids=tuple(outputs[i]),
                token_s=tuple(hook.times_s[: len(outputs[i])]),
                finished_s=finished_s,
                tokenized_s=tokenized_s[i],
                detokenized_s=detokenized_s[i],
                padded_tokens=(width - len(prompts[i])) + (len(hook.times_s) - len(outputs[i])),
            )
            for i, request in enumerate(batch)
        ]

    def _check(self, batch: Sequence[Request]) -> None:
        for request in batch:
            prompt, output = len(request.prompt_ids), request.output_tokens
            if prompt < 1 or output < 1 or prompt + output > self.max_context:
                raise ValueError(
                    f"request {request.uid}: {prompt} prompt and {output} output tokens; both must be "
                    f"at least 1 and their sum at most the context of {self.max_context}"
                )

    def _tokenize(self, batch: Sequence[Request]) -> tuple[list[Sequence[int]], list[float | None]]:
        """Return each request's prompt ids, from its text where it has one, and when that was done."""
        prompts: list[Sequence[int]] = []
        done_s: list[float | None] = []
        tokenizer = self._loaded.vocabulary.tokenizer
        for request in batch:
            if request.text is None or tokenizer is None:
                prompts.append(request.prompt_ids)
                done_s.append(None)
                continue
            ids = tokenizer.encode(request.text)
            done_s.append(self._clock.now_s())
            if len(ids) != len(request.prompt_ids):
                raise RunFailed(
                    f"request {request.uid}: its text is {len(ids)} tokens long, stated are "
                    f"{len(request.prompt_ids)}; the prompts were drawn with another tokenizer"
                )
            prompts.append(ids)
        return prompts, done_s

    def _run(self, prompts: Sequence[Sequence[int]], hook: _TokenHook, steps: int) -> list[list[int]]:
        """Generate `steps` tokens, or fewer where the hook ends all rows; return the rows with prompts."""
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        width = max(map(len, prompts))
        ids = [[_PAD_ID] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        greedy = GenerationConfig(
            max_new_tokens=steps, do_sample=False, num_beams=1, use_cache=True, pad_token_id=_PAD_ID
        )
        device = self._loaded.device
        with torch.inference_mode():
            sequences = self._loaded.model.generate(
                torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=greedy,
                stopping_criteria=StoppingCriteriaList([hook]),
            )
        rows: list[list[int]] = sequences.tolist()
        return rows

    def _detokenize(self, outputs: Sequence[Sequence[int]]) -> list[float | None]:
        """Decode each output as a service would, and return when that was done."""
        tokenizer = self._loaded.vocabulary.tokenizer
        if tokenizer is None:
            return [None] * len(outputs)
        done_s: list[float | None] = []
        for ids in outputs:
            tokenizer.decode(ids)
            done_s.append(self._clock.now_s())
        return done_s


class _TokenHook:
    """A stopping criterion that takes each step's time and ends each row at its own length."""

    def __init__(self, batch: Sequence[Request], loaded: LoadedModel, clock: Clock) -> None:
        import torch

        self.times_s: list[float] = []
        self._clock = clock
        self._cuda = loaded.device == "cuda"
        self._batch = batch
        self._eos_ids = frozenset(loaded.eos_ids)
        device = loaded.device
        self._lengths = torch.tensor([request.output_tokens for request in batch], device=device)
        natural = [request.stop == "natural" for request in batch]
        # With nothing to look for, a step costs one comparison and no look at the tokens.
        looks = any(natural) and bool(loaded.eos_ids)
        self._natural = torch.tensor(natural, device=device) if looks else None
        self._eos = torch.tensor(loaded.eos_ids, device=device) if looks else None
        self._ended = torch.zeros(len(batch), dtype=torch.bool, device=device)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Stamp the step whose tokens stand last in `input_ids`; return which rows have ended."""
        import torch

        if self._cuda:
            torch.cuda.synchronize()
        self.times_s.append(self._clock.now_s())
        if self._natural is not None:
            self._ended |= self._natural & torch.isin(input_ids[:, -1], self._eos)
        return self._ended | (self._lengths <= len(self.times_s))

    def own_tokens(self, row: int, tokens: Sequence[int]) -> list[int]:
        """Cut a row's generated `tokens` to those that its request asked for."""
        request = self._batch[row]
        own = list(tokens[: request.output_tokens])
        if request.stop == "natural":
            end = next((i for i, token in enumerate(own) if token in self._eos_ids), None)
            own = own if end is None else own[: end + 1]
        return own
