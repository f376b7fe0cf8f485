"""The precisions: one row each, saying how to load, what must be found afterwards, and its bytes.

Only the linear layers of the decoder change their storage: embeddings, norms and the head that maps to
the vocabulary stay in the compute dtype in every precision, as bitsandbytes and the published
measurements have it. A row therefore states the class and storage dtype that its linear layers must
have, and how many bytes one of them takes including its quantization state. The treatment check holds
the loaded model against exactly these statements.

LLM.int8 keeps one byte per weight and a float32 scale per output row; with `threshold` > 0, input
columns with an outlier above it are multiplied in 16 bit (Dettmers et al. 2022, arXiv:2208.07339).
NF4 keeps half a byte per weight and a float32 scale per block of 64 weights, which `double_quant`
quantizes once more to 8 bit (Dettmers et al. 2023, arXiv:2305.14314).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import msgspec

from bench.config import NonNegative

NF4_BLOCK = 64
"""Weights that share one scale in NF4 (bitsandbytes' default)."""
_DOUBLE_BLOCK = 256
"""Scales that share one second-level scale under double quantization."""
_CODE_ENTRIES = 16
_DOUBLE_CODE_ENTRIES = 256
_F32 = 4


class Precision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every row states; a subclass's fields are its TOML keys."""

    linear_class: ClassVar[str] = "Linear"
    """Name of the class that every decoder linear layer must have."""
    storage_dtype: ClassVar[str]
    """torch dtype name of those layers' stored weights."""
    quantized: ClassVar[bool] = False
    min_capability: ClassVar[tuple[int, int]] = (0, 0)
    """Lowest CUDA compute capability on which this runs in hardware."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Python packages that loading needs beyond torch and transformers."""

    def compute_dtype(self, device: str) -> str:
        """Return the torch dtype name of activations, embeddings, norms and head on `device`."""
        return self.storage_dtype

    def linear_bytes(self, rows: int, columns: int) -> int:
        """Return the bytes of one linear layer of `rows` outputs and `columns` inputs, without bias."""
        raise NotImplementedError

    def quantization(self, device: str) -> dict[str, Any] | None:
        """Return the keyword arguments of transformers' BitsAndBytesConfig, None for plain weights."""
        return None

    def quantized_layer(self, weight: Any, bias: Any) -> Any:
        """Return the bitsandbytes layer of a 16-bit `weight` (rows x columns) on its device."""
        raise NotImplementedError


class _Plain(Precision, frozen=True):
    width: ClassVar[int]

    def linear_bytes(self, rows: int, columns: int) -> int:
        return rows * columns * self.width


class Fp32(_Plain, frozen=True):
    """IEEE single precision: the reference of the exactness tests."""

    storage_dtype = "float32"
    width = 4


class Bf16(_Plain, frozen=True):
    """bfloat16: the exponent of FP32 with 8 bits of precision; in hardware from compute capability 8.0."""

    storage_dtype = "bfloat16"
    width = 2
    min_capability = (8, 0)


class Fp16(_Plain, frozen=True):
    """IEEE half precision: the usual baseline."""

    storage_dtype = "float16"
    width = 2


class Int8(Precision, frozen=True):
    """bitsandbytes LLM.int8.

    `threshold` is the magnitude from which an input column counts as an outlier and is multiplied in
    16 bit; 0 switches that decomposition off (faster, slightly less exact). Activations are FP16 on
    every device: the kernel works in FP16 and would cast anything else at every product.
    """

    threshold: NonNegative = 6.0

    linear_class = "Linear8bitLt"
    storage_dtype = "int8"
    quantized = True
    min_capability = (6, 0)
    packages = ("bitsandbytes", "accelerate")

    def compute_dtype(self, device: str) -> str:
        """Return float16."""
        return "float16"

    def linear_bytes(self, rows: int, columns: int) -> int:
        """Return a byte per weight and a float32 scale per output row."""
        return rows * columns + rows * _F32

    def quantization(self, device: str) -> dict[str, Any]:
        """Return what asks transformers for LLM.int8 at this threshold."""
        return {"load_in_8bit": True, "llm_int8_threshold": self.threshold}

    def quantized_layer(self, weight: Any, bias: Any) -> Any:
        """Return a Linear8bitLt that holds `weight` quantized."""
        import bitsandbytes as bnb
        import torch

        rows, columns = weight.shape
        with torch.device("meta"):
            layer = bnb.nn.Linear8bitLt(
                columns, rows, bias is not None, has_fp16_weights=False, threshold=self.threshold
            )
        # Moving the parameter is what quantizes it; from the CPU, as the move must not be a no-op.
        held = bnb.nn.Int8Params(weight.to("cpu"), requires_grad=False, has_fp16_weights=False)
        layer.weight = held.to(weight.device)
        layer.bias = bias
        return layer


class Nf4(Precision, frozen=True):
    """bitsandbytes 4-bit NormalFloat, `double_quant` quantizing its scales as well.

    Weights are expanded to the compute dtype for every product: float16 on CUDA, as in the FP16
    baseline (and since older GPUs lack bfloat16); bfloat16 on the CPU, where bitsandbytes has kernels
    for it.
    """

    double_quant: bool = False

    linear_class = "Linear4bit"
    storage_dtype = "uint8"
    quantized = True
    min_capability = (6, 0)
    packages = ("bitsandbytes", "accelerate")

    def compute_dtype(self, device: str) -> str:
        """Return float16 on CUDA, bfloat16 on the CPU."""
        return "float16" if device == "cuda" else "bfloat16"

    def linear_bytes(self, rows: int, columns: int) -> int:
        """Return half a byte per weight, the scales of its blocks and the code table."""
        weights = rows * columns
        blocks = math.ceil(weights / NF4_BLOCK)
        packed = math.ceil(weights / 2) + _CODE_ENTRIES * _F32
        if not self.double_quant:
            return packed + blocks * _F32
        second_level = math.ceil(blocks / _DOUBLE_BLOCK) * _F32 + _DOUBLE_CODE_ENTRIES * _F32 + _F32
        return packed + blocks + second_level

    def quantization(self, device: str) -> dict[str, Any]:
        """Return what asks transformers for NF4; its own default would be FP4."""
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": self.compute_dtype(device),
            "bnb_4bit_use_double_quant": self.double_quant,
        }

    def quantized_layer(self, weight: Any, bias: Any) -> Any:
        """Return a Linear4bit that holds `weight` quantized."""
        import bitsandbytes as bnb
        import torch

        rows, columns = weight.shape
        options = {"compress_statistics": self.double_quant, "quant_type": "nf4"}
        with torch.device("meta"):
            layer = bnb.nn.Linear4bit(columns, rows, bias is not None, weight.dtype, **options)
        held = bnb.nn.Params4bit(weight.to("cpu"), requires_grad=False, module=layer, **options)
        layer.weight = held.to(weight.device)
        layer.bias = bias
        return layer


PRECISIONS: dict[str, type[Precision]] = {
    "fp32": Fp32,
    "bf16": Bf16,
    "fp16": Fp16,
    "int8": Int8,
    "nf4": Nf4,
}


def name_of(precision: Precision) -> str:
    """Return the row's key in `PRECISIONS`."""
    return next(key for key, row in PRECISIONS.items() if row is type(precision))
