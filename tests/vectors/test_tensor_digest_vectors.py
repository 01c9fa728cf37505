# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/tensor-digest.md: against this package, the fsverity command, and their own generator."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weighmaster.core.canonical import dumps
from weighmaster.core.compare import compare
from weighmaster.core.digest import digest_bytes, root_of_leaves
from weighmaster.core.dtype import DTYPES
from weighmaster.core.manifest import Row, Table, parse_table, split_leaves
from weighmaster.core.tensor import TensorView
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.errors import Fault, MalformedArtefact, SignatureFault, TensorFault

ROOT = Path(__file__).parents[2] / "vectors" / "tensor-digest"
GENERATOR = runpy.run_path(str(ROOT / "generate.py"))
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def load(case: str, file: str) -> Any:
    return json.loads((ROOT / case / file).read_bytes())


def table_of(row: Row) -> Table:
    return Table(stage="S3", view="kernel", rows=(row,))


def findings(case: str) -> list[Exception]:
    """Follow the numbered verification of the specification, to the first step that finds something."""
    claim = load(case, "claim.json")
    try:
        table = parse_table(dumps(claim["row"]) + b"\n", stage="S3", view="kernel", file="claim")  # (1)
        (row,) = table.rows
        if claim["leaves"] is not None:  # (2)
            leaves = split_leaves(table, bytes.fromhex(claim["leaves"]), "leaves")["t"]
            if root_of_leaves(leaves, row.nbytes).hex() != row.fsverity64k:
                return [SignatureFault("t", "leaves do not give the fs-verity digest of the row")]
    except MalformedArtefact as error:
        return [error]
    data = GENERATOR["content"](claim["bytes"])
    digest = HashlibEngine(2).digest([view(data)])[0]
    found = replace(row, nbytes=len(data), sha256=digest.sha256, fsverity64k=digest.fsverity64k)
    diff = compare(table, table_of(found))  # (3), (4)
    validated = {"t": bytes.fromhex(claim["leaves"])} if claim["leaves"] else {}
    faults: list[Fault] = [*diff.set_faults(), *diff.byte_faults(validated, {"t": digest.leaves})]
    return [*faults] or [  # (5)
        TensorFault("t", f"{key} differs", expected=getattr(row, key), found=getattr(found, key))
        for key in ("sha256", "fsverity64k")
        if getattr(row, key) != getattr(found, key)
    ]


def view(data: bytes) -> TensorView:
    return TensorView(
        name="t",
        dtype="uint8",
        shape=(len(data),),
        stride=(1,),
        nbytes=len(data),
        layout="strided",
        role="parameter",
        extent=None,
        read=lambda start, stop: memoryview(data)[start:stop],
    )


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 11
    assert len(NEGATIVE) == 32


@pytest.mark.parametrize("case", POSITIVE)
def test_good_claims_hold(case: str) -> None:
    assert load(case, "expect.json") == {"error": None}
    assert findings(case) == []


@pytest.mark.parametrize("case", POSITIVE)
def test_reference_gives_the_digests(case: str) -> None:
    claim = load(case, "claim.json")
    digest = digest_bytes(GENERATOR["content"](claim["bytes"]))
    assert (digest.sha256, digest.fsverity64k) == (claim["row"]["sha256"], claim["row"]["fsverity64k"])
    assert claim["leaves"] in (None, digest.leaves.hex())


@pytest.mark.requirement("REQ-DIG-03")
@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_claims_do_not(case: str) -> None:
    expect = load(case, "expect.json")
    (error,) = findings(case)
    assert type(error).__name__ == expect["error"]
    assert [text for text in expect["contains"] if text not in str(error)] == []


@pytest.mark.requirement("REQ-DIG-01")
@pytest.mark.skipif(shutil.which("fsverity") is None, reason="the fsverity command is not installed; CI installs it")
@pytest.mark.parametrize("case", POSITIVE)
def test_fsverity_and_sha256sum_give_the_same(case: str, tmp_path: Path) -> None:
    claim, file = load(case, "claim.json"), tmp_path / "tensor"
    file.write_bytes(GENERATOR["content"](claim["bytes"]))
    verity = ["fsverity", "digest", "--block-size=65536", "--hash-alg=sha256", "--compact", str(file)]
    assert (
        subprocess.run(verity, capture_output=True, text=True, check=True).stdout.strip() == claim["row"]["fsverity64k"]
    )
    flat = subprocess.run(["sha256sum", str(file)], capture_output=True, text=True, check=True).stdout.split()[0]
    assert flat == claim["row"]["sha256"]


def test_example_and_types_of_the_specification_are_real() -> None:
    spec = (ROOT.parents[1] / "spec" / "tensor-digest.md").read_text(encoding="utf-8")
    claim = load("special_floats", "claim.json")
    assert spec.split("```")[1].strip().replace(" ", "") == claim["bytes"]["hex"]
    assert all(f"`{claim['row'][key]}`" in spec for key in ("sha256", "fsverity64k"))
    table = spec.split("| bytes | dtypes |")[1].split("\n\n")[0]
    listed = {name: int(line.split("|")[1]) for line in table.splitlines()[2:] for name in line.split("`")[1::2]}
    assert listed == DTYPES


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    GENERATOR["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(ROOT): path.read_bytes() for case in CASES for path in (ROOT / case).iterdir()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []
