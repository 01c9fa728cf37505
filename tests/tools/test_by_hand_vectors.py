# SPDX-License-Identifier: Apache-2.0
"""Run the vectors by tools/verify_by_hand.py: it must refuse what this package refuses, and take what it takes."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from weighmaster.core.canonical import dumps
from weighmaster.core.dtype import DTYPES
from weighmaster.core.manifest import LAYOUTS, ROLES, STAGES
from weighmaster.core.merkle import inclusion_proof, root, root_from_proof

TOP = Path(__file__).parents[2]
VECTORS = TOP / "vectors"
CHECKED = {"manifest", "seal", "tensor-digest", "trust"}
OUT_OF_SCOPE = {
    "answers": "says what a model computed; the script runs no model",
    "pack-seal": "who may say what of a pack; the script is about manifests, and its signatures are those of `seal`",
    "environment": "compares two environments; the script binds the document by its digests",
    "pack": "has a script of its own, tools/unpack_by_hand.py: tests/vectors/test_pack_vectors.py",
    "pack-report": "says what somebody measured; the script has nothing to measure",
    "structure": "compares two structures; the script binds the file by its digest",
    "waiver": "decides about differences that a gate found; there is no gate here",
}
OPENSSL_DECIDES = {"timestamp_sha1_fail"}
"""`openssl ts -verify` still takes SHA-1, and its verdict on a token is the script's."""


def cases(family: str) -> list[str]:
    return sorted(path.parent.name for path in (VECTORS / family).glob("*/expect.json"))


def load(family: str, case: str, file: str) -> Any:
    return json.loads((VECTORS / family / case / file).read_bytes())


def contents(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


@pytest.fixture(params=["cryptography", "openssl"])
def script(request: pytest.FixtureRequest) -> ModuleType:
    """The script, loaded from its path, with one of its two back ends."""
    spec = importlib.util.spec_from_file_location("by_hand", TOP / "tools" / "verify_by_hand.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if request.param == "openssl":
        module.serialization = None
    return module


def outcome(script: ModuleType, check: Callable[[], object]) -> int:
    """Return the exit code that the script would end with. Any other exception than its own is an error of the test."""
    script.NOT_CHECKED.clear()
    try:
        check()
    except SystemExit as end:
        return int(str(end.code))
    return 3 if script.NOT_CHECKED else 0


def test_every_family_of_vectors_is_run_or_named_as_out_of_scope() -> None:
    families = {path.parent.name for path in VECTORS.glob("*/generate.py")}
    assert families - CHECKED - OUT_OF_SCOPE.keys() == set()


@pytest.mark.parametrize("case", cases("manifest"))
@pytest.mark.requirement("REQ-INT-05")
def test_manifest(script: ModuleType, case: str) -> None:
    files = contents(VECTORS / "manifest" / case / "manifest")
    apart = VECTORS / "manifest" / case / "payload.json"
    payload = apart.read_bytes() if apart.exists() else files["statement.json"]
    holds = not case.endswith("_fail")
    assert outcome(script, lambda: script.check_files(payload, files)) == int(not holds)


@pytest.mark.parametrize("case", cases("tensor-digest"))
def test_tensor_digest(script: ModuleType, case: str) -> None:
    claim = load("tensor-digest", case, "claim.json")
    data = runpy.run_path(str(VECTORS / "tensor-digest" / "generate.py"))["content"](claim["bytes"])

    def check() -> None:
        (row,) = script.check_table(dumps(claim["row"]) + b"\n", "claim", "kernel")
        if claim["leaves"] is not None:
            script.check_leaves(bytes.fromhex(claim["leaves"]), "leaves", [row])
        script.check_bytes(io.BytesIO(data), row, "t")

    assert outcome(script, check) == int(case.endswith("_fail"))


@pytest.mark.parametrize("case", cases("trust"))
def test_trust(script: ModuleType, case: str, tmp_path: Path) -> None:
    request, data = load("trust", case, "request.json"), (VECTORS / "trust" / case / "trust.json").read_bytes()
    found = outcome(script, lambda: script.check_trust(data, "trust.json", request["roots"], request["now"], tmp_path))
    holds = case.startswith("mark_") or not case.endswith("_fail")  # marks are the gate's: the script keeps none
    assert found == int(not holds)


def by_certificate(case: str) -> bool:
    return any(b'"certificate"' in data for data in contents(VECTORS / "seal" / case, "*.sigstore.json").values())


def seal_outcome(script: ModuleType, case: str, work: Path) -> int:
    request = load("seal", case, "request.json")
    document = (VECTORS / "seal" / case / "trust-document.json").read_bytes()

    def check() -> None:
        trust = script.strict(document, "trust", script.TRUST, exact=True)
        bundles = contents(VECTORS / "seal" / case, "*.sigstore.json")
        script.check_seal(bundles, trust, request["expect"], request["now"], work)
        script.check_identity(trust, request["expect"], request["product"], request["serial"], request["root"])

    return outcome(script, check)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")
@pytest.mark.parametrize("case", [case for case in cases("seal") if not by_certificate(case)])
def test_seal(script: ModuleType, case: str, tmp_path: Path) -> None:
    holds = not case.endswith("_fail") or case in OPENSSL_DECIDES
    assert seal_outcome(script, case, tmp_path) == int(not holds)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")
@pytest.mark.parametrize("case", [case for case in cases("seal") if by_certificate(case)])
def test_a_certificate_is_never_called_checked(script: ModuleType, case: str, tmp_path: Path) -> None:
    allowed = {1, 3} if case.endswith("_fail") else {3}
    assert seal_outcome(script, case, tmp_path) in allowed


def test_a_timestamp_without_openssl_is_not_checked(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command is printed, and its files are written, so that it can be run on another machine."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert seal_outcome(script, "key_retired_timestamp", tmp_path) == 3
    text = capsys.readouterr().out
    assert "openssl ts -verify -in token.tsr -data signature.bin -CAfile roots.pem" in text
    assert "because there is no openssl command" in text
    (folder,) = {path.parent for path in tmp_path.glob("*/token.tsr")}
    assert {"roots.pem", "signature.bin", "token.tsr"} <= contents(folder).keys()


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_commands_for_certificates_of_the_how_to_work(tmp_path: Path) -> None:
    """At the moment that the vector is about; otherwise as they stand in the text."""
    case, text = VECTORS / "seal" / "certificate", (TOP / "docs" / "how-to" / "audit.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (bundle,) = case.glob("*.sigstore.json")
    (tmp_path / "manifest").mkdir()
    shutil.copy(bundle, tmp_path / "manifest" / "signer-1.sigstore.json")
    shutil.copy(case / "trust-document.json", tmp_path / "document.json")
    moment = datetime.fromisoformat(load("seal", "certificate", "request.json")["now"]).timestamp()
    commands = block.replace("$ ", "").replace("-x509_strict", f"-x509_strict -attime {moment:.0f}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "leaf.der: OK" in done.stdout
    assert "email:carol@example.org" in done.stdout
    assert "Code Signing" in done.stdout
    assert (tmp_path / "signer.pem").read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")


# -- its parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1.0}',
        '{"a":1e2}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-0}',
        '{"a":9007199254740992}',
        '{"a":true}',
        '{"a":"1"}',
        '{"a":1,"a":1}',
        '{"b":1}',
        '{"a":1,"b":1}',
        "[1]",
        "1",
        '{"a":1} ',
        '{"a": 1}',
        '\ufeff{"a":1}',
        '{"a":1}{}',
        "",
        '{"a":' + "[" * 100_000,
        '{"\\ud800":1}',
    ],
)
def test_strict_json(script: ModuleType, text: str) -> None:
    assert outcome(script, lambda: script.strict(text.encode(), "t", {"a": script.COUNT}, exact=True)) == 1
    assert script.strict(b'{"a":1}', "t", {"a": script.COUNT}, exact=True) == {"a": 1}


def test_a_key_twice_is_refused_in_any_spelling(script: ModuleType) -> None:
    assert outcome(script, lambda: script.strict(b'{"a":1,"a":1}', "t", {"a": script.COUNT})) == 1


def test_canonical_form_is_that_of_the_package(script: ModuleType) -> None:
    for value in ({"b": [1, None, True, {}], "a": '\u2028\x00\x1f"\\/é😀'}, [], {"_type": "x", "a": "", "Z": -1}):
        assert script.canonical(value) == dumps(value)


def test_words_of_the_formats_are_those_of_the_package(script: ModuleType) -> None:
    assert script.BYTES == DTYPES
    assert set(script.ROW["layout"].split("|")) == set(LAYOUTS)
    assert set(script.ROW["role"].split("|")) == set(ROLES)
    assert STAGES == ("S0", "S1", "S2", "S3", "S4")


def test_small_order_points_are_no_keys(script: ModuleType) -> None:
    """All encodings, with either sign bit; and the neighbours of each are keys."""
    prime, eight = 2**255 - 19, 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    small = {0, 1, prime - 1, prime, prime + 1, eight, prime - eight}
    for y in sorted(small | {y + 2 for y in small} | {y ^ (1 << 254) for y in small} | {y ^ (1 << 100) for y in small}):
        for sign in (0, 1 << 255):
            der = bytes.fromhex("302a300506032b6570032100") + (y | sign).to_bytes(32, "little")
            pem = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"
            code = outcome(script, lambda pem=pem: script.conform(pem, script.KEY["publicKey"], "k"))
            assert code == int(y in small), hex(y | sign)


def test_roots_and_proofs_are_those_of_the_package(script: ModuleType) -> None:
    for size in (*range(1, 20), 63, 64, 65):
        hashed = [bytes([i]) * 32 for i in range(size)]
        for index in range(size):
            found, path = script.merkle(hashed, index)
            assert found == root(hashed)
            assert tuple(sibling for _, sibling in path) == inclusion_proof(hashed, index)
            assert root_from_proof(hashed[index], index, size, [sibling for _, sibling in path]) == found
    assert script.merkle([])[0] == root([])
