# SPDX-License-Identifier: Apache-2.0
"""Which files a dump consists of: their names, and the two that are made from the table alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from weighmaster.capture.dump_names import escape
from weighmaster.core.canonical import dumps
from weighmaster.core.manifest import Row, Table

__all__ = ["INDEX", "SUMS", "dump_digests", "index_bytes", "sums_bytes", "tensor_files"]

INDEX: Final = "index.jsonl"
SUMS: Final = "SHA256SUMS"
_SUFFIX: Final = ".bin"
"""Ends every tensor's file, so that no tensor's name can be that of the index or of the sums."""


def tensor_files(table: Table) -> dict[str, str]:
    """Return the file name of every primary row, by the row's name."""
    return {row.name: escape(row.name) + _SUFFIX for row in table.primaries}


def index_bytes(table: Table) -> bytes:
    """Return the index: a canonical line per row with name, file, dtype, shape, stride and digests."""
    files = tensor_files(table)
    return b"".join(dumps(_entry(row, files[row.alias or row.name])) + b"\n" for row in table.rows)


def _entry(row: Row, file: str) -> Mapping[str, object]:
    return {
        "name": row.name,
        "file": file,
        "alias": row.alias,
        "dtype": row.dtype,
        "shape": row.shape,
        "stride": row.stride,
        "nbytes": row.nbytes,
        "sha256": row.sha256,
        "fsverity64k": row.fsverity64k,
    }


def sums_bytes(table: Table) -> bytes:
    """Return the sums, as ``sha256sum`` writes and checks them: one line per tensor's file, and one for the index."""
    sums = _tensor_digests(table) | {INDEX: _sha256(index_bytes(table))}
    return "".join(f"{sums[f]}  {f}\n" for f in sorted(sums)).encode("ascii")


def dump_digests(table: Table) -> dict[str, str]:
    """Return the SHA-256 of every file of a dump, by file name, ordered by name."""
    made = {INDEX: _sha256(index_bytes(table)), SUMS: _sha256(sums_bytes(table))}
    return dict(sorted((_tensor_digests(table) | made).items()))


def _tensor_digests(table: Table) -> dict[str, str]:
    files = tensor_files(table)
    return {files[row.name]: row.sha256 for row in table.primaries}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
