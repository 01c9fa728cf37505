# SPDX-License-Identifier: Apache-2.0
"""From an empty folder to a checked dump with the installed command alone, as a user has it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("weighmaster")
MODEL = """
import sys
import time
import torch

def load():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(64, 300), torch.nn.ReLU(), torch.nn.Linear(300, 5)).eval(), inputs()

def flipped():
    model, example = load()
    with torch.no_grad():
        model[0].weight.view(torch.int32)[299, 63] ^= 1
    return model, example

class Endless(torch.nn.Module):
    def forward(self, x):
        print("running", file=sys.stderr, flush=True)
        time.sleep(120)

def endless():
    return Endless().eval(), inputs()

def inputs():
    return torch.linspace(-1, 1, 128).reshape(2, 64)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "journeynet.py").write_text(MODEL)
    return tmp_path


def weighmaster(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([COMMAND, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.requirement("REQ-CLI-01", "REQ-CLI-07")
@pytest.mark.slow
def test_from_keys_to_a_checked_dump(folder):
    identity = ("--product", "classifier", "--version", "1.0", "--serial", "1")
    weighmaster(folder, "keygen", "ana.key", "--no-passphrase")
    weighmaster(folder, "keygen", "rosa.key", "--no-passphrase")
    keeper = ("--root", "Rosa=rosa.key.pub", "--expires", "2100-01-01")
    weighmaster(folder, "trust", "init", "trust.json", *keeper)
    weighmaster(folder, "trust", "add-key", "trust.json", "--person", "Ana", "--key", "ana.key.pub", "--role", "signer")
    weighmaster(folder, "trust", "add-product", "trust.json", "--product", "classifier", "--require", "signer=1")
    kept = json.loads(weighmaster(folder, "trust", "sign", "trust.json", "--key", "rosa.key", "--json").stdout)
    pin = kept["rootsFingerprint"]
    assert "holds from the pinned roots" in weighmaster(folder, "trust", "show", "trust.json", "--roots", pin).stdout
    verify = ("verify", "manifest", "--trust", "trust.json", "--roots", pin, "--expect", "classifier")
    weighed = json.loads(weighmaster(folder, "weigh", "journeynet:load", "-o", "manifest", *identity, "--json").stdout)
    unsigned = weighmaster(folder, *verify, code=13)
    assert "is not signed" in unsigned.stderr
    weighmaster(folder, "sign", "manifest", "--key", "ana.key")

    sealed = weighmaster(folder, *verify)
    assert "seal holds; nothing was compared with it" in sealed.stdout
    checked = weighmaster(folder, *verify, "--model", "journeynet:load")
    assert "a load in this process matches" in checked.stdout
    assert checked.stderr == ""

    halt = weighmaster(folder, *verify, "--model", "journeynet:flipped", "--json", code=10)
    (fault,) = json.loads(halt.stdout)["faults"]
    assert (fault["step"], fault["subject"], fault["detail"]) == (
        9, "0.weight", "bytes differ, first in leaf 1 of 2 (bytes 65536 to 76799)",
    )  # fmt: skip
    assert "remedies:" in halt.stderr

    assert weighed["root"] in weighmaster(folder, "show", "manifest", "--tensors").stdout

    weighmaster(folder, "dump", "manifest", "--model", "journeynet:load", "-o", "dump")
    sums = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=folder / "dump",
        capture_output=True,
        text=True,
        check=True,
    )
    assert sums.stdout.count(": OK\n") == 5
    if shutil.which("fsverity"):
        digest = subprocess.run(
            ["fsverity", "digest", "--hash-alg=sha256", "--block-size=65536", "--compact", "0.weight.bin"],
            cwd=folder / "dump", capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        rows = {e["name"]: e for e in map(json.loads, (folder / "dump/index.jsonl").read_text().splitlines())}
        assert rows["0.weight"]["fsverity64k"] == digest

    weighmaster(folder, "weigh", "journeynet:flipped", "-o", "other", *identity)
    assert "0.weight: bytes differ" in weighmaster(folder, "diff", "manifest", "other", code=10).stdout
    assert "same" in weighmaster(folder, "diff", "manifest", "manifest").stdout


@pytest.mark.slow
def test_another_number_of_threads_is_another_environment(folder):
    """The process that serves must have the configuration that was validated: here OMP_NUM_THREADS differs."""
    for words in (
        ("keygen", "k", "--no-passphrase"),
        ("trust", "init", "t", "--root", "A=k.pub", "--expires", "2100-01-01"),
        ("trust", "add-key", "t", "--person", "A", "--key", "k.pub", "--role", "signer"),
        ("trust", "add-product", "t", "--product", "p"), ("trust", "sign", "t", "--key", "k"),
        ("weigh", "journeynet:load", "-o", "m", "--product", "p", "--version", "1", "--serial", "1"),
        ("sign", "m", "--key", "k"),
    ):  # fmt: skip
        weighmaster(folder, *words)
    pin = json.loads(weighmaster(folder, "trust", "show", "t", "--json").stdout)["rootsFingerprint"]
    threads = "7" if os.environ.get("OMP_NUM_THREADS") != "7" else "6"
    done = subprocess.run(
        [COMMAND, "verify", "m", "--trust", "t", "--roots", pin, "--expect", "p", "--model", "journeynet:load"],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": threads}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 12
    assert f"(4) environment: env.OMP_NUM_THREADS: differs; expected absent, found '{threads}'" in done.stderr or (
        "env.OMP_NUM_THREADS: differs" in done.stderr and "OMP_NUM_THREADS" in os.environ
    )
    assert done.stdout == ""


@pytest.mark.requirement("REQ-DUR-01")
@pytest.mark.slow
def test_interrupt_from_the_keyboard_leaves_nothing(folder):
    words = ("weigh", "journeynet:endless", "-o", "m", "--product", "p", "--version", "1", "--serial", "1")
    with subprocess.Popen(
        [COMMAND, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "weighmaster weigh: interrupted; nothing half-written was left under its final name\n"
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == ["journeynet.py"]
