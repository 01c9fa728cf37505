# SPDX-License-Identifier: Apache-2.0
"""Attempts 35 to 49: a genuine model and another manifest, seal, exclusion or file (see README.md)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from weighmaster.errors import MalformedArtefact, NotWeighed
from weighmaster.flows.approve import sign
from weighmaster.flows.weigh import weigh, weigh_files
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.keys import generate
from weighmaster.seal.trust import RoleThreshold, TrustedKey
from weighmaster.seal.trust_edit import with_key

X = torch.arange(8.0).reshape(2, 4)
BUNDLE = "signer-1.sigstore.json"


def resign(done: Any, payload: bytes, signer: Any) -> None:
    """Put a genuine signature over another payload in place: an insider with a key, or a defect of the signing tool."""
    (done.directory / BUNDLE).write_bytes(make_bundle(payload, signer))
    (done.directory / "statement.json").write_bytes(payload)


def malformed(done: Any, model: torch.nn.Module) -> MalformedArtefact:
    with pytest.raises(MalformedArtefact) as caught:
        done.admit(model)
    assert caught.value.exit_code == 20
    return caught.value


@pytest.mark.requirement("REQ-MAN-07")
def test_35_a_key_twice_in_the_signed_statement(weighed: Any, target: Any, signer: Any) -> None:
    payload = weighed.manifest.payload
    resign(weighed, payload.replace(b'"serial":1', b'"serial":1,"serial":9', 1), signer)
    fault = malformed(weighed, target())
    assert "serial" in str(fault)


@pytest.mark.requirement("REQ-MAN-07")
def test_36_a_statement_that_is_not_canonical(weighed: Any, target: Any, signer: Any) -> None:
    document = json.loads(weighed.manifest.payload)
    resign(weighed, json.dumps(document, indent=1).encode(), signer)
    assert "statement.json" in malformed(weighed, target()).file


@pytest.mark.requirement("REQ-MAN-07")
def test_37_an_unknown_key_in_the_signed_statement(weighed: Any, target: Any, signer: Any) -> None:
    document = json.loads(weighed.manifest.payload)
    document["predicate"]["skip"] = True
    resign(weighed, json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(), signer)
    assert "skip" in str(malformed(weighed, target()))


@pytest.mark.requirement("REQ-ADM-03")
def test_38_rollback_to_an_older_approval(sealed: Any, target: Any, stopped: Any) -> None:
    old = sealed(target(), example_inputs=X, serial=3, rule={"minimum_serial": 4})
    assert stopped(lambda: old.admit(target()), 14) == ["serial"]


@pytest.mark.requirement("REQ-ADM-03")
def test_39_a_genuine_manifest_of_another_product(sealed: Any, target: Any, stopped: Any) -> None:
    other = sealed(target(), example_inputs=X, product="toy")  # signed by a person whom the reader trusts
    assert "product" in stopped(lambda: other.admit(target()), 14)


@pytest.mark.requirement("REQ-ADM-02")
def test_40_statement_and_table_of_different_models(weighed: Any, sealed: Any, target: Any, stopped: Any) -> None:
    model = target()
    with torch.no_grad():
        model.second.weight += 1
    forged = sealed(model, example_inputs=X)
    shutil.copy(forged.directory / "tensors.S3.kernel.jsonl", weighed.directory)
    (name,) = stopped(lambda: weighed.admit(model), 13)
    assert name.endswith("tensors.S3.kernel.jsonl")


@pytest.mark.requirement("REQ-MAN-08")
def test_41_leaves_of_another_model(weighed: Any, sealed: Any, target: Any, stopped: Any) -> None:
    model = target()
    with torch.no_grad():
        model.second.weight += 1
    shutil.copy(sealed(model, example_inputs=X).directory / "leaves.S3.kernel.bin", weighed.directory)
    (name,) = stopped(lambda: weighed.admit(target()), 13)
    assert name.endswith("leaves.S3.kernel.bin: second.weight")


@pytest.mark.requirement("REQ-ADM-15")
def test_42_a_probe_set_that_exercises_less(weighed: Any, sealed: Any, target: Any, stopped: Any) -> None:
    shutil.copy(sealed(target(), example_inputs=X[:1]).directory / "probe-set.safetensors", weighed.directory)
    (name,) = stopped(lambda: weighed.admit(target()), 13)
    assert name.endswith("probe-set.safetensors")


@pytest.mark.requirement("REQ-SEA-05")
def test_43_two_signatures_in_one_bundle(weighed: Any, target: Any) -> None:
    path = weighed.directory / BUNDLE
    bundle = json.loads(path.read_bytes())
    bundle["dsseEnvelope"]["signatures"] *= 2
    path.write_bytes(json.dumps(bundle).encode())
    fault = malformed(weighed, target())
    assert (fault.expected, fault.found) == ("exactly one signature", "2")


@pytest.mark.requirement("REQ-SEA-06")
def test_44_a_second_bundle_over_another_statement(weighed: Any, sealed: Any, target: Any, stopped: Any) -> None:
    other = sealed(target(), example_inputs=X, serial=2)
    shutil.copy(other.directory / BUNDLE, weighed.directory / "signer-2.sigstore.json")
    assert stopped(lambda: weighed.admit(target()), 13)


@pytest.mark.requirement("REQ-TRU-03")
def test_45_one_person_with_two_keys_where_two_are_required(sealed: Any, target: Any, stopped: Any) -> None:
    done, second = sealed(target(), example_inputs=X), generate("ecdsa-p256-sha256")
    sign(done.directory, second)
    trust = with_key(done.trust, TrustedKey(person="Ana", key=second.public, roles=("signer",)))
    roles = (RoleThreshold(role="signer", threshold=2),)
    trust = replace(trust, products=(replace(trust.products[0], required_roles=roles),))
    assert stopped(lambda: done.admit(target(), trust=trust), 13) == ["reader, role signer"]


@pytest.mark.requirement("REQ-CAP-06")
def test_46_a_parameter_excluded_as_cache(target: Any) -> None:
    with pytest.raises(NotWeighed, match="cannot be weighed") as caught:
        weigh(target(), product="p", version="1", serial=1, example_inputs=X, exclude={"second.weight": "kv-cache"})
    assert "a tensor of role parameter cannot be excluded as kv-cache" in str(caught.value)


@pytest.mark.requirement("REQ-CAP-06")
def test_47_scales_of_a_quantized_weight_excluded_as_workspace(target: Any) -> None:
    model = target()
    model.second.weight.state = {"absmax": torch.ones(4)}
    name = "second.weight@state['absmax']"
    with pytest.raises(NotWeighed) as caught:
        weigh(model, product="p", version="1", serial=1, example_inputs=X, exclude={name: "workspace"})
    assert "a tensor of role inner cannot be excluded as workspace" in str(caught.value)


@pytest.mark.requirement("REQ-ADM-10")
def test_48_more_excluded_than_the_trust_file_allows(sealed: Any, target: Any, stopped: Any) -> None:
    done = sealed(target(), example_inputs=X, exclude={"codes": "opaque-handle"}, rule={"max_excluded_bytes": 3})
    assert stopped(lambda: done.admit(target()), 18) == ["exclusions"]


@pytest.mark.requirement("REQ-FIL-01")
@pytest.mark.parametrize(
    "offsets", [([0, 8], [4, 12]), ([0, 4], [8, 12]), ([0, 8], [0, 8])], ids=["overlap", "gap", "same"]
)
def test_49_overlapping_offsets_in_a_checkpoint(offsets: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    header = {
        name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for name, (begin, end) in zip("ab", offsets, strict=True)
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(max(o[1] for o in offsets)))
    with pytest.raises(MalformedArtefact):
        weigh_files(path, product="p", version="1", serial=1)
