# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/pack.md: every backend, the reader of packs, tools/unpack_by_hand.py, and their generator."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from weighmaster.errors import MalformedArtefact, NotAdmitted, WeighmasterError
from weighmaster.flows.pack_verification import verify_pack
from weighmaster.pack.backends import available
from weighmaster.pack.coder import Backend, decode_blob
from weighmaster.pack.layout import LEVELS, PLANES
from weighmaster.pack.reader import open_pack

TOP = Path(__file__).parents[2]
ROOT = TOP / "vectors" / "pack"
BLOBS = sorted(path.parent.name for path in ROOT.glob("*/blob.bin"))
NEGATIVE = [case for case in BLOBS if case.endswith("_fail")]
POSITIVE = [case for case in BLOBS if not case.endswith("_fail")]
PACKS = sorted(path.parent.parent.name for path in ROOT.glob("*/pack/pack.index"))
BAD_PACKS = [case for case in PACKS if case.endswith("_fail")]
GOOD_PACKS = [case for case in PACKS if not case.endswith("_fail")]
BACKENDS = available()


def expectation(case: str) -> Any:
    return json.loads((ROOT / case / "expect.json").read_bytes())


def blob_of(case: str) -> bytes:
    return (ROOT / case / "blob.bin").read_bytes()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that reads packs by hand, loaded from its path."""
    spec = importlib.util.spec_from_file_location("unpack_by_hand", TOP / "tools" / "unpack_by_hand.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(check: Callable[[], object]) -> tuple[int, str]:
    """Return the exit code that the script would end with, and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            check()
        except SystemExit as end:
            return int(str(end.code)), printed.getvalue()
    return 0, printed.getvalue()


def rebuilt_by_hand(script: ModuleType, blob: bytes) -> bytes:
    """Return a tensor's bytes as the script rebuilds them."""

    def read(offset: int, count: int) -> bytes:
        return blob[offset : offset + count]

    return b"".join(script.blocks(read, script.open_blob(read, len(blob), "blob.bin"), "blob.bin"))


def test_vectors_are_all_there() -> None:
    assert (len(POSITIVE), len(NEGATIVE)) == (41, 92)
    assert (len(GOOD_PACKS), len(BAD_PACKS)) == (7, 100)
    assert {path.parent.name for path in ROOT.glob("*/expect.json")} == {*BLOBS, *PACKS}


def test_vectors_are_small() -> None:
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) < 400_000


@pytest.mark.requirement("REQ-PAC-01")
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("case", POSITIVE)
def test_good_blobs_are_rebuilt(case: str, backend: Backend) -> None:
    expect = expectation(case)
    layout, data = decode_blob(memoryview(blob_of(case)), "blob.bin", backend)
    assert hashlib.sha256(data).hexdigest() == expect["sha256"]
    shape = layout.shape
    assert (shape.codec, shape.dtype) == (expect["codec"], expect["dtype"])
    assert (shape.rows, shape.cols) == (expect["rows"], expect["cols"])


@pytest.mark.parametrize("case", POSITIVE)
def test_good_blobs_are_rebuilt_by_hand(script: ModuleType, case: str) -> None:
    assert hashlib.sha256(rebuilt_by_hand(script, blob_of(case))).hexdigest() == expectation(case)["sha256"]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_blobs_are_refused_for_their_field(case: str, backend: Backend) -> None:
    expect = expectation(case)
    with pytest.raises(MalformedArtefact) as caught:
        decode_blob(memoryview(blob_of(case)), "blob.bin", backend)
    assert (caught.value.file, caught.value.field) == ("blob.bin", expect["field"])
    assert [text for text in expect["contains"] if text not in str(caught.value)] == []


@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_blobs_are_refused_by_hand(script: ModuleType, case: str) -> None:
    code, printed = outcome(lambda: rebuilt_by_hand(script, blob_of(case)))
    assert code == 1
    assert f"[FAIL] blob.bin: {expectation(case)['field']}: expected" in printed


def main_by_hand(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    """Run the script as the command line does."""
    monkeypatch.setattr("sys.argv", ["unpack_by_hand.py", *map(str, arguments)])
    return outcome(script.main)


@pytest.mark.parametrize("case", GOOD_PACKS)
def test_good_packs_are_read(case: str) -> None:
    expect = expectation(case)
    assert verify_pack(ROOT / case / "pack").root == expect["root"]
    with open_pack(ROOT / case / "pack") as pack:
        read = {name: pack.read(name) for name in pack.names()}
        assert pack.root == expect["root"]
    found = [
        {"dtype": t.dtype, "name": name, "sha256": hashlib.sha256(t.data).hexdigest(), "shape": [*t.shape]}
        for name, t in read.items()
    ]
    assert found == expect["tensors"]


@pytest.mark.parametrize("case", GOOD_PACKS)
def test_good_packs_are_read_by_hand(script: ModuleType, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expect = expectation(case)
    code, printed = main_by_hand(script, monkeypatch, ROOT / case / "pack")
    assert code == (3 if case == "pack_sealed" else 0)
    assert f"pack root {expect['root']}" in printed
    for tensor in expect["tensors"]:
        assert f": {tensor['name']}: " in printed
        assert f"sha256 {tensor['sha256']}" in printed


def verified(case: str) -> list[Exception]:
    try:
        verify_pack(ROOT / case / "pack")
    except NotAdmitted as halt:
        return [*halt.faults]
    except WeighmasterError as error:
        return [error]
    return []


@pytest.mark.parametrize("case", BAD_PACKS)
def test_bad_packs_have_their_fault(case: str) -> None:
    expect, errors = expectation(case), verified(case)
    assert errors
    assert type(errors[0]).__name__ == expect["error"]
    assert [text for text in expect["contains"] if text not in str(errors[0])] == []


@pytest.mark.parametrize("case", BAD_PACKS)
def test_bad_packs_are_refused_by_hand(script: ModuleType, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, printed = main_by_hand(script, monkeypatch, ROOT / case / "pack")
    assert code == 1
    assert "[FAIL] " in printed
    assert "RESULT: REFUSED" in printed


def test_every_kind_of_blob_occurs() -> None:
    seen = {(e["codec"], e["dtype"]) for e in map(expectation, POSITIVE)}
    floats = ("bfloat16", "float16", "float32")
    assert seen == {(LEVELS, d) for d in floats} | {(PLANES, d) for d in (*floats, "float8_e4m3fn", "float8_e5m2")}
    assert {blob_of(case)[6] for case in POSITIVE} == {11, 12, 13, 14}
    assert {blob_of(case)[7] for case in POSITIVE} == {0, 1}


def test_example_of_the_specification_is_real() -> None:
    spec = (TOP / "spec" / "pack.md").read_text(encoding="utf-8")
    example, after = spec.split("```")[1:3]
    found = b""
    for line in example.strip().splitlines():
        digits, _, times = line[:32].partition("*")
        found += bytes.fromhex(digits) * int(times or 1)
    assert found == blob_of("example")
    data = decode_blob(memoryview(found), "example", BACKENDS[0])[1].tobytes()
    assert data == bytes.fromhex(after.split("`")[1])
    assert data == np.array([0x3F00, 0, 0xBFC0, 0x7FC1], "<u2").tobytes()


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "generate.py"))["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    folders = [path.parent for path in ROOT.glob("*/expect.json")]
    kept = {p.relative_to(ROOT): p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []
