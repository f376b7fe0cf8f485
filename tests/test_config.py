"""An experiment file is decoded strictly; every mistake is one line that says where and what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from bench.config import Experiment, choose, decode_experiment, read_toml
from bench.config.explaining import nearest
from bench.errors import ConfigError

MINIMAL = """
name = "demo"
[workload]
requests_per_day = 1000
input_tokens = { kind = "constant", tokens = 10 }
output_tokens = { kind = "constant", tokens = 5 }
[model]
id = "tiny"
[systems.baseline]
precision = "fp16"
[systems.optimized]
precision = { kind = "int8", threshold = 0.0 }
batching = { kind = "dynamic", max_size = 4, max_wait_ms = 10 }
"""


class Dynamic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_size: Annotated[int, msgspec.Meta(ge=1)]
    max_wait_ms: float = 25.0


class Nothing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


FAMILY: dict[str, type[Any]] = {"none": Nothing, "dynamic": Dynamic}


def load(path: Path, model_id: str | None = None) -> Experiment:
    return decode_experiment(read_toml(path), str(path), model_id=model_id)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return path


def test_a_complete_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    experiment = load(write(tmp_path, MINIMAL))
    assert list(experiment.systems) == ["baseline", "optimized"]
    assert experiment.baseline == "baseline"
    assert experiment.protocol.repeats == 5
    assert experiment.assumptions.usd_per_gpu_hour == "auto"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("requests_per_day", "request_per_day", ["workload.request_per_day", "'requests_per_day'"]),
        (
            "[systems.optimized]",
            "[systems.optimized]\nprecison = 1",
            ["systems.optimized.precison", "'precision'"],
        ),
        ('name = "demo"', 'name = "demo"\nseed = "x"', ["seed: must be a whole number, not text"]),
        (
            "[model]",
            '[objectives]\np95_latency_ms = "1200"\n[model]',
            ["objectives.p95_latency_ms: must be a number, not text"],
        ),
        ('name = "demo"', 'name = "demo"\nseed = -1', ["seed", ">= 0"]),
        ("requests_per_day = 1000", "requests_per_day = 0", ["workload.requests_per_day", "> 0"]),
        ("requests_per_day = 1000", "", ["workload.requests_per_day", "missing"]),
        (
            'id = "tiny"',
            'id = "tiny"\nweights = "none"',
            ["model.weights", "'none'", "one of pretrained, random"],
        ),
        (
            "[model]",
            '[objectives]\nwaive = ["sla"]\n[model]',
            ["objectives.waive[0]: is 'sla'", "one of quality, energy"],
        ),
        (
            "[model]",
            '[expectations]\np95_latency_ms = "lower"\nthroughput_requests_per_sec = "up"\n[model]',
            ["expectations.throughput_requests_per_sec: is 'up'", "one of lower, higher, unchanged"],
        ),
        ('name = "demo"', "name = demo", ["no valid TOML", "line 2"]),
        ('[model]\nid = "tiny"', "", ["model", "missing"]),
        ("[model]", "[objectives]\nmax_error_rate = 2\n[model]", ["objectives.max_error_rate", "<= 1"]),
        ("[model]", "[protocol]\nwindow = 3\n[model]", ["protocol.window", "'window_s'"]),
        ("[model]", "[quality]\nwindow = 8\nstride = 8\n[model]", ["quality", "below window"]),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_expectation(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    path = write(tmp_path, MINIMAL.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("max_batch_size", ["max_batch_tokens", "max_size", "max_wait_ms"], "max_size"),
        ("max_wait", ["max_batch_tokens", "max_size", "max_wait_ms"], "max_wait_ms"),
        ("int4", ["int8", "nf4"], "nf4"),
        ("dynamc", ["none", "dynamic"], "dynamic"),
    ],
)
def test_the_nearest_name_is_the_one_that_was_meant(name: str, known: list[str], meant: str) -> None:
    assert nearest(name, known) == f" (did you mean {meant!r}?)"


def test_a_file_without_systems_is_refused(tmp_path: Path) -> None:
    text = MINIMAL.partition("[systems.baseline]")[0] + "[systems]\n"
    with pytest.raises(ConfigError, match="at least one"):
        load(write(tmp_path, text))


def test_a_system_called_baseline_that_is_not_the_first_is_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("systems.baseline", "systems.x").replace("systems.optimized", "systems.baseline")
    with pytest.raises(ConfigError, match="must come before others"):
        load(write(tmp_path, text))


def test_a_missing_file_and_a_binary_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere.toml")
    path = tmp_path / "b.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(path)


def test_a_model_named_on_the_command_line_replaces_id_and_package(tmp_path: Path) -> None:
    text = MINIMAL.replace('id = "tiny"', 'id = "a"\npackage = "p==1"\ndevice = "cpu"')
    experiment = load(write(tmp_path, text), model_id="other/model")
    assert experiment.model.id == "other/model"
    assert experiment.model.package is None
    assert experiment.model.device == "cpu"


def test_choose_builds_the_plugin_from_its_own_keys() -> None:
    built = choose(FAMILY, {"kind": "dynamic", "max_size": 4}, "f.toml", "systems.a.batching")
    assert built == Dynamic(max_size=4)
    assert choose(FAMILY, "none", "f.toml", "systems.a.batching") == Nothing()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"kind": "dynamc"}, ["systems.a.batching.kind", "'dynamc'", "did you mean 'dynamic'"]),
        ({}, ["systems.a.batching.kind is missing", "none, dynamic"]),
        ({"kind": "none", "max_size": 4}, ["systems.a.batching.max_size", "unknown key"]),
        ({"kind": "dynamic", "max_sise": 4}, ["systems.a.batching.max_sise", "'max_size'"]),
        ({"kind": "dynamic", "max_size": 0}, ["systems.a.batching.max_size", ">= 1"]),
        ({"kind": "dynamic"}, ["systems.a.batching.max_size", "missing"]),
        ({"kind": 3}, ["systems.a.batching.kind", "3"]),
    ],
)
def test_choose_names_file_key_and_nearest_name(table: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(FAMILY, table, "f.toml", "systems.a.batching")
    assert str(caught.value).startswith("f.toml: ")
    for part in expected:
        assert part in str(caught.value)
