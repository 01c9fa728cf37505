# SPDX-License-Identifier: Apache-2.0
"""Read the fields of a parsed JSON object one by one, with types, and point at the one that is wrong."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, TypeVar

from weighmaster.core.canonical import MAX_SAFE_INTEGER
from weighmaster.core.instant import parse_instant
from weighmaster.errors import MalformedArtefact

__all__ = ["Fields"]

T = TypeVar("T")
_HEX256: Final = re.compile(r"[0-9a-f]{64}")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,38}")


class Fields:
    """An object of a document: typed getters, each of which consumes its key; `done` refuses keys left over.

    Example::

        fields = Fields(value, file="statement.json")
        name, size = fields.text("name"), fields.integer("nbytes")
        fields.done()
    """

    def __init__(self, value: object, *, file: str, path: str = "") -> None:
        if not isinstance(value, dict):
            raise MalformedArtefact(file, path, expected="an object", found=_kind(value))
        self._left: dict[str, object] = dict(value)
        self.file, self.path = file, path

    def at(self, key: str) -> str:
        """Return the full path of `key`."""
        return f"{self.path}.{key}" if self.path else key

    def fault(self, key: str, expected: str, found: str) -> MalformedArtefact:
        """Return (not raise) the error that `key` holds something unexpected."""
        return MalformedArtefact(self.file, self.at(key), expected=expected, found=found)

    def any(self, key: str) -> object:
        """Return the value of a required key, whatever it is."""
        if key not in self._left:
            raise self.fault(key, "a value", "no such key")
        return self._left.pop(key)

    def has(self, key: str) -> bool:
        """Tell whether an optional key is there and not yet read."""
        return key in self._left

    def text(self, key: str, *, choices: frozenset[str] | tuple[str, ...] | None = None, empty: bool = False) -> str:
        """Return a string; not empty unless `empty`; one of `choices` if given."""
        value = self.any(key)
        if not isinstance(value, str):
            raise self.fault(key, "a string", _kind(value))
        if not value and not empty:
            raise self.fault(key, "a string that is not empty", "an empty one")
        if choices is not None and value not in choices:
            raise self.fault(key, " or ".join(repr(c) for c in sorted(choices)), repr(value))
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a string or null; the key itself is required."""
        value = self.any(key)
        if value is None or isinstance(value, str):
            return value
        raise self.fault(key, "a string or null", _kind(value))

    def digest(self, key: str) -> str:
        """Return a SHA-256 digest: 64 lowercase hexadecimal digits."""
        value = self.text(key)
        if not _HEX256.fullmatch(value):
            raise self.fault(key, "64 lowercase hexadecimal digits", repr(value[:80]))
        return value

    def optional_digest(self, key: str) -> str | None:
        """Return a SHA-256 digest or null; the key itself is required."""
        if self.has(key) and self._left[key] is None:
            self._left.pop(key)
            return None
        return self.digest(key)

    def base64(self, key: str) -> bytes:
        """Return the bytes of a base64 string in its one canonical spelling (RFC 4648, 4: padded, pad bits zero)."""
        text = self.text(key)
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            data = b""
        if base64.b64encode(data).decode("ascii") != text:
            raise self.fault(key, "canonical base64 (RFC 4648, section 4)", "another spelling")
        return data

    def instant(self, key: str) -> datetime:
        """Return a moment in UTC, written as `core.instant` has it."""
        value = self.text(key)
        try:
            return parse_instant(value)
        except ValueError as error:
            raise self.fault(key, "a moment YYYY-MM-DDTHH:MM:SSZ", str(error)) from None

    def optional_instant(self, key: str) -> datetime | None:
        """Return a moment or null; the key itself is required."""
        if self.has(key) and self._left[key] is None:
            self._left.pop(key)
            return None
        return self.instant(key)

    def integer(self, key: str, *, minimum: int = 0, maximum: int = MAX_SAFE_INTEGER) -> int:
        """Return an integer within bounds; a boolean is not one."""
        return self._as_integer(key, self.any(key), minimum, maximum)

    def _as_integer(self, key: str, value: object, minimum: int, maximum: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fault(key, "an integer", _kind(value))
        if not minimum <= value <= maximum:
            raise self.fault(key, f"an integer from {minimum} to {maximum}", str(value))
        return value

    def decimal(self, key: str) -> int:
        """Return a non-negative integer written as a decimal string (for numbers that can pass 2^53)."""
        value = self.text(key)
        if not _DECIMAL.fullmatch(value):
            raise self.fault(key, "a decimal number in a string, without leading zeros", repr(value[:80]))
        return int(value)

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        value = self.any(key)
        if not isinstance(value, bool):
            raise self.fault(key, "true or false", _kind(value))
        return value

    def integers(self, key: str, *, minimum: int = 0) -> tuple[int, ...]:
        """Return an array of integers."""
        return tuple(
            self._as_integer(f"{key}[{i}]", v, minimum, MAX_SAFE_INTEGER) for i, v in enumerate(self._array(key))
        )

    def texts(self, key: str) -> tuple[str, ...]:
        """Return an array of strings."""
        return tuple(self._as_text(f"{key}[{i}]", value) for i, value in enumerate(self._array(key)))

    def _as_text(self, key: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.fault(key, "a string", _kind(value))
        return value

    def nested(self, key: str) -> Fields:
        """Return a nested object."""
        return Fields(self.any(key), file=self.file, path=self.at(key))

    def objects(self, key: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """Return an array of objects, each read whole by `read`; keys that it leaves are refused."""
        out = []
        for i, value in enumerate(self._array(key)):
            item = Fields(value, file=self.file, path=f"{self.at(key)}[{i}]")
            out.append(read(item))
            item.done()
        return tuple(out)

    def mapping(self, key: str, read: Callable[[str, Fields], T]) -> tuple[tuple[str, T], ...]:
        """Return an object whose keys are data, as pairs in the order of the keys; each value is an object."""
        return tuple(self._mapping(key, read))

    def _mapping(self, key: str, read: Callable[[str, Fields], T]) -> Iterator[tuple[str, T]]:
        value = self.any(key)
        if not isinstance(value, dict):
            raise self.fault(key, "an object", _kind(value))
        for name in sorted(value):
            item = Fields(value[name], file=self.file, path=f"{self.at(key)}.{name}")
            result = read(name, item)
            item.done()
            yield name, result

    def _array(self, key: str) -> list[object]:
        value = self.any(key)
        if not isinstance(value, list):
            raise self.fault(key, "an array", _kind(value))
        return value

    def done(self) -> None:
        """Refuse keys that nobody asked for.

        Raises:
            MalformedArtefact: an unknown key is left.
        """
        if self._left:
            key = min(self._left)
            raise self.fault(key, "only the keys of the specification", "an unknown key")


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", str: "a string", list: "an array", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
