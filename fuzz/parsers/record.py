# SPDX-License-Identifier: Apache-2.0
"""probe.records.parse_record: a RECORD as an installer wrote it; None where it is no CSV."""

from __future__ import annotations

from fuzz.harness import refused_or_read, require
from weighmaster.probe import records

SEEDS = ()
INPUTS = (
    b"a/b.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\na-1.dist-info/RECORD,,\n",
    b'"a,b.py",sha256=AAAA,3\r\n../../bin/x,sha256=AAAA,3\n/abs,sha256=A,3\n',
    b"a.pyc,sha256=AAAA,1\n\xff.py,md5=AAAA,1\n",
)


def one(data: bytes) -> None:
    """Paths to digests or to ``unreadable``, sorted, none outside of the root."""
    text = data.decode("utf-8", "surrogateescape")
    record = refused_or_read(data, lambda _: _fresh(text), ())
    for path, digest in (record or {}).items():
        require(not path.startswith(("/", "..")), f"a path outside: {path!r}")
        require(digest == "unreadable" or bytes.fromhex(digest).hex() == digest, f"no digest: {digest!r}")
    require(list(record or ()) == sorted(record or ()), "not sorted")


def _fresh(text: str) -> records.Record | None:
    records._PARSED.clear()  # noqa: SLF001  # the cache would answer the second time, and grow without end
    return records.parse_record(text)
