# SPDX-License-Identifier: Apache-2.0
"""A pack from making to serving: pack, sign, weigh what is loaded from it, sign that, admit it where it is served."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import weighmaster as wm
import weighmaster.hf
from weighmaster.cli.main import main
from weighmaster.errors import NotAdmitted
from weighmaster.seal.keys import PrivateKey, generate, write_private

PRODUCT = "triage-encoder"
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, nobody: wm.Trust, keeper: PrivateKey) -> SimpleNamespace:
    """Return a folder with a source, its pack signed by Ana, and the pack's manifest signed by Ana and Ben."""
    folder = tmp_path_factory.mktemp("release")
    torch.manual_seed(3)
    BertForSequenceClassification(BertConfig(**SMALL)).to(torch.bfloat16).save_pretrained(folder / "source")
    keys = {person: generate("ed25519") for person in ("ana", "ben")}
    for person, key in keys.items():
        write_private(folder / f"{person}.key", key, None)
    trust = replace(
        nobody,
        keys=tuple(
            wm.TrustedKey(person=person.title(), key=keys[person].public, roles=(role,))
            for person, role in (("ana", "signer"), ("ben", "approver"))
        ),
        products=(
            wm.ProductRule(
                product=PRODUCT, required_roles=(wm.RoleThreshold(role="signer", threshold=1),), minimum_serial=4
            ),
        ),
    )
    wm.write_trust(folder / "trust.json", trust, keeper)
    pack, manifest = folder / "model.pack", folder / "manifest"
    identity = ["--product", PRODUCT, "--version", "1.0", "--serial", "4"]
    for words in (
        ["pack", folder / "source", "-o", pack],
        ["sign", pack, "--key", folder / "ana.key", *identity],
        ["weigh", pack, "-o", manifest, *identity],
        ["sign", manifest, "--key", folder / "ana.key"],
        ["sign", pack, "--key", folder / "ben.key", "--role", "approver"],
    ):
        assert main([str(word) for word in words]) == 0
    return SimpleNamespace(
        folder=folder, pack=pack, manifest=manifest, trust=trust, keeper=keeper, pin=nobody.roots.fingerprint
    )


def gate(made: SimpleNamespace, trust: Path | None = None) -> wm.Gate:
    return wm.Gate(
        made.manifest,
        trust or made.folder / "trust.json",
        roots=made.pin,
        expect=PRODUCT,
        mark=None,
        source=made.pack,
    )


@pytest.mark.slow
def test_a_model_loaded_from_a_pack_is_admitted(made: SimpleNamespace) -> None:
    with weighmaster.hf.trusting(made.folder / "trust.json", roots=made.pin, expect=PRODUCT):
        model = BertForSequenceClassification.from_pretrained(made.pack, dtype="auto")
    admission = gate(made).admit(model)
    admission.guard(model)
    assert "Ana" in str(admission.verdict.signers)
    with torch.no_grad():
        assert model(input_ids=torch.arange(6).reshape(1, 6)).logits.shape == (1, 2)


@pytest.mark.slow
def test_another_bit_is_not(made: SimpleNamespace, flip_bit: Callable[..., None]) -> None:
    model = BertForSequenceClassification.from_pretrained(made.pack, dtype="auto")
    flip_bit(model.classifier.weight)
    with pytest.raises(NotAdmitted) as caught:
        gate(made).admit(model)
    assert caught.value.exit_code == 10
    assert [fault.subject for fault in caught.value.faults] == ["classifier.weight"]


@pytest.mark.slow
def test_a_revoked_pack_takes_its_manifests_along(made: SimpleNamespace, tmp_path: Path) -> None:
    with wm.open_pack(made.pack) as pack:
        root = pack.root
    (rule,) = made.trust.products
    revoked = replace(made.trust, products=(replace(rule, revoked_roots=(root,)),))
    wm.write_trust(tmp_path / "trust.json", revoked, made.keeper)
    with pytest.raises(NotAdmitted) as caught:
        gate(made, tmp_path / "trust.json").admit(torch.nn.Linear(1, 1))
    (fault,) = caught.value.faults
    assert str(fault) == (
        f"derivation: the weights were rebuilt from a pack that is revoked for {PRODUCT}; "
        f"expected a pack in force, found revoked root {root}"
    )
    assert caught.value.exit_code == 14


@pytest.mark.slow
def test_the_manifest_says_what_it_was_rebuilt_from(made: SimpleNamespace, capfd: pytest.CaptureFixture[str]) -> None:
    statement = wm.read_unsigned(made.manifest).statement
    made_from = statement.derivation
    assert made_from is not None
    with wm.open_pack(made.pack) as pack:
        assert made_from.pack == pack.root
        assert made_from.encoder.profile == pack.index.encoder.profile == "exact"
        assert [(p.path, p.sha256, p.nbytes) for p in made_from.parents] == [
            (f.path, f.sha256, f.size) for f in pack.index.source
        ]
    roles = {source.path: source.role for source in statement.sources}
    assert roles["pack.index"] == roles["model.safetensors"] == "weights"
    assert not [path for path in roles if path.endswith(".sigstore.json")]
    assert main(["show", str(made.manifest)]) == 0
    assert f"rebuilt from  pack {made_from.pack}\n" in capfd.readouterr().out
    assert main(["show", str(made.manifest), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["derivation"]["pack"] == made_from.pack
    assert main(["diff", str(made.manifest), str(made.manifest)]) == 0
    assert f"rebuilt from pack {made_from.pack}" in capfd.readouterr().out


@pytest.mark.slow
def test_a_model_of_other_files_is_not_said_to_be_rebuilt(made: SimpleNamespace, tmp_path: Path) -> None:
    wm.unpack_model(made.pack, tmp_path / "plain")
    opened = wm.open_model(tmp_path / "plain")
    with pytest.raises(wm.UsageError, match=r"not loaded from this pack; expected [0-9a-f]{64}, found nothing"):
        wm.weigh(opened.model, product=PRODUCT, version="1", serial=5, source=made.pack)


@pytest.mark.slow
def test_at_rest_a_pack_has_the_table_of_the_unpacked_model(made: SimpleNamespace, tmp_path: Path) -> None:
    wm.unpack_model(made.pack, tmp_path / "plain")
    settings: dict[str, Any] = {"product": PRODUCT, "version": "1", "serial": 5}
    packed, plain = wm.weigh_files(made.pack, **settings), wm.weigh_files(tmp_path / "plain", **settings)
    assert packed.gate.data == plain.gate.data
    assert packed.statement.derivation is not None
    assert plain.statement.derivation is None
    assert packed.write(tmp_path / "manifest").exists()
    assert wm.read_unsigned(tmp_path / "manifest").statement == packed.statement
    with wm.open_pack(made.pack) as pack:
        trusted = wm.verify_trusted_pack(
            made.pack,
            wm.read_trust(made.folder / "trust.json", made.pin, wm_now()),
            expect=PRODUCT,
            now=wm_now(),
        )[1]
        assert trusted.statement.tensors == packed.root
        assert trusted.statement.root == pack.root


def wm_now() -> Any:
    from weighmaster.flows.clock import wall_clock

    return wall_clock()


def test_the_command_line_verifies_a_pack(made: SimpleNamespace, capfd: pytest.CaptureFixture[str]) -> None:
    trusting = ["--trust", str(made.folder / "trust.json"), "--roots", made.pin, "--expect", PRODUCT]
    assert main(["verify", str(made.pack), *trusting, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["result"], document["originChecked"], document["serial"]) == ("verified", True, 4)
    assert [signer["person"] for signer in document["signers"]] == ["Ben", "Ana"]
    assert main(["verify", str(made.pack), *trusting]) == 0
    out = capfd.readouterr().out
    assert "result           seal holds; all of the pack is what its index says\n" in out
    assert "rollback: no high-water mark was read" in out
    assert main(["verify", str(made.pack)]) == 0
    assert "consistent, origin not checked" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "fact"),
    [
        (["--expect", PRODUCT], 2, "the following arguments are required: --trust, --roots"),
        (["--trust", "TRUST", "--roots", "PIN", "--expect", "other"], 13, "does not say who must sign for other"),
        (["--trust", "TRUST", "--roots", "PIN", "--expect", PRODUCT, "--mark", "gone"], 2, "gone: no such mark"),
        (["--source", "."], 2, "is a pack, for which there is no --source"),
    ],
)
def test_the_command_line_refuses(
    made: SimpleNamespace, words: list[str], code: int, fact: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stands = {"TRUST": str(made.folder / "trust.json"), "PIN": made.pin}
    assert main(["verify", str(made.pack), *(stands.get(word, word) for word in words)]) == code
    assert fact in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["PACK", "--product", "p"], "expected --product, --version and --serial, found not all"),
        (["PACK", "--product", "p", "--version", "1", "--serial", "9"], "is signed already"),
        (["MANIFEST", "--serial", "9"], "--serial: has no meaning for a manifest, whose statement says it"),
        (["MANIFEST", "--report", "r.json"], "--report: has no meaning for a manifest"),
    ],
)
def test_what_is_said_of_a_pack_is_said_by_its_first_signer(
    made: SimpleNamespace, words: list[str], fact: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stands = {"PACK": str(made.pack), "MANIFEST": str(made.manifest)}
    arguments = [stands.get(word, word) for word in words]
    assert main(["sign", *arguments, "--key", str(made.folder / "ana.key")]) == 2
    assert fact in capfd.readouterr().err
