# SPDX-License-Identifier: Apache-2.0
"""Attempts 82 to 93: code that packs bring, seals of others, what is older or revoked (see README.md)."""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, GenerationConfig
from transformers import dynamic_module_utils as dynamic

import weighmaster as wm
import weighmaster.hf
from weighmaster.errors import Faults, MalformedArtefact, NotAdmitted
from weighmaster.flows.mark import Mark, MarkFile
from weighmaster.flows.pack_seal import open_trusted_pack
from weighmaster.flows.trusted import open_trusted
from weighmaster.seal.keys import PrivateKey, generate

PRODUCT = "reader"
RAN = "weighmaster_test_code_ran"
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}

CONFIGURATION = f"""
import builtins
from transformers import BertConfig
builtins.{RAN} += 1

class OwnConfig(BertConfig):
    model_type = "own-kind"
"""
MODELING = f"""
import builtins
from transformers import BertModel
from .configuration_own import OwnConfig
builtins.{RAN} += 1

class OwnModel(BertModel):
    config_class = OwnConfig
    shouts = "from the pack"
"""
PLANTED = (
    f"import builtins\nbuiltins.{RAN} += 100\nfrom transformers import BertConfig as OwnConfig, BertModel as OwnModel\n"
)
MISTAKEN = "predicateType: expected 'https://weighmaster.dev/pack/v1', found 'https://weighmaster.dev"
AUTO_MAP = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Count what ran, and keep copies of code in a folder of the test."""
    monkeypatch.setattr(builtins, RAN, 0, raising=False)
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def ran() -> int:
    return int(getattr(builtins, RAN))


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKey]:
    return {person: generate("ed25519") for person in ("Ana", "Ben", "Mallory")}


@pytest.fixture(scope="module")
def trust(
    keys: dict[str, PrivateKey], nobody: wm.Trust, keeper: PrivateKey, tmp_path_factory: Any
) -> Callable[..., Path]:
    """Return a writer of trust files; keywords change the rule of the product."""

    def write(**rule: Any) -> Path:
        listed = (("Ana", "signer"), ("Ben", "approver"))
        document = replace(
            nobody,
            keys=tuple(wm.TrustedKey(person=p, key=keys[p].public, roles=(role,)) for p, role in listed),
            products=(
                wm.ProductRule(
                    **{
                        "product": PRODUCT,
                        "required_roles": (wm.RoleThreshold(role="signer", threshold=1),),
                        "minimum_serial": 4,
                        **rule,
                    }
                ),
            ),
        )
        path = Path(tmp_path_factory.mktemp("trust")) / "trust.json"
        wm.write_trust(path, document, keeper)
        return path

    return write


@pytest.fixture
def pin(nobody: wm.Trust) -> str:
    return nobody.roots.fingerprint


def with_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own-kind", "auto_map": AUTO_MAP, "architectures": ["OwnModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, PrivateKey]) -> SimpleNamespace:
    """Two packs: ``plain``, and ``coded`` with code of its own; each signed by Ana as serial 4."""
    made = SimpleNamespace()
    for name in ("plain", "coded"):
        source = tmp_path_factory.mktemp(name) / "source"
        torch.manual_seed(1)
        BertModel(BertConfig(**SMALL)).save_pretrained(source)
        if name == "coded":
            with_code(source)
        pack = source.with_name("model.pack")
        wm.pack_model(source, pack)
        wm.sign_pack(pack, keys["Ana"], claim=wm.PackClaim(product=PRODUCT, version="1", serial=4))
        setattr(made, name, pack)
    return made


@pytest.fixture
def plain(packs: SimpleNamespace, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packs.plain, tmp_path / "plain.pack"))


@pytest.fixture
def coded(packs: SimpleNamespace, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packs.coded, tmp_path / "coded.pack"))


def said(error: BaseException | None) -> str:
    """Return all that an error and what it came from say: transformers wraps some."""
    text = ""
    while error is not None:
        text += f"{error}\n"
        error = error.__cause__ or error.__context__
    return text


def refused(load: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which, the texts say
        load()
    text = said(caught.value)
    chain: list[BaseException] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    assert any(isinstance(e, (Faults, wm.WeighmasterError)) for e in chain), text
    return text


# -- code -----------------------------------------------------------------------------------------------------------


def test_code_of_a_trusted_pack_is_run(coded: Path, trust: Callable[..., Path], pin: str) -> None:
    with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT):
        model = AutoModel.from_pretrained(coded, trust_remote_code=True)
    assert type(model).__name__ == "OwnModel"
    assert model.shouts == "from the pack"
    assert ran() >= 2
    loaded = weighmaster.hf.loaded_from(model)
    assert loaded is not None
    assert loaded.vouched == "reader 1, serial 4, signed by Ana"


@pytest.mark.requirement("REQ-PAC-10")
def test_82_code_of_a_pack_without_trust_or_unasked(coded: Path, trust: Callable[..., Path], pin: str) -> None:
    text = refused(lambda: AutoModel.from_pretrained(coded, trust_remote_code=True))
    assert "its code (configuration_own.OwnConfig) is run only where its seal was checked" in text
    assert "expected a pack that was found trusted, found one whose origin was not checked" in text
    with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT), pytest.raises(ValueError, match="custom code"):
        AutoModel.from_pretrained(coded, trust_remote_code=False)
    with pytest.raises(wm.UsageError, match="remote code, which is off"):
        wm.open_model(coded)
    assert ran() == 0


@pytest.mark.requirement("REQ-PAC-10")
def test_83_code_swapped_after_sealing(coded: Path, trust: Callable[..., Path], pin: str) -> None:
    for name in ("configuration_own.py", "modeling_own.py"):
        before = (coded / "source" / name).read_text()
        (coded / "source" / name).write_text(before.replace(f"{RAN} += 1", f"{RAN} += 9"))
    with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT):
        text = refused(lambda: AutoModel.from_pretrained(coded, trust_remote_code=True))
    assert "configuration_own.py: the file is not that of the index" in text
    assert ran() == 0


@pytest.mark.requirement("REQ-PAC-10")
@pytest.mark.parametrize("where", ["", "source/", "source/more/"])
@pytest.mark.parametrize("inside", [True, False])
def test_84_planted_code(plain: Path, where: str, inside: bool, trust: Callable[..., Path], pin: str) -> None:
    """An attacker adds a file and a configuration that asks for it."""
    (plain / where).mkdir(exist_ok=True)
    for name in ("configuration_own.py", "modeling_own.py"):
        (plain / where / name).write_text(PLANTED)
    with_code_map = json.loads((plain / "config.json").read_text()) | {"auto_map": AUTO_MAP, "model_type": "own-kind"}
    (plain / "config.json").write_text(json.dumps(with_code_map))
    if inside:
        with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT):
            text = refused(lambda: AutoModel.from_pretrained(plain, trust_remote_code=True))
    else:
        text = refused(lambda: AutoModel.from_pretrained(plain, trust_remote_code=True))
    assert str(plain) in text
    assert ran() == 0


@pytest.mark.requirement("REQ-PAC-10")
@pytest.mark.parametrize("way", ["source folder", "link to it", "subfolder", "by hand"])
def test_85_another_way_to_code_of_a_pack(coded: Path, way: str, tmp_path: Path) -> None:
    load: Callable[[], object]
    if way == "source folder":
        load = lambda: AutoConfig.from_pretrained(coded / "source", trust_remote_code=True)  # noqa: E731
    elif way == "link to it":
        (tmp_path / "elsewhere").symlink_to(coded / "source")
        load = lambda: AutoConfig.from_pretrained(tmp_path / "elsewhere", trust_remote_code=True)  # noqa: E731
    elif way == "subfolder":
        load = lambda: AutoConfig.from_pretrained(coded, subfolder="source", trust_remote_code=True)  # noqa: E731
    else:
        load = lambda: dynamic.get_cached_module_file(str(coded / "source"), "modeling_own.py")  # noqa: E731
    text = refused(load)
    assert "is run only where its seal was checked" in text or "is code of a pack, which is not read as a file" in text
    assert ran() == 0


@pytest.mark.requirement("REQ-PAC-10")
def test_86_code_of_another_repository(
    packs: SimpleNamespace, tmp_path: Path, keys: dict[str, PrivateKey], trust: Callable[..., Path], pin: str
) -> None:
    """Even where the pack that asks for it is signed."""
    source = tmp_path / "model"
    wm.unpack_model(packs.coded, source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoConfig": "someone/else--configuration_own.OwnConfig"}})
    )
    pack = tmp_path / "elsewhere.pack"
    wm.pack_model(source, pack)
    wm.sign_pack(pack, keys["Ana"], claim=wm.PackClaim(product=PRODUCT, version="1", serial=4))
    for context in (True, False):
        with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT) if context else nothing():
            text = refused(lambda: AutoConfig.from_pretrained(pack, trust_remote_code=True))
        assert "asks for code of another repository; expected code in the pack, found someone/else--" in text


class nothing:  # noqa: N801  # a context
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


@pytest.mark.requirement("REQ-PAC-10")
def test_87_code_where_the_index_was_removed(tmp_path: Path, trust: Callable[..., Path], pin: str) -> None:
    """A folder from which the index was removed is no pack any more."""
    source = tmp_path / "folder"
    BertModel(BertConfig(**SMALL)).save_pretrained(source)
    with_code(source)
    with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT):
        text = refused(lambda: AutoModel.from_pretrained(source, trust_remote_code=True))
    assert "expected a trusted pack, found no pack" in text
    assert ran() == 0


# -- origin ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-PAC-09")
@pytest.mark.parametrize(
    ("rule", "code", "fact"),
    [
        ({"product": "other"}, 13, "does not say who must sign for reader"),
        ({"minimum_serial": 5}, 14, "serial: older than reader allows (rollback); expected >= 5, found 4"),
        (
            {
                "required_roles": (
                    wm.RoleThreshold(role="signer", threshold=1),
                    wm.RoleThreshold(role="approver", threshold=1),
                )
            },
            13,
            "reader, role approver: too few persons signed; expected at least 1, found 0 (nobody)",
        ),
        (
            {"revoked_roots": ("ROOT",)},
            14,
            "root: the weights are revoked for reader; expected a root in force, found revoked",
        ),
        ({"accepted_roots": ("0" * 64,)}, 14, f"root: not accepted for reader; expected {'0' * 64}"),
    ],
)
def test_88_a_genuine_pack_that_is_not_in_force(
    plain: Path, rule: dict[str, Any], code: int, fact: str, trust: Callable[..., Path], pin: str
) -> None:
    with wm.open_pack(plain) as pack:
        root = pack.root
    rule = {key: (root,) if value == ("ROOT",) else value for key, value in rule.items()}
    path = trust(**rule)
    with weighmaster.hf.trusting(path, roots=pin, expect=PRODUCT):
        text = refused(lambda: AutoModel.from_pretrained(plain))
    assert fact in text
    now = datetime.now(UTC)
    with pytest.raises(NotAdmitted) as caught:
        wm.verify_trusted_pack(plain, wm.read_trust(path, pin, now), expect=PRODUCT, now=now)
    assert caught.value.exit_code == code
    assert fact in str(caught.value)


@pytest.mark.requirement("REQ-PAC-09")
@pytest.mark.parametrize(
    "what", ["none", "of another pack", "of a stranger", "of a manifest", "of a waiver", "garbage"]
)
def test_89_a_seal_that_does_not_vouch(
    plain: Path, what: str, packs: SimpleNamespace, keys: dict[str, PrivateKey], trust: Callable[..., Path], pin: str
) -> None:
    seal = plain / "signer-1.sigstore.json"
    seal.unlink()
    expected = {
        "none": "is not signed; expected at least one bundle, found none",
        "of another pack": "is not the pack that was signed: pack root; expected",
        "of a stranger": "signed with a key that is not trusted",
        "of a manifest": f"{MISTAKEN}/manifest/v1'",
        "of a waiver": f"{MISTAKEN}/waiver/v1'",
        "garbage": "signer-1.sigstore.json: byte 0: expected one JSON value",
    }[what]
    if what == "of another pack":
        shutil.copy(packs.coded / seal.name, seal)
    elif what == "of a stranger":
        wm.sign_pack(plain, keys["Mallory"], claim=wm.PackClaim(product=PRODUCT, version="1", serial=4))
    elif what == "garbage":
        seal.write_bytes(b"no seal")
    elif what != "none":
        from weighmaster.seal.bundle import make_bundle, parse_bundle

        payload = parse_bundle((packs.plain / seal.name).read_bytes(), "s").payload
        other = payload.replace(b"dev/pack/v1", b"dev/manifest/v1" if what == "of a manifest" else b"dev/waiver/v1")
        seal.write_bytes(make_bundle(other, keys["Ana"]))
    with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT):
        assert expected in refused(lambda: AutoModel.from_pretrained(plain))
        assert expected in refused(lambda: AutoTokenizer.from_pretrained(plain))
    if what != "garbage":
        assert AutoModel.from_pretrained(plain).config.hidden_size == 32  # consistent; its origin is not asked for here


@pytest.mark.requirement("REQ-PAC-09")
def test_90_a_seal_over_a_pack_as_that_of_a_manifest(
    plain: Path, tmp_path: Path, trust: Callable[..., Path], pin: str
) -> None:
    now, manifest = datetime.now(UTC), tmp_path / "manifest"
    shutil.copytree(Path(__file__).parents[2] / "vectors" / "manifest" / "live" / "manifest", manifest)
    shutil.copy(plain / "signer-1.sigstore.json", manifest)
    verified = wm.read_trust(trust(), pin, now)
    with pytest.raises(MalformedArtefact, match=r"predicateType: expected 'https://weighmaster\.dev/manifest/v1'"):
        open_trusted(wm.read_manifest(manifest), verified, PRODUCT, now=now, mark=None)


@pytest.mark.requirement("REQ-PAC-09")
def test_91_a_pack_older_than_what_a_gate_saw(
    plain: Path, tmp_path: Path, trust: Callable[..., Path], pin: str
) -> None:
    now = datetime.now(UTC)
    verified = wm.read_trust(trust(), pin, now)
    mark = MarkFile(tmp_path / "mark")
    for serial, holds in ((4, True), (5, False)):
        mark.path.write_bytes(mark_bytes(Mark.of(verified, product=PRODUCT, serial=serial, time=now)))
        with wm.open_pack(plain) as pack:
            if holds:
                assert open_trusted_pack(pack, verified, PRODUCT, now=now, mark=mark).statement.serial == 4
            else:
                with pytest.raises(NotAdmitted) as caught:
                    open_trusted_pack(pack, verified, PRODUCT, now=now, mark=mark)
                assert [str(fault) for fault in caught.value.faults] == [
                    "serial: older than one seen before (rollback); expected >= 5, found 4"
                ]
    with weighmaster.hf.trusting(verified, expect=PRODUCT, mark=mark.path):
        assert "serial: older than one seen before" in refused(lambda: AutoModel.from_pretrained(plain))


def mark_bytes(mark: Mark) -> bytes:
    from weighmaster.flows.mark import mark_to_bytes

    return mark_to_bytes(mark)


def test_92_a_pack_outside_of_the_context_that_trusts(plain: Path, trust: Callable[..., Path], pin: str) -> None:
    with weighmaster.hf.trusting(trust(minimum_serial=9), roots=pin, expect=PRODUCT):
        refused(lambda: AutoModel.from_pretrained(plain))
    loaded = weighmaster.hf.loaded_from(AutoModel.from_pretrained(plain))
    assert loaded is not None
    assert loaded.vouched is None


def test_trusting_needs_a_trust_file_and_its_pin(plain: Path, trust: Callable[..., Path], pin: str) -> None:
    for arguments, message in (
        ({"trust": trust()}, "roots: expected the fingerprint"),
        ({"trust": plain / "trust.json", "roots": pin}, "No such file"),
        ({"trust": trust(), "roots": "0" * 64}, "the trust file does not hold"),
    ):
        with (
            pytest.raises((wm.UsageError, NotAdmitted), match=message),
            weighmaster.hf.trusting(expect=PRODUCT, **arguments),
        ):
            raise AssertionError("entered")


# -- signing --------------------------------------------------------------------------------------------------------


def test_93_signing_a_pack_that_is_not_whole(plain: Path, keys: dict[str, PrivateKey], packs: SimpleNamespace) -> None:
    claim = wm.PackClaim(product=PRODUCT, version="2", serial=5)
    with pytest.raises(wm.UsageError, match="is signed already, and its statement says of which product it is"):
        wm.sign_pack(plain, keys["Ben"], role="approver", claim=claim)
    second = wm.sign_pack(plain, keys["Ben"], role="approver")
    assert second.name == "approver-1.sigstore.json"
    third = wm.sign_pack(plain, keys["Ana"])
    assert third.name == "signer-2.sigstore.json"
    for seal in plain.glob("*.sigstore.json"):
        seal.unlink()
    with pytest.raises(wm.UsageError, match="is not signed yet: say of which product, version and serial it is"):
        wm.sign_pack(plain, keys["Ana"])
    with pytest.raises(wm.UsageError, match="role: expected one of approver, signer, found 'owner'"):
        wm.sign_pack(plain, keys["Ana"], role="owner", claim=claim)
    with pytest.raises(wm.UsageError, match="product and version must not be empty"):
        wm.sign_pack(plain, keys["Ana"], claim=replace(claim, version=""))
    shutil.copy(packs.coded / "signer-1.sigstore.json", plain)
    with pytest.raises(wm.SignatureFault, match="is not the pack that was signed: pack root"):
        wm.sign_pack(plain, keys["Ben"])
    (plain / "signer-1.sigstore.json").unlink()
    shard = plain / "model.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises((NotAdmitted, MalformedArtefact), match=r"model\.safetensors|bert|encoder|pooler"):
        wm.sign_pack(plain, keys["Ana"], claim=claim)
    assert not list(plain.glob("*.sigstore.json"))


# -- other ways round ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-PAC-10")
@pytest.mark.parametrize("form", ["absolute", "upwards"])
def test_94_code_map_that_leads_outside(
    form: str, packs: SimpleNamespace, keys: dict[str, PrivateKey], trust: Callable[..., Path], pin: str, tmp_path: Path
) -> None:
    """The signer sealed a configuration whose code lies elsewhere: on the machine where it is loaded."""
    (tmp_path / "evil.py").write_text(PLANTED)
    source = Path(shutil.copytree(packs.coded / "source", tmp_path / "model"))
    wm.unpack_model(packs.plain, tmp_path / "weights")
    shutil.copy(tmp_path / "weights" / "model.safetensors", source)
    config = json.loads((source / "config.json").read_text())
    module = f"{tmp_path}/evil" if form == "absolute" else "../" * 12 + f"{tmp_path}/evil"[1:]
    (source / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": f"{module}.OwnConfig"}}))
    wm.pack_model(source, tmp_path / "model.pack")
    wm.sign_pack(tmp_path / "model.pack", keys["Ana"], claim=wm.PackClaim(product=PRODUCT, version="1", serial=4))
    with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT):
        text = refused(lambda: AutoConfig.from_pretrained(tmp_path / "model.pack", trust_remote_code=True))
    assert "asks for code that the pack does not have" in text
    assert ran() == 0


@pytest.mark.requirement("REQ-PAC-09")
def test_95_a_plain_checkpoint_in_the_place_of_a_pack(
    plain: Path, trust: Callable[..., Path], pin: str, tmp_path: Path
) -> None:
    wm.unpack_model(plain, tmp_path / "model")
    assert AutoModel.from_pretrained(tmp_path / "model") is not None
    with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT):
        text = refused(lambda: AutoModel.from_pretrained(tmp_path / "model"))
    assert "where only packs are loaded; expected a trusted pack, found no pack" in text


def test_96_a_shard_index_that_leads_to_another_pack(tmp_path: Path) -> None:
    made = []
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        BertModel(BertConfig(**SMALL)).save_pretrained(tmp_path / name)
        wm.pack_model(tmp_path / name, tmp_path / f"{name}.pack", shard_bytes=20_000)
        made.append(tmp_path / f"{name}.pack")
    first, other = made
    index = first / "model.safetensors.index.json"
    size, found = index.stat().st_size, json.loads(index.read_text())
    led = json.dumps({"metadata": found["metadata"], "weight_map": {"x": f"../b.pack/{other_shard(other)}"}})
    index.write_text(led.ljust(size))
    text = refused(lambda: AutoModel.from_pretrained(first))
    assert "model.safetensors.index.json: weight_map: expected shards of this pack" in text or "index.json" in text
    with pytest.raises(NotAdmitted) as caught:
        wm.verify_pack(first)
    assert any("model.safetensors.index.json" in str(fault) for fault in caught.value.exceptions)


def other_shard(pack: Path) -> str:
    return min(path.name for path in pack.glob("*.safetensors"))


def test_97_a_generation_configuration_exchanged(plain: Path, trust: Callable[..., Path], pin: str) -> None:
    """transformers opens this file by another way than all others."""
    (plain / "generation_config.json").write_text('{"max_length": 7}')
    with weighmaster.hf.trusting(trust(), roots=pin, expect=PRODUCT):
        text = refused(lambda: GenerationConfig.from_pretrained(plain))
    assert "generation_config.json" in text
