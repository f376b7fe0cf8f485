"""From a file's text to the experiment, and from a plug-in's table to the plug-in."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.config.experiment import Experiment, System
from bench.config.explaining import explain, nearest
from bench.errors import ConfigError

T = TypeVar("T")


def decode_experiment(written: Mapping[str, Any], where: str, *, model_id: str | None = None) -> Experiment:
    """Decode what `read_toml` returned; `where` names the file in errors, `model_id` overrides `model.id`.

    Raises ConfigError with one line: file, dotted key, expectation, nearest valid name.
    """
    data = dict(written)
    if model_id is not None:
        model = {k: v for k, v in data.get("model", {}).items() if k not in {"package", "revision"}}
        data["model"] = model | {"id": model_id}
    systems = data.get("systems")
    if isinstance(systems, Mapping):  # one by one first, so that an error names the system
        for name, table in systems.items():
            if isinstance(table, Mapping):
                _convert(table, System, where, f"systems.{name}")
    return _convert(data, Experiment, where, "")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; ConfigError where it is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name an existing experiment file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8 text; an experiment is a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is no valid TOML: {error}") from error


def choose(family: Mapping[str, type[T]], table: str | Mapping[str, Any], where: str, key: str) -> T:
    """Build the plug-in that `table` names from `family`.

    `where` is the file and `key` the table's dotted key, for errors. A bare string is short for
    `{ kind = string }`. Raises ConfigError for an unknown kind, key, type or value.
    """
    fields = {"kind": table} if isinstance(table, str) else dict(table)
    kind = fields.pop("kind", None)
    if kind is None:
        raise ConfigError(f"{where}: {key}.kind is missing; expected one of {', '.join(family)}")
    if not isinstance(kind, str) or kind not in family:
        raise ConfigError(
            f"{where}: {key}.kind = {kind!r} is unknown; "
            f"expected one of {', '.join(family)}{nearest(kind, family)}"
        )
    return _convert(fields, family[kind], where, key)


def _convert(data: Mapping[str, Any], target: type[T], where: str, prefix: str) -> T:
    try:
        return msgspec.convert(data, target, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {explain(str(error), data, target, prefix)}") from None
