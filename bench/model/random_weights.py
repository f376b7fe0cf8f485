"""A real architecture with random weights: its speed, memory and power without a download.

The frame stands on the meta device; each tensor is drawn on the target device, quantized there if the
precision says so, and only then comes the next one. So the peak is the finished model plus one tensor,
also for an 8B model in INT8 on a GPU that could not hold it in FP16.

Weights are normal with the configuration's `initializer_range` (0.02 where it has none), norms are 1
and biases 0: activations keep the scale of an untrained transformer, so nothing overflows in FP16. The
draw is seeded and made in float32 before the cast, so that every precision quantizes the same weights
on the same device. Outliers, which make LLM.int8 slower on trained models, do not occur in them: the
outlier path is then measured without its load.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.model.precision import Precision
from bench.model.skeleton import TRANSPOSED_LINEAR, decoder_linears, skeleton

SEED = 0
_BLOCK = 1 << 26
"""Elements drawn at once: 256 MB of float32 beside the finished weights."""


def build_random(config: Any, precision: Precision, attention: str, device: str) -> Any:
    """Return the causal LM of a transformers `config` with seeded random weights in `precision`."""
    import torch

    model = skeleton(config, precision.compute_dtype(device), attention)
    draw = _Draw(model, torch.Generator(device).manual_seed(SEED), getattr(config, "initializer_range", 0.02))
    linears = {id(module) for _, module in decoder_linears(model)} if precision.quantized else set()
    for name, module in list(model.named_modules()):
        for key, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, key, draw.parameter(key, parameter, device))
        for key, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, key, buffer.to(device))
        if id(module) in linears:
            weight = module.weight.data
            if type(module).__name__ == TRANSPOSED_LINEAR:
                weight = weight.T.contiguous()
            model.set_submodule(name, precision.quantized_layer(weight, module.bias))
            module.weight = None
    model.tie_weights()
    return model.requires_grad_(False).eval()


class _Draw:
    """Turns meta parameters into drawn ones; a shared parameter stays shared."""

    def __init__(self, model: Any, generator: Any, scale: float) -> None:
        self._generator = generator
        self._scale = scale
        uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        # Only these are remembered: a remembered weight would stay in memory beside its quantized form.
        self._shared = {key for key, count in uses.items() if count > 1}
        self._done: dict[int, tuple[Any, Any]] = {}

    def parameter(self, key: str, meta: Any, device: str) -> Any:
        import torch

        if id(meta) in self._done:
            return self._done[id(meta)][1]
        data = torch.empty(meta.shape, dtype=meta.dtype, device=device)
        self._fill(key, data)
        drawn = torch.nn.Parameter(data, requires_grad=False)
        if id(meta) in self._shared:
            # The meta parameter is kept beside its successor, or its id could be given anew.
            self._done[id(meta)] = (meta, drawn)
        return drawn

    def _fill(self, key: str, data: Any) -> None:
        import torch

        if data.ndim < 2:
            data.fill_(0.0 if "bias" in key else 1.0)
            return
        flat = data.view(-1)
        for start in range(0, flat.numel(), _BLOCK):
            part = flat[start : start + _BLOCK]
            drawn = torch.empty(part.shape, dtype=torch.float32, device=data.device)
            part.copy_(drawn.normal_(0.0, self._scale, generator=self._generator))
