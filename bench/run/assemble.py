"""From one experiment file to the parts that a run is made of, without loading weights.

The only place that knows every plug-in family: whatever `assemble` accepts can be run, so
`bench check` is this and nothing more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from bench.analysis.carbon import intensity
from bench.analysis.expectations import check_expectations
from bench.clock import Clock
from bench.config import Compile, Experiment, System, choose, decode_experiment, read_toml
from bench.errors import ConfigError
from bench.model.engines import ENGINES, EngineKind, check_combination
from bench.model.kv_cache import KV_CACHES, KvCache, resolve
from bench.model.kv_cache import name_of as cache_name
from bench.model.load import LoadedModel
from bench.model.locate import check_model
from bench.model.precision import PRECISIONS, Precision
from bench.protocols import Arrivals, Engine, Lengths, Load, Policy, Prompts
from bench.serving.policies import POLICIES
from bench.workload.arrivals import ARRIVALS
from bench.workload.lengths import LENGTHS
from bench.workload.load import LOADS
from bench.workload.prompts import PROMPTS
from bench.workload.trace import with_trace


class SystemParts(msgspec.Struct, frozen=True, kw_only=True):
    """One system's plug-ins; `kv_cache` is resolved, never `auto`."""

    precision: Precision
    engine: EngineKind
    policy: Policy
    kv_cache: KvCache
    attention: str
    compile: Compile | None


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment with every plug-in table turned into the plug-in."""

    experiment: Experiment
    written: dict[str, Any]
    config_file: str
    arrivals: Arrivals
    input_tokens: Lengths
    output_tokens: Lengths
    prompts: Prompts
    load: Load
    systems: dict[str, SystemParts]

    def resolved(self) -> dict[str, Any]:
        """Return the whole experiment with every default filled in, as plain values."""
        config: dict[str, Any] = msgspec.to_builtins(self.experiment)
        workload = config["workload"]
        for key in ("arrivals", "input_tokens", "output_tokens", "prompts"):
            part = getattr(self, key)
            workload[key] = _table(workload[key], part)
        config["load"] = _table(config["load"], self.load)
        for name, system in self.systems.items():
            table = config["systems"][name]
            table["precision"] = _table(table["precision"], system.precision)
            table["engine"] = _table(table["engine"], system.engine)
            table["batching"] = _table(table["batching"], system.policy)
            table["kv_cache"] = _table(cache_name(system.kv_cache), system.kv_cache)
        return config


def assemble(
    path: Path,
    *,
    model_id: str | None = None,
    rate_rps: float | None = None,
    allow_shared: bool = False,
    search: bool = False,
) -> Parts:
    """Read an experiment file and build its parts; `rate_rps` takes the place of its `[load]`.

    `allow_shared` and `search` switch `protocol.allow_shared_gpu` and `capacity.search` on.

    Raises ConfigError for anything wrong in the file, NotAvailable where its model cannot exist here.
    """
    written = read_toml(path)
    if rate_rps is not None:
        written |= {"load": {"kind": "rate", "rps": rate_rps}}
    if allow_shared:
        written = _switched_on(written, "protocol", "allow_shared_gpu")
    if search:
        written = _switched_on(written, "capacity", "search")
    parts = assemble_written(written, str(path), model_id=model_id)
    check_model(parts.experiment.model)
    return parts


def assemble_written(written: dict[str, Any], where: str, *, model_id: str | None = None) -> Parts:
    """Build the parts from an already parsed file; `where` names it in errors."""
    experiment = with_trace(decode_experiment(written, where, model_id=model_id), where)
    try:
        intensity(experiment.assumptions)
        check_expectations(experiment.expectations)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    workload = experiment.workload
    input_tokens = choose(LENGTHS, workload.input_tokens, where, "workload.input_tokens")
    output_tokens = choose(LENGTHS, workload.output_tokens, where, "workload.output_tokens")
    longest = input_tokens.longest + output_tokens.longest
    return Parts(
        experiment=experiment,
        written=_with_model(written, experiment),
        config_file=where,
        arrivals=choose(ARRIVALS, workload.arrivals, where, "workload.arrivals"),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        prompts=choose(PROMPTS, workload.prompts, where, "workload.prompts"),
        load=choose(LOADS, experiment.load, where, "load"),
        systems={
            name: _system(system, longest, where, f"systems.{name}")
            for name, system in experiment.systems.items()
        },
    )


def _system(system: System, longest: int, where: str, key: str) -> SystemParts:
    """Build one system's plug-ins; ConfigError also where they cannot be together.

    `longest` is the most prompt plus output tokens that a request of the workload can have.
    """
    precision = choose(PRECISIONS, system.precision, where, f"{key}.precision")
    engine = choose(ENGINES, system.engine, where, f"{key}.engine")
    policy = choose(POLICIES, system.batching, where, f"{key}.batching")
    cache = choose(KV_CACHES, system.kv_cache, where, f"{key}.kv_cache")
    check_combination(engine, cache, system.compile, precision, policy, where, key)
    try:
        engine.check_context(longest)
    except ValueError as error:
        raise ConfigError(f"{where}: {key}.engine: {error}") from None
    return SystemParts(
        precision=precision,
        engine=engine,
        policy=policy,
        kv_cache=resolve(cache, engine, system.compile),
        attention=system.attention,
        compile=system.compile,
    )


def build_engine(parts: Parts, system: SystemParts, loaded: LoadedModel, clock: Clock) -> Engine:
    """Return the system's engine, with room for as many requests as its policy lets run together.

    Its context is the longest that the workload can draw: a cache that is allocated at once would else
    take slots for the model's whole context.
    """
    longest = parts.input_tokens.longest + parts.output_tokens.longest
    return system.engine.build(
        msgspec.structs.replace(loaded, max_context=min(loaded.max_context, longest)),
        clock,
        slots=system.policy.max_batch,
        prefill_chunk=system.policy.prefill_chunk,
        cache=system.kv_cache,
        compile=system.compile,
    )


def _switched_on(written: dict[str, Any], table: str, key: str) -> dict[str, Any]:
    """Return the file's tables with `table.key` true; what is no table is left for decoding to refuse."""
    present = written.get(table, {})
    return written | {table: present | {key: True}} if isinstance(present, dict) else written


def _with_model(written: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Return the file's tables with a model named on the command line put in."""
    if written.get("model", {}).get("id") == experiment.model.id:
        return written
    model = msgspec.to_builtins(experiment.model)
    return written | {"model": {key: value for key, value in model.items() if value is not None}}


def _table(written: str | dict[str, Any], part: object) -> dict[str, Any]:
    kind = written if isinstance(written, str) else written["kind"]
    fields: dict[str, Any] = msgspec.to_builtins(part)
    return {"kind": kind} | fields
