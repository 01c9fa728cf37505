# SPDX-License-Identifier: Apache-2.0
"""The two journeys of a product: weigh and sign in one process; load, gate, serve and re-verify in another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from weighmaster.flows.approve import sign
from weighmaster.flows.keep import write_trust
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import ProductRule, RoleThreshold, Trust, TrustedKey
from weighmaster.seal.trust_edit import with_key, with_product

MAKE = """
import sys
from transformers import AutoModelForCausalLM
from weighmaster.flows.weigh import weigh
source, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source, dtype="auto").eval()
manifest = weigh(model, product="reader", version="1.0", serial=7, source=source)
manifest.write(out)
print(manifest.root)
"""

SERVE = """
import json, sys, torch
from transformers import AutoModelForCausalLM
from weighmaster.errors import WeighmasterError, NotAdmitted
from weighmaster.flows.admit import Gate
source, manifest, trust, roots, mark = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source, dtype="auto").eval()
gate = Gate(manifest, trust, roots=roots, expect="reader", source=source, mark=mark)
gate.guard(model)
tokens = torch.arange(8)[None]
report = {}
try:
    model(tokens)
    report["before"] = "served"
except NotAdmitted:
    report["before"] = "blocked"
try:
    admission = gate.admit(model)
    report |= {"root": admission.verdict.root, "persons": sorted(s.person for s in admission.verdict.signers)}
    report["finite"] = bool(model(tokens).logits.isfinite().all())
    report["cycle"] = admission.recheck().cycle_complete
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    try:
        admission.recheck()
    except NotAdmitted as fault:
        report["found"] = [f.subject for f in fault.faults]
    try:
        model(tokens)
        report["after"] = "served"
    except NotAdmitted:
        report["after"] = "blocked"
except NotAdmitted as refusal:
    report |= {"exit": refusal.exit_code, "subjects": [f.subject for f in refusal.faults]}
print(json.dumps(report))
"""


def run(script: str, *arguments: Any, seed: str) -> str:
    environment = {"PYTHONHASHSEED": seed, "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def made(
    llama_directory: Path, signer: PrivateKey, keeper: PrivateKey, nobody: Trust, tmp_path: Path
) -> dict[str, Any]:
    source = shutil.copytree(llama_directory, tmp_path / "model")
    root = run(MAKE, source, tmp_path / "manifest", seed="11")
    approver = generate("ecdsa-p256-sha256")
    sign(tmp_path / "manifest", signer)
    sign(tmp_path / "manifest", approver, role="approver")
    roles = (RoleThreshold(role="approver", threshold=1), RoleThreshold(role="signer", threshold=1))
    trust = with_key(nobody, TrustedKey(person="Ana", key=signer.public, roles=("signer",)))
    trust = with_key(trust, TrustedKey(person="Ben", key=approver.public, roles=("approver",)))
    trust = with_product(trust, ProductRule(product="reader", required_roles=roles, minimum_serial=7))
    pin = write_trust(tmp_path / "trust.json", trust, keeper)
    return {
        "source": source,
        "manifest": tmp_path / "manifest",
        "trust": tmp_path / "trust.json",
        "pin": pin,
        "mark": tmp_path / "mark",
        "root": root,
    }


def serve(made: dict[str, Any]) -> Any:
    return json.loads(run(SERVE, *(made[k] for k in ("source", "manifest", "trust", "pin", "mark")), seed="22"))


@pytest.mark.requirement("REQ-ADM-16", "REQ-REV-03")
def test_a_signed_model_is_served_until_a_fault_is_found(made: dict[str, Any]) -> None:
    report = serve(made)
    assert report == {
        "before": "blocked",
        "root": made["root"],
        "persons": ["Ana", "Ben"],
        "finite": True,
        "cycle": True,
        "found": ["model.layers.0.mlp.up_proj.weight"],
        "after": "blocked",
    }


def test_one_changed_bit_in_the_file_is_not_served(made: dict[str, Any]) -> None:
    path = made["source"] / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = serve(made)
    assert (report["before"], report["exit"]) == ("blocked", 17)
    assert report["subjects"][0] == "model.safetensors"
    assert len(report["subjects"]) == 2, "the file, and the one tensor that its last byte belongs to"
