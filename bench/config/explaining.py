"""What is wrong with an experiment, in words: the dotted key, what was expected, the nearest valid name."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

_PARTS = re.compile(r"\[\d+\]|[^.\[\]]+")
"""The parts of a dotted key: names, `*` and `[0]`."""
_EXPECTED = re.compile(r"Expected `(.+?)`(.*?)(?:, got `(\w+)`)?")
_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "text",
    "array": "a list",
    "object": "a table",
}
"""What a value can be, in words."""
ALSO_CALLED = {"int4": "nf4", "4bit": "nf4", "8bit": "int8", "float16": "fp16", "bfloat16": "bf16"}
"""Names that others give to the same thing, or to the one nearest to it."""


def explain(message: str, data: Mapping[str, Any], target: type, prefix: str) -> str:
    """Turn msgspec's message into: dotted key, expectation, nearest valid name."""
    text, _, json_path = message.partition(" - at `")
    # `$.systems[...].precision` → `systems.*.precision`; a key of a mapping reads `key in $.systems`.
    path = json_path.rstrip("`").removeprefix("key` in `").removeprefix("key in ")
    dotted = path.replace("$", "").replace("[...]", ".*").strip(".`")
    full = ".".join(part for part in (prefix, _by_key(data, target, dotted)) if part)
    if match := re.search(r"unknown field `(.+?)`", text):
        name = match.group(1)
        known = _field_names(target, dotted)
        key = f"{full}.{name}" if full else name
        return f"{key} is an unknown key; valid here: {', '.join(known) or 'none'}{nearest(name, known)}"
    if match := re.search(r"missing required field `(.+?)`", text):
        key = f"{full}.{match.group(1)}" if full else match.group(1)
        return f"{key} is missing; it is required"
    if match := re.match(r"Invalid enum value (.+)", text):
        text = f"is {match.group(1)}; must be one of {', '.join(map(str, _choices(target, dotted)))}"
    if match := _EXPECTED.fullmatch(text):
        kinds, limit, got = match.groups()
        wanted = " or ".join(_KINDS[kind] for kind in kinds.split(" | ") if kind != "null")
        text = f"must be {wanted}{limit}" + (f", not {_KINDS.get(got, got)}" if got else "")
    if "matching regex" in text:
        text = "must be lower-case letters, digits, '_' and '-' (and '.' in name), as it names files"
    lowered = text[:1].lower() + text[1:]
    return f"{full or 'the file'}: {lowered}"


def _field_names(target: type, dotted: str) -> list[str]:
    """Return the valid keys of the table at `dotted` below `target`."""
    current: Any = target
    for part in [p for p in dotted.split(".") if p]:
        if part == "*":
            current = get_args(_plain(current))[1]
            continue
        hints = get_type_hints(_plain(current), include_extras=False)
        current = hints[part]
    struct = _plain(current)
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def _choices(target: type, dotted: str) -> list[object]:
    """Return the values that the key at `dotted` below `target` may have, [] where it is no choice."""
    current: Any = target
    for part in _PARTS.findall(dotted):
        current = _inside(current, part)
    options = get_args(current) if get_origin(current) in (Union, types.UnionType) else (current,)
    return [value for option in options if get_origin(option) is Literal for value in get_args(option)]


def _by_key(data: Any, target: type, dotted: str) -> str:
    """Return `dotted` with each `*` as the first key of that mapping whose value is wrong."""
    current: Any = target
    for part in _PARTS.findall(dotted):
        current = _inside(current, part)
        if part == "*":
            part = next(name for name, value in data.items() if not _converts(value, current))
            dotted = dotted.replace("*", part, 1)
        data = data[int(part[1:-1])] if isinstance(data, list) else data[part]
    return dotted


def _converts(value: Any, annotation: Any) -> bool:
    try:
        msgspec.convert(value, annotation, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _inside(annotation: Any, part: str) -> Any:
    """Return the annotation of a table's key, of any value of a mapping (`*`) or of an item (`[0]`)."""
    plain = _plain(annotation)
    if part == "*":
        return get_args(plain)[1]
    return get_args(plain)[0] if part.startswith("[") else get_type_hints(plain).get(part)


def _plain(annotation: Any) -> Any:
    """Strip Optional and Union down to the Struct or mapping inside."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(a for a in get_args(annotation) if a is not type(None) and a is not str)
    return annotation


def nearest(name: object, known: Mapping[str, Any] | list[str]) -> str:
    """Return the most similar of the known names as a question in parentheses; empty where none is.

    One whose words are all in this name, or the other way round, is nearer than any that only looks alike.
    """
    words = set(str(name).split("_"))
    alike = [one for one in known if words <= set(one.split("_")) or words >= set(one.split("_"))]
    also = ALSO_CALLED.get(str(name), "")
    match = (
        [also]
        if also in known
        else difflib.get_close_matches(str(name), alike or list(known), n=1, cutoff=0.5)
    )
    return f" (did you mean {match[0]!r}?)" if match else ""
