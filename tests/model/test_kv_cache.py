from __future__ import annotations

from typing import Any

import pytest

from bench.config import choose
from bench.errors import ConfigError, TreatmentError
from bench.model.kv_cache import (
    KV_CACHES,
    Dynamic,
    Off,
    Quantized,
    Static,
    bytes_per_token,
    cache_bytes,
    check_cache,
    name_of,
)
from bench.model.load import LoadedModel


def test_each_kind_is_chosen_by_its_name() -> None:
    for name in KV_CACHES:
        table = {"kind": name, "backend": "hqq"} if name == "quantized" else name
        assert name_of(choose(KV_CACHES, table, "x.toml", "systems.a.kv_cache")) == name


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("quantized", "backend is missing"),
        ({"kind": "quantized", "backend": "fp8", "nbits": 4}, 'nbits does nothing with backend = "fp8"'),
        ({"kind": "quantized", "backend": "fp8", "residual_length": 4}, "residual_length does nothing"),
        ({"kind": "quantized", "backend": "quanto", "nbits": 8}, 'backend = "quanto" has nbits 2 or 4'),
        ({"kind": "quantized", "backend": "hqq", "nbits": 5}, "nbits"),
        ({"kind": "dynamic", "backend": "fp8"}, "backend is an unknown key"),
    ],
    ids=repr,
)
def test_a_key_that_would_do_nothing_is_an_error(table: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        choose(KV_CACHES, table, "x.toml", "systems.a.kv_cache")


def test_hqq_groups_within_a_token_so_that_rows_do_not_mix() -> None:
    options = Quantized(backend="hqq", nbits=2, residual_length=16).options()
    assert options == {
        "backend": "hqq",
        "nbits": 2,
        "residual_length": 16,
        "axis_key": 1,
        "axis_value": 1,
    }
    assert Quantized(backend="fp8").options() == {"backend": "fp8"}


@pytest.mark.parametrize(
    ("nbits", "fits"), [(8, (64, 128, 256)), (4, (128, 256)), (2, (256,)), (1, ())], ids=repr
)
def test_hqq_needs_whole_bytes_of_groups_in_every_token(nbits: Any, fits: tuple[int, ...]) -> None:
    cache = Quantized(backend="hqq", nbits=nbits)
    assert tuple(n for n in (64, 96, 128, 256) if cache.why_not(n) is None) == fits
    assert Quantized(backend="hqq", nbits=nbits, group_size=8).why_not(64) is None


def filled(cache: Any) -> Any:
    import torch

    for layer in range(4):
        cache.update(torch.ones(2, 2, 5, 32), torch.ones(2, 2, 5, 32), layer)
    return cache


def test_bytes_are_counted_on_the_cache_object(tiny: LoadedModel) -> None:
    from transformers import DynamicCache

    dynamic = filled(DynamicCache(config=tiny.model.config))
    assert cache_bytes(dynamic) == 2 * 5 * (bytes_per_token(tiny.model) or 0) == 2 * 4 * 2 * 2 * 5 * 32 * 4
    assert cache_bytes(None) == 0


def test_a_shared_storage_is_counted_once(tiny: LoadedModel) -> None:
    from transformers import DynamicCache

    cache = filled(DynamicCache(config=tiny.model.config))
    before = cache_bytes(cache)
    cache.layers[0].view = cache.layers[0].keys[:1]
    assert cache_bytes(cache) == before


def test_a_cache_of_another_kind_is_a_failed_treatment(tiny: LoadedModel) -> None:
    from transformers import DynamicCache

    cache = filled(DynamicCache(config=tiny.model.config))
    check_cache(Dynamic(), cache)
    check_cache(Off(), None)
    pairs = [(Static(), cache), (Off(), cache), (Dynamic(), None), (Quantized(backend="fp8"), cache)]
    for asked, found in pairs:
        with pytest.raises(TreatmentError, match=f"kv_cache {name_of(asked)} is not in force"):
            check_cache(asked, found)


def test_a_quantized_cache_that_quantized_nothing_is_a_failed_treatment() -> None:
    class HQQQuantizedLayer:
        _quantized_keys: Any = None

    class QuantizedCache:
        layers = (HQQQuantizedLayer(), HQQQuantizedLayer())

    with pytest.raises(TreatmentError, match="expected layers of QuantoQuantizedLayer"):
        check_cache(Quantized(backend="quanto"), QuantizedCache())
    with pytest.raises(TreatmentError, match="expected quantized keys in every layer"):
        check_cache(Quantized(backend="hqq"), QuantizedCache())
    for layer in QuantizedCache.layers:
        layer._quantized_keys = object()
    check_cache(Quantized(backend="hqq"), QuantizedCache())
