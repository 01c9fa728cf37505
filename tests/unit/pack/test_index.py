# SPDX-License-Identifier: Apache-2.0
"""The index says what a pack is, in one spelling; whatever breaks a rule is named by its field."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.index import index_bytes, pack_root, parse_index
from weighmaster.pack.packed import Calibration, EncoderRecord, Index, PackedFile, PackedTensor

A, B = "a" * 64, "b" * 64


def tensor(name: str, **changes: Any) -> PackedTensor:
    fields = {"dtype": "bfloat16", "shape": (4, 8), "codec": "five-v1", "shard": 0, "blob": A, "sha256": A} | changes
    return PackedTensor(name=name, fsverity64k=B, **fields)


def file(path: str, size: int = 3, sha256: str = A) -> PackedFile:
    return PackedFile(path=path, sha256=sha256, size=size)


INDEX = Index(
    encoder=EncoderRecord(name="x", version="1", profile="calibrated", bits="4.5", parameters=(("cap", "24"),)),
    calibration=Calibration(kind="self", sha256=A, tokens=65_536),
    source=(file("model.safetensors"),),
    files=(
        file("config.json", 99),
        file("model-00001-of-00002.safetensors"),
        file("model-00002-of-00002.safetensors"),
        file("model.safetensors.index.json"),
        file("source/config.json"),
        file("source/vocab.txt"),
        file("vocab.txt"),
    ),
    shards=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
    tensors=(
        tensor("a"),
        tensor("b", codec="exact-v1", dtype="float8_e5m2"),
        tensor("c", codec="raw-v1", dtype="int64", shape=(), shard=1),
        tensor("é", codec="raw-v1", dtype="float32", shape=(0, 3)),
    ),
    relative_squared_error="0.000123",
)


def test_what_is_written_is_read():
    data = index_bytes(INDEX)
    assert parse_index(data, "pack.index") == INDEX
    line, digest, rest = data.split(b"\n")
    assert (digest.decode(), rest) == (hashlib.sha256(line + b"\n").hexdigest(), b"")
    assert pack_root(data) == hashlib.sha256(data).hexdigest()


def test_numbers_follow_from_the_entries():
    assert [t.elements for t in INDEX.tensors] == [32, 32, 1, 0]
    assert [t.nbytes for t in INDEX.tensors] == [64, 32, 8, 0]
    assert INDEX.elements == 65


def test_exact_packs_have_no_bits_and_no_calibration():
    exact = dataclasses.replace(
        INDEX, encoder=dataclasses.replace(INDEX.encoder, profile="exact", bits=None), calibration=None
    )
    assert parse_index(index_bytes(exact), "pack.index") == exact


def refused(data: bytes) -> MalformedArtefact:
    with pytest.raises(MalformedArtefact) as caught:
        parse_index(data, "pack.index")
    assert caught.value.file == "pack.index"
    return caught.value


def sealed(document: object) -> bytes:
    line = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    return line + hashlib.sha256(line).hexdigest().encode() + b"\n"


def document() -> Any:
    return json.loads(index_bytes(INDEX).split(b"\n")[0])


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "last line"),
        (index_bytes(INDEX)[:-1], "last line"),
        (index_bytes(INDEX) + b"\n", "last line"),
        (index_bytes(INDEX).replace(b"vocab", b"vocaB"), "last line"),
        (index_bytes(INDEX)[:-3] + b"0\n", "last line"),
        (index_bytes(INDEX)[:200], "last line"),
    ],
)
def test_a_changed_or_cut_index_is_refused_before_it_is_parsed(data: bytes, field: str):
    assert refused(data).field == field


def test_the_digest_of_a_line_without_an_end_does_not_help():
    line = b"{}"
    error = refused(line + hashlib.sha256(line).hexdigest().encode() + b"\n")
    assert (error.expected, error.found) == ("two lines", "a first line without its end")


def test_another_spelling_is_refused():
    line = json.dumps(document()).encode() + b"\n"
    assert refused(line + hashlib.sha256(line).hexdigest().encode() + b"\n").expected == "RFC 8785 canonical form"


def test_two_lines_of_json_are_refused():
    line = b"{}\n{}\n"
    assert "JSON" in str(refused(line + hashlib.sha256(line).hexdigest().encode() + b"\n"))


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


def swap(field: str, i: int, j: int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        entries = document[field]
        entries[i], entries[j] = entries[j], entries[i]

    return change


def twice(field: str, i: int) -> Callable[[Any], None]:
    return lambda document: document[field].insert(i, document[field][i])


def drop(field: str, i: int) -> Callable[[Any], None]:
    return lambda document: document[field].pop(i)


def add(path: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["files"].append({"path": path, "sha256": A, "size": 3})
        document["files"].sort(key=lambda entry: entry["path"])

    return change


RULES: list[tuple[str, Callable[[Any], None], str, str]] = [
    ("another version", put("format", value="weighmaster-pack-v2"), "format", "weighmaster-pack-v1"),
    ("an unknown key", put("extra", value=1), "extra", "only the keys"),
    ("an unknown key inside", put("tensors", 0, "role", value="x"), "tensors[0].role", "only the keys"),
    ("a missing key", lambda d: d.pop("source"), "source", "a value"),
    ("an unknown profile", put("encoder", "profile", value="magic"), "encoder.profile", "calibrated"),
    ("bits that are no number", put("encoder", "bits", value="5bpw"), "encoder.bits", "decimal number"),
    ("no bits", put("encoder", "bits", value=None), "encoder.bits", "null for the profile exact"),
    ("a number as parameter", put("encoder", "parameters", value={"cap": 24}), "encoder.parameters.cap", "a string"),
    ("parameters as a list", put("encoder", "parameters", value=[]), "encoder.parameters", "an object"),
    ("no calibration", put("calibration", value=None), "calibration", "an object for the profile calibrated"),
    ("calibration by magic", put("calibration", "kind", value="web"), "calibration.kind", "self"),
    ("no token", put("calibration", "tokens", value=0), "calibration.tokens", "from 1"),
    (
        "deviation as a word",
        put("deviation", "relativeSquaredError", value="small"),
        "deviation.relativeSquaredError",
        "",
    ),
    (
        "deviation below zero",
        put("deviation", "relativeSquaredError", value="-1"),
        "deviation.relativeSquaredError",
        "",
    ),
    ("no source", put("source", value=[]), "source", "at least one"),
    ("a source twice", twice("source", 0), "source[1].path", "ascending"),
    ("files out of order", swap("files", 5, 6), "files[6].path", "ascending"),
    ("tensors out of order", swap("tensors", 0, 1), "tensors[1].name", "ascending"),
    ("a tensor twice", twice("tensors", 2), "tensors[3].name", "ascending"),
    ("a file above", put("files", 6, "path", value="../vocab.txt"), "files[6].path", "a relative path"),
    ("an absolute file", put("files", 6, "path", value="/etc/passwd"), "files[6].path", "a relative path"),
    ("a file here", put("files", 6, "path", value="./vocab.txt"), "files[6].path", "a relative path"),
    ("a backslash", put("files", 6, "path", value="x\\vocab.txt"), "files[6].path", "a relative path"),
    ("an empty part", put("files", 6, "path", value="x//vocab.txt"), "files[6].path", "a relative path"),
    ("a NUL", put("files", 6, "path", value="x\0vocab.txt"), "files[6].path", "a relative path"),
    ("another index", add("pack.index"), "files[4].path", "no weights, index or seal"),
    ("a seal", add("signer-1.sigstore.json"), "files[4].path", "no weights, index or seal"),
    ("weights beside the shards", add("source/model.safetensors"), "files[5].path", "no weights, index or seal"),
    ("a file that the source had not", add("planted.txt"), "files[4].path", "source/planted.txt"),
    ("code beside the shards", add("planted.py"), "files[4].path", "code under source/ alone"),
    ("a file other than the source's", put("files", 6, "sha256", value=B), "files[6].path", "source/vocab.txt"),
    ("a file of another length", put("files", 6, "size", value=4), "files[6].path", "source/vocab.txt"),
    ("a file that is a folder too", add("source/config.json/x"), "files", "a file or a folder"),
    ("a shard that is not listed", drop("files", 1), "files", "model-00001-of-00002.safetensors"),
    ("no index of the shards", drop("files", 3), "files", "model.safetensors.index.json"),
    ("no shards", put("shards", value=[]), "shards", "at least one"),
    ("shards out of order", swap("shards", 0, 1), "shards", "model-00001-of-0000N"),
    ("a shard elsewhere", put("shards", 0, value="../model.safetensors"), "shards", "model-00001-of-0000N"),
    ("a shard without tensors", put("tensors", 2, "shard", value=0), "shards[1]", "at least one tensor"),
    ("no such shard", put("tensors", 2, "shard", value=2), "tensors[2].shard", "below 2"),
    ("a shard below zero", put("tensors", 2, "shard", value=-1), "tensors[2].shard", "from 0"),
    ("an unknown codec", put("tensors", 0, "codec", value="tcq8"), "tensors[0].codec", "five-v1"),
    ("levels of integers", put("tensors", 0, "dtype", value="int8"), "tensors[0].dtype", "bfloat16"),
    ("planes of float64", put("tensors", 1, "dtype", value="float64"), "tensors[1].dtype", "float8_e5m2"),
    ("no dtype", put("tensors", 2, "dtype", value="int65"), "tensors[2].dtype", "int64"),
    ("levels of nothing", put("tensors", 0, "shape", value=[4, 0]), "tensors[0].codec", "raw-v1"),
    ("a shape below zero", put("tensors", 0, "shape", value=[-4, 8]), "tensors[0].shape[0]", "from 0"),
    ("an absurd shape", put("tensors", 0, "shape", value=[2**30, 2**30]), "tensors[0].shape", "at most"),
    ("an absurd empty shape", put("tensors", 3, "shape", value=[2**40, 0, 2**40]), "tensors[3].shape", "at most"),
    ("a digest in capitals", put("tensors", 0, "blob", value="A" * 64), "tensors[0].blob", "lowercase"),
    ("a short digest", put("tensors", 0, "fsverity64k", value="a" * 63), "tensors[0].fsverity64k", "64"),
    ("metadata as a tensor", put("tensors", 0, "name", value="__metadata__"), "tensors[0].name", "tensor name"),
    ("a name not in NFC", put("tensors", 3, "name", value="e\u0301"), "tensors[3].name", "NFC"),
    ("no name", put("tensors", 0, "name", value=""), "tensors[0].name", "not empty"),
]


@pytest.mark.parametrize(("change", "field", "expected"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_each_rule(change: Callable[[Any], None], field: str, expected: str):
    changed = document()
    change(changed)
    error = refused(sealed(changed))
    assert error.field == field
    assert expected in error.expected


def test_many_elements_in_all_are_refused():
    changed = document()
    huge = [tensor(f"t{i}", shape=(2**49 - 1,), codec="raw-v1", dtype="int8").to_json() for i in range(2)]
    changed["tensors"] = [*changed["tensors"][:3], *huge]
    changed["tensors"].sort(key=lambda entry: entry["name"].encode())
    assert "elements" in refused(sealed(changed)).expected


def test_an_absurd_number_of_shards_is_refused():
    changed = document()
    changed["shards"] = [f"model-{i:05}-of-100000.safetensors" for i in range(1, 100_001)]
    assert refused(sealed(changed)).field == "shards"


def test_one_shard_has_no_index_of_shards():
    one = dataclasses.replace(
        INDEX,
        shards=("model.safetensors",),
        files=(file("model.safetensors"), file("model.safetensors.index.json")),
        tensors=(tensor("a"),),
    )
    assert refused(index_bytes(one)).field == "files[1].path"
    assert parse_index(index_bytes(dataclasses.replace(one, files=one.files[:1])), "pack.index").shards == one.shards
