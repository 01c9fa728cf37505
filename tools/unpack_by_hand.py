#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: C408, E731, PLR2004, RUF007, SIM905
# fmt: off
"""Rebuild the tensors of a Weighmaster pack by hand: one file, Python 3.11 with NumPy, nothing of Weighmaster's.

    python unpack_by_hand.py PACK [--tensor NAME] [--root HEX] [--out MODEL.safetensors]

Levels and scales are multiplied as integers, and rounding is a shift (spec/pack.md, 1; its sections are named here).
A line per tensor says what was compared; --out writes the tensors once the digests of all of them hold.
Exit code: 0 all that was asked for was checked and holds; 1 a check failed; 2 usage; 3 something was NOT CHECKED.
"""

import argparse
import json
import math
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Read = Callable[[int, int], bytes]
"""Returns bytes of a blob: offset, number."""
Array = Any
"""An array of NumPy."""
GROUP, LEAF = 1 << 21, 65536
"""Elements that are decoded side by side; bytes of a leaf of fs-verity."""

def need(holds: object, where: str, expected: object, found: object) -> None:
    """Go on if the check holds; otherwise say what was expected and found, and end."""
    if not holds:
        print(f"[FAIL] {where}: expected {str(expected)[:400]}, found {str(found)[:400]}\nRESULT: REFUSED")
        raise SystemExit(1)

# -- Formats. dict: these keys; [item]; (None, or); a pattern; a range; a type ----------------------------------------
TEXT, HEX, COUNT, ANY = ".+", "[0-9a-f]{64}", range(2**53), ".*"
DECIMAL = r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,20})?"
PATH = r"(?!(.*/)?\.{0,2}(/|\Z))[^\\\0]+"  # relative, no empty part, no "." or ".."
FILE = dict(path=PATH, sha256=HEX, size=COUNT)
LABELS = dict(pair.split(":") for pair in (  # of safetensors, by names of dtypes
    "bool:BOOL uint8:U8 int8:I8 float8_e4m3fn:F8_E4M3 float8_e5m2:F8_E5M2 float8_e8m0fnu:F8_E8M0 uint16:U16 int16:I16 "
    "float16:F16 bfloat16:BF16 uint32:U32 int32:I32 float32:F32 uint64:U64 int64:I64 float64:F64 complex64:C64"
).split())
SIZES = {name: 8 if name.endswith("64") else 4 if name.endswith("32") else 2 if name.endswith("16") else 1
         for name in LABELS}
CODECS = {"five-v1": "(bfloat|float)16|float32", "exact-v1": "(bfloat|float)16|float32|float8_e(4m3fn|5m2)",
          "raw-v1": "|".join(LABELS)}
INDEX = dict(  # section 5
    format="weighmaster-pack-v1",
    encoder=dict(name=TEXT, version=TEXT, profile="exact|datafree|calibrated", bits=(None, DECIMAL), parameters=dict),
    calibration=(None, dict(kind="self|file", sha256=HEX, tokens=range(1, 2**53))), source=[FILE], files=[FILE],
    shards=[TEXT], tensors=[dict(name=TEXT, dtype=ANY, shape=[COUNT], codec="|".join(CODECS), shard=COUNT,
                                 blob=HEX, sha256=HEX, fsverity64k=HEX)], deviation=dict(relativeSquaredError=DECIMAL))

def conform(value: Any, form: Any, at: str) -> None:
    """Check a JSON value against a form."""
    form = form if not isinstance(form, tuple) else type(None) if value is None else form[1]
    if isinstance(form, dict):
        found = set(value) if isinstance(value, dict) else {ascii(value)}
        need(found == set(form), at, f"the keys {sorted(form)}", f"otherwise: {sorted(found ^ set(form))}")
        for key in form:
            conform(value[key], form[key], f"{at}.{key}")
    elif isinstance(form, list):
        need(isinstance(value, list), at, "an array", ascii(value))
        for i, element in enumerate(value):
            conform(element, form[0], f"{at}[{i}]")
    elif isinstance(form, str):
        fits = isinstance(value, str) and re.fullmatch(form, value, re.DOTALL)
        need(fits, at, f"text like {form}", ascii(value))
    else:
        fits = (type(value) is int and value in form) if isinstance(form, range) else type(value) is form
        need(fits, at, form, ascii(value))

def strict(data: bytes, at: str) -> Any:
    """Read JSON: each key once, no floats (spec/README.md, "Common rules")."""
    try:  # int() refuses fractions, exponents and NaN
        return json.loads(data.decode(), parse_float=int, parse_constant=int, object_pairs_hook=lambda pairs: (
            dict(pairs) if len(dict(pairs)) == len(pairs) else need(0, at, "each key once", [key for key, _ in pairs])))
    except (ValueError, RecursionError) as error:
        return need(None, at, "strict JSON in UTF-8", error)

def canonical(value: Any, depth: int = 0) -> str:
    """RFC 8785 of values without floats: keys in the order of their UTF-16 code units."""
    need(depth <= 64, "pack.index", "nesting of at most 64", "more")
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return f"{{{','.join(f'{canonical(key)}:{canonical(value[key], depth + 1)}' for key in keys)}}}"
    if isinstance(value, list):
        return f"[{','.join(canonical(element, depth + 1) for element in value)}]"
    return json.dumps(value, ensure_ascii=False)

def read_index(data: bytes) -> Any:
    """Return the index, by the rules of section 5."""
    at, (line, _, last) = "pack.index", data.partition(b"\n")
    digest = sha256(line + b"\n").hexdigest()
    need(last == digest.encode() + b"\n", f"{at}: last line", f"{digest} and a line feed", ascii(last[:80]))
    index = strict(line, at)
    need(canonical(index).encode("utf-8", "surrogatepass") == line, at, "canonical JSON (RFC 8785)", "another spelling")
    conform(index, INDEX, at)
    encoder, files, shards, tensors = (index[key] for key in ("encoder", "files", "shards", "tensors"))
    for key, text in encoder["parameters"].items():
        conform(text, ANY, f"{at}.encoder.parameters.{key}")
    need((encoder["bits"] is None) == (encoder["profile"] == "exact"), f"{at}.encoder.bits", "null for exact", encoder)
    calibrated = encoder["profile"] == "calibrated"
    need((index["calibration"] is not None) == calibrated, f"{at}.calibration", "one for calibrated", encoder)
    for key, mark in (("source", "path"), ("files", "path"), ("tensors", "name")):
        marks = [element[mark].encode() for element in index[key]]
        rising = all(a < b for a, b in zip(marks, marks[1:], strict=False))
        need(marks and rising, f"{at}.{key}", "some, ascending, each once", marks)
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    need(shards == names and len(names) < 100_000, f"{at}.shards", names, shards)
    used = {tensor["shard"] for tensor in tensors}
    need(used == set(range(len(shards))), f"{at}.tensors: shard", f"each below {len(shards)}", sorted(used))
    by_path = {file["path"]: file for file in files}
    ours = {*shards, *(["model.safetensors.index.json"] if len(shards) > 1 else [])}
    need(ours <= by_path.keys(), f"{at}.files", f"{sorted(ours)} among them", sorted(by_path))
    for path in by_path.keys() - ours:
        inner, twin = path.removeprefix("source/"), by_path.get(f"source/{path}", {"path": None})
        kept = r"(?s)pack\.index|model\.safetensors\.index\.json|[^/]*\.sigstore\.json|.*\.safetensors"
        need(not re.fullmatch(kept, inner), f"{at}.files: {path}", "no weights, index or seal", path)
        same = {**twin, "path": path} == by_path[path] or (path == "config.json" and twin["path"])
        need(inner != path or same, f"{at}.files: {path}", "the same file under source/", twin)
        above = {path[: i] for i, letter in enumerate(path) if letter == "/"} & by_path.keys()
        need(not above, f"{at}.files: {path}", "a file or a folder", above)
    most, whole = 2**49 - 1, sum(math.prod(tensor["shape"]) for tensor in tensors)
    need(whole <= most, f"{at}.tensors", f"at most {most} elements", whole)
    for i, tensor in enumerate(tensors):
        conform(tensor["dtype"], CODECS[tensor["codec"]], f"{at}.tensors[{i}].dtype")
        name, size = tensor["name"], math.prod(tensor["shape"])
        need(name != "__metadata__" and unicodedata.is_normalized("NFC", name), f"{at}.tensors[{i}].name", "NFC", name)
        fits = math.prod(max(n, 1) for n in tensor["shape"]) <= most and (size or tensor["codec"] == "raw-v1")
        need(fits, f"{at}.tensors[{i}].shape", f"at most {most} elements; some, unless raw-v1", tensor["shape"])
    return index

def check_files(pack: Path, files: list[Any]) -> list[str]:
    """Compare the files of a pack with its index (section 6, 3 and 5); return the names of its seals."""
    there = {str(path.relative_to(pack)): path for path in pack.rglob("*") if path.is_symlink() or not path.is_dir()}
    seals = sorted(name for name in there if re.fullmatch(r"[^/]+\.sigstore\.json", name))
    odd = (there.keys() - {*seals, "pack.index"}) ^ {file["path"] for file in files}
    need(not odd, str(pack), "exactly the files of the index", f"missing or left over: {sorted(odd)}")
    need(all(path.count("/") <= 16 for path in there), str(pack), "at most 16 folders deep", "more")
    for file in files:
        path, flat, size = there[file["path"]], sha256(), 0
        need(path.is_file() and not path.is_symlink(), file["path"], "a regular file", "a link, or another kind")
        with path.open("rb") as source:
            while block := source.read(1 << 20):
                flat.update(block)
                size += len(block)
        found = {"path": file["path"], "sha256": flat.hexdigest(), "size": size}
        need(found == file, file["path"], file, found)
    return seals

def read_header(shard: BinaryIO, name: str, tensors: list[Any]) -> dict[str, tuple[int, int]]:
    """Return where the bytes of each tensor lie in a shard, and how many (section 5, "Header of a shard")."""
    size = shard.seek(0, 2)
    shard.seek(0)
    length = int.from_bytes(shard.read(8), "little")
    need(length <= min(size - 8, 10**8), f"{name}: header", f"at most {min(size - 8, 10**8)} bytes", length)
    text = shard.read(length)
    found = strict(text, f"{name}: header")
    conform(found, dict.fromkeys(["__metadata__", *(tensor["name"] for tensor in tensors)], dict), f"{name}: header")
    places, at, wanted = {}, 0, {"__metadata__": {"format": "pt"}}
    width = lambda tensor: SIZES[tensor["dtype"]] if tensor["codec"] == "raw-v1" else 1
    for tensor in sorted(tensors, key=lambda tensor: (-width(tensor), tensor["name"].encode())):
        key = tensor["name"]
        conform(found[key], dict(dtype=TEXT, shape=[COUNT], data_offsets=[COUNT]), f"{name}: header: {key}")
        count = nbytes(tensor) if tensor["codec"] == "raw-v1" else (found[key]["shape"] or [0])[0]
        dtype, shape = (tensor["dtype"], tensor["shape"]) if tensor["codec"] == "raw-v1" else ("uint8", [count])
        wanted[key] = {"data_offsets": [at, at + count], "dtype": LABELS[dtype], "shape": shape}
        need(found[key] == wanted[key], f"{name}: header: {key}", wanted[key], found[key])
        places[key], at = (8 + length + at, count), at + count
    line = canonical(wanted).encode()
    fits = text == line + b" " * (-len(line) % 8)
    need(fits, f"{name}: header", f"{line!r} and spaces to 8 bytes", text)
    need(8 + length + at == size, name, f"tensors to its end, {size}", 8 + length + at)
    return places

def nbytes(tensor: Any) -> int:
    """Return the bytes of a rebuilt tensor."""
    return int(math.prod(tensor["shape"]) * SIZES[tensor["dtype"]])

# -- A blob (sections 2 to 4) -----------------------------------------------------------------------------------------
DTYPES = {1: "bfloat16", 2: "float16", 3: "float32", 4: "float8_e4m3fn", 5: "float8_e5m2"}
PRECISION = {"bfloat16": (8, -133, 16, 0x7F7F), "float16": (11, -24, 16, 0x7BFF), "float32": (24, -149, 32, 0x7F7FFFFF)}
"""Significant bits, exponent of the last place of the smallest number, bits, the largest finite number."""
EXPONENT = {"bfloat16": 7, "float32": 23}

def open_blob(read: Read, size: int, at: str) -> dict[str, Any]:
    """Return what stands before the bodies of a blob, checked."""
    need(size >= 44, f"{at}: header", "44 bytes", size)
    head = read(0, 44)
    magic, codec, dtype, bits, variant, rows, cols, band, packed, length, crc, own = struct.unpack("<4s4B2Q5I", head)
    need(magic == b"WMT1", f"{at}: header: magic", b"WMT1", magic)
    need(own == zlib.crc32(head[:40]), f"{at}: header: CRC-32", f"{own:08x}", f"{zlib.crc32(head[:40]):08x}")
    fits = codec in (1, 2) and 1 <= dtype <= (3 if codec == 1 else 5)
    need(fits, f"{at}: header", "a codec, 1 or 2, and a dtype that it has", f"codec {codec}, dtype {dtype}")
    need(11 <= bits <= 14, f"{at}: header: table bits", "11 to 14", bits)
    fits = variant == 0 or (codec, dtype, variant) == (2, 3, 1)
    need(fits, f"{at}: header: variant", "0, or 1 for planes of float32", variant)
    fits = rows and cols and 1 <= band <= rows and band * cols <= 1 << 24
    need(fits, f"{at}: header", f"rows, cols, band from 1 to rows, band * cols <= {1 << 24}", (rows, cols, band))
    most, count = 5172 + 2 * (rows + cols), -(-rows // band)
    need(length <= most, f"{at}: header: size of the side section", f"at most {most}", length)
    need(44 + packed + 140 * count <= size, f"{at}: header", f"at least {44 + packed + 140 * count} bytes", size)
    side = read(44, packed)
    need(crc == zlib.crc32(side), f"{at}: side section: CRC-32", f"{crc:08x}", f"{zlib.crc32(side):08x}")
    b = dict(codec=codec, dtype=DTYPES[dtype], bits=bits, variant=variant, rows=rows, cols=cols, band=band)
    b["planes"] = 0 if codec == 1 else 1 if variant else (0, 1, 1, 3, 0, 0)[dtype]
    b["itemsize"] = (0, 2, 2, 4, 1, 1)[dtype]
    read_side(inflate(side, length, f"{at}: side section"), b, f"{at}: side section")
    records = np.frombuffer(read(44 + packed, 12 * count), "<u4").reshape(count, 3).astype(np.int64)
    heights = np.minimum(band, rows - band * np.arange(count))
    elements = heights * cols
    for i in np.flatnonzero(records[:, 1] > elements * (codec == 1))[:1]:
        need(None, f"{at}: chunk {i}: patches", f"at most {elements[i] * (codec == 1)}", records[i, 1])
    sizes = 128 + 2 * records[:, 0] + b["planes"] * elements + (4 + b["itemsize"]) * records[:, 1]
    stops = 44 + packed + 12 * count + np.cumsum(sizes)
    for i in np.flatnonzero((records[:, 0] > elements) | (stops > size))[:1]:
        found = f"{records[i, 0]} words, an end at {stops[i]}"
        need(None, f"{at}: chunk {i}", f"at most {elements[i]} words, within the blob of {size}", found)
    need(stops[-1] == size, f"{at}: chunks", f"bodies to the end, {size}", stops[-1])
    return b | dict(records=records, heights=heights, begins=stops - sizes, sizes=sizes)

def inflate(packed: bytes, length: int, at: str) -> bytes:
    """Return a deflated text (RFC 1950) of that length; not a byte more is made."""
    stream = zlib.decompressobj()
    try:
        side = stream.decompress(packed, length + 1)
    except zlib.error as error:
        return need(None, at, "a deflated stream (RFC 1950)", error) or b""
    need(len(side) == length and stream.eof, at, f"{length} bytes when inflated", f"{len(side)}, end {stream.eof}")
    need(not stream.unused_data, at, "nothing after the stream", f"{len(stream.unused_data)} bytes after the stream")
    return side

def read_side(side: bytes, b: dict[str, Any], at: str) -> None:
    """Read tables, scales and classes (sections 2.1, 2.2): into arrays by class and slot, rows and columns."""
    place, levels, total = 0, b["codec"] == 1, 1 << b["bits"]
    def take(count: int, what: str) -> bytes:
        nonlocal place
        place += count
        need(place <= len(side), f"{at}: {what}", f"{count} bytes", f"{count - place + len(side)} to its end")
        return side[place - count : place]
    symbol, frequency, rest = (np.zeros((8, total), np.int64) for _ in range(3))
    reach, least, most = 0, *((-255, 255) if levels else (0, 255))
    present = set()
    for i in range(8):
        where = f"table {i}"
        kind = take(1, where)[0]
        need(kind in ((0, 1, 2) if levels else (0, 1)), f"{at}: {where}", "a kind of table", kind)
        if kind == 0:
            continue
        lowest, count, p = struct.unpack("<hHH", take(6, where) if kind == 1 else bytes(2) + take(2, where) + bytes(2))
        fits = p < count and least <= lowest <= lowest + count - 1 <= most
        need(fits, f"{at}: {where}", f"symbols from {least} to {most}, position among them", (lowest, count, p))
        codes, previous = [], 0
        for j, difference in enumerate(take(count, where)):
            previous = (previous + difference) % 256
            need(previous == 0 if j == p else previous not in range(1, 16), f"{at}: {where}: code {j}",
                 "0 at the position of the rest, elsewhere 0 or 16 to 255", previous)
            codes.append(previous)
        f = [((16 + code % 16) << (code // 16 - 1)) >> 4 if code else 0 for code in codes]
        if kind == 2:
            lowest, p, f = 1 - count, count - 1, f[:0:-1] + f
        need(sum(f) < total, f"{at}: {where}", f"frequencies that leave at least 1 of {total}", sum(f))
        f[p] = total - sum(f)
        present.add(i)
        reach = max(reach, -lowest, lowest + len(f) - 1)
        which = np.repeat(np.arange(len(f)), f)
        symbol[i], frequency[i] = which + lowest, np.array(f)[which]
        rest[i] = np.arange(total) - (np.cumsum(f) - f)[which]
    b |= dict(symbol=symbol.ravel(), frequency=frequency.ravel(), rest=rest.ravel())
    for key, count in (("row", b["rows"]), ("column", b["cols"])) if levels else ():
        what = f"{key} scales"
        n = int.from_bytes(take(2, what), "little")
        need(1 <= n <= 256, f"{at}: {what}", "1 to 256 values", n)
        book = np.frombuffer(take(2 * n, what), "<u2").astype(np.int64)
        need((np.diff(book) > 0).all(), f"{at}: {what}", "values strictly ascending", "another order")
        found = f"bits {book[0]:04x} to {book[-1]:04x}"
        need(book[0] >= 0x80 and book[-1] < 0x7F80, f"{at}: {what}", "normal positive bfloat16", found)
        codes = np.frombuffer(take(count if n > 1 else 0, what), np.uint8)
        need(codes.max(initial=0) < n, f"{at}: {what}", f"codes below {n}", codes.max(initial=0))
        b[key] = book[codes] if n > 1 else np.full(count, book[0])
    classes = np.frombuffer(side, np.int8, offset=place)
    need(len(classes) == b["rows"] + b["cols"], f"{at}: classes", f"{b['rows'] + b['cols']} bytes", len(classes))
    b["a"], b["b"] = np.split(classes.astype(np.int64), [b["rows"]])
    missing = set(np.clip(np.add.outer(np.unique(b["a"]), np.unique(b["b"])), 0, 7).ravel().tolist()) - present
    need(not missing, f"{at}: classes", "a table for every class that occurs", f"none for {sorted(missing)}")
    if levels:  # products of bfloat16 as integers times powers of two
        check_products(b, reach, f"{at}: scales")

def check_products(b: dict[str, Any], reach: int, at: str) -> None:
    """Hold products of levels and scales within the normal numbers of binary32 and the finite ones of the dtype (1)."""
    precision, last, _, top = PRECISION[b["dtype"]]
    for bound, k in ((np.min, 1), (np.max, reach)):
        (r, a), (c, e) = (integers(int(bound(b[key]))) for key in ("row", "column"))
        m, power = k * r * c, a + e  # the product is m * 2^power
        if bound is np.min:
            need(m.bit_length() - 1 + power >= -126, at, "products of at least 2^-126", f"{m} * 2^{power}")
        most, place = (top & (1 << precision - 1) - 1) + (1 << precision - 1), (top >> precision - 1) - 1 + last
        fits = m << max(power - place, 0) <= most << max(place - power, 0)
        need(fits, at, f"|w| of at most {most} * 2^{place}", f"{m} * 2^{power}")

def integers(scales: Array) -> tuple[Array, Array]:
    """Return r and a of scales r * 2^a, 128 <= r <= 255, that are given as bits of bfloat16 (section 1)."""
    return (scales & 127) + 128, (scales >> 7) - 134

BIT_LENGTH = np.array([n.bit_length() for n in range(1 << 12)])

def rebuild(k: Array, row: Array, column: Array, dtype: str) -> Array:
    """Return RNE(k * R * C) as bits, in integers (section 1)."""
    (r, a), (c, b) = integers(row), integers(column)
    precision, last, width, _ = PRECISION[dtype]
    m, e = np.abs(k) * (r[:, None] * c), a[:, None] + b  # the magnitude is m * 2^e
    place = np.maximum(e + BIT_LENGTH[m >> 12] + 12 - precision, last)  # exponent of the place that is kept last
    drop = np.clip(place - e, 0, 26)
    half = (1 << drop >> 1) - ((m >> drop & 1) ^ 1)  # half a unit, less one if the bit kept last is 0
    kept = np.where(drop > 0, (m + half) >> drop, m << np.maximum(e - place, 0))
    bits = ((place - last) << (precision - 1)) + kept  # a normal number's leading bit counts the exponent up
    return np.where(k == 0, 0, bits | (k < 0).astype(np.int64) << (width - 1))

def symbols(bodies: list[bytes], counts: Array, classes: Array, b: dict[str, Any], at: str, first: int) -> Array:
    """Decode chunks of one height side by side (section 3); classes [chunks, rows] are those of the rows."""
    bits, cols, n = b["bits"], b["cols"], len(bodies)
    x = np.stack([np.frombuffer(body, "<u4", 32) for body in bodies]).astype(np.int64)
    for i in np.flatnonzero((x < 65536).any(1))[:1]:
        need(None, f"{at}: chunk {first + i}: entropy code", "states of at least 2^16", x[i].min())
    words = [np.frombuffer(body, "<u2", count, 128) for body, count in zip(bodies, counts, strict=True)]
    flat = np.concatenate([*words, np.zeros(1, np.uint16)]).astype(np.int64)
    stop = np.cumsum(counts)
    position, out = stop - counts, np.empty((n, classes.shape[1], cols), np.int16)
    for left in range(0, cols, 32):
        lanes = x[:, : min(32, cols - left)]
        for row in range(classes.shape[1]):
            kind = np.clip(classes[:, row, None] + b["b"][left : left + 32], 0, 7)
            slot = (kind << bits) + (lanes & (1 << bits) - 1)
            out[:, row, left : left + 32] = b["symbol"][slot]
            lanes[:] = b["frequency"][slot] * (lanes >> bits) + b["rest"][slot]
            low = lanes < 65536
            taken = np.cumsum(low, axis=1)
            word = flat[np.minimum(position[:, None] + taken - 1, len(flat) - 1)]
            lanes[:] = np.where(low, (lanes << 16) + word, lanes)
            position += taken[:, -1]
    for i in np.flatnonzero((position != stop) | (x != 65536).any(1))[:1]:
        found = f"{stop[i] - position[i]} left, states {sorted(set(x[i]))[:3]}"
        need(None, f"{at}: chunk {first + i}: entropy code", "no word left, and states of 2^16", found)
    return out

def planes(symbol: Array, raw: Array, b: dict[str, Any]) -> Array:
    """Return the bits of elements from their symbols and raw bytes, lowest first (section 4)."""
    low = sum((plane.astype(np.int64) << 8 * i for i, plane in enumerate(raw)), np.zeros(symbol.shape, np.int64))
    place = EXPONENT.get("bfloat16" if b["variant"] else b["dtype"])
    if place is None:
        return (symbol << 8 * len(raw)) + low
    bits = ((low >> place) << place + 8) + (symbol << place) + (low & (1 << place) - 1)
    return bits << 16 if b["variant"] else bits

def blocks(read: Read, b: dict[str, Any], at: str) -> Iterator[bytes]:
    """Yield the bytes of a tensor from the bodies of its blob, chunk by chunk."""
    kind, cols = f"<u{b['itemsize']}", b["cols"]
    many, first = max(1, GROUP // (b["band"] * cols)), 0
    while first < len(b["heights"]):
        height = int(b["heights"][first])
        stop = first + max(1, int((b["heights"][first : first + many] == height).sum()))
        bodies = [read(int(at), int(n)) for at, n in zip(b["begins"][first:stop], b["sizes"][first:stop], strict=True)]
        for i, body in enumerate(bodies, first):
            crc, found = b["records"][i, 2], zlib.crc32(body)
            need(crc == found, f"{at}: chunk {i}: CRC-32", f"{crc:08x}", f"{found:08x}")
        row, counts = first * b["band"], b["records"][first:stop, 0]
        classes = b["a"][row : row + height * len(bodies)].reshape(len(bodies), height)
        decoded = symbols(bodies, counts, classes, b, at, first)
        for i, body in enumerate(bodies):
            top, tail = row + i * height, 128 + 2 * int(counts[i])
            if b["codec"] == 1:
                row_scales, wide = b["row"][top : top + height], decoded[i].astype(np.int64)
                bits = rebuild(wide, row_scales, b["column"], b["dtype"]).ravel()
            else:
                raw = np.frombuffer(body, np.uint8, offset=tail).reshape(b["planes"], height * cols)
                bits = planes(decoded[i].ravel().astype(np.int64), raw, b)
            data, patches = bits.astype(kind), int(b["records"][first + i, 1])
            where = np.frombuffer(body, "<u4", patches, tail if patches else 0).astype(np.int64)
            fits = (np.diff(where) > 0).all() and (where < len(data)).all()
            need(fits, f"{at}: chunk {first + i}: patches", f"ascending positions below {len(data)}", where[:8])
            data[where] = np.frombuffer(body, kind, patches, tail + 4 * patches if patches else 0)
            yield data.tobytes()
        first = stop

# -- A tensor ---------------------------------------------------------------------------------------------------------
def digests(data: Iterator[bytes], out: BinaryIO | None) -> dict[str, Any]:
    """Return size, sha256 and fsverity64k of bytes (spec/tensor-digest.md), which go to `out` on their way."""
    flat, leaves, rest, size = sha256(), bytearray(), b"", 0
    leaf = lambda block: sha256(block.ljust(LEAF, b"\0")).digest()
    for block in data:
        flat.update(block)
        size, rest = size + len(block), rest + block
        whole = len(rest) - len(rest) % LEAF
        leaves += b"".join(leaf(rest[i : i + LEAF]) for i in range(0, whole, LEAF))
        rest = rest[whole:]
        _ = out and out.write(block)
    level = bytes(leaves) + (leaf(rest) if rest else b"")
    while len(level) > 32:
        level = b"".join(leaf(level[i : i + LEAF]) for i in range(0, len(level), LEAF))
    head = bytes([1, 1, 16, 0, 0, 0, 0, 0]) + size.to_bytes(8, "little")
    verity = sha256(head + level.ljust(64, b"\0") + bytes(32 + 144))
    return {"fsverity64k": verity.hexdigest(), "sha256": flat.hexdigest(), "size": size}

def check_tensor(shard: BinaryIO, begin: int, size: int, tensor: Any, at: str, out: BinaryIO | None) -> None:
    """Rebuild one tensor and compare its digests (section 6, 4 and 5)."""
    def read(offset: int, count: int) -> bytes:
        shard.seek(begin + offset)
        return shard.read(count)
    pieces = lambda: (read(i, min(1 << 20, size - i)) for i in range(0, size, 1 << 20))
    found = digests(pieces(), None)["sha256"]
    need(found == tensor["blob"], f"{at}: blob", tensor["blob"], found)
    data = pieces()
    if tensor["codec"] != "raw-v1":
        b = open_blob(read, size, at)
        wanted = ("five-v1" if b["codec"] == 1 else "exact-v1", b["dtype"], b["rows"] * b["cols"])
        stated = tensor["codec"], tensor["dtype"], math.prod(tensor["shape"])
        need(wanted == stated, f"{at}: header: codec, dtype, elements", stated, wanted)
        data = blocks(read, b, at)
    result = digests(data, out)
    stated = {key: tensor[key] for key in ("fsverity64k", "sha256")}
    stated["size"] = nbytes(tensor)
    need(result == stated, f"{at}: rebuilt bytes", stated, result)
    kind = f"{tensor['codec']}, {tensor['dtype']} {tensor['shape']}"
    print(f"[ok] {at}: {kind}: {result['size']} bytes from {size}, sha256 {result['sha256']}")

def out_header(tensors: list[Any]) -> bytes:
    """Return length and header of a safetensors file that holds these tensors in this order."""
    header, at = {}, 0
    for tensor in tensors:
        stop = at + nbytes(tensor)
        entry = {"dtype": LABELS[tensor["dtype"]], "shape": tensor["shape"], "data_offsets": [at, stop]}
        header[tensor["name"]], at = entry, stop
    text = json.dumps(header).encode()
    return (len(text) + -len(text) % 8).to_bytes(8, "little") + text + b" " * (-len(text) % 8)

def main() -> None:
    """Read the command line, check in the order of section 6, and say what holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    for flag in ("tensor", "root", "out"):
        parser.add_argument(f"--{flag}")
    o = parser.parse_args()
    partial = Path(f"{o.out}.partial")
    try:
        size = (o.pack / "pack.index").lstat().st_size
        need(not (o.pack / "pack.index").is_symlink(), "pack.index", "a regular file", "a link")
        need(size <= 1 << 30, "pack.index", "at most 2^30 bytes", size)
        data = (o.pack / "pack.index").read_bytes()
        root = sha256(data).hexdigest()
        need(o.root in (None, root), "pack root", o.root, root)
        index = read_index(data)
        seals = check_files(o.pack, index["files"])
        chosen = [tensor for tensor in index["tensors"] if o.tensor in (None, tensor["name"])]
        need(chosen or not o.tensor, "--tensor", "the name of a tensor of the index", o.tensor)
        out = partial.open("wb") if o.out else None
        _ = out and out.write(out_header(chosen))
        shards, places = [(o.pack / name).open("rb") for name in index["shards"]], {}
        for i, name in enumerate(index["shards"]):
            here = [tensor for tensor in index["tensors"] if tensor["shard"] == i]
            places |= read_header(shards[i], name, here)
        for tensor in chosen:
            at = f"{index['shards'][tensor['shard']]}: {tensor['name']}"
            check_tensor(shards[tensor["shard"]], *places[tensor["name"]], tensor, at, out)
        if out:
            out.close()
            partial.replace(o.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    finally:
        if o.out:
            partial.unlink(missing_ok=True)
    if seals and not o.root:
        print(f"[NOT CHECKED] {', '.join(seals)}: signatures are for `weighmaster verify`; or give the root by --root")
    print(f"RESULT: {'HOLDS' if o.root else 'CONSISTENT, origin not checked'}: {len(chosen)} tensors, pack root {root}")
    raise SystemExit(3 if seals and not o.root else 0)

if __name__ == "__main__":
    main()
