"""What the harness costs the system that it measures: the same batches bare and through the harness.

`make perf` runs the shipped model in FP32 on one thread over the same batches in three ways, in turn: bare
`model.generate` in a loop; the server with queue, tickets, engine thread and the hook that takes each
token's time; and that with the sampler reading the host at 10 Hz (NVML needs a GPU and is not in it). The
ratio of a pair is the time through the harness over the time bare; reported is the median over the pairs
with a 95 % interval of the median by order statistics. Nothing here asserts a speed: it prints a line each
and writes `results/perf/latest.json`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clock import WallClock
from bench.config import Model
from bench.meters.host import HostMeter
from bench.meters.sampling import Sampler
from bench.model.device import use_cpu_threads
from bench.model.generate import GenerateEngine
from bench.model.load import load_model
from bench.model.precision import PRECISIONS
from bench.records import Request
from bench.serving.policies import DynamicBatching
from bench.serving.server import Server
from bench.workload.arrivals import Steady
from bench.workload.lengths import Constant
from bench.workload.prompts import RandomTokens
from bench.workload.schedule import Traffic, draw_saturating
from tests.perf.recording import LATEST, Entry, record, summarize

BATCH = 4
BATCHES = 1
INPUT_TOKENS, OUTPUT_TOKENS = 160, 48
CLOCK = WallClock()


@dataclass(frozen=True)
class Subject:
    """The model, and the server around it, which stays: a run has one for all its requests."""

    model: Any
    server: Server


Way = Callable[[Subject, Sequence[Request]], float]


def bare(subject: Subject, requests: Sequence[Request]) -> float:
    """Return the seconds that `model.generate` alone takes for the same padded batches, without any hook."""
    import torch
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=OUTPUT_TOKENS, min_new_tokens=OUTPUT_TOKENS, do_sample=False, pad_token_id=0
    )
    started_s = CLOCK.now_s()
    for start in range(0, len(requests), BATCH):
        ids = torch.tensor([request.prompt_ids for request in requests[start : start + BATCH]])
        with torch.inference_mode():
            subject.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return CLOCK.now_s() - started_s


def served(subject: Subject, requests: Sequence[Request]) -> float:
    """Return the seconds for the same batches through queue, policy, engine thread and tickets."""
    started_s = CLOCK.now_s()
    tickets = [subject.server.submit(request) for request in requests]
    outcomes = [ticket.result() for ticket in tickets]
    took_s = CLOCK.now_s() - started_s
    sizes = {outcome.batch_size for outcome in outcomes}
    if sizes != {BATCH} or any(outcome.status != "ok" for outcome in outcomes):
        raise RuntimeError(f"not the same batches: sizes {sizes}")
    return took_s


def sampled(subject: Subject, requests: Sequence[Request]) -> float:
    """Return the seconds of `served` with the host's meter read at 10 Hz beside it."""
    sampler = Sampler({"host": HostMeter()}, CLOCK, 0.1)
    sampler.start()
    try:
        return served(subject, requests)
    finally:
        sampler.stop()


def ratios(subject: Subject, requests: Sequence[Request], way: Way, pairs: int) -> list[float]:
    """Return `way` over `bare` for each of `pairs` interleaved pairs, whose order alternates."""
    found = []
    for number in range(pairs):
        if number % 2:
            other = way(subject, requests)
            alone = bare(subject, requests)
        else:
            alone = bare(subject, requests)
            other = way(subject, requests)
        found.append(other / alone)
    return found


def main() -> None:
    """Measure, print a line each, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=120, help="interleaved pairs per way")
    parser.add_argument("--out", type=Path, default=LATEST)
    args = parser.parse_args()
    use_cpu_threads(1)
    loaded = load_model(Model(id="tiny"), PRECISIONS["fp32"](), "sdpa", "cpu")
    policy = DynamicBatching(max_size=BATCH, max_wait_ms=1000)
    engine = GenerateEngine(loaded, CLOCK)
    server = Server(policy, engine, CLOCK, queue_limit=BATCH * BATCHES, timeout_s=math.inf)
    subject = Subject(loaded.model, server)
    requests = draw_saturating(_traffic(loaded), n=BATCH * BATCHES)
    server.start()
    for way in (bare, served):
        way(subject, requests)  # warm-up
    unit = f"time of {BATCHES} batch of {BATCH}, {INPUT_TOKENS}+{OUTPUT_TOKENS} tokens, tiny fp32"
    results: dict[str, Entry] = {}
    for name, way in {"serving over bare": served, "serving and sampling over bare": sampled}.items():
        results[name] = summarize(ratios(subject, requests, way, args.pairs), unit, threads=1)
        print(results[name].line(name))
    server.drain()
    record(results, args.out)


def _traffic(loaded: Any) -> Traffic:
    return Traffic(
        arrivals=Steady(),
        input_tokens=Constant(tokens=INPUT_TOKENS),
        output_tokens=Constant(tokens=OUTPUT_TOKENS),
        prompts=RandomTokens(),
        vocabulary=loaded.vocabulary,
        max_context=loaded.max_context,
        seed=1,
    )


if __name__ == "__main__":
    main()
