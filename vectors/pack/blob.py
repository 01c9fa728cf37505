# SPDX-License-Identifier: Apache-2.0
"""Write blobs for the vectors from spec/pack.md, sections 1 to 4, symbol by symbol; nothing of the package is used.

Rebuilt values are made with fractions, and rounded by `struct` and by ``round``. Side sections lie in stored blocks of
deflate, so that no compressor decides which bytes a vector has.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, NamedTuple

DTYPES: Final = {
    "bfloat16": (1, 2),
    "float16": (2, 2),
    "float32": (3, 4),
    "float8_e4m3fn": (4, 1),
    "float8_e5m2": (5, 1),
}
"""Number in the header, and bytes of an element."""


class Table(NamedTuple):
    """Codes of consecutive symbols from `lowest`; the one at `place` takes the rest. Symmetric: levels 0, 1, ..."""

    codes: Sequence[int]
    lowest: int = 0
    place: int = 0
    symmetric: bool = True

    def written(self) -> bytes:
        """Return the bytes of a table (2.2)."""
        differences = bytes((b - a) % 256 for a, b in zip([0, *self.codes], self.codes, strict=False))
        if self.symmetric:
            return struct.pack("<BH", 2, len(self.codes)) + differences
        return struct.pack("<BhHH", 1, self.lowest, len(self.codes), self.place) + differences

    def frequencies(self, bits: int) -> dict[int, tuple[int, int]]:
        """Return frequency and cumulative frequency of each symbol."""
        counts = [value_of(code) for code in self.codes]
        first, place = self.lowest, self.place
        if self.symmetric:
            first, place, counts = 1 - len(counts), len(counts) - 1, counts[:0:-1] + counts
        counts[place] = (1 << bits) - sum(counts)
        return {first + i: (n, sum(counts[:i])) for i, n in enumerate(counts)}


def value_of(code: int) -> int:
    """Return the frequency of a code."""
    return ((16 + code % 16) << (code // 16 - 1)) >> 4 if code else 0


VALUES: Final = [value_of(code) for code in range(16, 256)]


def fitted(symbols: Iterable[int], bits: int, *, symmetric: bool) -> Table:
    """Return a table in which each of these symbols has a frequency, near its share."""
    counts = Counter(abs(s) if symmetric else s for s in symbols)
    lowest, highest = (0, max(counts)) if symmetric else (min(counts), max(counts))
    rest, total = 0 if symmetric else counts.most_common(1)[0][0], 2 * sum(counts.values())
    codes = []
    for symbol in range(lowest, highest + 1):
        share = (counts[symbol] << bits) // total
        code = 15 + bisect_right(VALUES, max(1, share // (2 if symmetric else 1)))
        codes.append(0 if symbol == rest or not counts[symbol] else code - code % 16 if code < 32 else code)
    return Table(codes, lowest, rest - lowest, symmetric)


@dataclass(kw_only=True)
class Model:
    """A tensor as an encoder has it: symbols are levels or coded bytes, `raw` the bits beside them (codec 2)."""

    codec: int = 1
    dtype: str = "bfloat16"
    bits: int = 12
    variant: int = 0
    rows: int
    cols: int
    band: int
    symbols: Sequence[int]
    tables: dict[int, Table] = field(default_factory=dict)
    row_scale: Sequence[int] = ()
    col_scale: Sequence[int] = ()
    row_class: Sequence[int] = ()
    col_class: Sequence[int] = ()
    raw: Sequence[int] = ()
    patches: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.row_class, self.col_class = self.row_class or [0] * self.rows, self.col_class or [0] * self.cols
        occurring: dict[int, list[int]] = {}
        for at, symbol in enumerate(self.symbols):
            occurring.setdefault(self.class_of(at), []).append(symbol)
        for c in occurring.keys() - self.tables.keys():
            self.tables = self.tables | {c: fitted(occurring[c], self.bits, symmetric=self.codec == 1)}

    def class_of(self, at: int) -> int:
        """Return the class of an element (2.1)."""
        return min(max(self.row_class[at // self.cols] + self.col_class[at % self.cols], 0), 7)

    def lanes(self, chunk: int) -> list[tuple[int, int]]:
        """Return lane and position of the elements of a chunk, in the order of section 3."""
        rows = range(chunk * self.band, min(self.rows, (chunk + 1) * self.band))
        strips = range(0, self.cols, 32)
        return [(c - s, r * self.cols + c) for s in strips for r in rows for c in range(s, min(s + 32, self.cols))]

    def planes(self) -> int:
        """Return the raw bytes per element."""
        return 0 if self.codec == 1 else 1 if self.variant else DTYPES[self.dtype][1] - 1


def coded(model: Model, chunk: int) -> tuple[list[int], list[int]]:
    """Return states and words of a chunk (section 3), made from its end to its beginning."""
    frequencies = {c: table.frequencies(model.bits) for c, table in model.tables.items()}
    states, words = [1 << 16] * 32, []
    for lane, at in reversed(model.lanes(chunk)):
        count, below = frequencies[model.class_of(at)][model.symbols[at]]
        if states[lane] >= count << (32 - model.bits):
            words.append(states[lane] & 0xFFFF)
            states[lane] >>= 16
        states[lane] = (states[lane] // count << model.bits) + states[lane] % count + below
    return states, words[::-1]


def rebuilt(model: Model) -> bytes:
    """Return the bytes of the tensor (sections 1, 2 and 4)."""
    size = DTYPES[model.dtype][1]
    bits = [level_bits(model, at) if model.codec == 1 else plane_bits(model, at) for at in range(len(model.symbols))]
    for at, value in model.patches.items():
        bits[at] = value
    return b"".join(value.to_bytes(size, "little") for value in bits)


def scale(bits: int) -> Fraction:
    """Return a bfloat16, normal and positive."""
    return Fraction(128 + bits % 128) * Fraction(2) ** ((bits >> 7) - 134)


def level_bits(model: Model, at: int) -> int:
    """Return a level times its scales, rounded to the dtype, as bits."""
    row, col = model.row_scale[at // model.cols], model.col_scale[at % model.cols]
    value = model.symbols[at] * scale(row) * scale(col)
    if model.dtype == "float32":
        return int.from_bytes(struct.pack("<f", value), "little")
    if model.dtype == "float16":
        bits = int.from_bytes(struct.pack("<e", value), "little")
        return bits | (0x8000 if value < 0 else 0)
    whole = int.from_bytes(struct.pack("<f", value), "little")  # exact: section 1
    magnitude = round(Fraction(whole & 0x7FFFFFFF, 1 << 16))  # to even
    return magnitude | (whole >> 16 & 0x8000)


def plane_bits(model: Model, at: int) -> int:
    """Return a coded byte and the raw bits around it, as the table of section 4 has them."""
    symbol, low = model.symbols[at], model.raw[at] if model.raw else 0
    if model.dtype == "bfloat16" or model.variant:
        return (low // 128 << 15 | symbol << 7 | low % 128) << (16 if model.variant else 0)
    if model.dtype == "float32":
        return low >> 23 << 31 | symbol << 23 | low & 0x7FFFFF
    return symbol << 8 | low if model.dtype == "float16" else symbol


def split(value: int, dtype: str, variant: int = 0) -> tuple[int, int]:
    """Return symbol and raw bits of an element's bits (section 4)."""
    if variant:
        value, dtype = value >> 16, "bfloat16"
    if dtype == "bfloat16":
        return value >> 7 & 255, value >> 8 & 128 | value & 127
    if dtype == "float32":
        return value >> 23 & 255, value >> 31 << 23 | value & 0x7FFFFF
    return (value >> 8, value & 255) if dtype == "float16" else (value, 0)


def stored(data: bytes) -> bytes:
    """Return a deflated stream (RFC 1950) of one stored block."""
    length = struct.pack("<HH", len(data), len(data) ^ 0xFFFF)
    return b"\x78\x01\x01" + length + data + zlib.adler32(data).to_bytes(4, "big")


def scales(bits: Sequence[int]) -> bytes:
    """Return how scales are written (2.1)."""
    book = sorted(set(bits))
    codes = bytes(book.index(b) for b in bits) if len(book) > 1 else b""
    return struct.pack(f"<H{len(book)}H", len(book), *book) + codes


def side(model: Model, **instead: bytes) -> bytes:
    """Return the side section; `instead` replaces its pieces ``tables``, ``rows``, ``cols`` or ``classes``."""
    tables = b"".join(model.tables[i].written() if i in model.tables else b"\0" for i in range(8))
    pieces = {"tables": tables, "rows": b"", "cols": b""}
    if model.codec == 1:
        pieces |= {"rows": scales(model.row_scale), "cols": scales(model.col_scale)}
    classes = struct.pack(f"<{model.rows + model.cols}b", *model.row_class, *model.col_class)
    return b"".join((pieces | {"classes": classes} | instead).values())


def body(model: Model, chunk: int) -> tuple[int, int, bytes]:
    """Return words, patches and bytes of a chunk."""
    states, words = coded(model, chunk)
    first = chunk * model.band * model.cols
    elements = len(model.lanes(chunk))
    data = struct.pack(f"<32I{len(words)}H", *states, *words)
    for plane in range(model.planes()):
        data += bytes(model.raw[first + i] >> 8 * plane & 255 for i in range(elements))
    here = {at - first: value for at, value in sorted(model.patches.items()) if first <= at < first + elements}
    data += struct.pack(f"<{len(here)}I", *here)
    data += b"".join(value.to_bytes(DTYPES[model.dtype][1], "little") for value in here.values())
    return len(words), len(here), data


Body = tuple[int, int, bytes]


def blob(
    model: Model,
    *,
    header: dict[str, Any] | None = None,
    packed: bytes | None = None,
    size: int | None = None,
    bodies: Callable[[list[Body]], list[Body]] = lambda b: b,
    wrong: str = "",
    tail: bytes = b"",
    **instead: bytes,
) -> bytes:
    """Return the blob (section 2); all but `model` makes one fault; `wrong` names a CRC."""
    plain = side(model, **instead)
    packed = stored(plain) if packed is None else packed
    fields = {
        "magic": b"WMT1",
        "codec": model.codec,
        "dtype": DTYPES[model.dtype][0],
        "bits": model.bits,
        "variant": model.variant,
        "rows": model.rows,
        "cols": model.cols,
        "band": model.band,
        "length": len(packed),
        "size": len(plain) if size is None else size,
        "crc": zlib.crc32(packed) ^ (wrong == "side"),
    }
    head = struct.pack("<4s4B2Q4I", *(fields | (header or {})).values())
    made = bodies([body(model, i) for i in range(-(-model.rows // model.band))])
    records = b"".join(
        struct.pack("<3I", words, patches, zlib.crc32(b) ^ (wrong == "bodies")) for words, patches, b in made
    )
    rest = b"".join(data for _, _, data in made)
    return head + struct.pack("<I", zlib.crc32(head) ^ (wrong == "header")) + packed + records + rest + tail


def stream(label: str, count: int) -> list[int]:
    """Return numbers from 0 to 2^32 - 1 that follow from a label."""
    data = b"".join(hashlib.sha256(f"{label} {i}".encode()).digest() for i in range(-(-count // 8)))
    return list(struct.unpack(f"<{len(data) // 4}I", data))[:count]


def levels(label: str, count: int, spread: int) -> list[int]:
    """Return levels around 0: sums of four uniform numbers."""
    draws = [draw % (2 * spread + 1) - spread for draw in stream(label, 4 * count)]
    return [sum(draws[i::count]) // 2 for i in range(count)]
