"""The shipped tiny model, loaded once per precision and session; torch on one thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from bench.config import Model
from bench.model.load import LoadedModel, load_model
from bench.model.precision import PRECISIONS, Precision

LoadTiny = Callable[[Precision], LoadedModel]


@pytest.fixture(scope="session")
def load_tiny() -> LoadTiny:
    """Load the tiny model in a precision, each once; for tests that leave it as it is."""
    import torch

    torch.set_num_threads(1)

    @cache
    def load(precision: Precision) -> LoadedModel:
        return load_model(Model(id="tiny"), precision, "sdpa", "cpu")

    return load


@pytest.fixture(scope="session")
def tiny(load_tiny: LoadTiny) -> LoadedModel:
    """The tiny model in FP32, where batching changes nothing."""
    return load_tiny(PRECISIONS["fp32"]())
