# SPDX-License-Identifier: Apache-2.0
"""Run tools/verify_by_hand.py as an auditor does: another process, nothing of ours in reach; attack what it reads."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from weighmaster.capture.open_model import Opened
from weighmaster.core.canonical import dumps
from weighmaster.flows.artefact import Manifest, write_manifest
from weighmaster.flows.dump import dump
from weighmaster.flows.weigh import weigh
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey
from weighmaster.seal.trust_chain import Chain, amend, chain_to_bytes, countersign, new_chain

TOOL = Path(__file__).parents[2] / "tools" / "verify_by_hand.py"
PRODUCT = "thorax-triage"
EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)
ROSA, SAM, TESS = generate("ecdsa-p256-sha256"), generate("ed25519"), generate("ed25519")
ANA, BEN, OTHER = generate("ecdsa-p256-sha256"), generate("ed25519"), generate("ed25519")
SIGNED_BY = {"signer-1": ANA, "approver-1": BEN}
GATE = "tensors.S3.kernel.jsonl"


class Net(torch.nn.Module):
    """Tensors of none, one and two leaves, two of equal bytes, and a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(8, 4096)
        self.down = torch.nn.Linear(4096, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.again = self.norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.down(torch.relu(self.up(x))))


def weighed(model: torch.nn.Module, *, product: str = PRODUCT) -> Manifest:
    return weigh(model.eval(), product=product, version="1.0", serial=7, example_inputs=torch.ones(2, 8))


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What an auditor is handed: a folder with ``manifest``, ``dump``, ``trust.json``, and the pin by another way."""

    folder: Path
    pin: str

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest"

    def run(self, *more: str, by: str = "cryptography", **options: str) -> subprocess.CompletedProcess[str]:
        """Run the script: with `cryptography`, with the openssl command alone, or with ``nothing``."""
        given = {"trust": str(self.folder / "trust.json"), "roots": self.pin, "expect": PRODUCT, **options}
        flags = ["-I"] if by == "cryptography" else ["-I", "-S"]  # -S: no site-packages, so no package at all
        command = [sys.executable, *flags, str(TOOL), str(self.manifest), "--work", str(self.folder)]
        command += [part for key, value in given.items() for part in (f"--{key}", value)]
        environment = {**os.environ, "PATH": str(self.folder / "empty") if by == "nothing" else os.environ["PATH"]}
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False, env=environment)

    def holds(self, *more: str, **options: str) -> str:
        done = self.run(*more, **options)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert "\nRESULT: HOLDS: " in done.stdout
        return done.stdout

    def refused(self, *facts: str, more: tuple[str, ...] = (), **options: str) -> None:
        """The script must end with 1 and one line that gives these facts, under both back ends."""
        for by in ("cryptography", "openssl"):
            done = self.run(*more, by=by, **options)
            assert (done.returncode, done.stderr) == (1, ""), done.stdout + done.stderr
            *_, fault, result = done.stdout.splitlines()
            assert (fault.startswith("[FAIL] "), result) == (True, "RESULT: REFUSED")
            assert [fact for fact in facts if fact not in fault] == [], fault

    def edit(self, file: str, change: Callable[[bytes], bytes]) -> None:
        path = self.folder / file
        path.write_bytes(change(path.read_bytes()))


def roots(*keepers: tuple[str, PrivateKey], threshold: int) -> Roots:
    return Roots(keys=tuple(RootKey(person=name, key=key.public) for name, key in keepers), threshold=threshold)


KEEPERS = roots(("Rosa", ROSA), ("Sam", SAM), threshold=2)
KEYS = (
    TrustedKey(person="Ana Ngo", key=ANA.public, roles=("signer",)),
    TrustedKey(person="Ben Weiß", key=BEN.public, roles=("approver",)),
)
BOTH = (RoleThreshold(role="signer", threshold=1), RoleThreshold(role="approver", threshold=1))
RULE = ProductRule(product=PRODUCT, required_roles=BOTH)
TRUST = Trust(expires=EXPIRES, roots=KEEPERS, keys=KEYS, products=(RULE,), version=3)


def signed(trust: Trust, *signers: PrivateKey) -> Chain:
    """Return a chain of one document, signed by these, or by Rosa and Sam."""
    chain = new_chain(trust, "trust.json")
    for signer in signers or (ROSA, SAM):
        chain = countersign(chain, signer)
    return chain


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sealed manifest of a live model, its dump and its trust file; not to be changed."""
    torch.manual_seed(0)
    folder, model = tmp_path_factory.mktemp("made"), Net()
    manifest = weighed(model)
    write_manifest(manifest, folder / "manifest")
    for name, key in SIGNED_BY.items():
        (folder / "manifest" / f"{name}.sigstore.json").write_bytes(make_bundle(manifest.payload, key))
    dump(Opened(model=model, loader="callable", source=None, faults=(), probe="auto"), manifest, folder / "dump")
    (folder / "trust.json").write_bytes(chain_to_bytes(signed(TRUST)))
    return folder


@pytest.fixture
def kit(made: Path, tmp_path: Path) -> Kit:
    """A copy of it, to be changed."""
    shutil.copytree(made, tmp_path / "kit")
    return Kit(folder=tmp_path / "kit", pin=KEEPERS.fingerprint)


def with_trust(kit: Kit, trust: Trust | Chain) -> Kit:
    chain = trust if isinstance(trust, Chain) else signed(trust)
    (kit.folder / "trust.json").write_bytes(chain_to_bytes(chain))
    return kit


def sealed_again(kit: Kit, change: Callable[[dict[str, Any]], object]) -> Kit:
    """Change the statement and have Ana and Ben sign it again: what they sign is still to be consistent."""
    statement = json.loads((kit.manifest / "statement.json").read_bytes())
    change(statement)
    (kit.manifest / "statement.json").write_bytes(dumps(statement))
    for name, key in SIGNED_BY.items():
        (kit.manifest / f"{name}.sigstore.json").write_bytes(make_bundle(dumps(statement), key))
    return kit


def rows(kit: Kit) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (kit.manifest / GATE).read_bytes().splitlines()]


def dumped(kit: Kit, name: str) -> Path:
    index = map(json.loads, (kit.folder / "dump" / "index.jsonl").read_bytes().splitlines())
    return kit.folder / "dump" / next(entry["file"] for entry in index if entry["name"] == name)


# -- the script itself ------------------------------------------------------------------------------------------------


def test_it_is_under_430_lines_of_120_characters() -> None:
    lines = TOOL.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 430
    assert max(map(len, lines)) <= 120


def test_it_imports_the_standard_library_and_perhaps_cryptography() -> None:
    tree = ast.parse(TOOL.read_text(encoding="utf-8"))
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"cryptography"}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert names & {"eval", "exec", "__import__", "importlib", "runpy"} == set()


def test_every_function_says_what_it_checks() -> None:
    tree = ast.parse(TOOL.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 15
    assert [node.name for node in functions if not ast.get_docstring(node)] == []


# -- what holds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["cryptography", "openssl"])
def test_a_genuine_manifest_holds(kit: Kit, by: str) -> None:
    text = kit.holds("--dump", str(kit.folder / "dump"), "--proof", "down.weight", by=by)
    for fact in (
        f"trust.json, version 3: Rosa: ECDSA P-256 signature, by {by}",
        f"trust.json, version 3: Sam: Ed25519 signature, by {by}",
        f"from the pinned roots {kit.pin}, in force until 2030-01-01T00:00:00Z",
        f"signer-1.sigstore.json: Ana Ngo: ECDSA P-256 signature, by {by}",
        f"approver-1.sigstore.json: Ben Weiß: Ed25519 signature, by {by}",
        f"{PRODUCT}, role signer: Ana Ngo (at least 1)",
        f"the file of each of {len(rows(kit))} rows has its SHA-256 and its fs-verity digest",
        "[ok] as the statement names them: environment.json, leaves.S3.kernel.bin, ",
        "trust version 3 is the newest (no mark)",
    ):
        assert fact in text
    assert "NOT CHECKED" not in text


def test_without_any_back_end_nothing_is_called_checked(kit: Kit) -> None:
    done = kit.run(by="nothing")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.count("because there is neither the package cryptography nor the command openssl") == 4
    assert "[NOT CHECKED] thorax-triage, role signer" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("RESULT: NOT ALL CHECKED: ")
    assert re.findall(r"\[ok\].*(Ana|Ben|Rosa|Sam)", done.stdout) == []


def test_without_any_back_end_a_flipped_table_is_still_refused(kit: Kit) -> None:
    kit.edit(f"manifest/{GATE}", lambda data: data.replace(b"parameter", b"attribute", 1))
    assert kit.run(by="nothing").returncode == 1


def test_the_openssl_commands_can_be_run_again(kit: Kit) -> None:
    lines = [line.strip() for line in kit.run(by="openssl").stdout.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    assert len(commands) == 4
    for command in commands:
        assert "erified" in subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("basenc") is None, reason="basenc (coreutils 8.31) is not there")
@pytest.mark.parametrize("name", ["down.bias", "up.weight"])
def test_the_proof_can_be_followed_with_sha256sum(kit: Kit, name: str) -> None:
    text = kit.holds("--proof", name)
    steps = re.findall(r"\$ (.*sha256sum)  # ([0-9a-f]{64})", text)
    root = json.loads((kit.manifest / "statement.json").read_bytes())["subject"][0]["digest"]["sha256"]
    assert len(steps) >= 3
    assert steps[-1][1] == root
    for command, value in steps:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == value


def test_a_rotation_is_followed_from_the_old_pin_and_from_the_new(kit: Kit) -> None:
    successors = roots(("Tess", TESS), threshold=1)
    chain = amend(signed(TRUST), replace(TRUST, roots=successors))
    for key in (ROSA, SAM, TESS):
        chain = countersign(chain, key)
    with_trust(kit, chain)
    for pin in (kit.pin, successors.fingerprint):
        assert "trust.json, version 4: from the pinned roots" in kit.holds(roots=pin)


def test_an_older_trust_file_holds_and_the_script_says_so(kit: Kit) -> None:
    """There is no mark here: only who was told the current version can know. The version is printed."""
    text = with_trust(kit, replace(TRUST, version=1)).holds()
    assert "that trust version 1 is the newest (no mark)" in text


def test_it_can_be_asked_about_another_moment(kit: Kit) -> None:
    assert "at 2029-12-31T23:59:59Z" in kit.holds(at="2029-12-31T23:59:59Z")
    assert "at 2029-12-31T23:00:00Z" in kit.holds(at="2030-01-01T00:00:00+01:00")


def test_usage(kit: Kit) -> None:
    for options in ({"at": "yesterday"}, {"trust": str(kit.folder / "none.json")}, {"dump": str(kit.folder / "none")}):
        done = kit.run(**options)
        assert (done.returncode, "error: " in done.stderr) == (2, True)
    assert subprocess.run([sys.executable, str(TOOL)], capture_output=True, check=False).returncode == 2


# -- attacks on trust -------------------------------------------------------------------------------------------------


def test_the_wrong_pin(kit: Kit) -> None:
    kit.refused("trust.json: roots: expected the pin", "0" * 64, kit.pin, roots="0" * 64)


def test_a_pin_of_the_same_keys_with_a_lower_threshold(kit: Kit) -> None:
    alone = replace(KEEPERS, threshold=1)
    with_trust(kit, signed(replace(TRUST, roots=alone), ROSA)).refused("roots", alone.fingerprint)


def test_too_few_keepers(kit: Kit) -> None:
    with_trust(kit, signed(TRUST, ROSA)).refused("version 3: expected 2 keepers of the roots, found ['Rosa']")


def test_one_keeper_with_two_keys(kit: Kit) -> None:
    keepers = roots(("Rosa", ROSA), ("Rosa", TESS), ("Sam", SAM), threshold=2)
    chain = signed(replace(TRUST, roots=keepers), ROSA, TESS)
    with_trust(kit, chain).refused("expected 2 keepers of the roots, found ['Rosa']", roots=keepers.fingerprint)


def test_successors_whom_the_keepers_did_not_sign(kit: Kit) -> None:
    chain = amend(signed(TRUST), replace(TRUST, roots=roots(("Tess", TESS), threshold=1)))
    with_trust(kit, countersign(chain, TESS)).refused("version 4: expected 2 keepers of the roots, found []")


def test_successors_who_did_not_sign_themselves(kit: Kit) -> None:
    chain = amend(signed(TRUST), replace(TRUST, roots=roots(("Tess", TESS), threshold=1)))
    chain = countersign(countersign(chain, ROSA), SAM)
    with_trust(kit, chain).refused("version 4: expected 1 keepers of the roots, found []")


def test_an_expired_trust_document(kit: Kit) -> None:
    for moment in ("2030-01-01T00:00:00Z", "2040-01-01T00:00:00Z"):
        kit.refused("version 3: expected a moment before 2030-01-01T00:00:00Z", moment, at=moment)


def test_two_documents_of_one_version(kit: Kit) -> None:
    chain = signed(TRUST)
    data = chain_to_bytes(replace(chain, envelopes=chain.envelopes * 2))
    (kit.folder / "trust.json").write_bytes(data)
    kit.refused("expected rising versions, found [3, 3]")


# -- attacks on the seal ----------------------------------------------------------------------------------------------


def test_another_product(kit: Kit) -> None:
    kit.refused("expected a rule for stroke-triage, found none", expect="stroke-triage")


def test_a_genuine_manifest_of_another_product(kit: Kit) -> None:
    sealed_again(kit, lambda s: s["predicate"].update(product="stroke-triage"))
    kit.refused("product: expected thorax-triage, found stroke-triage")


def test_one_person_with_two_keys(kit: Kit) -> None:
    again = TrustedKey(person="Ana Ngo", key=OTHER.public, roles=("signer",))
    rule = replace(RULE, required_roles=(RoleThreshold(role="signer", threshold=2),))
    with_trust(kit, replace(TRUST, keys=(*KEYS, again), products=(rule,)))
    payload = (kit.manifest / "statement.json").read_bytes()
    (kit.manifest / "signer-2.sigstore.json").write_bytes(make_bundle(payload, OTHER))
    kit.refused("role signer: expected 2 persons, found ['Ana Ngo']")


def test_a_missing_approver(kit: Kit) -> None:
    (kit.manifest / "approver-1.sigstore.json").unlink()
    kit.refused("role approver: expected 1 persons, found []")


def test_no_bundle(kit: Kit) -> None:
    for name in SIGNED_BY:
        (kit.manifest / f"{name}.sigstore.json").unlink()
    kit.refused("seal: expected bundles, all over one payload, found 0 payloads")


def test_a_revoked_key(kit: Kit) -> None:
    with_trust(kit, replace(TRUST, keys=(KEYS[0], replace(KEYS[1], revoked=True))))
    kit.refused("approver-1.sigstore.json: expected a key in force", "of Ben Weiß")


def test_a_retired_key(kit: Kit) -> None:
    with_trust(kit, replace(TRUST, keys=(replace(KEYS[0], not_after=datetime(2027, 1, 1, tzinfo=UTC)), KEYS[1])))
    assert kit.run(at="2027-01-01T00:00:00Z").returncode == 0
    kit.refused(
        "expected a signature of up to 2027-01-01T00:00:00Z, found 2027-01-01T00:00:01Z", at="2027-01-01T00:00:01Z"
    )


def test_a_key_that_is_not_listed(kit: Kit) -> None:
    payload = (kit.manifest / "statement.json").read_bytes()
    (kit.manifest / "signer-2.sigstore.json").write_bytes(make_bundle(payload, OTHER))
    kit.refused("signer-2.sigstore.json: expected a key that the trust document lists", OTHER.public.fingerprint)


def test_bundles_over_two_statements(kit: Kit) -> None:
    payload = (kit.manifest / "statement.json").read_bytes().replace(b'"serial":7', b'"serial":8')
    (kit.manifest / "approver-1.sigstore.json").write_bytes(make_bundle(payload, BEN))
    kit.refused("seal: expected bundles, all over one payload, found 2 payloads")


def test_a_bundle_relabelled(kit: Kit) -> None:
    kit.edit("manifest/signer-1.sigstore.json", lambda d: d.replace(b"in-toto+json", b"other+json"))
    kit.refused("signer-1.sigstore.json.dsseEnvelope.payloadType")


def test_a_revoked_root_another_root_and_an_old_serial(kit: Kit) -> None:
    root = json.loads((kit.manifest / "statement.json").read_bytes())["subject"][0]["digest"]["sha256"]
    for change, facts in (
        ({"revoked_roots": (root,)}, ("root: expected one that is not revoked", root)),
        ({"accepted_roots": ("1" * 64,)}, ("root: expected", "1" * 64, root)),
        ({"minimum_serial": 8}, ("serial: expected at least 8, found 7",)),
    ):
        with_trust(kit, replace(TRUST, products=(replace(RULE, **change),))).refused(*facts)


# -- attacks on files -------------------------------------------------------------------------------------------------


def test_one_flipped_bit_in_any_file(kit: Kit) -> None:
    """Three places in each file of the kit, with the back end of each kind: never accepted, and never a traceback."""
    files = [f"manifest/{path.name}" for path in sorted(kit.manifest.iterdir())]
    assert len(files) >= 9
    for number, file in enumerate(["trust.json", *files]):
        data = (kit.folder / file).read_bytes()
        for part in range(3):
            at = (len(data) - 1) * part // 2
            kit.edit(file, lambda data, at=at: data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            done = kit.run(by="openssl" if (number + part) % 4 == 0 else "cryptography")
            assert (done.returncode, done.stderr) == (1, ""), (file, at, done.stdout, done.stderr)
            kit.edit(file, lambda _, data=data: data)
    kit.holds()


def test_a_table_of_another_model(kit: Kit, tmp_path: Path) -> None:
    torch.manual_seed(1)
    write_manifest(weighed(Net()), tmp_path / "other")
    shutil.copy(tmp_path / "other" / GATE, kit.manifest / GATE)
    kit.refused(f"{GATE}: SHA-256: expected")


def test_two_files_swapped(kit: Kit) -> None:
    one, other = kit.manifest / "structure.jsonl", kit.manifest / "environment.json"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    kit.refused(": SHA-256: expected")


def test_a_missing_file_an_extra_file_and_a_folder(kit: Kit) -> None:
    (kit.manifest / "notes.txt").write_text("trust me", encoding="utf-8")
    kit.refused("missing or left over: ['notes.txt']")
    (kit.manifest / "notes.txt").unlink()
    (kit.manifest / "folder").mkdir()
    kit.refused("missing or left over: ['folder']")
    (kit.manifest / "folder").rmdir()
    for file in ("structure.jsonl", "environment.json", "probe-set.safetensors", GATE):
        data = (kit.manifest / file).read_bytes()
        (kit.manifest / file).unlink()
        kit.refused(f"missing or left over: ['{file}']")
        (kit.manifest / file).write_bytes(data)
    (kit.manifest / "statement.json").unlink()  # a copy of what is in the bundles: optional
    kit.holds()


@pytest.mark.parametrize(
    ("field", "value", "facts"),
    [
        ("root", "3" * 64, (f"{GATE}: expected", "3" * 64)),
        ("count", 1, (f"{GATE}: expected", "'count': 1")),
        ("bytes", "1", (f"{GATE}: expected", "'bytes': '1'")),
    ],
)
def test_a_signed_statement_that_does_not_fit_its_table(
    kit: Kit, field: str, value: Any, facts: tuple[str, ...]
) -> None:
    def change(statement: dict[str, Any]) -> None:
        statement["predicate"]["tables"][-1][field] = value
        if field == "root":
            statement["subject"][0]["digest"]["sha256"] = value

    sealed_again(kit, change).refused(*facts)


def test_a_tensor_that_is_not_there(kit: Kit) -> None:
    kit.refused(
        "--proof: expected the name of a tensor in the gate table, found up.weights", more=("--proof", "up.weights")
    )


# -- attacks on the dump ----------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_a_dump(kit: Kit) -> None:
    path, (row,) = dumped(kit, "up.weight"), [row for row in rows(kit) if row["name"] == "up.weight"]
    data = bytearray(path.read_bytes())
    assert len(data) == 131_072
    data[70_000] ^= 1
    path.write_bytes(data)
    kit.refused("up.weight: expected", row["sha256"], row["fsverity64k"], more=("--dump", str(kit.folder / "dump")))


def test_two_files_of_a_dump_swapped_with_their_digests(kit: Kit) -> None:
    """The index and the sums of a dump are rewritten to fit: the signed rows are what counts."""
    one, other = dumped(kit, "up.bias"), dumped(kit, "down.bias")
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    kit.refused("down.bias: expected", "'nbytes': 16", more=("--dump", str(kit.folder / "dump")))


def test_a_dump_that_is_cut_missing_or_too_much(kit: Kit) -> None:
    asked, path = ("--dump", str(kit.folder / "dump")), dumped(kit, "up.weight")
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    kit.refused("up.weight: expected", "131071", more=asked)
    path.unlink()
    kit.refused("missing or left over: ", path.name, more=asked)
    path.write_bytes(data)
    (kit.folder / "dump" / "more.bin").write_bytes(b"")
    kit.refused("missing or left over: ", "more.bin", more=asked)


def test_a_dump_whose_index_points_elsewhere(kit: Kit) -> None:
    index = kit.folder / "dump" / "index.jsonl"
    kit.edit("dump/index.jsonl", lambda d: d.replace(b'"file":"up', b'"file":"../dump/up'))
    assert b"../dump" in index.read_bytes()
    kit.refused("missing or left over: ", "../dump/up", more=("--dump", str(kit.folder / "dump")))


def test_a_dump_whose_index_misses_a_tensor(kit: Kit) -> None:
    kit.edit("dump/index.jsonl", lambda d: b"".join(d.splitlines(keepends=True)[1:]))
    kit.refused(
        "index.jsonl: expected the names of the table", rows(kit)[0]["name"], more=("--dump", str(kit.folder / "dump"))
    )


# -- the how-to -------------------------------------------------------------------------------------------------------

AUDIT = TOOL.parents[1] / "docs" / "how-to" / "audit.md"
NEEDED = ("bash", "basenc", "fsverity", "jq", "openssl", "sha256sum")
MISSING = [name for name in NEEDED if shutil.which(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_the_commands_of_the_how_to_work(kit: Kit) -> None:
    """All of them, in one shell, in the folder that the text describes; python3 there is this interpreter."""
    shutil.copy(TOOL, kit.folder)
    blocks = re.findall(r"^```sh\n(.*?)^```", AUDIT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    script = "set -euo pipefail\n" + "".join(blocks).replace("python3", sys.executable)
    given = {**os.environ, "PIN": kit.pin, "PRODUCT": PRODUCT, "TENSOR": "up.weight"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=kit.folder, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = [row for row in rows(kit) if row["name"] == "up.weight"]
    lines = done.stdout.splitlines()
    assert "RESULT: HOLDS: " in done.stdout
    assert lines.count("Verified OK") == 2  # by the commands themselves; those of the script stand indented
    assert f"{kit.pin}  -" in lines
    for key, words in ((ROSA, "keeper.pem"), (ANA, "signer.pem")):
        assert f"{key.public.fingerprint}  {words}" in lines
        assert lines.count(key.public.fingerprint) == 1
    assert lines.count(row["fsverity64k"]) >= 2
    assert [line for line in lines if line.startswith("dump/up.weight") and line.endswith(": OK")]
