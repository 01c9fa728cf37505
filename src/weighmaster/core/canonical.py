# SPDX-License-Identifier: Apache-2.0
"""Write and read JSON in exactly one form: RFC 8785 (JCS), restricted to what our formats use.

Allowed are objects, arrays, strings, integers within +-(2^53 - 1), true, false and null. Floats do not occur in any
format of ours: a number that is not such an integer is written as a string. Reading is strict: duplicate keys, floats,
``NaN``, ``-0``, trailing bytes, a byte-order mark, lone surrogates and deep nesting are all refused.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from weighmaster.errors import MalformedArtefact

__all__ = ["MAX_DEPTH", "MAX_SAFE_INTEGER", "dumps", "loads", "loads_canonical"]

MAX_SAFE_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 64


def dumps(value: object) -> bytes:
    """Return the RFC 8785 form of `value`, UTF-8, without a trailing newline.

    Raises:
        ValueError: a float, an unsafe integer, a non-string key, a lone surrogate, or another type is in it, or it is
            nested deeper than `loads` reads.
    """
    text = json.dumps(_ordered(value, "$", 0), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def _ordered(value: object, path: str, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise ValueError(f"nesting deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise ValueError(f"{path}: integer {value} is beyond 2^53 - 1; write it as a string")
        return value
    if isinstance(value, (list, tuple)):
        return [_ordered(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"{path}: object keys must be strings")
        # RFC 8785, 3.2.3: keys are ordered by their UTF-16 code units.
        return {key: _ordered(value[key], f"{path}.{key}", depth + 1) for key in sorted(value, key=_utf16)}
    raise ValueError(f"{path}: {type(value).__name__} has no canonical form")


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def loads(data: bytes, file: str, *, foreign: bool = False) -> Any:  # JSON is dynamically typed; `fields` narrows it
    """Parse strict JSON from `data`; `file` names it in errors.

    Args:
        data: the document.
        file: its name.
        foreign: the document is in another's format, which may hold fractions and larger numbers.

    Raises:
        MalformedArtefact: not UTF-8, not one JSON value, or outside the restricted form (see the module's docstring).
    """
    strict = _Strict(file)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedArtefact(file, f"byte {error.start}", expected="UTF-8", found="an invalid sequence") from None
    if text.startswith("\ufeff"):
        raise MalformedArtefact(file, "byte 0", expected="JSON", found="a byte-order mark")
    try:
        value = json.loads(
            text,
            object_pairs_hook=strict.pairs,
            parse_float=float if foreign else strict.number,
            parse_constant=strict.number,
            parse_int=_foreign_integer if foreign else strict.integer,
        )
    except json.JSONDecodeError as error:
        at = len(text[: error.pos].encode("utf-8"))
        raise MalformedArtefact(file, f"byte {at}", expected="one JSON value", found=error.msg) from None
    except RecursionError:
        raise MalformedArtefact(file, "", expected=f"nesting up to {MAX_DEPTH}", found="deeper nesting") from None
    _check_tree(value, file)
    return value


def _foreign_integer(text: str) -> int | float:
    return int(text) if len(text) <= 17 else float(text)  # noqa: PLR2004  # digits of 2^53, signed


class _Strict:
    """Hooks of the JSON parser that refuse what the restricted form does not have."""

    def __init__(self, file: str) -> None:
        self.file = file

    def number(self, text: str) -> NoReturn:
        raise MalformedArtefact(self.file, "", expected="integers only (RFC 8785, restricted)", found=f"number {text}")

    def integer(self, text: str) -> int:
        if text == "-0" or len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:  # noqa: PLR2004  # digits of 2^53, signed
            shown = text if len(text) <= 32 else f"{text[:32]}..."  # noqa: PLR2004
            raise MalformedArtefact(self.file, "", expected="an integer within 2^53 - 1, no -0", found=shown)
        return int(text)

    def pairs(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        out = dict(pairs)
        if len(out) != len(pairs):
            seen: set[str] = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            _check_text(twice, self.file)  # a message names the key, and no log can hold a lone surrogate
            raise MalformedArtefact(self.file, twice, expected="each key once", found="the key twice")
        return out


def _check_tree(value: object, file: str) -> None:
    """Refuse lone surrogates and nesting beyond `MAX_DEPTH`, without recursion."""
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise MalformedArtefact(file, "", expected=f"nesting up to {MAX_DEPTH}", found="deeper nesting")
        if isinstance(item, str):
            _check_text(item, file)
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
        elif isinstance(item, dict):
            for key, child in item.items():
                _check_text(key, file)
                stack.append((child, depth + 1))


def _check_text(text: str, file: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise MalformedArtefact(file, "", expected="Unicode text", found="a lone surrogate") from None


def loads_canonical(data: bytes, file: str) -> Any:
    """Parse `data` and require that it is exactly the canonical form of what it says.

    Raises:
        MalformedArtefact: as `loads`, or well-formed but not canonical.
    """
    value = loads(data, file)
    again = dumps(value)
    if again != data:
        at = next((i for i, (a, b) in enumerate(zip(again, data, strict=False)) if a != b), min(len(again), len(data)))
        raise MalformedArtefact(file, f"byte {at}", expected="RFC 8785 canonical form", found="another spelling")
    return value
