# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/waiver.md: against this package, OpenSSL, and their own generator."""

from __future__ import annotations

import base64
import json
import runpy
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from weighmaster.core.environment import Fact
from weighmaster.core.instant import parse_instant
from weighmaster.core.judgement import Difference
from weighmaster.core.policy import Rule
from weighmaster.errors import MalformedArtefact, WeighmasterError
from weighmaster.flows.waivers import CheckedWaiver, WaiverSubject, change_control_fault, check_waivers, read_waivers
from weighmaster.seal.keys import load_public
from weighmaster.seal.trust import ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey

ROOT = Path(__file__).parents[2] / "vectors" / "waiver"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def document(case: str, file: str) -> Any:
    return json.loads((ROOT / case / file).read_bytes())


def bundles(case: str) -> list[Path]:
    return sorted((ROOT / case).glob("*.sigstore.json"))


def trust_of(request: Any) -> Trust:
    """Return the trust that a request describes."""
    keys = tuple(
        TrustedKey(
            person=k["person"],
            key=load_public(k["publicKey"].encode()),
            roles=tuple(k["roles"]),
            revoked=k["revoked"],
        )
        for k in request["keys"]
    )
    waiver = tuple(RoleThreshold(role=r["role"], threshold=r["threshold"]) for r in request["waiverRoles"])
    signer = (RoleThreshold(role="signer", threshold=1),)
    rule = ProductRule(product=request["product"], required_roles=signer, waiver_roles=waiver)
    keeper = RootKey(person="Rosa", key=keys[0].key)
    roots = Roots(keys=(keeper,), threshold=1)
    return Trust(expires=datetime(2100, 1, 1, tzinfo=UTC), roots=roots, keys=keys, products=(rule,))


def difference_of(request: Any) -> Difference:
    """Return the difference that was found, under change control."""
    asked = request["difference"]
    sides = (
        None if s is None else Fact(name=asked["fact"], scope="class", **s)
        for s in (asked["validated"], asked["found"])
    )
    rule = Rule(fact=asked["fact"], compare="equal", on_diff="change-control", on_missing="change-control")
    return Difference(
        fact=asked["fact"], detail="differs", expected=next(sides), found=next(sides), level="change-control", rule=rule
    )


def checked(case: str) -> tuple[CheckedWaiver, ...]:
    """Follow the numbered verification."""
    request = document(case, "request.json")
    subject = WaiverSubject(
        product=request["product"],
        root=request["root"],
        policy_sha256=request["policySha256"],
        persons=frozenset(request["manifestSigners"]),
        keys=frozenset(),
        trust=trust_of(request),
    )
    return check_waivers(read_waivers(bundles(case)), subject, parse_instant(request["now"]))


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 6
    assert len(NEGATIVE) == 41


@pytest.mark.parametrize("case", POSITIVE)
def test_good_waivers_hold_and_cover(case: str) -> None:
    (waiver,) = checked(case)
    difference = difference_of(document(case, "request.json"))
    assert waiver.problems == ()
    assert waiver.covers(difference)
    assert sorted({s.person for s in waiver.signers}) == document(case, "expect.json")["signers"]
    fault = change_control_fault(difference, (waiver,))
    assert f"holds (signed by {', '.join(document(case, 'expect.json')['signers'])}, until" in fault.detail
    assert "this version has no known answers, so it halts" in fault.detail


def refusal(case: str) -> WeighmasterError:
    """Return the fault of the difference, or what cannot be read; fail where a waiver holds and covers it."""
    difference = difference_of(document(case, "request.json"))
    try:
        waivers = checked(case)
    except MalformedArtefact as error:
        return error
    assert [w for w in waivers if not w.problems and w.covers(difference)] == []
    assert all(len(w.problems) <= 1 for w in waivers)
    return change_control_fault(difference, waivers)


@pytest.mark.requirement("REQ-WAI-03")
@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_waivers_do_not(case: str) -> None:
    expect = document(case, "expect.json")
    error = refusal(case)
    assert type(error).__name__ == expect["error"]
    assert error.exit_code == {"EnvironmentFault": 12, "MalformedArtefact": 20}[expect["error"]]
    assert [fact for fact in expect["contains"] if fact not in str(error)] == []


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "generate.py"))["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(ROOT): path.read_bytes() for case in CASES for path in (ROOT / case).iterdir()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []


@pytest.mark.parametrize("case", POSITIVE)
def test_payloads_are_canonical_by_another_rfc_8785(case: str) -> None:
    for path in bundles(case):
        payload = base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"])
        assert rfc8785.dumps(json.loads(payload)) == payload


@pytest.mark.parametrize("spoil", [False, True])
def test_openssl_verifies_the_signature(spoil: bool, tmp_path: Path) -> None:
    envelope = document("one_person", "driver.waiver.sigstore.json")["dsseEnvelope"]
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    (tmp_path / "pae").write_bytes(pae[:-1] + bytes([pae[-1] ^ spoil]))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    ben = next(k for k in document("one_person", "request.json")["keys"] if k["person"].startswith("Ben"))
    (tmp_path / "key.pem").write_text(ben["publicKey"])
    command = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in pae -sigfile sig"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) != spoil, done.stderr


def test_example_of_the_specification_is_real() -> None:
    spec = (ROOT.parents[1] / "spec" / "waiver.md").read_text(encoding="utf-8")
    payload = document("one_person", "driver.waiver.sigstore.json")["dsseEnvelope"]["payload"]
    example = spec.split("```json\n")[1].split("```")[0]
    assert json.loads(example) == json.loads(base64.b64decode(payload))
    fault = change_control_fault(difference_of(document("threshold_fail", "request.json")), checked("threshold_fail"))
    shown = str(fault).replace(str(ROOT / "threshold_fail") + "/", "")
    assert shown in spec.replace("\n", " ")
