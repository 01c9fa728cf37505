# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/pack.md, "Seal": against this package, OpenSSL, and their own generator."""

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

from weighmaster.core.instant import parse_instant
from weighmaster.core.pack_statement import PackStatement, parse_pack_statement
from weighmaster.errors import Faults, MalformedArtefact, NotAdmitted, SignatureFault
from weighmaster.flows.artefact import bind
from weighmaster.flows.pack_seal import signed_statement
from weighmaster.pack.index import pack_root, parse_index
from weighmaster.seal.check import SignerRecord, identity_faults
from weighmaster.seal.keys import load_public
from weighmaster.seal.trust import ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey

ROOT = Path(__file__).parents[2] / "vectors" / "pack-seal"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def document(case: str, file: str) -> Any:
    return json.loads((ROOT / case / file).read_bytes())


def bundles(case: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((path.name, path.read_bytes()) for path in sorted((ROOT / case).glob("*.sigstore.json")))


def trust_of(request: Any) -> Trust:
    """Return the trust that a request describes."""
    keys = tuple(
        TrustedKey(
            person=k["person"], key=load_public(k["publicKey"].encode()), roles=tuple(k["roles"]), revoked=k["revoked"]
        )
        for k in request["keys"]
    )
    rule = ProductRule(
        product=request["product"],
        required_roles=tuple(RoleThreshold(role=r["role"], threshold=r["threshold"]) for r in request["requiredRoles"]),
        accepted_roots=tuple(request["acceptedRoots"]),
        revoked_roots=tuple(request["revokedRoots"]),
        minimum_serial=request["minimumSerial"],
    )
    keeper = RootKey(person="Rosa", key=keys[0].key)
    return Trust(
        expires=datetime(2100, 1, 1, tzinfo=UTC),
        roots=Roots(keys=(keeper,), threshold=1),
        keys=keys,
        products=(rule,),
    )


def opened(case: str) -> tuple[PackStatement, tuple[SignerRecord, ...]]:
    """Follow the numbered verification, but for the mark."""
    request, data = document(case, "request.json"), (ROOT / case / "pack.index").read_bytes()
    trust = trust_of(request)
    index = parse_index(data, "pack.index")
    statement, signers = signed_statement(
        index,
        pack_root(data),
        bundles(case),
        trust,
        request["expect"],
        now=parse_instant(request["now"]),
        where="model.pack",
    )
    faults = identity_faults(
        trust,
        product=statement.product,
        expect=request["expect"],
        serial=statement.serial,
        root=statement.root,
        what="pack",
    )
    if faults:
        raise NotAdmitted("identity", faults)
    return statement, signers


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 5
    assert len(NEGATIVE) == 38


@pytest.mark.parametrize("case", POSITIVE)
def test_good_packs_are_trusted(case: str) -> None:
    statement, signers = opened(case)
    expect = document(case, "expect.json")
    assert statement.root == expect["root"]
    assert sorted({s.person for s in signers}) == expect["signers"]
    payload = base64.b64decode(json.loads(bundles(case)[0][1])["dsseEnvelope"]["payload"])
    assert statement.to_bytes() == payload == rfc8785.dumps(json.loads(payload))


@pytest.mark.requirement("REQ-PAC-09")
@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_ones_are_not(case: str) -> None:
    expect = document(case, "expect.json")
    with pytest.raises((Faults, MalformedArtefact)) as caught:
        opened(case)
    error = caught.value
    found = error.faults if isinstance(error, Faults) else (error,)
    assert {type(fault).__name__ for fault in found} == {expect["error"]}  # a bad signature leaves a role unfilled, too
    assert error.exit_code == {"SignatureFault": 13, "IdentityFault": 14, "MalformedArtefact": 20}[expect["error"]]
    assert [fact for fact in expect["contains"] if fact not in str(error)] == []


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "generate.py"))["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(ROOT): path.read_bytes() for case in CASES for path in (ROOT / case).iterdir()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []


@pytest.mark.parametrize("spoil", [False, True])
def test_openssl_verifies_the_signature(spoil: bool, tmp_path: Path) -> None:
    envelope = document("one_person", "signer-1.sigstore.json")["dsseEnvelope"]
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    (tmp_path / "pae").write_bytes(pae[:-1] + bytes([pae[-1] ^ spoil]))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    ana = next(k for k in document("one_person", "request.json")["keys"] if k["person"].startswith("Ana"))
    (tmp_path / "key.pem").write_text(ana["publicKey"])
    command = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in pae -sigfile sig"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) != spoil, done.stderr


def test_a_statement_over_a_pack_is_no_manifest() -> None:
    payload = base64.b64decode(document("one_person", "signer-1.sigstore.json")["dsseEnvelope"]["payload"])
    with pytest.raises(MalformedArtefact, match=r"predicateType: expected 'https://weighmaster.dev/manifest/v1'"):
        bind(payload, {}, "manifest")


@pytest.mark.parametrize("at", range(0, 900, 7))
def test_no_flipped_bit_of_a_statement_is_the_same_statement(at: int) -> None:
    payload = bytearray(base64.b64decode(document("one_person", "signer-1.sigstore.json")["dsseEnvelope"]["payload"]))
    before = parse_pack_statement(bytes(payload), "s")
    payload[at % len(payload)] ^= 1
    try:
        assert parse_pack_statement(bytes(payload), "s") != before
    except MalformedArtefact:
        return


def test_the_root_is_that_of_the_whole_index() -> None:
    data = (ROOT / "one_person" / "pack.index").read_bytes()
    assert document("one_person", "expect.json")["root"] == pack_root(data)
    with pytest.raises(NotAdmitted) as caught:
        opened("index_changed_after_sealing_fail")
    assert isinstance(caught.value.faults[0], SignatureFault)
