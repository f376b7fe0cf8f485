from __future__ import annotations

from typing import Any

import pytest

from bench.model.slot_support import Format
from tests.model.conftest import LoadTiny


@pytest.fixture
def cache(load_tiny: LoadTiny) -> Any:
    """Two layers of 3 heads, keys of 4 and values of 2 numbers."""
    import torch

    from bench.model.slot_cache import SlotCache

    form = Format(heads=3, key_dim=4, value_dim=2, dtype=torch.float32)
    return SlotCache([form, form], "cpu")


def states(tokens: int, dim: int, first: float = 0.0) -> Any:
    """Return distinct states of a packed row, (1, heads, tokens, dim)."""
    import torch

    return first + torch.arange(3.0 * tokens * dim).view(1, 3, tokens, dim)


def store(cache: Any, slot: int, start: int, tokens: int, first: float) -> tuple[Any, Any]:
    """Store `tokens` new positions of a slot in both layers; return the keys and values."""
    import torch

    cache.write = cache.places(slot * cache.stride + start + torch.arange(tokens))
    keys, values = states(tokens, 4, first), states(tokens, 2, first)
    for layer in range(2):
        assert cache.update(keys, values, layer) == (keys, values)
    return keys, values


def test_what_is_stored_at_a_slots_positions_is_read_there(cache: Any) -> None:
    cache.reserve(2, 10)
    first = store(cache, 1, 0, 5, 1.0)
    more = store(cache, 1, 5, 2, 500.0)
    for layer in range(2):
        for found, old, new in zip(cache.read(layer, 1, 2, 7), first, more, strict=True):
            assert found[:, :, :5].equal(old)
            assert found[:, :, 5:].equal(new)


def test_slots_do_not_touch_one_another_and_unused_room_is_zero(cache: Any) -> None:
    cache.reserve(3, 10)
    store(cache, 1, 0, 5, 1.0)
    for slot in (0, 2):
        for found in cache.read(0, slot, slot + 1, 10):
            assert not found.any()
    assert not cache.read(0, 1, 2, 10)[0][:, :, 5:].any()


def test_growing_keeps_what_is_held(cache: Any) -> None:
    cache.reserve(1, 10)
    keys, values = store(cache, 0, 0, 5, 1.0)
    cache.reserve(4, 100)
    assert (cache.slots, cache.capacity) == (4, 128)
    found = cache.read(1, 0, 1, 5)
    assert found[0].equal(keys)
    assert found[1].equal(values)


def test_it_never_shrinks_by_itself_and_does_nothing_where_there_is_room(cache: Any) -> None:
    cache.reserve(4, 100)
    held = cache.layers[0].keys
    cache.reserve(2, 64)
    assert (cache.slots, cache.capacity) == (4, 128)
    assert cache.layers[0].keys is held


def test_a_moved_request_is_read_in_its_new_slot(cache: Any) -> None:
    cache.reserve(3, 10)
    keys, values = store(cache, 2, 0, 5, 1.0)
    cache.move(2, 0, 5)
    for layer in range(2):
        assert cache.read(layer, 0, 1, 5)[0].equal(keys)
        assert cache.read(layer, 0, 1, 5)[1].equal(values)


def test_its_bytes_are_those_of_its_tensors_and_are_given_back(cache: Any) -> None:
    assert cache.bytes_held == 0
    cache.reserve(2, 64)
    assert cache.bytes_per_token == 2 * 3 * (4 + 2) * 4
    assert cache.bytes_held == 2 * 64 * cache.bytes_per_token
    cache.release()
    assert cache.bytes_held == 0
    assert cache.peak_bytes == 2 * 64 * cache.bytes_per_token


def test_it_is_static_if_it_was_whole_when_traffic_began_and_never_grew(cache: Any) -> None:
    cache.begin()
    assert cache.kind == "dynamic"  # it holds nothing yet
    cache.reserve(3, 64)
    assert cache.kind == "dynamic"
    cache.begin()
    cache.reserve(2, 10)
    assert cache.kind == "static"
    cache.reserve(3, 65)
    assert cache.kind == "dynamic"


def test_a_wiped_slot_is_zero_and_its_neighbours_are_as_they_were(cache: Any) -> None:
    cache.reserve(3, 10)
    cache.wipe(0, 3)
    kept = [store(cache, slot, 0, 5, float("nan") if slot == 1 else 1.0)[0] for slot in range(3)]
    cache.wipe(1, 2, start=3)
    assert not cache.read(0, 1, 2, 64)[0][:, :, 3:].any()
    assert cache.read(0, 1, 2, 3)[0].isnan().all()
    cache.wipe(1, 2)
    for layer in range(2):
        assert not any(found.any() for found in cache.read(layer, 1, 2, 64))
        assert cache.read(layer, 0, 1, 5)[0].equal(kept[0])
        assert cache.read(layer, 2, 3, 5)[0].equal(kept[2])
