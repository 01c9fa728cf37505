# SPDX-License-Identifier: Apache-2.0
"""The statement of the export, beside one that model_signing 1.1.1 wrote; `interop/` puts the tool itself to it."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path

from weighmaster.capture.sources import source_files
from weighmaster.core.digest import digest_bytes
from weighmaster.core.manifest import Row, Table
from weighmaster.core.selftest import pattern
from weighmaster.flows.dump_files import dump_digests
from weighmaster.flows.oms import oms_statement

MADE = Path(__file__).parents[1] / "seal" / "evidence"


def test_the_statement_is_what_the_tool_writes_about_the_same_files() -> None:
    theirs = json.loads(base64.b64decode(json.loads((MADE / "oms.json").read_bytes())["dsseEnvelope"]["payload"]))
    assert theirs["predicate"]["serialization"].pop("ignore_paths")  # optional, and nothing of a dump is ignored
    digests = {r["name"]: r["digest"] for r in theirs["predicate"]["resources"]}
    assert digests.items() > {s.path: s.sha256 for s in source_files(MADE / "model")}.items()
    assert json.loads(oms_statement("model", digests)) == theirs


def test_order_is_that_of_the_names_whatever_the_order_given() -> None:
    digests = {"b": "b" * 64, "a": "a" * 64, "B": "c" * 64}
    assert oms_statement("m", digests) == oms_statement("m", dict(sorted(digests.items())))
    names = [r["name"] for r in json.loads(oms_statement("m", digests))["predicate"]["resources"]]
    assert names == ["B", "a", "b"]


def row(name: str, shape: tuple[int, ...], stride: tuple[int, ...]) -> Row:
    data = pattern(4 * math.prod(shape))
    found = digest_bytes(data)
    return Row(
        name=name,
        dtype="float32",
        shape=shape,
        stride=stride,
        nbytes=len(data),
        layout="strided",
        role="parameter",
        alias=None,
        sha256=found.sha256,
        fsverity64k=found.fsverity64k,
    )


def test_the_example_of_the_specification() -> None:
    table = Table(stage="S3", view="kernel", rows=(row("fc.bias", (2,), (1,)), row("fc.weight", (2, 3), (3, 1))))
    page = (Path(__file__).parents[3] / "spec" / "export-oms.md").read_text(encoding="utf-8")
    assert f"\n{oms_statement('triage-encoder', dump_digests(table)).decode()}\n" in page
