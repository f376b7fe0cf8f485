"""The treatment check: is the loaded model what the system's precision and attention ask for?

A key that is accepted and has no effect is the worst fault of a benchmark: the unquantized model is
measured under the quantized one's name. So before any number counts, the model's own modules are asked:
which classes its linear layers have, in which dtype and how many bytes their weights lie in memory,
which attention implementation is in force, and which outlier threshold.

Bytes are counted over untyped storages, each once, and include the quantization state (the scales of
LLM.int8, the block scales and code tables of NF4), which `get_memory_footprint` leaves out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.config import Compile
from bench.errors import TreatmentError
from bench.model.kv_cache import KvCache
from bench.model.kv_cache import name_of as cache_name
from bench.model.load import LoadedModel
from bench.model.precision import Int8, Precision, name_of
from bench.model.skeleton import TRANSPOSED_LINEAR, decoder_linears, rows_and_columns

MIN_BYTES_RATIO, MAX_BYTES_RATIO = 0.7, 1.1
"""Allowed resident over expected bytes. Less is possible: on a CPU with AVX-512 bitsandbytes repacks NF4
at the first product and keeps smaller scales. The next wider precision is always 1.7 times as large."""
MAX_UNTREATED_SHARE = 0.05
"""Largest share of the decoder's matrix weights that may lie outside linear layers when quantized."""


def check_treatment(loaded: LoadedModel, precision: Precision, attention: str) -> dict[str, Any]:
    """Return what was found, for `run.json`.

    Raises TreatmentError where class, dtype, bytes, threshold or attention are not those asked for.
    """
    model = loaded.model
    linears = [module for _, module in decoder_linears(model)]
    expected = sum(precision.linear_bytes(*rows_and_columns(module)) for module in linears)
    classes = Counter(type(module).__name__ for module in linears)
    dtypes = Counter(_dtype(module.weight) for module in linears)
    head = model.get_output_embeddings()
    found: dict[str, Any] = {
        "precision": name_of(precision),
        "device": str(next(model.parameters()).device.type),
        "attention": model.config._attn_implementation,
        "linear_layers": dict(classes),
        "linear_dtypes": dict(dtypes),
        "linear_bytes": _resident(t for module in linears for t in _weight_tensors(module)),
        "linear_bytes_expected": expected,
        "head": None if head is None else {"class": type(head).__name__, "dtype": _dtype(head.weight)},
        "total_bytes": _resident(_all_tensors(model)),
        "untreated_share": _untreated_share(model, linears),
    }
    if isinstance(precision, Int8):
        found["thresholds"] = sorted({float(getattr(_state(m), "threshold", -1.0)) for m in linears})
    _judge(found, loaded, precision, attention)
    return found


def check_engine(facts: Mapping[str, Any], cache: KvCache, compile: Compile | None) -> dict[str, Any]:
    """Return the KV cache's kind and the compilation that an engine's `facts` state, for `run.json`.

    `facts` are those after `prepare`, `cache` is a resolved kind. Raises TreatmentError where either is not
    what was asked for: also where torch compiled fewer graphs than there are cache lengths, and where it
    left out CUDA graphs on a GPU. (The engines themselves hold the cache object against its class.)
    """
    kind, compiled = facts["kv_cache"]["kind"], facts.get("compile")
    claims = [
        (kind == cache_name(cache), "kv_cache", cache_name(cache), kind),
        ((compiled is None) == (compile is None), "compile", _compilation(compile), _compilation(compiled)),
    ]
    if compile is not None and compiled is not None:
        least, graphs = len(compiled["cache_lengths"]), compiled["graphs"]
        replayed = compiled["cuda_graphs"] or not compile.cuda_graphs or compiled["device"] == "cpu"
        skips = f"none, or not for all of it ({compiled['cuda_graph_skips']} skipped)"
        claims += [
            (graphs >= least, "compile", f"a compiled graph for each of {least} cache lengths", graphs),
            (replayed, f"compile mode {compile.mode}", "CUDA graphs", skips),
        ]
    for holds, what, wanted, seen in claims:
        if not holds:
            raise TreatmentError(
                f"{what} is not in force: expected {wanted}, found {seen}; "
                "the run would measure another system than it names"
            )
    return {"kv_cache": kind, "compile": compiled}


def _compilation(compile: object) -> str:
    return "no compilation" if compile is None else "a compiled step"


def _judge(found: dict[str, Any], loaded: LoadedModel, precision: Precision, attention: str) -> None:
    """Hold what was found against what was asked for."""
    allowed = {precision.linear_class} if precision.quantized else {precision.linear_class, TRANSPOSED_LINEAR}
    compute = precision.compute_dtype(loaded.device)
    ratio = found["linear_bytes"] / max(found["linear_bytes_expected"], 1)
    share = found["untreated_share"]
    claims: list[tuple[bool, str, object]] = [
        (_all_in(found["linear_layers"], allowed), f"layers of {sorted(allowed)}", found["linear_layers"]),
        (
            _all_in(found["linear_dtypes"], {precision.storage_dtype}),
            f"linear weights in {precision.storage_dtype}",
            found["linear_dtypes"],
        ),
        (
            MIN_BYTES_RATIO <= ratio <= MAX_BYTES_RATIO,
            f"about {found['linear_bytes_expected']} bytes of linear weights",
            found["linear_bytes"],
        ),
        (found["head"] is None or found["head"]["dtype"] == compute, f"a head in {compute}", found["head"]),
        (
            not precision.quantized or share <= MAX_UNTREATED_SHARE,
            f"at most {MAX_UNTREATED_SHARE:.0%} of the decoder's weights outside quantized layers",
            f"{share:.1%}",
        ),
        (found["attention"] == attention, f"{attention} attention", found["attention"]),
        (found["device"] == loaded.device, f"weights on {loaded.device}", found["device"]),
    ]
    if isinstance(precision, Int8):
        threshold = found["thresholds"]
        claims.append((threshold == [precision.threshold], f"threshold {precision.threshold}", threshold))
    for holds, wanted, seen in claims:
        if not holds:
            raise TreatmentError(
                f"precision {found['precision']} is not in force: expected {wanted}, found {seen}; "
                f"the run would measure another model than it names"
            )


def _all_in(counts: dict[str, int], allowed: set[str]) -> bool:
    """Whether something was counted and nothing but what is allowed."""
    return bool(counts) and set(counts) <= allowed


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _state(module: Any) -> Any:
    return getattr(module, "state", None)


def _weight_tensors(module: Any) -> Iterator[Any]:
    """Yield a linear layer's weight and the tensors of its quantization state."""
    weight = module.weight
    yield weight
    for holder in (weight, _state(module)):
        for name in ("CB", "SCB"):  # LLM.int8 moves both from the weight to the state at the first product
            yield getattr(holder, name, None)
    yield from _quant_state_tensors(getattr(weight, "quant_state", None))


def _quant_state_tensors(state: Any) -> Iterator[Any]:
    """Yield the tensors of a 4-bit quantization state and of the state that quantizes its scales."""
    while state is not None:
        for name in ("absmax", "code", "offset"):
            yield getattr(state, name, None)
        state = getattr(state, "state2", None)


def _all_tensors(model: Any) -> Iterator[Any]:
    """Yield every parameter, buffer and quantization state of the model."""
    yield from model.parameters()
    yield from model.buffers()
    for _, module in decoder_linears(model):
        yield from _weight_tensors(module)


def _resident(tensors: Iterable[Any]) -> int:
    """Return the bytes of the tensors' storages, each storage once."""
    import torch

    storages = {}
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _untreated_share(model: Any, linears: list[Any]) -> float:
    """Return the share of the decoder's matrix weights that are in no linear layer.

    Mixture-of-experts layers keep their experts in one tensor that is no linear layer, so that
    quantizing "all linear layers" would leave most of such a model as it was.
    """
    ends = {id(end.weight) for end in (model.get_input_embeddings(), model.get_output_embeddings()) if end}
    treated = {id(module.weight) for module in linears}
    inside: int = sum(rows * columns for rows, columns in map(rows_and_columns, linears))
    outside: int = sum(
        p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in treated and id(p) not in ends
    )
    return float(outside / max(inside + outside, 1))
