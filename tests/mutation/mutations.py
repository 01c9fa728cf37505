# SPDX-License-Identifier: Apache-2.0
"""Every mutation of a closed list, at every place of a JSON document: a systematic matrix, not samples.

A mutation changes one thing. Everything else stays in canonical form, so that a refusal is due to that one thing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias, get_args

from weighmaster.core import derivation, environment, manifest, policy, source, statement, structure
from weighmaster.core.canonical import loads
from weighmaster.core.dtype import DTYPES
from weighmaster.core.tensor import ViewKind
from weighmaster.seal import trust

__all__ = ["Mutation", "mutations", "mutations_of_lines"]

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A document with one change.

    Attributes:
        field: path of the change; positions in arrays are left out (``tables[].root``).
        kind: what was done there.
        data: the document.
    """

    field: str
    kind: str
    data: bytes


class Raw(str):
    """JSON text that is written as it stands."""

    __slots__ = ()


class Members(tuple[tuple[str, Any], ...]):
    """Members of an object that are written in this order, repeated keys too."""

    __slots__ = ()


_LISTS: Final[tuple[Sequence[str], ...]] = (
    tuple(DTYPES),
    get_args(ViewKind),
    get_args(environment.Status),
    get_args(environment.Scope),
    get_args(policy.Comparison),
    get_args(policy.Level),
    derivation.PROFILES,
    manifest.LAYOUTS,
    manifest.ROLES,
    manifest.STAGES,
    source.ROLES,
    source.EVIDENCE_KINDS,
    statement.EXCLUSION_REASONS,
    statement.MAPPED,
    statement.TRACES,
    structure.KINDS,
    trust.ROLES,
    ("halt", "drain", f"fallback:{'0' * 64}"),
)
"""The closed lists of words of the formats: a word is also replaced by each other one of its list."""

_HEX256: Final = re.compile(r"[0-9a-f]{64}")
_SHORT: Final = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def _quoted(text: str) -> str:
    return '"' + "".join(_SHORT.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


def _text(value: Any) -> str:
    """Return the RFC 8785 text, `Raw` and `Members` as they stand."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Members):
        return "{" + ",".join(f"{_quoted(k)}:{_text(v)}" for k, v in value) + "}"
    if isinstance(value, dict):
        return _text(Members(sorted(value.items(), key=lambda pair: pair[0].encode("utf-16-be"))))
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, str):
        return _quoted(value)
    return {None: "null", True: "true", False: "false"}[value] if not _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bytes(value: Any) -> bytes:
    return _text(value).encode("utf-8", "surrogatepass")


def mutations(document: bytes) -> Iterator[Mutation]:
    """Yield every mutation of a JSON document, each result once; `document` itself is not among them."""
    value = loads(document, "document")
    seen = {document}
    for mutation in (*_all(value), *_digests_exchanged(value, _bytes)):
        if mutation.data not in seen:
            seen.add(mutation.data)
            yield mutation


def mutations_of_lines(document: bytes) -> Iterator[Mutation]:
    """Yield every mutation of a file of JSON lines: of each line, and of the lines as a list."""
    lines = document.split(b"\n")[:-1]
    values = [loads(line, "line") for line in lines]
    exchanged = _digests_exchanged(values, lambda changed: b"".join(_bytes(v) + b"\n" for v in changed))
    seen = {document}
    for mutation in (*_all_of_lines(lines), *_lists_of_lines(lines), *exchanged):
        if mutation.data not in seen:
            seen.add(mutation.data)
            yield mutation


def _all_of_lines(lines: list[bytes]) -> Iterator[Mutation]:
    for at, line in enumerate(lines):
        for inner in _all(loads(line, "line")):
            data = b"".join(each + b"\n" for each in (*lines[:at], inner.data, *lines[at + 1 :]))
            yield Mutation(field=inner.field.replace("(document)", "(line)"), kind=inner.kind, data=data)


def _lists_of_lines(lines: list[bytes]) -> Iterator[Mutation]:
    def made(kind: str, changed: list[bytes], end: bytes = b"\n") -> Mutation:
        return Mutation(field="(lines)", kind=kind, data=b"".join(line + b"\n" for line in changed)[:-1] + end)

    for at in range(len(lines)):
        yield made("element dropped", lines[:at] + lines[at + 1 :])
        yield made("element repeated", lines[: at + 1] + lines[at:])
        yield made("empty line", [*lines[:at], b"", *lines[at:]])
        yield made("carriage return", [*lines[:at], lines[at] + b"\r", *lines[at + 1 :]])
        if at:
            yield made("neighbours swapped", [*lines[: at - 1], lines[at], lines[at - 1], *lines[at + 1 :]])
    yield made("last line feed gone", lines, b"")
    yield made("empty line", [*lines, b""])
    yield made("byte appended", lines, b"\n\0")
    yield Mutation(field="(lines)", kind="empty", data=b"")


def _all(value: Any) -> Iterator[Mutation]:
    yield from _of_document(value)
    for path, here in _walk(value, ()):
        for kind, new in _of_value(here):
            yield Mutation(field=_name(path), kind=kind, data=_bytes(_put(value, path, new)))
        if path and isinstance(path[-1], str):
            for kind, members in _of_member(_get(value, path[:-1]), path[-1]):
                yield Mutation(field=_name(path), kind=kind, data=_bytes(_put(value, path[:-1], members)))


def _digests_exchanged(value: Any, write: Callable[[Any], bytes]) -> Iterator[Mutation]:
    """Put in the place of each digest every other digest of the document."""
    digests = {here: None for _, here in _walk(value, ()) if isinstance(here, str) and _HEX256.fullmatch(here)}
    for path, here in _walk(value, ()):
        for other in digests if isinstance(here, str) and here in digests else ():
            if other != here:
                field = _name(path).removeprefix("[].") if isinstance(value, list) else _name(path)
                yield Mutation(field=field, kind="another digest of the document", data=write(_put(value, path, other)))


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from _walk(child, (*path, key))


def _name(path: Path) -> str:
    text = "".join("[]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or "(document)"


def _get(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _put(value: Any, path: Path, new: Any) -> Any:
    """Return a copy of `value` that holds `new` at `path`."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _put(value[path[0]], path[1:], new)
    return copy


def _of_document(value: Any) -> Iterator[Mutation]:
    plain = _bytes(value)
    forms = {
        "space before": b" " + plain,
        "line feed after": plain + b"\n",
        "space inside": plain[:1] + b" " + plain[1:],
        "byte-order mark": b"\xef\xbb\xbf" + plain,
        "byte appended": plain + b"\0",
        "value appended": plain + b"{}",
        "byte cut off": plain[:-1],
        "empty": b"",
        "UTF-16": plain.decode("utf-8").encode("utf-16"),
        "not UTF-8": plain[:-1] + b"\xff" + plain[-1:],
    }
    return (Mutation(field="(document)", kind=kind, data=data) for kind, data in forms.items())


def _of_member(members: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """Yield what can be done to a key and its value within their object."""
    pairs = sorted(members.items(), key=lambda pair: pair[0].encode("utf-16-be"))
    at = [k for k, _ in pairs].index(key)
    before, (_, value), after = pairs[:at], pairs[at], pairs[at + 1 :]
    yield "key deleted", Members((*before, *after))
    yield "key twice", Members((*before, (key, value), (key, value), *after))
    yield "key twice, null last", Members((*before, (key, value), (key, None), *after))
    yield "key twice, null first", Members((*before, (key, None), (key, value), *after))
    yield "key in capitals", {**dict((*before, *after)), key.upper() if key != key.upper() else key.lower(): value}
    yield "unknown key beside it", {**members, f"{key}~": value}
    if at:
        yield "keys swapped", Members((*pairs[: at - 1], pairs[at], pairs[at - 1], *after))


_TYPES: Final = (
    ("null", None),
    ("a boolean", True),
    ("a number", 0),
    ("a text", "x"),
    ("an empty text", ""),
    ("an empty array", []),
    ("an empty object", {}),
)


def _of_value(value: Any) -> Iterator[tuple[str, Any]]:
    yield from ((kind, new) for kind, new in _TYPES if new != value or type(new) is not type(value))
    yield "within an array", [value]
    yield "within an object", {"value": value}
    if isinstance(value, dict):
        yield "an unknown key", {**value, "~": None}
        yield "space inside", Raw("{ " + _text(value)[1:])
    elif isinstance(value, list):
        yield from _of_array(value)
    elif isinstance(value, str):
        yield from _of_text(value)
    elif isinstance(value, bool):
        yield from (("negated", not value), ("as a number", int(value)), ("as a text", str(value).lower()))
    elif isinstance(value, int):
        yield from _of_integer(value)


def _of_array(value: list[Any]) -> Iterator[tuple[str, Any]]:
    yield "null appended", [*value, None]
    yield "space inside", Raw("[ " + _text(value)[1:])
    for at in range(len(value)):
        yield "element dropped", value[:at] + value[at + 1 :]
        yield "element repeated", value[: at + 1] + value[at:]
    for at, (a, b) in enumerate(pairwise(value)):
        yield "neighbours swapped", [*value[:at], b, a, *value[at + 2 :]]


def _of_integer(value: int) -> Iterator[tuple[str, Any]]:
    yield from (("+1", value + 1), ("-1", value - 1), ("largest", 2**53 - 1), ("largest + 1", 2**53))
    yield from (("negative", -value - 1), ("-0", Raw("-0")), ("as a float", Raw(f"{value}.0")))
    yield from (("with an exponent", Raw(f"{value}e0")), ("leading zero", Raw(f"0{value}")), ("as a text", str(value)))
    yield from (("a thousand digits", Raw("1" * 1000)), ("NaN", Raw("NaN")), ("plus sign", Raw(f"+{value}")))


_ALIKE: Final = {
    **dict(
        zip(
            map(ord, "aceiopsxABEHKMOPTX"),
            "\u0430\u0441\u0435\u0456\u043e\u0440\u0455\u0445\u0410"
            "\u0412\u0415\u041d\u041a\u041c\u041e\u0420\u0422\u0425",
            strict=True,
        )
    ),
    **{ord("0") + digit: chr(0xFF10 + digit) for digit in range(10)},
}
"""Latin letters to Cyrillic ones that look the same, and digits to wide ones."""


def _of_text(value: str) -> Iterator[tuple[str, Any]]:
    yield from (("last character cut", value[:-1]), ("first character cut", value[1:]), ("x appended", f"{value}x"))
    yield from (("space before", f" {value}"), ("space after", f"{value} "), ("line feed after", f"{value}\n"))
    yield from (("NUL after", f"{value}\0"), ("decomposed (NFD)", f"{value}u\u0308"), ("precomposed", f"{value}\u00fc"))
    yield from (("right-to-left mark", f"\u202e{value}"), ("zero-width space", f"{value[:1]}\u200b{value[1:]}"))
    yield "lone surrogate, escaped", Raw(_quoted(value)[:-1] + '\\ud800"')
    yield "lone surrogate, raw", f"{value}\ud800"
    yield "control character, raw", Raw(_quoted(value)[:-1] + '\x01"')
    yield from (("capitals", value.upper()), ("small letters", value.lower()), ("twice", value * 2))
    if value:
        yield "escaped needlessly", Raw(f'"\\u{ord(value[0]):04x}' + _quoted(value[1:])[1:])
        yield "look-alike letters", value.translate(_ALIKE)
        yield "one bit", chr(ord(value[0]) ^ 1) + value[1:]
        yield "reversed", value[::-1]
    yield from (("another word of the list", word) for words in _LISTS if value in words for word in words)
    yield from _of_written_value(value)


def _of_written_value(value: str) -> Iterator[tuple[str, Any]]:
    """Yield what can be done to a text that writes down a digest, a number or bytes."""
    if _HEX256.fullmatch(value):
        for at in (0, 31, 63):
            yield "one nibble", f"{value[:at]}{int(value[at], 16) ^ 1:x}{value[at + 1 :]}"
        yield from (("another digit", f"g{value[1:]}"), ("all zero", "0" * 64), ("0x before", f"0x{value}"))
    elif re.fullmatch(r"\d+", value):
        yield from (("+1", str(int(value) + 1)), ("-1", str(int(value) - 1)), ("leading zero", f"0{value}"))
        yield from (("plus sign", f"+{value}"), ("with an exponent", f"{value}e0"), ("as a number", int(value)))
        yield from (("as a float", f"{value}.0"), ("forty digits", "9" * 40), ("underscore", f"{value}_0"))
    elif value.startswith("-----BEGIN"):
        yield from (("carriage returns", value.replace("\n", "\r\n")), ("text before", f"x\n{value}"))
        yield from (("key twice", value * 2), ("on one line", value.replace("\n", "")))
    elif len(value) > 15 and (content := _decoded(value)) is not None:
        yield from _of_base64(value, content)


def _decoded(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return None


def _of_base64(value: str, content: bytes) -> Iterator[tuple[str, Any]]:
    for at in (0, len(content) // 2, len(content) - 1):
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        yield "one bit of the content", base64.b64encode(flipped).decode("ascii")
    yield "byte of the content cut", base64.b64encode(content[:-1]).decode("ascii")
    yield "byte of the content appended", base64.b64encode(content + b"\0").decode("ascii")
    yield "padding gone", value.rstrip("=")
    yield "padding too long", f"{value}=="
    yield "line feed inside", f"{value[:8]}\n{value[8:]}"
    yield "alphabet of URLs", value.replace("+", "-").replace("/", "_")
    if value.endswith("="):
        yield "bits below the padding", re.sub(r".(=+)$", lambda m: f"{_next(m[0][0])}{m[1]}", value)


def _next(letter: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return alphabet[alphabet.index(letter) | 1]
