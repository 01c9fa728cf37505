# SPDX-License-Identifier: Apache-2.0
"""``weighmaster export oms``: signs a dump that is the manifest's, and no other."""

from __future__ import annotations

import hashlib
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

import weighmaster as wm
from weighmaster.core.source import Source
from weighmaster.seal.bundle import parse_bundle
from weighmaster.seal.evidence import verify_evidence
from weighmaster.seal.keys import generate, load_public, write_private

EXPORT = ("export", "oms", "manifest", "--dump", "d", "--key", "ana.key", "-o", "model.sig")


@pytest.fixture
def dumped(cli, here):
    assert cli("dump", "manifest", "--model", "tinynet:load", "-o", "d").code == 0
    return here


def sources(folder):
    return tuple(
        Source(path=p.name, role="other", nbytes=p.stat().st_size, sha256=hashlib.sha256(p.read_bytes()).hexdigest())
        for p in sorted(folder.iterdir())
    )


def test_every_file_of_the_dump_is_signed(cli, dumped):
    run = cli(*EXPORT)
    assert run.code == 0
    assert "written     model.sig: 6 files of d, each as the manifest says\n" in run.out
    assert "NOT bound   data types, shapes and strides, except through the digest of index.jsonl\n" in run.out
    data, key = (dumped / "model.sig").read_bytes(), load_public(dumped / "ana.key.pub")
    evidence = verify_evidence(data, "model.sig", key, sources(dumped / "d"), is_source=lambda _: True)
    assert (evidence.kind, evidence.files) == ("oms-v1", 6)


def test_document(cli, dumped):
    document = cli(*EXPORT, "--json").json
    payload = json.loads(parse_bundle((dumped / "model.sig").read_bytes(), "model.sig").payload)
    assert (document["result"], document["format"], document["files"]) == ("exported", "oms-v1", 6)
    assert payload["subject"] == [{"name": "net", "digest": {"sha256": document["omsRoot"]}}]
    assert document["root"] == wm.read_unsigned("manifest").root
    assert document["signaturesChecked"] is False


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(folder):
    one, two = folder / "first.bias.bin", folder / "last.bias.bin"
    first, last = one.read_bytes(), two.read_bytes()
    one.write_bytes(last)
    two.write_bytes(first)


@pytest.mark.parametrize(
    ("attack", "code", "said"),
    [
        (lambda d: flip(d / "first.weight.bin"), 10, ["first.weight.bin: the file is not what the manifest says"]),
        (lambda d: (d / "first.weight.bin").write_bytes(b""), 10, ["first.weight.bin: the file is not"]),
        (swap, 10, ["first.bias.bin: the file is not", "last.bias.bin: the file is not"]),
        (lambda d: flip(d / "index.jsonl"), 10, ["index.jsonl: the file is not what the manifest says"]),
        (lambda d: flip(d / "SHA256SUMS"), 10, ["SHA256SUMS: the file is not what the manifest says"]),
        (lambda d: (d / "last.bias.bin").unlink(), 11, ["last.bias.bin: a file of the dump is missing"]),
        (lambda d: (d / "last.bias.bin").rename(d / "bias.bin"), 11,
         ["last.bias.bin: a file of the dump is missing", "bias.bin: a file that no dump of this manifest has"]),
        (lambda d: (d / "notes.txt").write_text(""), 11, ["notes.txt: a file that no dump of this manifest has"]),
        (lambda d: (d / ".hidden").mkdir(), 11, [".hidden: a file that no dump of this manifest has"]),
    ],
    ids=["bit", "cut", "swap", "index", "sums", "missing", "renamed", "extra", "folder"],
)  # fmt: skip
def test_another_dump_is_not_signed(cli, dumped, attack, code, said):
    attack(dumped / "d")
    run = cli(*EXPORT)
    assert (run.code, run.out, (dumped / "model.sig").exists()) == (code, "", False)
    assert [text for text in said if text not in run.err] == []


def test_a_link_in_the_place_of_a_file_is_not_followed(cli, dumped):
    path = dumped / "d/last.bias.bin"
    path.rename(dumped / "elsewhere.bin")
    path.symlink_to(dumped / "elsewhere.bin")
    assert cli(*EXPORT).code == 20


def test_another_models_dump_is_not_signed(cli, dumped):
    identity = ("--product", "net", "--version", "1", "--serial", "8", "--example", "tinynet:inputs")
    assert cli("weigh", "tinynet:flipped", "-o", "m", *identity).code == 0
    run = cli("export", "oms", "m", "--dump", "d", "--key", "ana.key", "-o", "model.sig")
    assert run.code == 10
    assert "first.weight.bin: the file is not what the manifest says" in run.err


def test_only_kinds_of_keys_that_the_tool_knows(cli, dumped):
    run = cli(*EXPORT[:5], "--key", "ben.key", "-o", "model.sig")
    assert run.code == 13
    assert "expected an ECDSA P-256 key, as OpenSSF Model Signing asks for, found ed25519" in run.err


def test_encrypted_key(cli, dumped):
    write_private(dumped / "cy.key", generate("ecdsa-p256-sha256"), b"secret")
    (dumped / "cy.pass").write_bytes(b"secret\n")
    (dumped / "cy.pass").chmod(0o600)
    words = (*EXPORT[:5], "--key", "cy.key", "-o", "model.sig")
    asked = cli(*words)
    assert (asked.code, "standard input is no terminal: give --passphrase-file FILE" in asked.err) == (2, True)
    (dumped / "other.pass").write_bytes(b"another\n")
    (dumped / "other.pass").chmod(0o600)
    assert cli(*words, "--passphrase-file", "other.pass").code == 13
    assert cli(*words, "--passphrase-file", "cy.pass").code == 0


@pytest.mark.parametrize(
    ("out", "said"),
    [("ana.key", "exists already and is not overwritten"), ("d/model.sig", "lies within the dump"),
     ("nowhere/model.sig", "No such file or directory")],
)  # fmt: skip
def test_places_where_nothing_is_written(cli, dumped, out, said):
    before = sorted(p.name for p in (dumped / "d").iterdir())
    run = cli(*EXPORT[:-1], out)
    assert run.code == 2
    assert said in run.err
    assert sorted(p.name for p in (dumped / "d").iterdir()) == before


def test_no_such_dump(cli, here):
    assert cli(*EXPORT).code == 2


# -- trusted-root -----------------------------------------------------------------------------------------------------

PKI = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[3] / "vectors" / "seal" / "pki.py")))
ROOT_EXPORT = ("export", "trusted-root", "t.json", "-o", "root.json", "--roots")


@pytest.fixture
def listed(cli, here):
    """Return the pin of a signed trust file with one authority and one timestamp authority with its own certificate."""
    house, stamping = PKI.authority("House root"), PKI.authority("Stamping root")
    made = {"house": house, "stamping": stamping, "stamper": PKI.stamper("Stamper", stamping)}
    for name, each in made.items():
        (here / f"{name}.pem").write_text(each.pem)
    cli("trust", "init", "t.json", "--root", "Rosa=rosa.key.pub", "--expires", "2100-01-01")
    cli("trust", "add-authority", "t.json", "--name", "House", "--certificate", "house.pem")
    cli("trust", "add-timestamp-authority", "t.json", "--name", "TSA", "--certificate", "stamping.pem",
        "--intermediate", "stamper.pem")  # fmt: skip
    assert cli("trust", "sign", "t.json", "--key", "rosa.key").code == 0
    return cli("trust", "show", "t.json", "--json").json["rootsFingerprint"]


def test_trusted_root_of_a_trust_file(cli, here, listed):
    run = cli(*ROOT_EXPORT, listed)
    assert run.code == 0
    assert "authority   House\ntimestamps  TSA\nNOT in it   persons, roles, thresholds, bare keys and rev" in run.out
    written = json.loads((here / "root.json").read_bytes())
    assert len(written["certificateAuthorities"]) == len(written["timestampAuthorities"]) == 1
    document = cli(*ROOT_EXPORT, listed, "--json").json
    assert (document["format"], document["trustVersion"]) == ("sigstore-trusted-root-v0.1", 1)
    assert (document["authorities"], document["timestampAuthorities"]) == (["House"], ["TSA"])


def test_trusted_root_of_another_pin(cli, here, listed):
    run = cli(*ROOT_EXPORT, "0" * 64)
    assert run.code == 13
    assert "does not begin at the roots that are pinned here" in run.err
    assert not (here / "root.json").exists()


def test_trusted_root_of_an_unsigned_change(cli, here, listed):
    mallory = ("--name", "Mallory", "--certificate", "stamping.pem")
    assert cli("trust", "add-authority", "t.json", *mallory, "-o", "next.json").code == 0
    (here / "next.json").replace(here / "t.json")
    run = cli(*ROOT_EXPORT, listed)
    assert run.code == 13
    assert "too few keepers of the roots signed" in run.err
    assert not (here / "root.json").exists()


def test_trusted_root_of_a_file_without_authorities(cli, here):
    run = cli("export", "trusted-root", "trust.json", "-o", "root.json", "--roots", "PIN")
    assert run.code == 2
    assert "trust.json: expected at least one certification authority, found none to export" in run.err
