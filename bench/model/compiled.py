"""The decode step compiled by `torch.compile` at static shapes, with CUDA graphs where the mode gives them.

Compiled code is made for shapes. A step always computes all slots, used or not, and reads the cache up to
one of a few fixed lengths: the whole capacity and its halves. All of them are compiled before the traffic,
and their time is reported apart. A shape that was not foreseen would compile under traffic: that is
counted, since it invalidates the latencies around it.

An empty slot attends to its first position and writes to the cache's last, which no request ever reaches
(its last token is never fed back). Inputs and cache stay at the same addresses, as CUDA graphs need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from bench.config import Compile
from bench.errors import NotAvailable
from bench.model.load import LoadedModel
from bench.model.packed import Packed

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
        cache = packed.cache
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
        mode = config.mode if config.backend == "inductor" else None  # the others know no modes
        self._step: Any = torch.compile(self._decode, mode=mode, backend=config.backend, dynamic=False)
        began_s, before = perf_counter(), _stats()
        self._warm_up()
        self._compile_s = perf_counter() - began_s
        self._after = _stats()
        self._found = {name: count - before[name] for name, count in self._after.items()}

    def _fixed(self, tensor: Any) -> Any:
        """Return `tensor` on the device, at an address that compiled code may rely on."""
        import torch

        tensor = tensor.to(self._packed.loaded.device)
        torch._dynamo.mark_static_address(tensor)
        return tensor

    @property
    def facts(self) -> Mapping[str, Any]:
        """Mode and backend, how long compiling took, which lengths, how many graphs, and recompilations."""
        return {
            "compile": {
                "mode": self._config.mode,
                "backend": self._config.backend,
                "rows": self._packed.cache.slots,
                "cache_lengths": list(self._lengths),
                **self._found,
            },
            "compile_s": self._compile_s,
            "recompiles_after_prepare": _stats()["graphs"] - self._after["graphs"],
        }

    def step(self, newest: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Return the next token of each running request; `newest[s]` stands at `lengths[s]` in slot `s`."""
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
        return chosen[: len(newest)]

    def _decode(self, inputs: Any, length: int) -> Any:
        """Return each slot's next token; this is what is compiled, once per `length`."""
        layout = self._packed.layout.of_rows(inputs[1:2], length)
        return self._packed.forward(inputs[:1], layout, 0).argmax(dim=-1)

    def _warm_up(self) -> None:
        """Run every length; it only writes where no request is, as every slot is empty."""
        from torch._dynamo.exc import TorchDynamoException

        try:
            for length in self._lengths:
                for _ in range(_WARM_UP):
                    self.step([0], [length - 1])
        except TorchDynamoException as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise NotAvailable(
                f"compile with backend {self._config.backend} failed: {reason}; remove compile"
            ) from error

    def release(self) -> None:
        """Give back what was compiled, CUDA graphs and their memory included."""
        import torch

        self._step = None
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
    }
