"""Markdown from code: docstrings as paragraphs, Struct fields as rows of a table."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect as types

MADE = "*Made from the code by `python -m tests.reference`; mend the code, not this page.*"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table; a `|` in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def doc_of(thing: object) -> str:
    """Return a docstring as Markdown; '' where there is none of its own."""
    text = thing.__doc__ if isinstance(thing, type) else getattr(thing, "__doc__", None)
    return inspect.cleandoc(text or "")


def first_line(thing: object) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join(doc_of(thing).split("\n\n")[0].split())


def keys_of(kind: type, *, tables: Mapping[str, str] | None = None) -> list[str]:
    """Return the table of a Struct's keys: type and constraint, default; [] where it has none.

    `tables` has, by key, the link for what is a table of its own.
    """
    rows = [
        [
            f"`{field.encode_name}`",
            (tables or {}).get(field.encode_name) or type_in_words(field.type),
            _default(field),
        ]
        for field in fields_of(kind)
    ]
    return ["", *table(("key", "value", "default"), rows)] if rows else []


def refusals(kind: type) -> list[str]:
    """Return what a Struct refuses beyond the types of its keys, in the words of its check."""
    check = kind.__dict__.get("__post_init__")
    text = first_line(check) if check else ""
    refused = re.match(r"Refuse (.+)", text)
    return ["", f"Refused: {refused.group(1)}"] if refused else []


def fields_of(kind: type) -> tuple[types.Field, ...]:
    """Return a Struct's fields with their types."""
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    return info.fields


def type_in_words(kind: types.Type) -> str:
    """Return a type with its constraints, as the person who writes a file thinks of it."""
    if isinstance(kind, types.Metadata):
        return type_in_words(kind.type)
    if isinstance(kind, types.UnionType):
        parts = [part for part in kind.types if not isinstance(part, types.NoneType)]
        return " or ".join(dict.fromkeys(type_in_words(part) for part in parts))
    if isinstance(kind, types.LiteralType):
        return ", ".join(f"`{json.dumps(value)}`" for value in kind.values)
    if isinstance(kind, types.TupleType):
        return f"[{', '.join(type_in_words(part) for part in kind.item_types)}]"
    if isinstance(kind, types.VarTupleType | types.ListType | types.CollectionType):
        return f"list of {type_in_words(kind.item_type)}"
    if isinstance(kind, types.DictType):
        return f"table of {type_in_words(kind.value_type)}"
    if isinstance(kind, types.StructType):
        return f"table `{kind.cls.__name__}`"
    if isinstance(kind, types.IntType | types.FloatType):
        name = "whole number" if isinstance(kind, types.IntType) else "number"
        return " ".join([name, *_bounds(kind)])
    plain: dict[type, str] = {types.BoolType: "true or false", types.StrType: "text", types.AnyType: "any"}
    return plain[type(kind)]


def _bounds(kind: types.IntType | types.FloatType) -> Iterator[str]:
    low = f"≥ {kind.ge:g}" if kind.ge is not None else f"> {kind.gt:g}" if kind.gt is not None else ""
    high = f"≤ {kind.le:g}" if kind.le is not None else f"< {kind.lt:g}" if kind.lt is not None else ""
    yield from [", ".join(part for part in (low, high) if part)] if low or high else []


def _default(field: types.Field) -> str:
    if field.required:
        return "required"
    value: Any = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None
    if value is None or isinstance(value, msgspec.Struct):
        return ""
    return "as below" if isinstance(value, dict) and value else f"`{json.dumps(value, ensure_ascii=False)}`"
