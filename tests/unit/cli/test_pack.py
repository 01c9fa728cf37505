# SPDX-License-Identifier: Apache-2.0
"""`pack`, `unpack`, `show` and `verify` of packs, as a user types them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.packs import tiny, values, write_model

from weighmaster.cli.pack_summary import bits
from weighmaster.pack.reader import open_pack

Cli = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors = tiny() | {"big": ("bfloat16", (64, 96), values("bfloat16", (64, 96)))}
    return write_model(tmp_path / "m", tensors, {"config.json": "{}", "vocab.txt": "a"})


@pytest.fixture
def pack(cli: Cli, model: Path, tmp_path: Path) -> Path:
    assert cli("pack", model, "-o", tmp_path / "p").code == 0
    return tmp_path / "p"


def test_pack_says_what_it_made(cli: Cli, model: Path, tmp_path: Path):
    (model / "pytorch_model.bin").write_bytes(b"x")
    run = cli("pack", model, "-o", tmp_path / "p", "--json")
    with open_pack(tmp_path / "p") as opened:
        root, per_weight = opened.root, bits(opened.bits_per_weight())
    assert (run.code, run.err) == (0, "")
    assert (run.json["result"], run.json["root"], run.json["signed"]) == ("packed", root, False)
    assert run.json["bitsPerWeight"] == per_weight
    assert run.json["codecs"] == {"exact-v1": 1, "raw-v1": 3}
    assert run.json["notPacked"] == ["pytorch_model.bin"]
    assert run.json["encoder"]["profile"] == "exact"
    text = cli("pack", model, "-o", tmp_path / "q").out
    assert f"pack root        {root}\n" in text
    assert "read back        4 tensors, each as it has to be\n" in text
    assert "not packed       pytorch_model.bin" in text


def test_wishes_that_do_not_fit(cli: Cli, model: Path, tmp_path: Path):
    run = cli("pack", model, "-o", tmp_path / "p", "--bits", "9")
    assert run.code == 2
    assert "weighmaster pack: bits: expected 3 to 8 in steps of 0.1, found 9" in run.err
    run = cli("pack", model, "-o", tmp_path / "p", "--profile", "exact", "--bits", "5")
    assert "profile exact: expected no bits, found 5 bits" in run.err
    assert not (tmp_path / "p").exists()


def test_show(cli: Cli, pack: Path):
    run = cli("show", pack)
    assert run.code == 0
    assert "consistent, origin not checked; tensors are compared as they are read" in run.out
    for label in ("pack root", "seals", "bits per weight", "encoder", "deviation", "source", "files", "decoder"):
        assert f"\n{label}  " in f"\n{run.out}", label
    assert "big" not in run.out
    (pack / "signer-1.sigstore.json").write_text("{}")
    shown = cli("show", pack, "--tensors", "--json").json
    assert (shown["kind"], shown["conclusion"]) == ("pack", "consistent, origin not checked")
    assert (shown["originChecked"], shown["seals"]) == (False, ["signer-1.sigstore.json"])
    assert [t["name"] for t in shown["tensorEntries"]] == ["a.bias", "a.weight", "big", "steps"]
    assert {t["name"]: t["bits"] for t in shown["tensorEntries"]}["a.bias"] == "32.0000"
    table = cli("show", pack, "--tensors").out
    assert "name      codec     dtype     shape   bits" in table


def test_show_has_no_other_parts_of_a_pack(cli: Cli, pack: Path):
    run = cli("show", pack, "--environment")
    assert (run.code, "is a pack, which has no environment and no structure" in run.err) == (2, True)


def test_verify(cli: Cli, pack: Path):
    run = cli("verify", pack, "--json")
    assert run.code == 0
    assert (run.json["result"], run.json["originChecked"]) == ("consistent", False)
    assert (run.json["tensors"], run.json["files"]) == (4, 5)
    assert "consistent, origin not checked" in cli("verify", pack).out


def test_verify_names_what_differs(cli: Cli, pack: Path):
    (pack / "vocab.txt").write_text("b")
    run = cli("verify", pack, "--json")
    assert (run.code, run.json["result"]) == (17, "halt")
    assert [f["subject"] for f in run.json["faults"]] == [f"{pack}/vocab.txt"]


def test_unpack(cli: Cli, pack: Path, model: Path, tmp_path: Path):
    run = cli("unpack", pack, "-o", tmp_path / "out", "--json")
    assert run.code == 0
    assert (run.json["result"], run.json["originChecked"], run.json["tensors"]) == ("unpacked", False, 4)
    assert (tmp_path / "out/config.json").read_text() == "{}"
    assert (tmp_path / "out/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    again = cli("unpack", pack, "-o", tmp_path / "out")
    assert (again.code, "exists already and is not overwritten" in again.err) == (2, True)


def test_a_damaged_pack_is_not_unpacked(cli: Cli, pack: Path, tmp_path: Path):
    data = (pack / "model.safetensors").read_bytes()
    (pack / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    run = cli("unpack", pack, "-o", tmp_path / "out")
    assert run.code == 20
    assert "big: chunk 0: CRC-32: expected" in run.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "text"), [(Fraction(5), "5.0000"), (Fraction(1, 3), "0.3334"), (Fraction(49_999, 10_000), "4.9999")]
)
def test_bits_are_never_rounded_down(value: Fraction, text: str):
    assert bits(value) == text
