"""The seams, signatures only: what each room promises to the others.

A plug-in is an entry of a plain dict in its family's file; its Struct's fields are its TOML keys.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from bench.records import Failure, Generation, Request

if TYPE_CHECKING:
    import numpy as np


class Arrivals(Protocol):
    """A law of arrival times."""

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times from 0 whose realised mean rate is exactly `rate_rps`."""
        ...


class Lengths(Protocol):
    """A law of token counts."""

    @property
    def longest(self) -> int:
        """Return the most tokens that can be drawn."""
        ...

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return `n` whole token counts of at least 1."""
        ...


class Tokenizer(Protocol):
    """What prompts and engines need of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`."""
        ...


class Vocabulary(Protocol):
    """What a prompt source must know of the model: which ids are ordinary tokens, and how to tokenize."""

    @property
    def ordinary_ids(self) -> Sequence[int]:
        """Return the ids that are neither special nor unused."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer, None where the model has none (random weights)."""
        ...


class Prompt(msgspec.Struct, frozen=True):
    """A prompt of a wanted length; `text` only where it was cut from a corpus."""

    ids: Sequence[int]
    text: str | None = None


class Prompts(Protocol):
    """A source of prompts."""

    def draw(self, lengths: Sequence[int], vocabulary: Vocabulary, rng: np.random.Generator) -> list[Prompt]:
        """Return one prompt per wanted length, no two alike."""
        ...


class Load(Protocol):
    """At which rate latency is measured, or with how many clients."""

    @property
    def clients(self) -> int | None:
        """How many clients there are, each waiting for its answers; None where requests come at a rate."""
        ...

    @property
    def think_s(self) -> float:
        """How long a client waits between its answer and its next request."""
        ...

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Return the common rate of all systems, in requests per second; RunFailed where there is none."""
        ...


class Waiting(Protocol):
    """What a policy may see of a waiting request."""

    @property
    def request(self) -> Request:
        """The request."""
        ...

    @property
    def sent_s(self) -> float:
        """When it entered the queue."""
        ...


class Running(msgspec.Struct, frozen=True):
    """What a policy may see of the requests that are in the engine."""

    size: int = 0
    """How many there are."""
    tokens: int = 0
    """The most context that they may come to hold together: the sum of their prompt and output tokens."""
    ended_s: float = -math.inf
    """When a request last ended, served or not."""
    ended: int = 0
    """How many ended at that moment, whose clients may be about to come back; 0 if that is not known."""


class Admission(msgspec.Struct, frozen=True):
    """A policy's answer: the indices of the waiting requests that go now, or when to ask again.

    `reason` says why these go, or, with an empty `take`, why nobody does. An empty `take` with
    `wake_s = None` means: only an arrival or an ending request can change the answer.
    """

    take: tuple[int, ...] = ()
    reason: str = ""
    wake_s: float | None = None


class Policy(Protocol):
    """A batching policy: a pure function of what waits, what runs and the time."""

    @property
    def max_batch(self) -> int:
        """The most requests that it ever lets run together."""
        ...

    @property
    def backlog(self) -> int:
        """How many must wait for it to choose as it would from a queue without end: what saturates it."""
        ...

    @property
    def joins(self) -> bool:
        """Whether it lets requests join while others run; if not, it is asked only when nothing runs."""
        ...

    @property
    def prefill_chunk(self) -> int | None:
        """The most prompt tokens that the engine shall compute in one step, None for whole prompts."""
        ...

    def admit(
        self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
    ) -> Admission:
        """Decide which waiting requests (oldest first, at least one) join now.

        `draining` says that no more will come.
        """
        ...


class Engine(Protocol):
    """Takes requests in and computes step by step; the loop that drives it is the same for all engines.

    An engine is driven by one thread. Requests run from `admit` until a `step` returns their end.
    """

    @property
    def max_context(self) -> int:
        """The most prompt plus output tokens that a request may have."""
        ...

    @property
    def joins(self) -> bool:
        """Whether requests may be admitted while others run."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What there is to say of it after the traffic, for `run.json`: cache, compilation, versions."""
        ...

    def prepare(self) -> None:
        """Do what must not happen under traffic (compile, allocate, start); called once, before any."""
        ...

    def admit(self, batch: Sequence[Request]) -> None:
        """Take `batch` in, without computing yet; it is not empty. Must not raise for a bad request."""
        ...

    def step(self, until_s: float) -> Sequence[Generation | Failure]:
        """Compute on, and return the requests that ended by it, possibly none; something must run.

        Does at least one iteration, and may do more as long as no request has ended and the clock stands
        before `until_s`. A request that is at fault alone ends as a `Failure`. What this raises is laid to
        all that run: the caller then calls `clear` and tries them again in smaller batches. EngineLost
        means that no call will succeed any more.
        """
        ...

    def clear(self) -> None:
        """Forget all that runs; the engine is then as after `prepare`."""
        ...

    def close(self) -> None:
        """Release threads and memory; the engine is not used again. Never raises."""
        ...


class Meter(Protocol):
    """A source of readings. What it cannot read is in `missing` with the reason, from the start."""

    @property
    def missing(self) -> Mapping[str, str]:
        """Field to reason, for every field that this meter knows and cannot read."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Description of the device and of the reading methods, for `run.json`."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether the readings come from a modelled device."""
        ...

    def read(self) -> list[tuple[str, float, str | None]]:
        """Return (field, value, gpu uuid) for every field that can be read now."""
        ...

    def close(self) -> None:
        """Release the device; never raises."""
        ...


@runtime_checkable
class PacedMeter(Meter, Protocol):
    """A meter whose fields need not all be read at one rate, and which is looked at once more at the end."""

    @property
    def periods_s(self) -> Mapping[str, float]:
        """Every field that can be read, and the shortest period at which reading it pays; 0 for any."""
        ...

    def read(self, fields: Collection[str] | None = None) -> list[tuple[str, float, str | None]]:
        """Return (field, value, gpu uuid) for those of `fields` (None: all) that can be read now."""
        ...

    def after(self) -> Mapping[str, Any]:
        """Return those facts again that may have changed since opening; called once, after the last read."""
        ...
