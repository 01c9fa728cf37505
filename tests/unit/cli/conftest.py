# SPDX-License-Identifier: Apache-2.0
"""A tiny release (model, keys, trust file, signed manifest), made once, and a way to run command lines on copies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import weighmaster as wm
from weighmaster.cli.main import main
from weighmaster.seal.keys import PrivateKey, generate, write_private, write_public
from weighmaster.seal.trust_edit import with_key, with_product

MODEL = """
import os
import sys
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.last = torch.nn.Linear(16, 4)
    def forward(self, x):
        return self.last(torch.relu(self.first(x)))

def load():
    torch.manual_seed(0)
    return Net().eval()

def with_inputs():
    return load(), inputs()

def noisy():
    print("printed by the model")
    os.system("echo printed by a child")
    return load()

def flipped():
    model = load()
    with torch.no_grad():
        model.first.weight.view(torch.int32)[1, 1] ^= 1
    return model

def grown():
    model = load()
    model.register_buffer("spare", torch.ones(3))
    return model

def patched():
    model = load()
    original = model.first.forward
    model.first.forward = lambda x: original(x)
    return model

def training():
    return load().train()

def transposed():
    model = load()
    weight = model.first.weight
    model.first.weight = torch.nn.Parameter(weight.detach().t().contiguous().t())
    return model

def leaves():
    sys.exit(0)

def interrupted():
    raise KeyboardInterrupt

def broken():
    raise ValueError("no such checkpoint")

def inputs():
    return torch.zeros(2, 8)

def mistaken():
    return torch.zeros(2, 9)

number = 3
"""


@dataclass(frozen=True)
class Run:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on standard output: exactly one line."""
        line, empty = self.out.split("\n")
        assert empty == ""
        return json.loads(line)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], pin: str) -> Callable[..., Run]:
    """Run a command line in this process; descriptors are captured, so that writes of child processes count too.

    The word PIN stands for the fingerprint of the release's roots.
    """

    def run(*words: object) -> Run:
        capfd.readouterr()
        code = main([pin if word == "PIN" else str(word) for word in words])
        out, err = capfd.readouterr()
        return Run(code, out, err)

    return run


@pytest.fixture(scope="session")
def pin(nobody: wm.Trust) -> str:
    """The fingerprint of the roots of the release's trust file."""
    return nobody.roots.fingerprint


@pytest.fixture(scope="module")  # weighed in the process as the file finds it: others map libraries and patch torch
def release(tmp_path_factory: pytest.TempPathFactory, keeper: PrivateKey, nobody: wm.Trust) -> Path:
    """Return a folder with a model, keys of Ana, Ben and Rosa, trust.json, its pin, and a manifest signed by Ana."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "tinynet.py").write_text(MODEL)
    write_private(folder / "rosa.key", keeper, None)
    write_public(folder / "rosa.key.pub", keeper.public)
    trust = nobody
    for person, role, kind in (("Ana", "signer", "ecdsa-p256-sha256"), ("Ben", "approver", "ed25519")):
        key = generate(kind)
        write_private(folder / f"{person.lower()}.key", key, None)
        write_public(folder / f"{person.lower()}.key.pub", key.public)
        trust = with_key(trust, wm.TrustedKey(person=person, key=key.public, roles=(role,)))
    rule = wm.ProductRule(product="net", required_roles=(wm.RoleThreshold(role="signer", threshold=1),))
    wm.write_trust(folder / "trust.json", with_product(trust, rule), keeper)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        opened = wm.open_model("tinynet:with_inputs")
        manifest = wm.weigh(opened.model, product="net", version="1.0", serial=7, example_inputs=opened.probe)
    manifest.write(folder / "manifest")
    wm.sign(folder / "manifest", wm.load_private(folder / "ana.key", None))
    return folder


@pytest.fixture
def here(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the release, which is the current directory."""
    shutil.copytree(release, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
