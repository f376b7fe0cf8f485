"""How fast each way of generating answers the same requests, and how near that comes to the floor.

`python -m tests.perf.generation`. 64 greedy requests, each with a prompt of 16 to 256 tokens (lognormal,
mean 75) and 8 to 96 tokens of its own to generate, go through a Llama-like model (hidden 256, 4 layers,
vocabulary 8,000, FP32) on one thread, in CPU seconds:

- one by one: stock `generate` per request; this is 1.
- static: stock `generate` over left-padded batches of 16, each until its longest output.
- transformers: transformers' continuous batching, 16 requests at once, settings pinned.
- steps: the step engine, 16 slots, a request joins when a slot is free.
- steps in batches: the step engine, 16 join when nothing runs.
- floor: what the model alone takes with perfect packing: each prompt's forward pass by itself, and all
  further tokens in steps of 16 at the traffic's mean context. No loop, no masks, no idle row. A way that
  shares a pass between prompts and steps can be faster than this.

All ways must return the same tokens. Waste is the share of positions that were computed in vain, in
prefills and in decode steps apart. Weighted by time it is the share of what these positions would cost at
the floor's rates. One row alone and the uncompiled step engine are never padded, so theirs is 0 by
construction, which the engine's count of each of its ways confirms. As a step costs much the same for few
rows as for many, even waste by time misleads alone: beside it stands the share of a way's time that is
above the floor, whatever it went into.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.clock import WallClock
from bench.config import Model
from bench.model.device import use_cpu_threads
from bench.model.load import LoadedModel, load_model
from bench.model.precision import PRECISIONS
from bench.model.steps import StepEngine
from bench.records import Generation, Request
from bench.workload.arrivals import Steady
from bench.workload.lengths import Lognormal, Uniform
from bench.workload.prompts import RandomTokens
from bench.workload.schedule import Traffic, draw_saturating
from tests.perf.recording import LATEST, Entry, record, summarize

BATCH = 16
REQUESTS = 64
FLOOR_STEPS = 40
"""Steps that the cost of one is the mean of, around the mean context."""
ARCHITECTURE = {
    "vocab_size": 8000,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.05,
}
UNIT = "CPU time, 64 requests of 16-256+8-96 tokens, Llama 4 x 256, FP32"
Tokens = dict[int, list[int]]
Way = Callable[[LoadedModel, Sequence[Request]], Tokens]


def load() -> LoadedModel:
    """Return the model, with random weights."""
    from transformers import LlamaConfig

    use_cpu_threads(1)
    with TemporaryDirectory() as folder:
        LlamaConfig(**ARCHITECTURE).save_pretrained(folder)
        return load_model(Model(id=folder, weights="random"), PRECISIONS["fp32"](), "sdpa", "cpu")


def draw(loaded: LoadedModel) -> list[Request]:
    """Return the requests, the same ones every time."""
    return draw_saturating(
        Traffic(
            arrivals=Steady(),
            input_tokens=Lognormal(mean=75, cv=0.8, min=16, max=256),
            output_tokens=Uniform(min=8, max=96),
            prompts=RandomTokens(),
            vocabulary=loaded.vocabulary,
            max_context=loaded.max_context,
            seed=1,
        ),
        n=REQUESTS,
    )


def generate(loaded: LoadedModel, batch: Sequence[Request]) -> Tokens:
    """Return the tokens of one left-padded call of stock `generate`."""
    import torch
    from transformers import GenerationConfig

    width = max(len(r.prompt_ids) for r in batch)
    steps = max(r.output_tokens for r in batch)
    ids = torch.tensor([[0] * (width - len(r.prompt_ids)) + list(r.prompt_ids) for r in batch])
    own = torch.tensor([[0] * (width - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in batch])
    config = GenerationConfig(max_new_tokens=steps, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        rows = loaded.model.generate(ids, attention_mask=own, generation_config=config)
    return {r.uid: rows[i, width : width + r.output_tokens].tolist() for i, r in enumerate(batch)}


def one_by_one(loaded: LoadedModel, requests: Sequence[Request]) -> Tokens:
    """Generate for each request alone."""
    return {uid: ids for r in requests for uid, ids in generate(loaded, [r]).items()}


def static(loaded: LoadedModel, requests: Sequence[Request]) -> Tokens:
    """Generate for batches in order of arrival."""
    tokens: Tokens = {}
    for batch in batches(requests):
        tokens |= generate(loaded, batch)
    return tokens


def batches(requests: Sequence[Request]) -> list[Sequence[Request]]:
    """Return the requests in batches, as they came."""
    return [requests[i : i + BATCH] for i in range(0, len(requests), BATCH)]


def transformers(loaded: LoadedModel, requests: Sequence[Request]) -> Tokens:
    """Generate by transformers' continuous batching: no sharing of prefixes, no other attention kernel."""
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    known = ContinuousBatchingConfig.__dataclass_fields__
    manager = loaded.model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=1),
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=128,
            max_batch_tokens=512,
            max_requests_per_batch=BATCH,
            allow_block_sharing=False,
            use_cuda_graph=False,
            **({"auto_switch_to_flash": False} if "auto_switch_to_flash" in known else {}),
            **{"page_size" if "page_size" in known else "block_size": 64},
        ),
    )
    manager.start()
    tokens: Tokens = {}
    try:
        for r in requests:
            manager.add_request(
                list(r.prompt_ids), request_id=str(r.uid), max_new_tokens=r.output_tokens, eos_token_id=-1
            )
        while len(tokens) < len(requests):
            found = manager.get_result(timeout=60)
            if found is None:
                raise RuntimeError("transformers' continuous batching gave no result for a minute")
            tokens[int(found.request_id)] = list(found.generated_tokens)
    finally:
        manager.stop(block=True)
    return tokens


def steps(loaded: LoadedModel, requests: Sequence[Request]) -> Tokens:
    """Generate by the step engine; a request joins as soon as a slot is free."""
    engine = prepared(loaded)
    tokens: Tokens = {}
    waiting = list(requests)
    running = 0
    while len(tokens) < len(requests):
        joining = waiting[: BATCH - running]
        if joining:
            del waiting[: len(joining)]
            running += len(joining)
            engine.admit(joining)
        running -= take(engine, tokens)
    return tokens


def steps_in_batches(loaded: LoadedModel, requests: Sequence[Request]) -> Tokens:
    """Generate by the step engine; the next batch joins when nothing runs."""
    engine = prepared(loaded)
    tokens: Tokens = {}
    for batch in batches(requests):
        engine.admit(batch)
        left = len(batch)
        while left:
            left -= take(engine, tokens)
    return tokens


_PREPARED: list[StepEngine] = []


def prepared(loaded: LoadedModel) -> StepEngine:
    """Return a step engine that has tried the model out, as it has before any traffic."""
    if not _PREPARED:
        engine = StepEngine(loaded, WallClock(), slots=BATCH, prefill_chunk=None, static=False, compile=None)
        engine.prepare()
        _PREPARED.append(engine)
    _PREPARED[0].clear()
    return _PREPARED[0]


def take(engine: StepEngine, tokens: Tokens) -> int:
    """Step once; return how many ended."""
    ended = engine.step(0.0)
    for one in ended:
        assert isinstance(one, Generation), one
        tokens[one.uid] = list(one.token_ids)
    return len(ended)


class Floor(msgspec.Struct, frozen=True):
    """CPU seconds of the model's forward passes alone, perfectly packed."""

    prefill_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        """Both together."""
        return self.prefill_s + self.decode_s


def floor(loaded: LoadedModel, requests: Sequence[Request]) -> Floor:
    """Measure the floor: each prompt by itself, and a step of 16 at the mean context."""
    import torch
    from transformers import DynamicCache

    model = loaded.model
    context = sum(len(r.prompt_ids) + r.output_tokens / 2 for r in requests) / len(requests)
    tokens = sum(r.output_tokens - 1 for r in requests)
    with torch.inference_mode():
        began = time.process_time()
        for r in requests:
            model(torch.tensor([r.prompt_ids]), past_key_values=DynamicCache(), logits_to_keep=1)
        prefill_s = time.process_time() - began
        cache = DynamicCache()
        ids = torch.full((BATCH, round(context) - FLOOR_STEPS // 2), 5)
        model(ids, past_key_values=cache, logits_to_keep=1)
        began = time.process_time()
        for _ in range(FLOOR_STEPS):
            model(ids[:, :1], past_key_values=cache)
        step_s = (time.process_time() - began) / FLOOR_STEPS
    return Floor(prefill_s, tokens / BATCH * step_s)


WAYS: dict[str, Way] = {
    "one by one": one_by_one,
    "static": static,
    "transformers": transformers,
    "steps": steps,
    "steps in batches": steps_in_batches,
}


STEPPED = ("steps", "steps in batches")
"""The ways that count what they compute. Uncompiled, the step engine never pads: 0 by construction."""


class Measured(msgspec.Struct, frozen=True):
    """CPU seconds per repeat."""

    ways_s: dict[str, list[float]]
    floors: list[Floor]


def measure(loaded: LoadedModel, requests: Sequence[Request], repeats: int) -> Measured:
    """Run all ways and the floor in turn, `repeats` times after a warm-up; the order turns by one."""
    for way in WAYS.values():
        way(loaded, requests[:BATCH])
    expected = one_by_one(loaded, requests)
    found = Measured({name: [] for name in WAYS}, [])
    for number in range(repeats):
        names = list(WAYS)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began = time.process_time()
            tokens = WAYS[name](loaded, requests)
            took_s = time.process_time() - began
            if tokens != expected:
                wrong = [uid for uid in expected if tokens.get(uid) != expected[uid]]
                raise RuntimeError(f"{name}: other tokens for requests {wrong}")
            found.ways_s[name].append(took_s)
        found.floors.append(floor(loaded, requests))
    return found


class Waste(msgspec.Struct, frozen=True):
    """Shares of positions computed in vain."""

    prefill: float
    decode: float

    def by_time(self, at_best: Floor) -> float:
        """Return the share of what the computed positions would cost at the floor's rates."""
        prefill_s = at_best.prefill_s / (1 - self.prefill)
        return 1 - at_best.total_s / (prefill_s + at_best.decode_s / (1 - self.decode))


def waste_of_static(requests: Sequence[Request]) -> Waste:
    """Return the padding of left-padded batches."""
    prompts = computed_prompts = decoded = computed_steps = 0
    for batch in batches(requests):
        prompts += sum(len(r.prompt_ids) for r in batch)
        computed_prompts += len(batch) * max(len(r.prompt_ids) for r in batch)
        decoded += sum(r.output_tokens - 1 for r in batch)
        computed_steps += len(batch) * (max(r.output_tokens for r in batch) - 1)
    return Waste(1 - prompts / computed_prompts, 1 - decoded / computed_steps)


def waste_of_steps(way: Way, loaded: LoadedModel, requests: Sequence[Request]) -> Waste:
    """Run a way of the step engine once more; return what it computed beyond the requests' own tokens."""
    before = dict(prepared(loaded).facts)
    way(loaded, requests)
    computed = {
        name: count - before[name] for name, count in prepared(loaded).facts.items() if "positions" in name
    }
    prompts = sum(len(r.prompt_ids) for r in requests)
    decoded = sum(r.output_tokens - 1 for r in requests)
    return Waste(
        1 - prompts / computed["prefill_positions"],
        1 - decoded / (computed["decode_positions"] + computed["padded_positions"]),
    )


def main() -> None:
    """Measure, print a table, and record the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=LATEST)
    args = parser.parse_args()
    loaded = load()
    requests = draw(loaded)
    found = measure(loaded, requests, args.repeats)
    entries = ratios(found)
    wastes = {name: waste_of_steps(WAYS[name], loaded, requests) for name in STEPPED}
    print(table(requests, found, wastes))
    for name, entry in entries.items():
        print(entry.line(name))
    record(entries, args.out)


def ratios(found: Measured) -> dict[str, Entry]:
    """Return each way's speed over that of one by one, and the comparisons that matter."""
    times_s = found.ways_s | {"floor": [at_best.total_s for at_best in found.floors]}

    def speed(way: str, over: str) -> Entry:
        pairs = zip(times_s[over], times_s[way], strict=True)
        return summarize([a / b for a, b in pairs], f"{UNIT}; speed of {way} over {over}", threads=1)

    against = {f"generation: {way}": speed(way, "one by one") for way in times_s if way != "one by one"}
    return against | {
        "generation: steps over the floor": speed("steps", "floor"),
        "generation: steps over transformers": speed("steps", "transformers"),
        "generation: steps in batches over static": speed("steps in batches", "static"),
    }


def table(requests: Sequence[Request], found: Measured, ours: Mapping[str, Waste]) -> str:
    """Return each way's best time and waste; transformers does not say what it computes.

    `ours` is what was counted in the ways of the step engine.
    """
    wastes = {"one by one": Waste(0.0, 0.0), "static": waste_of_static(requests), **ours}
    at_best = min(found.floors, key=lambda one: one.total_s)
    lines = [
        f"{'':16} CPU s   prefill    decode   waste by   time above",
        f"{'':24} waste     waste       time    the floor",
    ]
    for name, times_s in found.ways_s.items():
        shares = f"{'-':>9} {'-':>9} {'-':>10}"
        if name in wastes:
            waste = wastes[name]
            shares = f"{waste.prefill:9.0%} {waste.decode:9.0%} {waste.by_time(at_best):10.0%}"
        lines.append(f"{name:16} {min(times_s):5.2f} {shares} {1 - at_best.total_s / min(times_s):12.0%}")
    lines.append(f"{'floor':16} {at_best.total_s:5.2f}")
    if unpadded := [name for name in wastes if wastes[name] == Waste(0.0, 0.0)]:
        lines.append(f"waste of {', '.join(unpadded)}: 0 by construction, as nothing of it is ever padded")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
