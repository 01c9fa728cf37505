# SPDX-License-Identifier: Apache-2.0
"""``weighmaster verify``: each exit code by the cause that it stands for, and never the word of the gate."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import weighmaster as wm
from weighmaster.core.instant import instant_text
from weighmaster.errors import SelfTestFault
from weighmaster.flows import selftest
from weighmaster.flows.clock import wall_clock
from weighmaster.flows.mark import Mark, mark_to_bytes

VERIFY = ("verify", "manifest", "--trust", "trust.json", "--roots", "PIN", "--expect", "net")


def resigned(folder: Path, **changes: object) -> None:
    """Write the manifest anew with other fields in its statement, and have Ana sign it."""
    manifest = wm.read_unsigned(folder / "manifest")
    statement = dataclasses.replace(manifest.statement, **changes)
    other = dataclasses.replace(manifest, statement=statement, payload=statement.to_bytes())
    for path in (folder / "manifest").iterdir():
        path.unlink()
    (folder / "manifest").rmdir()
    other.write(folder / "manifest")
    wm.sign(folder / "manifest", wm.load_private(folder / "ana.key", None))


# -- what holds -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-CLI-08")
def test_seal_alone_says_that_nothing_was_compared(cli, here):
    run = cli(*VERIFY)
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("result       seal holds; nothing was compared with it\n")
    assert f"Ana (signer), key {wm.load_public(here / 'ana.key.pub').fingerprint}" in run.out
    assert "no files were compared with the manifest\n" in run.out
    assert "no model was loaded" in run.out
    assert "only the gate inside the serving process admits" in run.out


def test_what_was_relied_on_is_named(cli, here, pin):
    trust = wm.read_trust(here / "trust.json", pin, wall_clock())
    run = cli(*VERIFY)
    assert f"trust file   trust.json, version 1, until {instant_text(trust.trust.expires)}, signed by Rosa\n" in run.out
    assert f"             SHA-256 {trust.sha256}\n" in run.out
    document = cli(*VERIFY, "--json").json
    assert (document["trust"]["version"], document["trust"]["sha256"]) == (1, trust.sha256)
    assert (document["trust"]["keepers"], document["mark"]) == (["Rosa"], None)


@pytest.mark.requirement("REQ-CLI-08")
def test_load_in_this_process(cli, here):
    run = cli(*VERIFY, "--model", "tinynet:load")
    assert run.code == 0
    assert "result       seal holds; a load in this process matches\n" in run.out
    assert "load         4 tensors, stage S3, view kernel" in run.out
    document = cli(*VERIFY, "--model", "tinynet:load", "--json").json
    assert (document["result"], document["files"]) == ("verified", None)
    assert any("only the gate inside the serving process admits" in text for text in document["notCovered"])


@pytest.mark.requirement("REQ-CLI-03")
def test_it_never_says_admitted(cli, here):
    for words in ((), ("--model", "tinynet:load"), ("--model", "tinynet:flipped")):
        run = cli(*VERIFY, *words)
        assert "admitted" not in (run.out + run.err).lower()


def test_files_and_load_together(cli, here):
    (here / "model").mkdir()
    (here / "model/config.json").write_text("{}")
    cli(
        "weigh",
        "tinynet:with_inputs",
        "-o",
        "m",
        "--product",
        "net",
        "--version",
        "1",
        "--serial",
        8,
        "--source",
        "model",
    )
    cli("sign", "m", "--key", "ana.key")
    words = ("verify", "m", "--trust", "trust.json", "--roots", "PIN", "--expect", "net", "--source", "model")
    run = cli(*words, "--model", "tinynet:load")
    assert run.code == 0
    assert "seal holds; files match; a load in this process matches\n" in run.out
    (here / "model/config.json").write_text("{ }")
    run = cli(*words, "--model", "tinynet:flipped", "--json")
    assert run.code == 17
    assert [(f["step"], f["subject"]) for f in run.json["faults"]] == [(5, "config.json"), (9, "first.weight")]


def test_files_of_a_manifest_of_files(cli, here):
    save_file({"a": torch.arange(3.0), "b": torch.ones(2)}, "w.safetensors")
    cli("weigh", "w.safetensors", "-o", "m", "--product", "net", "--version", "1", "--serial", 8)
    cli("sign", "m", "--key", "ana.key")
    words = ("verify", "m", "--trust", "trust.json", "--roots", "PIN", "--expect", "net", "--source", "w.safetensors")
    run = cli(*words)
    assert run.code == 0
    assert "files        1 file as signed, and 2 tensors in them\n" in run.out
    save_file({"a": torch.arange(3.0), "b": torch.zeros(2)}, "w.safetensors")
    run = cli(*words, "--json")
    assert run.code == 17
    assert [(f["step"], f["subject"]) for f in run.json["faults"]] == [(5, "w.safetensors"), (9, "b")]
    Path("w.safetensors").write_bytes(b"nothing of the kind")
    assert [f["step"] for f in cli(*words, "--json").json["faults"]] == [5]


def test_bytes_of_a_load_are_not_waved_through_by_a_manifest_of_files(cli, here):
    save_file({"a": torch.ones(3)}, "w.safetensors")
    cli("weigh", "w.safetensors", "-o", "m", "--product", "net", "--version", "1", "--serial", 8)
    cli("sign", "m", "--key", "ana.key")
    run = cli("verify", "m", "--trust", "trust.json", "--roots", "PIN", "--expect", "net", "--model", "tinynet:load")
    assert run.code == 12
    assert "(6) stage and method: gate table: cannot admit a live model" in run.err


# -- what does not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "code", "step", "subject"),
    [("flipped", 10, 9, "first.weight"), ("transposed", 11, 8, "first.weight"),
     ("patched", 17, 7, "<code>tinynet.patched.<locals>.<lambda>"),
     ("training", 18, 6, "(model)")],
)  # fmt: skip
def test_model_that_is_another(cli, here, model, code, step, subject):
    run = cli(*VERIFY, "--model", f"tinynet:{model}", "--json")
    assert (run.code, run.json["result"], run.json["exitCode"]) == (code, "halt", code)
    first = run.json["faults"][0]
    assert (first["step"], first["subject"].split("#")[0]) == (step, subject)
    assert f"({step}) {first['title']}: {first['subject']}: {first['detail']}" in run.err
    assert first["remedy"] in run.err


def test_tensor_too_many(cli, here):
    run = cli(*VERIFY, "--model", "tinynet:grown", "--json")
    assert {"step": 8, "subject": "spare"} in [{"step": f["step"], "subject": f["subject"]} for f in run.json["faults"]]


def test_environment(cli, here, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "61")
    run = cli(*VERIFY, "--model", "tinynet:load")
    assert run.code == 12
    assert "(4) environment: env.OMP_NUM_THREADS: differs; expected " in run.err
    assert "found '61'" in run.err
    assert cli(*VERIFY).code == 0  # the seal does not depend on where it is checked


def test_no_signature(cli, here):
    (here / "manifest/signer-1.sigstore.json").unlink()
    run = cli(*VERIFY)
    assert (run.code, run.out) == (13, "")
    assert "(2) signature and trust: manifest: is not signed" in run.err


def test_signature_of_somebody_else(cli, here):
    cli("sign", "manifest", "--key", "ben.key")
    assert cli(*VERIFY).code == 0
    (here / "manifest/signer-1.sigstore.json").unlink()
    run = cli(*VERIFY)
    assert run.code == 13
    assert "too few persons signed; expected at least 1, found 0 (nobody)" in run.err


def test_one_character_of_a_signed_file(cli, here):
    table = here / "manifest/tensors.S3.kernel.jsonl"
    table.write_bytes(table.read_bytes().replace(b'"parameter"', b'"buffer"', 1))
    assert cli(*VERIFY).code == 13


@pytest.mark.requirement("REQ-ADM-13", "REQ-SEA-01")
def test_faults_of_the_seal_end_it_before_code_of_the_model_runs(cli, here):
    (here / "manifest/signer-1.sigstore.json").unlink()
    run = cli(*VERIFY, "--model", "tinynet:noisy")
    assert run.code == 13
    assert "printed by the model" not in run.err


def change_trust(cli, first, *rest):
    """Make the next version of trust.json, have it signed, and put it in its place."""
    cli("trust", first[0], "trust.json", "-o", "next.json", *first[1:])
    for words in rest:
        cli("trust", words[0], "next.json", *words[1:])
    cli("trust", "sign", "next.json", "--key", "rosa.key")
    Path("next.json").replace("trust.json")


def test_other_product(cli, here):
    change_trust(cli, ("add-product", "--product", "other"))
    run = cli("verify", "manifest", "--trust", "trust.json", "--roots", "PIN", "--expect", "other")
    assert run.code == 14
    assert "(3) identity: product: the manifest is for another product; expected other, found net" in run.err


def test_rollback_and_revocation(cli, here):
    root = wm.read_unsigned(here / "manifest").root
    words = ("--product", "net")
    change_trust(cli, ("add-product", *words, "--minimum-serial", 8), ("revoke-root", *words, root))
    run = cli(*VERIFY, "--json")
    assert run.code == 14
    assert [f["subject"] for f in run.json["faults"]] == ["root", "serial"]
    assert run.json["faults"][1]["expected"] == ">= 8"
    assert run.json["faults"][1]["found"] == "7"


@pytest.mark.requirement("REQ-ADM-01")
def test_self_test(cli, here, monkeypatch):
    fault = SelfTestFault("sha256", "wrong answer", expected="a", found="b")
    monkeypatch.setattr(selftest, "digest_faults", lambda *_digest: (fault,))
    run = cli(*VERIFY)
    assert run.code == 16
    assert "(1) self-test: sha256: wrong answer; expected a, found b" in run.err


def test_nothing_listed_never_matches(cli, here):
    run = cli(*VERIFY, "--source", ".")
    assert run.code == 17
    assert "the statement lists no file, so none can match" in run.err


@pytest.mark.parametrize("name", ["manifest/statement.json", "manifest/signer-1.sigstore.json", "trust.json"])
def test_malformed_files(cli, here, name):
    (here / name).write_bytes((here / name).read_bytes()[:-1])
    run = cli(*VERIFY)
    assert run.code == (13 if name.endswith("statement.json") else 20)
    assert Path(name).name in run.err


def test_statement_that_was_signed_and_is_malformed(cli, here):
    bundle = here / "manifest/signer-1.sigstore.json"
    from weighmaster.seal.bundle import make_bundle, parse_bundle

    payload = json.loads(parse_bundle(bundle.read_bytes(), "b").payload)
    payload["predicate"]["surprise"] = 1
    from weighmaster.core.canonical import dumps

    bundle.write_bytes(make_bundle(dumps(payload), wm.load_private(here / "ana.key", None)))
    run = cli(*VERIFY)
    assert run.code == 20
    assert "surprise" in run.err


def test_absent_things(cli, here):
    assert cli("verify", "absent", "--trust", "trust.json", "--roots", "PIN", "--expect", "net").code == 2
    assert cli("verify", "manifest", "--trust", "absent.json", "--roots", "PIN", "--expect", "net").code == 2
    assert cli(*VERIFY, "--model", "absent").code == 2
    assert cli(*VERIFY, "--source", "absent").code in (2, 17)


def test_exclusions_beyond_what_the_trust_file_allows(cli, here):
    words = ("--product", "net", "--version", "1", "--serial", 8, "--exclude", "last.bias=opaque-handle")
    cli("weigh", "tinynet:with_inputs", "-o", "m", *words)
    cli("sign", "m", "--key", "ana.key")
    verify = ("verify", "m", "--trust", "trust.json", "--roots", "PIN", "--expect", "net", "--model", "tinynet:load")
    run = cli(*verify)
    assert run.code == 18
    assert "(10) coverage: exclusions: more bytes are excluded than the trust file allows (last.bias)" in run.err
    change_trust(cli, ("add-product", "--product", "net", "--max-excluded-bytes", 16))
    run = cli(*verify)
    assert run.code == 0
    assert "NOT verified: last.bias (16 bytes, opaque-handle)" in run.out


def test_statement_of_another_loader(cli, here):
    method = dataclasses.replace(wm.read_unsigned(here / "manifest").statement.method, loader="other-loader")
    resigned(here, method=method)
    run = cli(*VERIFY, "--model", "tinynet:load")
    assert run.code == 18
    assert "method: loader: differs from the signed one; expected other-loader, found torch-module" in run.err


# -- trust file and mark ----------------------------------------------------------------------------------------------


def test_the_pin_comes_from_elsewhere(cli, here):
    run = cli("verify", "manifest", "--trust", "trust.json", "--roots", "0" * 64, "--expect", "net")
    assert run.code == 13
    assert "(2) signature and trust: trust.json: does not begin at the roots that are pinned here" in run.err
    run = cli("verify", "manifest", "--trust", "trust.json", "--roots", "abc", "--expect", "net")
    assert (run.code, "expected 64 lowercase hexadecimal digits, found 'abc'" in run.err) == (2, True)


def test_a_mark_is_read_and_not_raised(cli, here, nobody):
    assert "rollback: no high-water mark was read" in cli(*VERIFY).out
    assert cli(*VERIFY, "--mark", "absent").code == 2
    trust = wm.read_trust(here / "trust.json", nobody.roots.fingerprint, wall_clock())
    mark = Mark.of(trust, product="net", serial=8, time=wall_clock())
    (here / "mark").write_bytes(mark_to_bytes(mark))
    run = cli(*VERIFY, "--mark", "mark")
    assert run.code == 14
    assert "(3) identity: serial: older than one seen before (rollback); expected >= 8, found 7" in run.err
    (here / "mark").write_bytes(mark_to_bytes(dataclasses.replace(mark, serial=6)))
    before = (here / "mark").read_bytes()
    run = cli(*VERIFY, "--mark", "mark")
    assert (run.code, "rollback" in run.out) == (0, False)
    assert (here / "mark").read_bytes() == before
    (here / "mark").write_bytes(before[:-2])
    assert cli(*VERIFY, "--mark", "mark").code == 20
