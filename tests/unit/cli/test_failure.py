# SPDX-License-Identifier: Apache-2.0
"""Errors in words: step, subject, expected, found, and one remedy per kind."""

from __future__ import annotations

from weighmaster.cli.failure import describe
from weighmaster.errors import (
    EnvironmentFault,
    KeyFault,
    MalformedArtefact,
    NotAdmitted,
    SourceFault,
    TensorFault,
)


def test_faults_stand_in_the_order_of_their_steps_with_one_remedy_per_kind():
    faults = [
        TensorFault("b", "bytes differ", expected="aa", found="bb"),
        TensorFault("a", "bytes differ", expected="cc", found="dd"),
        EnvironmentFault("env.OMP_NUM_THREADS", "differs", expected="'2'", found="'1'"),
    ]
    failure = describe(NotAdmitted("p: verification failed", faults), "verify")
    assert failure.exit_code == 12
    assert failure.text.split("\n") == [
        "weighmaster verify: p: verification failed (3 faults)",
        "  (4) environment: env.OMP_NUM_THREADS: differs; expected '2', found '1'",
        "  (9) tensor digests: a: bytes differ; expected cc, found dd",
        "  (9) tensor digests: b: bytes differ; expected aa, found bb",
        "remedies:",
        f"  (4) environment: {EnvironmentFault.remedy}",
        f"  (9) tensor digests: {TensorFault.remedy}",
    ]
    document = failure.document
    assert (document["result"], document["exitCode"]) == ("halt", 12)
    assert document["faults"][1] == {
        "step": 9, "title": "tensor digests", "exitCode": 10, "subject": "a", "detail": "bytes differ",
        "expected": "cc", "found": "dd", "remedy": TensorFault.remedy,
    }  # fmt: skip


def test_a_fault_alone_is_a_halt_too():
    failure = describe(SourceFault("x.bin", "the file changed while it was read", expected="3", found="4"), "weigh")
    assert failure.exit_code == 17
    assert "(5) sources: x.bin: the file changed while it was read; expected 3, found 4" in failure.text
    assert failure.document["result"] == "halt"


def test_line_feeds_in_a_fault_do_not_forge_lines():
    fault = TensorFault("w\n  (0) all is well", "bytes differ")
    lines = describe(NotAdmitted("p", [fault]), "verify").text.split("\n")
    assert lines[1] == "  (9) tensor digests: w   (0) all is well: bytes differ"
    assert len(lines) == 4


def test_other_errors_name_their_remedy():
    failure = describe(MalformedArtefact("m/statement.json", "predicate", expected="x", found="y"), "show")
    assert failure.exit_code == 20
    assert failure.text.split("\n")[0] == "weighmaster show: m/statement.json: predicate: expected x, found y"
    assert failure.text.split("\n")[1].startswith("remedy: Fetch the artefact again")
    assert failure.document["kind"] == "MalformedArtefact"
    assert describe(KeyFault("k"), "sign").exit_code == 13
