"""transformers' continuous batching manager, made within limits, started, asked and stopped.

Left to itself the manager takes most of the free memory for its cache, shares the cache of common prefixes
(which identical synthetic prompts hit and real ones would not) and switches to another attention kernel; a
comparison would compare those. So each is pinned here, and what came of it is read back into `facts`.

Where the versions of transformers that bench runs on differ, the difference ends in this file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from bench.errors import EngineLost
from bench.model.kv_cache import Paged, bytes_per_token, cache_bytes, check_cache, name_of

_STOP_WITHIN_S = 30.0
_NO_END = -1
"""An end token that no model produces."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the manager may use.

    At most `requests` at once, a cache of `blocks` × `block_size` tokens, `step_tokens` tokens computed in an
    iteration, and no new request while less than the share `safety_margin` of the blocks is free.
    """

    requests: int
    block_size: int
    blocks: int
    step_tokens: int
    safety_margin: float

    @property
    def cache_tokens(self) -> int:
        """The tokens that the cache holds."""
        return self.blocks * self.block_size


class PagedBatching:
    """A running manager: a thread that computes whatever was added, until `stop`."""

    def __init__(self, model: Any, limits: Limits) -> None:
        """Allocate the cache for `model` and start the thread; on an error the model is as before.

        Raises TreatmentError where the cache is another one than named, and what transformers raises for a
        model that its manager cannot run.
        """
        self._model = model
        self._attention: str = model.config._attn_implementation
        self._manager: Any = None
        try:
            self._open(limits)
        except BaseException:
            self.stop()
            raise

    def _open(self, limits: Limits) -> None:
        from transformers import GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        known = ContinuousBatchingConfig.__dataclass_fields__
        settings: dict[str, Any] = {
            "page_size" if "page_size" in known else "block_size": limits.block_size,
            "num_blocks": limits.blocks,
            "max_batch_tokens": limits.step_tokens,
            "max_requests_per_batch": limits.requests,
            "safety_margin": limits.safety_margin,
            "allow_block_sharing": False,
            "use_async_batching": False,
            "use_cuda_graph": False,  # both are off for these attentions anyway, and graphs would pad
            "scheduler_type": "fifo",
        }
        if "auto_switch_to_flash" in known:
            settings["auto_switch_to_flash"] = False
        else:  # these versions switch unless the attention is already a paged one
            self._model.set_attn_implementation(f"paged|{self._attention}")
        self._manager = self._model.init_continuous_batching(
            generation_config=GenerationConfig(
                do_sample=False, num_beams=1, eos_token_id=_NO_END, max_new_tokens=1
            ),
            continuous_batching_config=ContinuousBatchingConfig(**settings),
        )
        self._manager.warmup()
        self.facts = self._found()
        # A thread inherits this mark: a process that dies before `stop` must not wait for it for ever.
        starter = threading.Thread(target=self._manager.start, daemon=True)
        starter.start()
        starter.join()

    def _found(self) -> dict[str, Any]:
        """Return what is in force, read from the manager and not from what it was asked."""
        import transformers

        config, cache = self._manager.continuous_batching_config, self._manager.batch_processor.cache
        check_cache(Paged(), cache)
        block_size = getattr(config, "page_size", None) or config.block_size
        per_token = bytes_per_token(self._model)
        return {
            "transformers": transformers.__version__,
            "attention": self._model.config._attn_implementation,
            "block_size": block_size,
            "num_blocks": cache.num_blocks,
            "max_batch_tokens": cache.max_batch_tokens,
            "max_requests": config.max_requests_per_batch,
            "safety_margin": config.safety_margin,
            "prefix_sharing": bool(cache.use_prefix_sharing),
            "cuda_graphs": any(config.cuda_graph_booleans),
            "async_batching": bool(config.use_async_batching),
            "kv_cache": {
                "kind": name_of(Paged()),
                "class": type(cache).__name__,
                "bytes_held": cache_bytes(cache),
                "bytes_held_by_formula": per_token and per_token * cache.num_blocks * block_size,
                "bytes_per_token_by_formula": per_token,
            },
        }

    @property
    def alive(self) -> bool:
        """Whether the thread runs and takes requests."""
        manager = self._manager
        return (
            manager is not None
            and manager.is_running()
            and manager.background_thread_status.can_accept_new_requests() is None
        )

    def add(self, request_id: str, ids: Sequence[int], output_tokens: int, eos_ids: Sequence[int]) -> bool:
        """Hand a request over; False where it was not taken, as the thread is ending."""
        taken = self._manager.add_request(
            list(ids),
            request_id=request_id,
            max_new_tokens=output_tokens,
            record_timestamps=True,
            eos_token_id=list(eos_ids) or _NO_END,
        )
        return taken is not None

    def result(self, wait_s: float) -> Any | None:
        """Return the next request that ended, None if none did within `wait_s`; sleeps meanwhile."""
        return self._manager.get_result(timeout=wait_s)

    def cancel(self, request_id: str) -> None:
        """Let a request go; no result will come, or one that was already on its way."""
        self._manager.cancel_request(request_id)

    def raise_cause(self) -> None:
        """Raise what the thread died of: torch.OutOfMemoryError, EngineLost or RuntimeError.

        The thread fails its requests before it notes the cause, so this waits for its end.
        """
        import torch

        self._manager._generation_thread.join(_STOP_WITHIN_S)
        cause = self._manager.background_thread_status.fatal_error
        text = "it was stopped" if cause is None else f"{type(cause).__name__}: {first_line(cause)}"
        if isinstance(cause, torch.OutOfMemoryError):
            raise torch.OutOfMemoryError(first_line(cause))  # without its traceback, which holds tensors
        if isinstance(cause, torch.AcceleratorError):
            raise EngineLost(f"the GPU failed and cannot be used by this process any more: {text}")
        raise RuntimeError(f"transformers' continuous batching thread ended: {text}")

    def stop(self) -> None:
        """End the thread with all that it runs, free the cache, give the model its attention back."""
        manager, self._manager = self._manager, None
        try:
            if manager is not None and manager._generation_thread is not None:
                manager.stop(block=True, timeout=_STOP_WITHIN_S, hard_stop=True)
        finally:
            if self._model.config._attn_implementation != self._attention:
                self._model.set_attn_implementation(self._attention)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, its type's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
