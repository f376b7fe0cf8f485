"""Requests for a simulation: those of a recorded run again, or others drawn from its workload's laws.

A simulated prompt is a `range`: it has a length and nobody reads it. What was recorded is replayed with the
due times and lengths that the system really got, which is the fairest test of a law: all that can differ
from the measurement is the law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from bench.config import Experiment, choose
from bench.protocols import Prompt, Tokenizer, Vocabulary
from bench.records import Request, Run
from bench.workload.arrivals import ARRIVALS
from bench.workload.lengths import LENGTHS
from bench.workload.schedule import Traffic, draw_requests, draw_saturating


class Ranges(msgspec.Struct, frozen=True):
    """A source of prompts without content: of a length, and each with another first id."""

    def draw(self, lengths: Sequence[int], vocabulary: Vocabulary, rng: np.random.Generator) -> list[Prompt]:
        """Return one prompt per length."""
        return [Prompt(ids=range(i, i + int(length))) for i, length in enumerate(lengths)]


class _NoWords(msgspec.Struct, frozen=True):
    """A vocabulary for prompts without content."""

    @property
    def ordinary_ids(self) -> Sequence[int]:
        """No ids: nobody asks for them."""
        return ()

    @property
    def tokenizer(self) -> Tokenizer | None:
        """There is none."""
        return None


class Laws(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment's workload, from which any number of requests can be drawn.

    `natural` are the output lengths that the model chose by itself in the recorded runs; the laws say
    nothing of these, so they are drawn from again. Empty where the workload states exact lengths.
    """

    experiment: Experiment
    natural: tuple[int, ...] = ()

    def traffic(self, seed: Sequence[int]) -> Traffic:
        """Return the laws with a seed; the same seed draws the same arrivals and lengths as a run."""
        workload = self.experiment.workload
        inputs = choose(LENGTHS, workload.input_tokens, "the run", "workload.input_tokens")
        outputs = choose(LENGTHS, workload.output_tokens, "the run", "workload.output_tokens")
        return Traffic(
            arrivals=choose(ARRIVALS, workload.arrivals, "the run", "workload.arrivals"),
            input_tokens=inputs,
            output_tokens=outputs,
            prompts=Ranges(),
            vocabulary=_NoWords(),
            max_context=inputs.longest + outputs.longest,
            seed=tuple(seed),
            seeds=workload.seeds,
        )

    def open_loop(self, n: int, rate_rps: float, seed: Sequence[int]) -> list[Request]:
        """Return `n` requests at `rate_rps`."""
        return self._as_answered(draw_requests(self.traffic(seed), rate_rps=rate_rps, n=n), seed)

    def saturating(self, n: int, seed: Sequence[int]) -> list[Request]:
        """Return `n` requests for a saturated run, in the order in which they are to be sent."""
        return self._as_answered(draw_saturating(self.traffic(seed), n=n), seed)

    def _as_answered(self, requests: list[Request], seed: Sequence[int]) -> list[Request]:
        """Give the requests lengths at which the model stops by itself, where the workload lets it."""
        if not self.natural:
            return requests
        lengths = np.random.default_rng([*seed, 1]).choice(self.natural, len(requests)).tolist()
        return [
            msgspec.structs.replace(request, output_tokens=length)
            for request, length in zip(requests, lengths, strict=True)
        ]


def laws_of(experiment: Experiment, runs: Sequence[Run]) -> Laws:
    """Return the workload laws of an experiment, with what its runs add to them."""
    if experiment.workload.stop == "exact":
        return Laws(experiment=experiment)
    lengths = [n for run in runs for n in run.requests.column("output_tokens").to_pylist() if n]
    return Laws(experiment=experiment, natural=tuple(lengths))


def recorded_requests(run: Run, laws: Laws) -> list[Request]:
    """Return a window's requests again, as due and as long as they were.

    One that was not served has left no output length: it gets the one it was drawn with.
    """
    rows = run.requests.select(["uid", "due_s", "prompt_tokens", "output_tokens"]).to_pylist()
    last = max((row["uid"] for row in rows), default=-1)
    drawn: Sequence[Request] = ()
    if any(not row["output_tokens"] for row in rows):
        drawn = draw_saturating(laws.traffic((laws.experiment.seed, run.meta.repeat)), n=last + 1)
    return [
        Request(
            uid=row["uid"],
            due_s=row["due_s"],
            prompt_ids=range(row["uid"], row["uid"] + row["prompt_tokens"]),
            output_tokens=row["output_tokens"] or drawn[row["uid"]].output_tokens,
        )
        for row in rows
    ]


def recorded_saturating(run: Run, laws: Laws) -> list[Request]:
    """Return a saturated run's requests again, in the order in which they were sent.

    That is not the order in which they were admitted: some policies pick. Those that still waited when the
    run was ended have left no output length. They are not scored, but belong to the load, and get a length
    from the laws.
    """
    rows = run.requests.select(["uid", "prompt_tokens", "output_tokens"]).to_pylist()
    n_unserved = sum(1 for row in rows if not row["output_tokens"])
    drawn = iter(laws.saturating(n_unserved, (laws.experiment.seed, 0, 0)) if n_unserved else ())
    return [
        Request(
            uid=row["uid"],
            due_s=0.0,
            prompt_ids=range(row["uid"], row["uid"] + row["prompt_tokens"]),
            output_tokens=row["output_tokens"] or next(drawn).output_tokens,
        )
        for row in sorted(rows, key=lambda row: row["uid"])
    ]


def recorded_outstanding(run: Run) -> int:
    """Return how many requests a saturated run kept outstanding: those sent before the first one ended."""
    rows = run.requests.select(["sent_s", "done_s"]).to_pylist()
    first_s = min((row["done_s"] for row in rows if row["done_s"] is not None), default=-math.inf)
    return sum(1 for row in rows if row["sent_s"] is not None and row["sent_s"] < first_s)
