# SPDX-License-Identifier: Apache-2.0
"""Small real models, a signer, and a gate around any model, for the tests of capture, flows, attacks, journeys."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from weighmaster.errors import NotAdmitted
from weighmaster.flows.admission import Admission
from weighmaster.flows.admit import Gate
from weighmaster.flows.approve import sign
from weighmaster.flows.artefact import Manifest
from weighmaster.flows.weigh import weigh
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey
from weighmaster.seal.trust_chain import VerifiedTrust, chain_to_bytes, countersign, new_chain, open_trust
from weighmaster.seal.trust_edit import with_key, with_product

PRODUCT = "reader"
KEEPER = generate("ed25519")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EMPTY = Trust(
    expires=datetime(2100, 1, 1, tzinfo=UTC),
    roots=Roots(keys=(RootKey(person="Rosa", key=KEEPER.public),), threshold=1),
)


def signed(trust: Trust) -> VerifiedTrust:
    """Have Rosa sign a trust document, and open it from her pin."""
    data = chain_to_bytes(countersign(new_chain(trust, trust.file), KEEPER))
    return open_trust(data, trust.file, roots=trust.roots.fingerprint, now=NOW)


torch.set_num_threads(1)  # tensors here are tiny: a second thread only waits


def settle() -> None:
    """Do at once what changes a process for good, so that no test finds it changed between two weighings.

    bitsandbytes maps its library, and transformers gives torch's Module a method when a first model is made. Which test
    does so first depends on how the files are dealt out to processes.
    """
    with contextlib.suppress(ImportError):
        import_module("bitsandbytes")
        transformers = import_module("transformers")
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        transformers.BertModel(transformers.BertConfig(vocab_size=8, max_position_embeddings=8, **sizes))


settle()


class SmallNet(torch.nn.Module):
    """A convnet with every kind of tensor that matters: leaves of 1 and 2, equal shapes, buffers, an unused buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.bn = torch.nn.BatchNorm2d(8)
        self.up = torch.nn.Linear(8, 4096)  # 131,072 bytes: two leaves
        self.down = torch.nn.Linear(4096, 4)  # 65,536 bytes: exactly one leaf

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(torch.relu(self.bn(self.conv(x))).mean((2, 3)))))


class TinyHead(torch.nn.Module):
    """One linear layer; tests hang state on it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


@pytest.fixture
def small() -> Callable[[], torch.nn.Module]:
    """Return a maker of equal small convnets in evaluation mode."""

    def make() -> torch.nn.Module:
        torch.manual_seed(0)
        return SmallNet().eval()

    return make


@pytest.fixture
def head() -> Callable[[], torch.nn.Module]:
    """Return a maker of one-layer models in evaluation mode."""

    def make() -> torch.nn.Module:
        torch.manual_seed(0)
        return TinyHead().eval()

    return make


@pytest.fixture(scope="session")
def tiny_head() -> type[torch.nn.Module]:
    """The class of the one-layer model, to derive from."""
    return TinyHead


def llama_config(**changes: Any) -> Any:
    from transformers import LlamaConfig

    settings = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 128,
        "max_position_embeddings": 64,
    }
    return LlamaConfig(**{**settings, **changes})


@pytest.fixture(scope="session")
def llama() -> Callable[..., torch.nn.Module]:
    """Return a maker of equal tiny Llamas; keyword arguments change the configuration."""

    def make(**changes: Any) -> torch.nn.Module:
        from transformers import LlamaForCausalLM

        torch.manual_seed(0)
        return LlamaForCausalLM(llama_config(**changes)).eval()

    return make


@pytest.fixture(scope="session")
def bert() -> Callable[..., torch.nn.Module]:
    """Return a maker of equal tiny BERTs; keyword arguments change the configuration."""

    def make(**changes: Any) -> torch.nn.Module:
        from transformers import BertConfig, BertModel

        settings = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "vocab_size": 128,
            "max_position_embeddings": 64,
        }
        torch.manual_seed(0)
        return BertModel(BertConfig(**{**settings, **changes})).eval()

    return make


QUANTIZED = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4-double": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}


@pytest.fixture(scope="session")
def llama_directory(llama: Callable[..., torch.nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny Llama in bfloat16."""
    directory = tmp_path_factory.mktemp("llama")
    llama(num_hidden_layers=1).to(torch.bfloat16).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def quantized(llama_directory: Path) -> Callable[[str], torch.nn.Module]:
    """Return a loader of the tiny Llama under a bitsandbytes quantizer, by name (`QUANTIZED`)."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

    def load(kind: str) -> torch.nn.Module:
        settings = dict(QUANTIZED[kind])
        if "load_in_4bit" in settings:
            settings["bnb_4bit_compute_dtype"] = torch.bfloat16
        return AutoModelForCausalLM.from_pretrained(
            llama_directory,
            quantization_config=BitsAndBytesConfig(**settings),
            device_map="cpu",
            dtype=torch.bfloat16,
        ).eval()

    return load


@pytest.fixture(params=["small", "bert", "llama", *QUANTIZED])
def any_model(request: pytest.FixtureRequest) -> torch.nn.Module:
    """One model of each kind."""
    kind = request.param
    if kind in QUANTIZED:
        return request.getfixturevalue("quantized")(kind)
    return request.getfixturevalue(kind)()


@pytest.fixture(scope="session")
def keeper() -> PrivateKey:
    """The key of Rosa, who keeps the trust documents."""
    return KEEPER


@pytest.fixture(scope="session")
def nobody() -> Trust:
    """A trust document of Rosa's that trusts nobody yet."""
    return EMPTY


@pytest.fixture(scope="session")
def signed_trust() -> Callable[[Trust], VerifiedTrust]:
    """Have Rosa sign a trust document, and open it from her pin."""
    return signed


@pytest.fixture(scope="session")
def signer() -> PrivateKey:
    """The key of Ana, whom the trust file of `sealed` lists as signer."""
    return generate("ed25519")


@dataclass(frozen=True, kw_only=True)
class SealedModel:
    """A manifest that was signed, where it lies, and the trust under which it holds."""

    directory: Path
    manifest: Manifest
    trust: Trust

    def gate(self, **keywords: Any) -> Gate:
        settings: dict[str, Any] = {"trust": self.trust, "expect": PRODUCT, "mark": None, **keywords}
        trust = settings.pop("trust")
        return Gate(self.directory, signed(trust) if isinstance(trust, Trust) else trust, **settings)

    def admit(self, model: torch.nn.Module, **keywords: Any) -> Admission:
        return self.gate(**keywords).admit(model)

    def refuse(self, model: torch.nn.Module, **keywords: Any) -> NotAdmitted:
        """Return the refusal; fail where the model is admitted."""
        with pytest.raises(NotAdmitted) as caught:
            self.gate(**keywords).admit(model)
        return caught.value


@pytest.fixture
def sealed(signer: PrivateKey, tmp_path: Path) -> Callable[..., SealedModel]:
    """Weigh a model, write and sign its manifest; ``rule`` changes the product rule, the rest goes to `weigh`."""
    made: list[Path] = []

    def make(model: torch.nn.Module, *, rule: dict[str, Any] | None = None, **keywords: Any) -> SealedModel:
        settings = {"product": PRODUCT, "version": "1.0", "serial": 1, **keywords}
        manifest = weigh(model, **settings)
        directory = manifest.write(tmp_path / f"manifest-{len(made)}")
        made.append(directory)
        sign(directory, signer)
        roles = (RoleThreshold(role="signer", threshold=1),)
        trust = with_key(EMPTY, TrustedKey(person="Ana", key=signer.public, roles=("signer",)))
        trust = with_product(trust, ProductRule(product=PRODUCT, required_roles=roles, **(rule or {})))
        return SealedModel(directory=directory, manifest=manifest, trust=trust)

    return make


class FakeClock:
    """A clock that stands until it is told to go."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


def flip(tensor: torch.Tensor, byte: int = 0, bit: int = 0) -> None:
    """Flip one bit of a tensor's storage, in place."""
    raw = torch.empty(0, dtype=torch.uint8)
    size = tensor.numel() * tensor.element_size()
    raw.set_(tensor.detach().untyped_storage(), tensor.storage_offset() * tensor.element_size(), (size,), (1,))
    raw[byte] ^= 1 << bit


@pytest.fixture(scope="session")
def flip_bit() -> Callable[..., None]:
    return flip


@pytest.fixture(scope="session")
def digest_of() -> Callable[[torch.Tensor], str]:
    """SHA-256 of a dense tensor's bytes as they lie, by another way than the package's: through a list of bytes."""

    def digest(tensor: torch.Tensor) -> str:
        raw = torch.empty(0, dtype=torch.uint8)
        size = tensor.numel() * tensor.element_size()
        raw.set_(tensor.detach().untyped_storage(), tensor.storage_offset() * tensor.element_size(), (size,), (1,))
        return hashlib.sha256(bytes(raw.tolist())).hexdigest()

    return digest
