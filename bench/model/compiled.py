"""The decode step compiled by `torch.compile` at static shapes, with CUDA graphs where the mode gives them.

Compiled code is made for shapes. A step always computes all slots, used or not, and reads the cache up to
one of a few fixed lengths: the whole capacity and its halves. All of them are compiled before the traffic,
and their time is reported apart. A shape that was not foreseen would compile under traffic: that is
counted, since it invalidates the latencies around it.

An empty slot attends to its first position and writes to the cache's last, which no request ever reaches
(its last token is never fed back). Should the logits there not be finite, that last position is wiped, as
a request that reads the whole slot multiplies it by zero. Inputs and cache stay at the same addresses, as
CUDA graphs need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from bench.config import Compile
from bench.errors import NotAvailable
from bench.model.load import LoadedModel
from bench.model.packed import NOT_FINITE, Packed, greedy

_LENGTHS = 4
"""Cache lengths that are compiled: the capacity, and as many halves as this allows."""
_SHORTEST = 256
_WARM_UP = 3
"""Calls per length before traffic: compile, warm up, record the CUDA graph."""


def check_compilable(loaded: LoadedModel) -> None:
    """Refuse what cannot be compiled, before anything is. Raises NotAvailable."""
    for module in loaded.model.modules():
        if type(module).__module__.startswith("bitsandbytes"):
            raise NotAvailable(
                f"bitsandbytes layers ({type(module).__name__}) cannot be compiled; "
                "remove compile, or choose fp16, bf16 or fp32"
            )


class CompiledDecode:
    """The compiled decode step of a `Packed` model with a static cache."""

    def __init__(self, packed: Packed, config: Compile) -> None:
        """Compile for every cache length that traffic can need; NotAvailable where that fails here."""
        import torch

        self._packed = packed
        self._config = config
        self._last: int | None = None
        """How many graphs torch had compiled when this was released."""
        cache = packed.cache
        self._rows = cache.slots
        self._lengths = _lengths(cache.capacity)
        self._inputs = self._fixed(torch.zeros(3, cache.slots, dtype=torch.long))
        """Tokens, their positions, and where their keys and values go: one copy to the device per step."""
        self._write = self._fixed(torch.zeros(cache.slots * cache.heads, dtype=torch.long))
        slots = torch.arange(cache.slots, device=packed.loaded.device)
        self._slots = cache.places(slots * cache.stride).view(cache.slots, cache.heads)
        for layer in cache.layers:
            self._fixed(layer.keys)
            self._fixed(layer.values)
        torch._dynamo.reset()  # another engine's graphs would count against this one's limit
        self._refuse_to_fall_back()
        mode = config.mode if config.backend == "inductor" else None  # the others know no modes
        self._step: Any = torch.compile(self._decode, mode=mode, backend=config.backend, dynamic=False)
        began_s, before = perf_counter(), _stats()
        try:
            self._warm_up()
        except BaseException:
            self.release()
            raise
        self._compile_s = perf_counter() - began_s
        self._after = _stats()
        self._found = {name: count - before[name] for name, count in self._after.items()}
        self._replays = config.cuda_graphs and self._found["cuda_graph_skips"] == 0 and self._has_graphs()

    def _refuse_to_fall_back(self) -> None:
        """Let torch raise where it would go on uncompiled, without a word."""
        import torch

        strict = {"fail_on_recompile_limit_hit": True, "suppress_errors": False}
        config = torch._dynamo.config
        self._lenient = {name: getattr(config, name) for name in strict}
        for name, value in strict.items():
            setattr(config, name, value)

    def _has_graphs(self) -> bool:
        """Whether torch has made CUDA graphs since it was reset, on the device of this thread."""
        import torch

        if self._packed.loaded.device != "cuda":
            return False
        from torch._inductor.cudagraph_trees import get_manager

        manager = get_manager(torch.cuda.current_device(), create_if_none_exists=False)
        return manager is not None

    def _fixed(self, tensor: Any) -> Any:
        """Return `tensor` on the device, at an address that compiled code may rely on."""
        import torch

        tensor = tensor.to(self._packed.loaded.device)
        torch._dynamo.mark_static_address(tensor)
        return tensor

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was compiled, how long that took, and recompilations.

        `graphs` are those that were compiled before the traffic, `cuda_graphs` says whether all of them are
        replayed as CUDA graphs, and `cuda_graph_skips` how often torch refused to.
        """
        after = self._last if self._last is not None else _stats()["graphs"]
        return {
            "compile": {
                "mode": self._config.mode,
                "backend": self._config.backend,
                "device": self._packed.loaded.device,
                "rows": self._rows,
                "cache_lengths": list(self._lengths),
                **self._found,
                "cuda_graphs": self._replays,
            },
            "compile_s": self._compile_s,
            "recompiles_after_prepare": after - self._after["graphs"],
        }

    def step(self, newest: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Return the next token of each running request; `newest[s]` stands at `lengths[s]` in slot `s`.

        A token is NOT_FINITE where there is none.
        """
        import torch

        cache = self._packed.cache
        empty = cache.slots - len(newest)
        zeros = [0] * empty
        inputs = torch.tensor(
            [[*newest, *zeros], [*lengths, *zeros], [*lengths, *[cache.capacity - 1] * empty]]
        )
        length = next(length for length in self._lengths if length > max(lengths))
        with self._packed.computing():
            self._inputs.copy_(inputs)
            torch.add(self._slots, self._inputs[2, :, None], out=self._write.view_as(self._slots))
            cache.write = self._write
            torch.compiler.cudagraph_mark_step_begin()
            chosen: list[int] = self._step(self._inputs, length).tolist()
        if NOT_FINITE in chosen[len(newest) :]:
            cache.wipe(len(newest), cache.slots, start=cache.capacity - 1)
        return chosen[: len(newest)]

    def _decode(self, inputs: Any, length: int) -> Any:
        """Return each slot's next token; this is what is compiled, once per `length`."""
        layout = self._packed.layout.of_rows(inputs[1:2], length)
        return greedy(self._packed.forward(inputs[:1], layout, 0))

    def _warm_up(self) -> None:
        """Run every length, and wipe what that has written."""
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            for length in self._lengths:
                for _ in range(_WARM_UP):
                    self.step([0], [length - 1])
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise NotAvailable(
                f"compile with backend {self._config.backend} failed: {reason}; remove compile"
            ) from error
        self._packed.cache.wipe(0, self._packed.cache.slots)

    def release(self) -> None:
        """Give back what was compiled, CUDA graphs and their memory included; may be called again.

        To be called by the thread that compiled: CUDA graphs belong to their thread.
        """
        import torch

        if self._step is None:
            return
        self._step = None
        self._last = _stats()["graphs"]
        for name, value in self._lenient.items():
            setattr(torch._dynamo.config, name, value)
        torch._dynamo.reset()


def _lengths(capacity: int) -> tuple[int, ...]:
    """Return the cache lengths to compile for, ascending: the capacity, its half, and so on."""
    found = [capacity]
    while len(found) < _LENGTHS and found[-1] // 2 >= _SHORTEST:
        found.append(-(-found[-1] // 2 // 64) * 64)
    return tuple(reversed(found))


def _stats() -> dict[str, int]:
    from torch._dynamo.utils import counters

    return {
        "graphs": int(counters["stats"]["unique_graphs"]),
        "graph_breaks": sum(counters["graph_break"].values()),
        "cuda_graph_skips": int(counters["inductor"]["cudagraph_skips"]),
    }
