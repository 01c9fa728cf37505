# SPDX-License-Identifier: Apache-2.0
"""The list of files in a statement, and its comparison with what is here."""

from __future__ import annotations

from typing import Any

import pytest

from weighmaster.core.source import EVIDENCE_KINDS, ROLES, Evidence, Source, source_faults

A, B = "a" * 64, "b" * 64


def source(path: str, digest: str = A, *, role: str = "config", nbytes: int = 5) -> Source:
    return Source(path=path, role=role, nbytes=nbytes, sha256=digest)


@pytest.mark.parametrize("role", ROLES)
def test_same_lists_in_any_order_have_no_fault(role: str) -> None:
    one, two = source("a.x", role=role), source("b/c.x", B, role=role)
    assert source_faults((one, two), (two, one)) == ()
    assert source_faults((), ()) == ()


@pytest.mark.parametrize("role", ROLES)
def test_missing_extra_and_changed_are_one_fault_each(role: str) -> None:
    validated = (source("changed", role=role), source("missing", role=role, nbytes=9), source("same", role=role))
    found = (source("same", role=role), source("extra", B, role=role, nbytes=3), source("changed", B, role=role))
    changed, extra, missing = source_faults(validated, found)
    assert (changed.subject, changed.expected, changed.found) == ("changed", A, B)
    assert f"the file is not the validated one ({role}, 5 bytes validated, 5 here)" in changed.detail
    assert (extra.subject, extra.expected, extra.found) == ("extra", None, B)
    assert extra.detail == f"a file that was not validated is here ({role}, 3 bytes)"
    assert (missing.subject, missing.expected, missing.found) == ("missing", A, None)
    assert missing.detail == f"a validated file is missing ({role}, 9 bytes)"
    assert {fault.step for fault in (changed, extra, missing)} == {5}


def test_a_renamed_file_is_missing_and_extra() -> None:
    faults = source_faults((source("config.json"),), (source("Config.json"),))
    assert [(f.subject, f.expected, f.found) for f in faults] == [("Config.json", None, A), ("config.json", A, None)]


def test_another_length_under_one_digest_is_a_fault() -> None:
    (fault,) = source_faults((source("w"),), (source("w", nbytes=6),))
    assert "5 bytes validated, 6 here" in fault.detail


@pytest.mark.parametrize("digests", [(A, B), (B, A), (A, A)])
def test_a_file_listed_twice_is_a_fault_on_either_side(digests: tuple[str, str]) -> None:
    twice = tuple(source("w", digest) for digest in digests)
    for validated, found in ((twice, (source("w"),)), ((source("w"),), twice)):
        (fault,) = source_faults(validated, found)
        assert (fault.subject, fault.detail) == ("w", "the file is listed twice")
        assert (fault.expected, fault.found) == ("one entry", "two or more")


@pytest.mark.parametrize("path", ["", "/a", "a//b", "a/", "../a", "a/../b", ".", "./a", "a\\b", "a\0", "\udcff.json"])
def test_refuses_paths_that_lead_elsewhere(path: str) -> None:
    with pytest.raises(ValueError, match="path: ") as caught:
        source(path)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "weight"}, "role: expected one of code, config, .*found 'weight'"),
        ({"nbytes": -1}, "nbytes: expected a count, found -1"),
        ({"nbytes": True}, "nbytes: expected a count, found True"),
        ({"digest": "A" * 64}, "sha256: expected 64 lowercase"),
        ({"digest": "a" * 63}, "sha256: expected 64 lowercase"),
        ({"digest": "a" * 64 + "\n"}, "sha256: expected 64 lowercase"),
    ],
)
def test_refuses_values_that_no_file_has(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        source("a", **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", EVIDENCE_KINDS)
def test_evidence_says_what_held(kind: str) -> None:
    made = Evidence(kind=kind, sha256=A, key=B, files=2)
    assert made.to_json() == {"kind": kind, "sha256": A, "key": B, "files": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hearsay"}, "kind: expected one of cosign-blob, in-toto, oms-v1, found 'hearsay'"),
        ({"sha256": "A" * 64}, "sha256: expected 64 lowercase hexadecimal digits"),
        ({"key": ""}, "key: expected 64 lowercase hexadecimal digits, found ''"),
        ({"files": 0}, "files: expected a count from 1, found 0"),
        ({"files": True}, "files: expected a count from 1, found True"),
    ],
)
def test_what_is_no_evidence_cannot_be_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Evidence(**{"kind": "oms-v1", "sha256": A, "key": B, "files": 1, **change})
