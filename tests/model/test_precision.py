from __future__ import annotations

import pytest

from bench.config import choose
from bench.errors import ConfigError
from bench.model.precision import PRECISIONS, Int8, Nf4, name_of


def test_every_precision_is_built_from_its_bare_name_and_knows_it() -> None:
    assert [name_of(choose(PRECISIONS, name, "x.toml", "precision")) for name in PRECISIONS] == [*PRECISIONS]


def test_int8_decomposes_outliers_from_6_by_default_and_the_threshold_is_a_key() -> None:
    assert choose(PRECISIONS, "int8", "x.toml", "precision") == Int8(threshold=6.0)
    assert choose(PRECISIONS, {"kind": "int8", "threshold": 0.0}, "x.toml", "p") == Int8(threshold=0.0)


@pytest.mark.parametrize(
    "table", [{"kind": "int8", "threshold": -1.0}, {"kind": "fp16", "threshold": 6.0}, {"kind": "int4"}]
)
def test_an_impossible_or_misplaced_key_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"x\.toml: precision"):
        choose(PRECISIONS, table, "x.toml", "precision")


def test_the_bytes_of_a_layer_follow_the_published_formats() -> None:
    rows, columns = 4096, 4096
    weights = rows * columns
    by_name = {name: row().linear_bytes(rows, columns) for name, row in PRECISIONS.items()}
    assert by_name["fp32"] == 4 * weights
    assert by_name["fp16"] == by_name["bf16"] == 2 * weights
    assert by_name["int8"] == weights + 4 * rows
    # 4 bits and a 32-bit scale per 64 weights are 4.5 bits; double quantization takes 0.37 bits off.
    assert by_name["nf4"] * 8 / weights == pytest.approx(4.5, abs=1e-3)
    assert Nf4(double_quant=True).linear_bytes(rows, columns) * 8 / weights == pytest.approx(4.127, abs=1e-3)


def test_nf4_computes_in_float16_on_cuda_and_in_bfloat16_on_the_cpu() -> None:
    assert Nf4().quantization("cuda")["bnb_4bit_compute_dtype"] == "float16"
    assert Nf4().quantization("cpu")["bnb_4bit_compute_dtype"] == "bfloat16"
    assert Nf4().quantization("cpu")["bnb_4bit_quant_type"] == "nf4"
