# SPDX-License-Identifier: Apache-2.0
"""Mutate JSON at its values instead of at its bytes, so that inputs get past the canonical form into the fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

__all__ = ["mutate"]

_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**53 - 1, 2**53, -(2**53), 0.5, "", "0", "1", "a", "\u0000", "\ud800", "a\u0308",
    "\ue000", "\U0001f600", "AA==", "../x", "0" * 64, "f" * 64, "9" * 39, "2026-11-24T00:00:00Z", [], {}, [0], [[]],
)  # fmt: skip


def mutate(data: bytes, max_size: int, seed: int, mutate_bytes: Callable[[bytes, int], bytes]) -> bytes:
    """Return `data` with one value of one line of JSON changed, or, half of the time, some of its bytes."""
    random = Random(seed)  # repeatable, not secret
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    try:
        value, rest = _decoded(lines[at])
    except (ValueError, RecursionError):
        return bytes(mutate_bytes(data, max_size))
    if random.random() < 0.5:  # noqa: PLR2004
        return bytes(mutate_bytes(data, max_size))
    lines[at] = _encoded(_changed(value, random)) + rest
    out = b"\n".join(lines)
    return out if len(out) <= max_size else bytes(mutate_bytes(data, max_size))


def _decoded(line: bytes) -> tuple[Any, bytes]:
    """Return the JSON value at the beginning of a line, and what follows it."""
    text = line.decode("utf-8", "surrogateescape")
    value, end = json.JSONDecoder().raw_decode(text)
    return value, text[end:].encode("utf-8", "surrogateescape")


def _encoded(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode("utf-8", "surrogatepass")


def _changed(value: Any, random: Random) -> Any:
    """Return `value` with a change somewhere below it, or in its place."""
    inside = bool(value) and random.random() < 0.9  # noqa: PLR2004
    if inside and isinstance(value, dict):
        return _object(dict(value), random)
    if inside and isinstance(value, list):
        return _array(list(value), random)
    if inside and isinstance(value, str):
        return _text(value, random)
    if isinstance(value, int) and random.random() < 0.5:  # noqa: PLR2004
        return value + random.choice((-1, 1, 8, 1 << 16, 1 << 40))
    return random.choice(_VALUES)


def _object(value: dict[str, Any], random: Random) -> dict[str, Any]:
    key = random.choice(sorted(value))
    match random.randrange(8):
        case 0:
            del value[key]
        case 1:
            value[_text(key, random)] = value[key]
        case 2:
            value[key] = value[random.choice(sorted(value))]
        case _:
            value[key] = _changed(value[key], random)
    return value


def _array(value: list[Any], random: Random) -> list[Any]:
    at, other = random.randrange(len(value)), random.randrange(len(value))
    match random.randrange(8):
        case 0:
            del value[at]
        case 1:
            value.insert(at, value[other])
        case 2:
            value[at], value[other] = value[other], value[at]
        case _:
            value[at] = _changed(value[at], random)
    return value


def _text(value: str, random: Random) -> str:
    if value.startswith("{"):  # a document within a text
        try:
            return _encoded(_changed(json.loads(value), random)).decode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            pass
    if not value:
        return "a"
    at = random.randrange(len(value))
    new = random.choice(("", value[at] * 2, value[at].swapcase(), chr(ord(value[at]) ^ 1), "\u0308", *'0a/.\\"\n'))
    return random.choice((value[:at] + new + value[at + 1 :], value[:at], str(random.choice(_VALUES))))
