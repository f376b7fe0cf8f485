"""Will it fit? The GPU memory that a model needs, predicted before a byte of it is loaded.

Weights are counted exactly (the model's shape times the precision's bytes). What comes on top (the CUDA
context, activations, the KV cache of a batch) depends on the traffic and is covered by a stated margin:
a tenth of the weights, at least 1.5 GB. The margin keeps hopeless runs from starting; it does not
promise that every batch fits, for which the run records its out-of-memory errors.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bench.errors import NotAvailable
from bench.model.precision import PRECISIONS, Precision, name_of
from bench.model.skeleton import count_parameters, predict_bytes, skeleton
from bench.units import to_gb

MARGIN_SHARE = 0.10
MARGIN_BYTES = 1_500_000_000


class WeightBytes(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted size of a model's weights, in bytes, and its number of parameters."""

    parameters: int
    linear: int
    other: int

    @property
    def total(self) -> int:
        """Return the bytes of all weights."""
        return self.linear + self.other

    @property
    def with_margin(self) -> int:
        """Return the bytes that must be free before loading."""
        return self.total + max(int(self.total * MARGIN_SHARE), MARGIN_BYTES)


def predict_weight_bytes(config: Any, precision: Precision, device: str = "cuda") -> WeightBytes:
    """Predict the weights' bytes of a transformers `config` in `precision`, without loading."""
    model = skeleton(config, "float16")
    linear, other = predict_bytes(model, precision, device)
    return WeightBytes(parameters=count_parameters(model), linear=linear, other=other)


def require_memory(name: str, config: Any, precision: Precision, free_bytes: int) -> WeightBytes:
    """Return the prediction, or raise NotAvailable naming both sizes and the precisions that would fit."""
    need = predict_weight_bytes(config, precision)
    if need.with_margin <= free_bytes:
        return need
    sizes = {key: predict_weight_bytes(config, row()).with_margin for key, row in PRECISIONS.items()}
    fitting = [f"{key} ({to_gb(size):.1f} GB)" for key, size in sizes.items() if size <= free_bytes]
    remedy = f"would fit: {', '.join(fitting)}" if fitting else "no precision of it would fit"
    raise NotAvailable(
        f"{name}: {name_of(precision)} needs {to_gb(need.with_margin):.1f} GB of GPU memory "
        f"({to_gb(need.total):.1f} GB of weights plus margin), {to_gb(free_bytes):.1f} GB are free; "
        f"{remedy}; free the GPU or choose a smaller model"
    )
