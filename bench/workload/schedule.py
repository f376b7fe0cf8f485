"""From the laws to the requests: everything about the traffic is drawn before the run, from seeds.

Arrivals, input lengths, output lengths and prompts have a random stream each, so that changing one
law leaves what the others draw alone: Poisson against steady traffic is then the same requests at
other times. Streams with a seed of their own are likewise independent of the experiment's. What comes from a
trace comes row by row; all that is drawn for one repeat begins at the same row and goes on where the requests
before it ended. All systems of an experiment get the same requests.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from bench.config import Seeds
from bench.errors import ConfigError
from bench.protocols import Arrivals, Lengths, Prompts, Vocabulary
from bench.records import Request, Stop
from bench.workload.arrivals import Replay
from bench.workload.lengths import FromTrace
from bench.workload.trace import line_of
from bench.workload.variation import describe


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """The laws of a workload, and of the model only what they must respect.

    `seed` may be several numbers, such as (experiment's seed, repeat); a seed in `seeds` takes the place of
    the first of them. The first two alone draw where the replay of a trace begins: what follows them tells
    the parts of a repeat apart. `max_context` is the model's limit on prompt plus output tokens.
    """

    arrivals: Arrivals
    input_tokens: Lengths
    output_tokens: Lengths
    prompts: Prompts
    vocabulary: Vocabulary
    max_context: int
    seed: int | tuple[int, ...]
    seeds: Seeds = Seeds()
    stop: Stop = "exact"


def draw_requests(
    traffic: Traffic,
    *,
    rate_rps: float,
    n: int | None = None,
    duration_s: float | None = None,
    start_s: float = 0.0,
    first_uid: int = 0,
) -> list[Request]:
    """Return requests in order of `due_s`, filling `n / rate_rps` seconds from `start_s` on.

    Give either `n` or `duration_s`; the latter means the nearest whole number of requests, at least one,
    which fill just that time, so that what is drawn to follow them is due after them. What comes from a trace
    goes on at its row `first_uid`. Raises ConfigError where a request could exceed the model's context.
    """
    if (n is None) == (duration_s is None):
        raise TypeError("give either n or duration_s")
    if duration_s is not None:
        n = max(1, round(duration_s * rate_rps))
        rate_rps = n / duration_s
    assert n is not None
    streams, law = _streams(traffic), traffic.arrivals
    if isinstance(law, Replay):
        times_s = law.times_after(first_uid, n, rate_rps, np.random.default_rng(streams.replay))
    else:
        times_s = law.times_s(n, rate_rps, np.random.default_rng(streams.arrivals))
    return _draw(traffic, start_s + times_s, first_uid)


def draw_saturating(traffic: Traffic, *, n: int, due_s: float = 0.0, first_uid: int = 0) -> list[Request]:
    """Return `n` requests that are all due at `due_s`: the offline run, which measures capacity.

    They are those of `draw_requests` for the same `n`, apart from their times; lengths from a trace go on
    at its row `first_uid`, so that chunk after chunk replays all of it. Raises ConfigError where a request
    could exceed the model's context.
    """
    return _draw(traffic, np.full(n, due_s), first_uid)


def check_context(traffic: Traffic) -> None:
    """Raise ConfigError where the longest prompt and output that the laws allow do not fit the model."""
    inputs, outputs = traffic.input_tokens, traffic.output_tokens
    if isinstance(inputs, FromTrace) and isinstance(outputs, FromTrace) and inputs.path == outputs.path:
        _check_rows(inputs, outputs, traffic.max_context)
    elif inputs.longest + outputs.longest > traffic.max_context:
        raise ConfigError(
            f"workload.input_tokens may reach {inputs.longest} and workload.output_tokens {outputs.longest} "
            f"tokens, together {inputs.longest + outputs.longest}, but the model's context is "
            f"{traffic.max_context}; lower one of their max"
        )


def schedule_facts(traffic: Traffic, requests: list[Request]) -> dict[str, Any]:
    """Return what `run.json` says of a schedule: how its arrivals vary, and what was cut off a trace.

    `clipped_rows` counts the rows of the trace whose length was above `max`, by the law's key.
    """
    laws = {"input_tokens": traffic.input_tokens, "output_tokens": traffic.output_tokens}
    clipped = {key: law.clipped for key, law in laws.items() if isinstance(law, FromTrace) and law.max}
    facts = describe([request.due_s for request in requests])
    return facts | ({"clipped_rows": clipped} if clipped else {})


def _check_rows(inputs: FromTrace, outputs: FromTrace, max_context: int) -> None:
    """Raise ConfigError where a row of the trace has more tokens than the model's context."""
    tokens = inputs.of_rows() + outputs.of_rows()
    beyond = int((tokens > max_context).sum())
    if beyond:
        row = int(tokens.argmax())
        raise ConfigError(
            f"the trace {inputs.path}, line {line_of(inputs.path, row)}: {inputs.of_rows()[row]} input and "
            f"{outputs.of_rows()[row]} output tokens, together {tokens[row]}, but the model's context is "
            f"{max_context} ({beyond} of {len(tokens)} rows are too long); cut them with a max in "
            "workload.input_tokens or workload.output_tokens, or delete the rows"
        )


class _Streams(msgspec.Struct, frozen=True, kw_only=True):
    """One random stream for each thing that is drawn; `replay` draws the row at which a trace begins."""

    replay: np.random.SeedSequence
    arrivals: np.random.SeedSequence
    inputs: np.random.SeedSequence
    outputs: np.random.SeedSequence
    prompts: np.random.SeedSequence


def _streams(traffic: Traffic) -> _Streams:
    """Return the streams: the four children of the seed, those with a seed of their own being that one's."""

    whole = (traffic.seed,) if isinstance(traffic.seed, int) else traffic.seed

    def children(own: int | None, seed: tuple[int, ...] = whole) -> list[np.random.SeedSequence]:
        return np.random.SeedSequence(seed if own is None else (own, *seed[1:])).spawn(4)

    lengths = children(traffic.seeds.lengths)
    return _Streams(
        replay=children(traffic.seeds.arrivals, whole[:2])[0],
        arrivals=children(traffic.seeds.arrivals)[0],
        inputs=lengths[1],
        outputs=lengths[2],
        prompts=children(traffic.seeds.prompts)[3],
    )


def _draw(traffic: Traffic, due_s: np.ndarray, first_uid: int) -> list[Request]:
    check_context(traffic)
    streams = _streams(traffic)

    def lengths(law: Lengths, stream: np.random.SeedSequence) -> np.ndarray:
        if isinstance(law, FromTrace):
            # The stream of the arrivals' replay, so that a drawn start is theirs.
            return law.draw_after(first_uid, len(due_s), np.random.default_rng(streams.replay))
        return law.draw(len(due_s), np.random.default_rng(stream))

    inputs = lengths(traffic.input_tokens, streams.inputs).tolist()
    outputs = lengths(traffic.output_tokens, streams.outputs).tolist()
    rng = np.random.default_rng(streams.prompts)
    prompts = traffic.prompts.draw(inputs, traffic.vocabulary, rng)
    return [
        Request(
            uid=uid,
            due_s=due,
            prompt_ids=prompt.ids,
            output_tokens=output,
            text=prompt.text,
            stop=traffic.stop,
        )
        for uid, (due, prompt, output) in enumerate(
            zip(due_s.tolist(), prompts, outputs, strict=True), start=first_uid
        )
    ]
