"""From the laws to the requests: everything about the traffic is drawn before the run, from one seed.

Arrivals, input lengths, output lengths and prompts have a random stream each, so that changing one
law leaves what the others draw alone: Poisson against steady traffic is then the same requests at
other times. All systems of an experiment get the same requests.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bench.errors import ConfigError
from bench.protocols import Arrivals, Lengths, Prompts, Vocabulary
from bench.records import Request, Stop


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """The laws of a workload, and of the model only what they must respect.

    `seed` may be several numbers, such as (experiment's seed, repeat). `max_context` is the model's
    limit on prompt plus output tokens.
    """

    arrivals: Arrivals
    input_tokens: Lengths
    output_tokens: Lengths
    prompts: Prompts
    vocabulary: Vocabulary
    max_context: int
    seed: int | tuple[int, ...]
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

    Give either `n` or `duration_s`; the latter means the nearest whole number of requests, at least
    one. Raises ConfigError where a request could exceed the model's context.
    """
    if (n is None) == (duration_s is None):
        raise TypeError("give either n or duration_s")
    if duration_s is not None:
        n = max(1, round(duration_s * rate_rps))
    assert n is not None
    rng = np.random.default_rng(_streams(traffic)[0])
    return _draw(traffic, start_s + traffic.arrivals.times_s(n, rate_rps, rng), first_uid)


def draw_saturating(traffic: Traffic, *, n: int, due_s: float = 0.0, first_uid: int = 0) -> list[Request]:
    """Return `n` requests that are all due at `due_s`: the offline run, which measures capacity.

    They are those of `draw_requests` for the same `n`, apart from their times. Raises ConfigError
    where a request could exceed the model's context.
    """
    return _draw(traffic, np.full(n, due_s), first_uid)


def check_context(traffic: Traffic) -> None:
    """Raise ConfigError where the longest prompt and output that the laws allow do not fit the model."""
    inputs, outputs = traffic.input_tokens.longest, traffic.output_tokens.longest
    if inputs + outputs > traffic.max_context:
        raise ConfigError(
            f"workload.input_tokens may reach {inputs} and workload.output_tokens {outputs} tokens, together "
            f"{inputs + outputs}, but the model's context is {traffic.max_context}; lower one of their max"
        )


def _draw(traffic: Traffic, due_s: np.ndarray, first_uid: int) -> list[Request]:
    check_context(traffic)
    n = len(due_s)
    _, *streams = _streams(traffic)
    for_inputs, for_outputs, for_prompts = (np.random.default_rng(stream) for stream in streams)
    inputs = traffic.input_tokens.draw(n, for_inputs).tolist()
    outputs = traffic.output_tokens.draw(n, for_outputs).tolist()
    prompts = traffic.prompts.draw(inputs, traffic.vocabulary, for_prompts)
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


def _streams(traffic: Traffic) -> list[np.random.SeedSequence]:
    """Return the random streams of arrivals, input lengths, output lengths and prompts."""
    return np.random.SeedSequence(traffic.seed).spawn(4)
