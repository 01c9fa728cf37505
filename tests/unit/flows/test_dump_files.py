# SPDX-License-Identifier: Apache-2.0
"""The files of a dump follow from the table alone."""

from __future__ import annotations

import hashlib
import json

from weighmaster.core.digest import digest_bytes
from weighmaster.core.manifest import Row, Table
from weighmaster.flows.dump_files import INDEX, SUMS, dump_digests, index_bytes, sums_bytes, tensor_files


def row(name: str, data: bytes, alias: str | None = None) -> Row:
    digest = digest_bytes(data)
    return Row(
        name=name,
        dtype="uint8",
        shape=(len(data),),
        stride=(1,),
        nbytes=len(data),
        layout="strided",
        role="parameter",
        alias=alias,
        sha256=digest.sha256,
        fsverity64k=digest.fsverity64k,
    )


TABLE = Table(stage="S3", view="kernel", rows=(row("A", b"a"), row("b", b"bb"), row("c", b"a", alias="A")))


def test_aliases_have_no_file_of_their_own() -> None:
    assert tensor_files(TABLE) == {"A": "%41.bin", "b": "b.bin"}
    assert [json.loads(line)["file"] for line in index_bytes(TABLE).splitlines()] == ["%41.bin", "b.bin", "%41.bin"]


def test_sums_are_lines_of_sha256sum() -> None:
    index = hashlib.sha256(index_bytes(TABLE)).hexdigest()
    a, b = (hashlib.sha256(data).hexdigest() for data in (b"a", b"bb"))
    assert sums_bytes(TABLE).decode() == f"{a}  %41.bin\n{b}  b.bin\n{index}  index.jsonl\n"


def test_every_file_of_the_dump_has_its_digest() -> None:
    assert list(dump_digests(TABLE)) == sorted(["%41.bin", "b.bin", INDEX, SUMS])
    assert dump_digests(TABLE)["b.bin"] == hashlib.sha256(b"bb").hexdigest()
    assert dump_digests(TABLE)[INDEX] == hashlib.sha256(index_bytes(TABLE)).hexdigest()
    assert dump_digests(TABLE)[SUMS] == hashlib.sha256(sums_bytes(TABLE)).hexdigest()
