# SPDX-License-Identifier: Apache-2.0
"""``weighmaster dump``: files that other tools can check, whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

import weighmaster as wm
from weighmaster.capture.dump_names import escape
from weighmaster.core.digest import digest_bytes
from weighmaster.flows import dump as flow

DUMP = ("dump", "manifest", "--model", "tinynet:load", "-o", "d")


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.name == "d" or p.name.startswith(".d")]


@pytest.mark.requirement("REQ-CLI-07")
def test_each_primary_row_is_a_file_of_its_bytes(cli, here):
    run = cli(*DUMP)
    assert run.code == 0
    assert "signatures  not checked\n" in run.out
    manifest = wm.read_unsigned("manifest")
    index = [json.loads(line) for line in (here / "d/index.jsonl").read_bytes().splitlines()]
    assert [e["name"] for e in index] == [r.name for r in manifest.gate.rows]
    for entry, row in zip(index, manifest.gate.rows, strict=True):
        assert entry["file"] == f"{escape(row.name)}.bin"
        found = digest_bytes((here / "d" / entry["file"]).read_bytes())
        assert (
            (found.sha256, found.fsverity64k)
            == (row.sha256, row.fsverity64k)
            == (entry["sha256"], entry["fsverity64k"])
        )
        assert (entry["dtype"], entry["shape"], entry["stride"]) == (row.dtype, [*row.shape], [*row.stride])
    sums = dict(reversed(line.split("  ")) for line in (here / "d/SHA256SUMS").read_text().splitlines())
    assert set(sums) == {p.name for p in (here / "d").iterdir()} - {"SHA256SUMS"}
    assert all(hashlib.sha256((here / "d" / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())


def test_aliases_share_the_file_of_their_primary(cli, here):
    (here / "tiednet.py").write_text(
        "import torch\n"
        "class Tied(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a = torch.nn.Linear(3, 3)\n"
        "        self.b = torch.nn.Linear(3, 3)\n"
        "        self.b.weight = self.a.weight\n"
        "    def forward(self, x):\n"
        "        return self.b(self.a(x))\n"
        "def load():\n"
        "    torch.manual_seed(1)\n"
        "    return Tied().eval(), torch.ones(2, 3)\n"
    )
    identity = ("--product", "net", "--version", "1", "--serial", "1")
    assert cli("weigh", "tiednet:load", "-o", "m", *identity).code == 0
    assert cli("dump", "m", "--model", "tiednet:load", "-o", "d").code == 0
    index = {e["name"]: e for e in map(json.loads, (here / "d/index.jsonl").read_bytes().splitlines())}
    assert (index["b.weight"]["alias"], index["b.weight"]["file"]) == ("a.weight", "a.weight.bin")
    assert not (here / "d/b.weight.bin").exists()


def test_document(cli, here):
    document = cli(*DUMP, "--json").json
    assert (document["result"], document["files"], document["bytes"], document["directory"]) == (
        "dumped",
        4,
        "848",
        "d",
    )
    assert document["signaturesChecked"] is False


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [("flipped", 10, "(9) tensor digests: first.weight: bytes differ (SHA-256)"),
     ("grown", 11, "(8) tensor set: spare: is not in the validated table"),
     ("transposed", 11, "(8) tensor set: first.weight: its form differs"),
     ("training", 18, "(6) stage and method: (model): is in training mode"),
     ("leaves", 70, "ended the process"), ("broken", 2, "no such checkpoint")],
)  # fmt: skip
def test_other_model_leaves_nothing(cli, here, model, code, said):
    run = cli("dump", "manifest", "--model", f"tinynet:{model}", "-o", "d")
    assert (run.code, run.out, leftovers(here)) == (code, "", [])
    assert said in run.err


def test_missing_tensor(cli, here):
    cli(
        "weigh",
        "tinynet:grown",
        "-o",
        "m",
        "--product",
        "net",
        "--version",
        "1",
        "--serial",
        1,
        "--example",
        "tinynet:inputs",
    )
    run = cli("dump", "m", "--model", "tinynet:load", "-o", "d")
    assert (run.code, leftovers(here)) == (11, [])
    assert "(8) tensor set: spare: is missing" in run.err


def test_byte_that_changes_between_memory_and_file_is_seen(cli, here, monkeypatch):
    """The digests are of what was written: a reader that errs between memory and file is caught."""
    steady = flow._steady_views

    def views(opened, manifest):
        found = steady(opened, manifest)
        name = "last.bias"
        view = found[name]

        def read(start, stop):
            data = bytearray(view.read(start, stop))
            data[0] ^= 1
            return memoryview(data)

        return {**found, name: dataclasses.replace(view, read=read)}

    monkeypatch.setattr(flow, "_steady_views", views)
    run = cli(*DUMP)
    assert (run.code, leftovers(here)) == (10, [])
    assert "last.bias: bytes differ" in run.err


def test_interrupt_leaves_nothing(cli, here, monkeypatch):
    def interrupted(path, data):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "write_atomically", interrupted)
    run = cli(*DUMP)
    assert (run.code, leftovers(here)) == (130, [])


def test_directory_that_exists(cli, here):
    (here / "d").mkdir()
    run = cli("dump", "manifest", "--model", "tinynet:leaves", "-o", "d")
    assert run.code == 2
    assert "d: exists already and is not overwritten" in run.err


def test_file_system_that_refuses(cli, here):
    assert cli("dump", "manifest", "--model", "tinynet:load", "-o", "/proc/weighmaster/d").code == 70


def test_manifest_of_files_has_no_live_tensors(cli, here):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, "w.safetensors")
    cli("weigh", "w.safetensors", "-o", "m", "--product", "net", "--version", "1", "--serial", 1)
    run = cli("dump", "m", "--model", "tinynet:load", "-o", "d")
    assert (run.code, leftovers(here)) == (2, [])
    assert "the manifest is one of files" in run.err


def test_names_that_no_file_system_takes(cli, here):
    (here / "oddnet.py").write_text(
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_buffer('index', torch.ones(2))\n"
        "        self.register_buffer('SHA256SUMS', torch.ones(2) * 2)\n"
        "        self.register_buffer('sha256sums', torch.ones(2) * 3)\n"
        "        self.register_buffer('a/b', torch.ones(2) * 4)\n"
        "        self.register_buffer('n' * 400, torch.ones(2) * 5)\n"
        "    def forward(self, x):\n"
        "        return x + sum(self.buffers())\n"
        "def load():\n"
        "    return Odd().eval(), torch.ones(2)\n"
    )
    identity = ("--product", "net", "--version", "1", "--serial", "1")
    assert cli("weigh", "oddnet:load", "-o", "m", *identity).code == 0
    assert cli("dump", "m", "--model", "oddnet:load", "-o", "d").code == 0
    names = {p.name for p in (here / "d").iterdir()}
    assert {"index.bin", "%53%48%41256%53%55%4d%53.bin", "sha256sums.bin", "a%2fb.bin"} <= names
    assert len(names) == 5 + 2
