# SPDX-License-Identifier: Apache-2.0
"""The index of a pack: what it says, read strictly and written (spec/pack.md, 5). Its digest is the pack root."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

from weighmaster.core.canonical import MAX_SAFE_INTEGER, dumps, loads_canonical
from weighmaster.core.dtype import SAFETENSORS_NAMES
from weighmaster.core.fields import Fields
from weighmaster.core.source import path_problem
from weighmaster.durable import MAX_DOCUMENT
from weighmaster.errors import MalformedArtefact
from weighmaster.pack.index_rules import check_index
from weighmaster.pack.packed import (
    DTYPE_CODES,
    EXACT,
    FIVE,
    INDEX,
    RAW,
    Calibration,
    EncoderRecord,
    Index,
    PackedFile,
    PackedTensor,
)

__all__ = [
    "FORMAT",
    "INDEX",
    "index_bytes",
    "pack_root",
    "parse_index",
    "read_calibration",
    "read_encoder",
    "read_file_entry",
    "read_tensor_entry",
]

FORMAT: Final = "weighmaster-pack-v1"
PROFILES: Final = ("calibrated", "datafree", "exact")

_CODECS: Final[dict[str, tuple[str, ...]]] = {
    EXACT: tuple(DTYPE_CODES),
    FIVE: ("bfloat16", "float16", "float32"),
    RAW: tuple(sorted(SAFETENSORS_NAMES.values())),
}
"""Codec to the dtypes that it has."""

_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,20})?")
_TAIL: Final = 65
"""Bytes of the last line: 64 digits and LF."""


def pack_root(data: bytes) -> str:
    """Return the identity of a pack: the SHA-256 of its whole index."""
    return hashlib.sha256(data).hexdigest()


def index_bytes(index: Index) -> bytes:
    """Return the file of an index: one canonical line, and the SHA-256 of it."""
    line = dumps(
        {
            "format": FORMAT,
            "encoder": index.encoder.to_json(),
            "calibration": index.calibration and index.calibration.to_json(),
            "source": [file.to_json() for file in index.source],
            "files": [file.to_json() for file in index.files],
            "shards": index.shards,
            "tensors": [tensor.to_json() for tensor in index.tensors],
            "deviation": {"relativeSquaredError": index.relative_squared_error},
        }
    )
    line += b"\n"
    return line + hashlib.sha256(line).hexdigest().encode("ascii") + b"\n"


def parse_index(data: bytes, file: str) -> Index:
    """Parse the file of an index.

    Raises:
        MalformedArtefact: it breaks a rule of spec/pack.md, 5; names `file`, the field, what was expected and found.
    """
    fields = Fields(loads_canonical(_line(data, file), file), file=file)
    fields.text("format", choices=(FORMAT,))
    index = Index(
        encoder=read_encoder(fields.nested("encoder")),
        calibration=read_calibration(fields),
        source=fields.objects("source", read_file_entry),
        files=fields.objects("files", read_file_entry),
        shards=fields.texts("shards"),
        tensors=fields.objects("tensors", read_tensor_entry),
        relative_squared_error=_read_deviation(fields.nested("deviation")),
    )
    fields.done()
    check_index(index, file)
    return index


def _line(data: bytes, file: str) -> bytes:
    """Return the first line, without its LF, after the last one was compared with it."""
    if len(data) > MAX_DOCUMENT:
        raise MalformedArtefact(file, "", expected=f"at most {MAX_DOCUMENT} bytes", found=str(len(data)))
    line, tail = data[:-_TAIL], data[-_TAIL:]
    expected = hashlib.sha256(line).hexdigest()
    if tail != expected.encode("ascii") + b"\n":
        raise MalformedArtefact(file, "last line", expected=f"{expected}, the SHA-256 of the first", found=ascii(tail))
    if line[-1:] != b"\n":
        raise MalformedArtefact(file, "", expected="two lines", found="a first line without its end")
    return line[:-1]


def read_encoder(fields: Fields) -> EncoderRecord:
    """Read what made a pack."""
    record = EncoderRecord(
        name=fields.text("name"),
        version=fields.text("version"),
        profile=fields.text("profile", choices=PROFILES),
        bits=_read_bits(fields),
        parameters=_read_parameters(fields),
    )
    fields.done()
    if (record.bits is None) != (record.profile == "exact"):
        expected = "null for the profile exact, and a number for the others"
        raise fields.fault("bits", expected, f"{record.bits} for {record.profile}")
    return record


def _read_bits(fields: Fields) -> str | None:
    bits = fields.optional_text("bits")
    if bits is not None and not _DECIMAL.fullmatch(bits):
        raise fields.fault("bits", "a decimal number or null", repr(bits[:80]))
    return bits


def _read_parameters(fields: Fields) -> tuple[tuple[str, str], ...]:
    value = fields.any("parameters")
    inner = Fields(value, file=fields.file, path=fields.at("parameters"))
    return tuple((key, inner.text(key, empty=True)) for key in sorted(value)) if isinstance(value, dict) else ()


def read_calibration(fields: Fields) -> Calibration | None:
    """Read the calibration, or null."""
    value = fields.any("calibration")
    if value is None:
        return None
    inner = Fields(value, file=fields.file, path="calibration")
    out = Calibration(
        kind=inner.text("kind", choices=("file", "self")),
        sha256=inner.digest("sha256"),
        tokens=inner.integer("tokens", minimum=1),
    )
    inner.done()
    return out


def _read_deviation(fields: Fields) -> str:
    value = fields.text("relativeSquaredError")
    if not _DECIMAL.fullmatch(value):
        raise fields.fault("relativeSquaredError", "a decimal number", repr(value[:80]))
    fields.done()
    return value


def read_file_entry(fields: Fields) -> PackedFile:
    """Read path, digest and size of a file."""
    path = fields.text("path")
    problem = path_problem(path)
    if problem is not None:
        raise fields.fault("path", "a relative path", problem)
    return PackedFile(path=path, sha256=fields.digest("sha256"), size=fields.integer("size"))


def read_tensor_entry(fields: Fields) -> PackedTensor:
    """Read a tensor's entry; its shard is compared with the list of shards elsewhere."""
    name = fields.text("name")
    if name == "__metadata__" or not unicodedata.is_normalized("NFC", name):
        raise fields.fault("name", "a tensor name in Unicode form NFC", ascii(name)[:200])
    codec = fields.text("codec", choices=tuple(_CODECS))
    tensor = PackedTensor(
        name=name,
        dtype=fields.text("dtype", choices=_CODECS[codec]),
        shape=_read_shape(fields),
        codec=codec,
        shard=fields.integer("shard"),
        blob=fields.digest("blob"),
        sha256=fields.digest("sha256"),
        fsverity64k=fields.digest("fsverity64k"),
    )
    if codec != RAW and not tensor.elements:
        raise fields.fault("codec", f"{RAW} for a tensor without elements", codec)
    return tensor


def _read_shape(fields: Fields) -> tuple[int, ...]:
    shape, count = fields.integers("shape"), 16
    for size in shape:
        count *= max(size, 1)
        if count > MAX_SAFE_INTEGER:
            raise fields.fault("shape", f"at most {MAX_SAFE_INTEGER // 16} elements", str(list(shape))[:200])
    return shape
