# SPDX-License-Identifier: Apache-2.0
"""core.answers and core.answers_reader: what constructors refuse, and where a reader says that it stands."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from weighmaster.core.answers import FACTOR, Answers, Case, ModuleLine, Schedule, TopK
from weighmaster.core.answers_reader import parse_answers
from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.errors import MalformedArtefact

A, B = "a" * 64, "b" * 64
LINE = ModuleLine(module="head", kind="Linear", dtype="float32", shape=(3, 4), sha256=A, absmax="1.5", l2="3")
TOP = TopK(position=2, ids=(3, 0), values=("2", "-0.5"))
PREFILL = Schedule(mode="prefill", batch=2, row=1, pad="none", padded=3, cache="none", chunk=0)
DECODE = replace(PREFILL, mode="decode", cache="cold", chunk=2)
CASE = Case(
    id="prefill-3",
    schedule=PREFILL,
    length=3,
    inputs=(("attention_mask", "in.mask"), ("input_ids", "in.ids")),
    commitment=None,
    output="out",
    dtype="float32",
    shape=(3, 4),
    sha256=A,
    top=(TOP,),
    absmax="2",
    oracle="oracle",
    error="0.001",
    trace=(LINE,),
)
ANSWERS = Answers(
    kind="causal-lm",
    seed=7,
    private=False,
    root=A,
    structure=None,
    class_digest=A,
    environment=B,
    tokenizer=None,
    dtype="float32",
    oracle="float64",
    oracle_note="every operator computed in float64",
    side_sha256=B,
    side_bytes=1,
    cases=(CASE,),
)


def test_the_factor_is_that_of_the_specification() -> None:
    assert FACTOR == 2


def test_what_is_written_is_read_again() -> None:
    assert parse_answers(ANSWERS.to_bytes(), "answers.json") == ANSWERS


def test_tensors_of_a_case_with_and_without_an_oracle() -> None:
    assert CASE.tensors == ("in.mask", "in.ids", "out", "oracle")
    assert replace(CASE, oracle=None, error=None).tensors == ("in.mask", "in.ids", "out")


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (LINE, {"sha256": A[1:]}, "sha256: expected 64 lowercase"),
        (LINE, {"sha256": f"{A}\n"}, "sha256: expected 64 lowercase"),
        (LINE, {"absmax": "-1"}, "absmax: expected a number that is not negative"),
        (LINE, {"l2": "nan"}, "l2: expected a number in plain decimal"),
        (PREFILL, {"mode": "beam"}, "mode: expected one of call, chunked, decode, prefill, found 'beam'"),
        (PREFILL, {"pad": "both"}, "pad: expected one of left, none, right"),
        (PREFILL, {"cache": "hot"}, "cache: expected one of cold, none, warm"),
        (PREFILL, {"row": 2}, "row: expected 0 to 1, found 2"),
        (PREFILL, {"row": -1}, "row: expected 0 to 1, found -1"),
        (PREFILL, {"chunk": 1}, "do not fit mode prefill"),
        (PREFILL, {"cache": "warm"}, "do not fit mode prefill"),
        (DECODE, {"chunk": 0}, "do not fit mode decode"),
        (DECODE, {"cache": "none"}, "do not fit mode decode"),
        (DECODE, {"chunk": 4}, "chunk: expected at most 3 tokens, found 4"),
        (TOP, {"ids": (3,)}, "ids and values"),
        (TOP, {"ids": (), "values": ()}, "ids and values"),
        (TOP, {"ids": (3, 3)}, "each id once"),
        (TOP, {"values": ("2", "1e3")}, "values: expected a number"),
        (CASE, {"sha256": "A" * 64}, "sha256: expected 64 lowercase"),
        (CASE, {"commitment": "x"}, "commitment: expected 64 lowercase"),
        (CASE, {"commitment": A}, "inputs and commitment: expected one of the two"),
        (CASE, {"inputs": ()}, "inputs and commitment: expected one of the two"),
        (CASE, {"inputs": CASE.inputs[::-1]}, "inputs: expected keywords in ascending order"),
        (CASE, {"inputs": (("a", "x"), ("a", "y"))}, "inputs: expected keywords in ascending order, each once"),
        (CASE, {"shape": (12,)}, "shape: expected positions and features"),
        (CASE, {"shape": (3, 0)}, "shape: expected positions and features"),
        (CASE, {"oracle": None}, "oracle and error: expected both or neither"),
        (CASE, {"error": None}, "oracle and error: expected both or neither"),
        (CASE, {"error": "-0.1"}, "error: expected a number that is not negative"),
        (CASE, {"absmax": "inf"}, "absmax: expected a number"),
        (CASE, {"length": 4}, "length: expected at most 3, found 4"),
        (CASE, {"top": (replace(TOP, position=3),)}, "top: expected positions and ids of the output"),
        (CASE, {"top": (replace(TOP, ids=(4, 0)),)}, "top: expected positions and ids of the output"),
        (ANSWERS, {"kind": "diffusion"}, "kind: expected one of"),
        (ANSWERS, {"oracle": "float32"}, "oracle: expected one of float64, none"),
        (ANSWERS, {"root": "x"}, "root: expected 64"),
        (ANSWERS, {"structure": "x"}, "structure: expected 64"),
        (ANSWERS, {"class_digest": "x"}, "class_digest: expected 64"),
        (ANSWERS, {"environment": "x"}, "environment: expected 64"),
        (ANSWERS, {"tokenizer": "x"}, "tokenizer: expected 64"),
        (ANSWERS, {"side_sha256": "x"}, "side_sha256: expected 64"),
        (ANSWERS, {"seed": -1}, "seed: expected 0 to 9007199254740991, found -1"),
        (ANSWERS, {"seed": 1 << 53}, "seed: expected 0 to 9007199254740991"),
        (ANSWERS, {"cases": ()}, "cases: expected at least one"),
        (ANSWERS, {"cases": (CASE, CASE)}, "the id 'prefill-3' stands twice"),
        (ANSWERS, {"cases": (CASE, replace(CASE, id="other"))}, "the tensor 'in.mask' stands twice"),
        (ANSWERS, {"oracle": "none"}, "cases: expected no oracle in each"),
        (ANSWERS, {"private": True}, "cases: expected a commitment in each"),
    ],
)
def test_what_does_not_fit_is_refused(part: Any, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(part, **changes)


@pytest.mark.parametrize(
    ("where", "value", "path"),
    [
        (("module",), 3, "module"),
        (("kind",), "", "kind"),
        (("dtype",), "float128", "dtype"),
        (("shape", 1), -1, "shape[1]"),
        (("sha256",), A[1:], "sha256"),
        (("extra",), 1, "extra"),
    ],
)
def test_a_fault_deep_in_a_trace_is_named_by_its_path(where: tuple[Any, ...], value: object, path: str) -> None:
    cases = [replace(CASE, id=str(i), inputs=(("x", f"i{i}"),), output=f"o{i}", oracle=f"f{i}") for i in range(4)]
    document: Any = loads_canonical(replace(ANSWERS, cases=tuple(cases)).to_bytes(), "answers.json")
    spot = document["cases"][3]["trace"][0]
    for step in where[:-1]:
        spot = spot[step]
    spot[where[-1]] = value
    with pytest.raises(MalformedArtefact) as caught:
        parse_answers(dumps(document), "answers.json")
    assert str(caught.value).startswith(f"answers.json: cases[3].trace[0].{path}: ")
