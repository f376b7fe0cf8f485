"""The KV cache as a treatment: which kinds there are, what each must turn out to be, and its bytes.

Attention needs the keys and values of all earlier tokens. Recomputing them at every step (`off`) makes
decoding quadratic; keeping them costs 2 · layers · kv heads · head size · bytes per token and sequence.
`dynamic` grows by concatenation, `static` is allocated once at its full length (the shape that compilation
needs), `quantized` keeps old tokens in few bits and expands them at every step: less memory, more time.
`paged` is transformers' own block pool for continuous batching.

What was asked for is held against the cache object itself, and its bytes are counted on that object.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from bench.config import Compile, PositiveInt
from bench.errors import TreatmentError

if TYPE_CHECKING:
    from bench.model.engines import EngineKind


class KvCache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every kind states; a subclass's fields are its TOML keys."""

    cache_class: ClassVar[str | None] = None
    """Name of the class that transformers' cache object must have, None where there must be none."""


class Auto(KvCache, frozen=True):
    """The engine's own kind: `dynamic`; with `compile` `static`; for `transformers-continuous` `paged`."""


class Off(KvCache, frozen=True):
    """No cache: every step computes the whole sequence anew."""


class Dynamic(KvCache, frozen=True):
    """Grows with its sequences; the usual cache."""

    cache_class = "DynamicCache"


class Static(KvCache, frozen=True):
    """Allocated at the engine's whole context, whatever is used of it; shapes never change."""

    cache_class = "StaticCache"


class Quantized(KvCache, frozen=True):
    """Old tokens in few bits, by one of three `backend`s.

    `fp8` has one scale per tensor and needs no package; that scale is shared by all rows of a batch, so that
    a request's tokens depend on its neighbours. `hqq` and `quanto` take `nbits`, the `group_size` of elements
    that share a scale, and `residual_length`: a prompt is quantized at once, later tokens when so many of
    them have come. None is transformers' default (4 bits, 64, 128).
    """

    backend: Literal["fp8", "hqq", "quanto"]
    nbits: Literal[1, 2, 4, 8] | None = None
    group_size: PositiveInt | None = None
    residual_length: PositiveInt | None = None

    cache_class = "QuantizedCache"

    def __post_init__(self) -> None:
        """Refuse keys that the backend would not take."""
        groupwise = ("nbits", "group_size", "residual_length")
        if self.backend == "fp8":
            for key in groupwise:
                if getattr(self, key) is not None:
                    raise ValueError(f'{key} does nothing with backend = "fp8", which has one scale a tensor')
        if self.backend == "quanto" and self.nbits not in {None, 2, 4}:
            raise ValueError(f'backend = "quanto" has nbits 2 or 4, not {self.nbits}')

    @property
    def package(self) -> str | None:
        """Return the PyPI package that the backend needs, None for none."""
        return {"fp8": None, "hqq": "hqq", "quanto": "optimum-quanto"}[self.backend]

    @property
    def missing(self) -> str | None:
        """Return what to do about a package that is not installed, None where nothing is missing."""
        if self.package is None or _installed(self.package):
            return None
        return f'backend = "{self.backend}" needs {self.package}; run: pip install {self.package}'

    @property
    def layer_class(self) -> str:
        """Return the name of the class that each layer of the cache must have."""
        return {"fp8": "Fp8", "hqq": "HQQ", "quanto": "Quanto"}[self.backend] + "QuantizedLayer"

    def why_not(self, kv_elements: int | None) -> str | None:
        """Return why a model with `kv_elements` = kv heads · head size cannot have it, None if it can.

        hqq packs 8 / nbits elements into a byte, taken from as many groups, so that a token's groups must be
        a multiple of that; it fails on others only once a prompt of such a length has come.
        """
        if self.backend == "fp8" or kv_elements is None:
            return None
        group, packed = self.group_size or 64, 8 // (self.nbits or 4) if self.backend == "hqq" else 1
        if kv_elements % (group * packed) == 0:
            return None
        return (
            f"{kv_elements} elements per token and layer are no multiple of group_size {group}"
            + (f" · {packed}" if packed > 1 else "")
            + "; set a smaller group_size"
        )

    def options(self) -> dict[str, Any]:
        """Return what transformers' QuantizedCache is to be given."""
        asked: dict[str, Any] = {
            "nbits": self.nbits,
            "q_group_size": self.group_size,
            "residual_length": self.residual_length,
        }
        if self.backend == "hqq":  # transformers' default of 0 groups along the batch, mixing the rows
            asked |= {"axis_key": 1, "axis_value": 1}
        return {"backend": self.backend} | {key: value for key, value in asked.items() if value is not None}


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package.replace("-", ".")) is not None
    except ModuleNotFoundError:  # of a dotted name, the first part is not there
        return False


class Paged(KvCache, frozen=True):
    """transformers' pool of blocks, sized by the engine's own keys."""

    cache_class = "PagedAttentionCache"


KV_CACHES: dict[str, type[KvCache]] = {
    "auto": Auto,
    "off": Off,
    "dynamic": Dynamic,
    "static": Static,
    "quantized": Quantized,
    "paged": Paged,
}


def name_of(cache: KvCache) -> str:
    """Return the kind's key in `KV_CACHES`."""
    return next(key for key, kind in KV_CACHES.items() if kind is type(cache))


def resolve(cache: KvCache, engine: EngineKind, compile: Compile | None = None) -> KvCache:
    """Return `cache`, or for `auto` the engine's default: with `compile` one that it can compile with."""
    if not isinstance(cache, Auto):
        return cache
    fit = engine.kv_caches if compile is None else engine.compiles_with
    return KV_CACHES[(fit or engine.kv_caches)[0]]()


def check_cache(asked: KvCache, cache: Any) -> None:
    """Hold transformers' cache object against what was asked for; TreatmentError where it is another."""
    found = None if cache is None else type(cache).__name__
    if found != asked.cache_class:
        raise _not_in_force(asked, f"a {asked.cache_class or 'run without a cache'}", found or "none")
    if isinstance(asked, Quantized):
        layers = {type(layer).__name__ for layer in cache.layers}
        if layers != {asked.layer_class}:
            raise _not_in_force(asked, f"layers of {asked.layer_class}", ", ".join(sorted(layers)))
        if any(getattr(layer, "_quantized_keys", None) is None for layer in cache.layers):
            raise _not_in_force(asked, "quantized keys in every layer", "a layer without")


def _not_in_force(asked: KvCache, wanted: str, found: str) -> TreatmentError:
    return TreatmentError(
        f"kv_cache {name_of(asked)} is not in force: expected {wanted}, found {found}; "
        "the run would measure another cache than it names"
    )


def bytes_per_token(model: Any) -> int | None:
    """Return 2 · layers · kv heads · head size · bytes of the model's dtype: an unquantized token's cache.

    Counts every layer as full attention: what sliding windows save shows in the measured bytes. None for a
    model without attention heads.
    """
    elements = kv_elements(model)
    layers = model.config.get_text_config(decoder=True).num_hidden_layers
    return None if elements is None else int(2 * layers * elements * model.dtype.itemsize)


def kv_elements(model: Any) -> int | None:
    """Return kv heads · head size: the elements of a token's keys in one layer, and of its values."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", None)
    if not heads:
        return None
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return int(kv_heads * (getattr(config, "head_dim", None) or config.hidden_size // heads))


def cache_bytes(cache: Any) -> int:
    """Return the bytes that a transformers cache object holds, each storage once; 0 for None."""
    if cache is None:
        return 0
    storages = {}
    for part in getattr(cache, "layers", [cache]):
        for tensor in _tensors(vars(part)):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _tensors(held: Any) -> Iterator[Any]:
    """Yield the plain tensors in `held`, also those inside tuples, tables and wrapping tensors."""
    import torch

    if isinstance(held, torch.Tensor):
        if hasattr(held, "__tensor_flatten__"):  # a quantized tensor is a wrapper around several plain ones
            names, _ = held.__tensor_flatten__()
            yield from _tensors([getattr(held, name) for name in names])
        else:
            yield held
    elif isinstance(held, Mapping):
        yield from _tensors(list(held.values()))
    elif isinstance(held, (list, tuple)):
        for item in held:
            yield from _tensors(item)
