# SPDX-License-Identifier: Apache-2.0
"""``weighmaster weigh``: live models and files at rest; whole manifests or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import weighmaster as wm
from weighmaster.flows import artefact

IDENTITY = ("--product", "net", "--version", "1.0", "--serial", "1")
INPUTS = ("--example", "tinynet:inputs")


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.startswith((".m", "m")) and p.name != "manifest")


def test_live_model_in_words(cli, here):
    run = cli("weigh", "tinynet:load", "-o", "m", *IDENTITY, *INPUTS)
    assert run.code == 0
    manifest = wm.read_unsigned("m")
    assert run.out.split("\n")[:2] == ["product       net 1.0, serial 1", f"root          {manifest.root}"]
    assert "table         S3 kernel: 4 tensors, 848 bytes (the gate compares this one)\n" in run.out
    assert "consumed      4 tensors, 848 bytes, 100 % of them in the table\n" in run.out
    assert "NOT verified  0 bytes\n" in run.out
    assert f"class digest  {manifest.statement.environment.class_digest}\n" in run.out
    assert "signed        no; next: weighmaster sign m --key FILE\n" in run.out
    assert run.err == ""


def test_document(cli, here):
    document = cli("weigh", "tinynet:with_inputs", "-o", "m", *IDENTITY, "--json").json
    manifest = wm.read_unsigned("m")
    assert (document["result"], document["product"], document["serial"]) == ("weighed", "net", 1)
    assert document["root"] == manifest.root
    assert document["files"] == sorted(p.name for p in (here / "m").iterdir())
    assert document["coverage"]["consumedHashedBytes"] == document["coverage"]["consumedBytes"] == "848"
    assert document["signed"] is False


def test_threads_and_examples_from_files_give_the_same_root(cli, here):
    roots = {cli("weigh", "tinynet:load", "-o", "m0", *IDENTITY, *INPUTS, "--threads", 1, "--json").json["root"]}
    save_file({"x": torch.zeros(2, 8)}, "inputs.safetensors")
    roots.add(
        cli("weigh", "tinynet:load", "-o", "m1", *IDENTITY, "--example", "inputs.safetensors", "--json").json["root"]
    )
    probe = "m1/probe-set.safetensors"
    again = cli("weigh", "tinynet:load", "-o", "m2", *IDENTITY, "--example", probe, "--json").json
    assert (here / probe).read_bytes() == (here / "m2/probe-set.safetensors").read_bytes()
    assert {*roots, again["root"]} == {again["root"]}


def test_source_is_listed(cli, here):
    (here / "model").mkdir()
    (here / "model/config.json").write_text("{}")
    run = cli("weigh", "tinynet:with_inputs", "-o", "m", *IDENTITY, "--source", "model", "--json")
    assert run.json["sources"] == 1
    assert [s.path for s in wm.read_unsigned("m").statement.sources] == ["config.json"]


def test_evidence_is_verified_recorded_and_shown(cli, here):
    made = Path(__file__).parents[1] / "seal/evidence"
    evidence = ("--evidence", f"{made}/oms.json={made}/tools.pub")
    run = cli("weigh", made / "model", "--files", "-o", "m", *IDENTITY, *evidence, "--json")
    (found,) = run.json["evidence"]
    assert (found["kind"], found["files"]) == ("oms-v1", 2)
    line = f"evidence      oms-v1: bundle {found['sha256']}, 2 source files, signed by {found['key']}\n"
    assert line in cli("weigh", made / "model", "--files", "-o", "n", *IDENTITY, *evidence).out
    assert line in cli("show", "m").out
    assert cli("show", "m", "--json").json["evidence"] == [found]


def test_evidence_that_does_not_hold_leaves_nothing(cli, here):
    made = Path(__file__).parents[1] / "seal/evidence"
    evidence = ("--evidence", f"{made}/oms.json={made}/other.pub")
    run = cli("weigh", made / "model", "--files", "-o", "m", *IDENTITY, *evidence)
    assert (run.code, run.out, leftovers(here)) == (13, "", [])
    assert "oms.json: the signature does not verify under the key given for it" in run.err


@pytest.mark.parametrize("given", ["oms.json", "oms.json=", "=tools.pub"])
def test_evidence_needs_a_bundle_and_a_key(cli, here, given):
    run = cli("weigh", "tinynet:with_inputs", "-o", "m", *IDENTITY, "--evidence", given)
    assert (run.code, leftovers(here)) == (2, [])
    assert f"--evidence: expected BUNDLE=PUBKEY, found {given!r}" in run.err


def test_exclusion_is_said_aloud(cli, here):
    run = cli("weigh", "tinynet:with_inputs", "-o", "m", *IDENTITY, "--exclude", "last.bias=opaque-handle")
    assert run.code == 0
    assert "NOT verified  16 bytes\n              last.bias: 16 bytes, opaque-handle\n" in run.out


@pytest.mark.parametrize("given", ["last.bias", "=kv-cache", "last.bias=because"])
def test_exclusion_needs_a_name_and_a_listed_reason(cli, here, given):
    run = cli("weigh", "tinynet:with_inputs", "-o", "m", *IDENTITY, "--exclude", given)
    assert (run.code, run.out, leftovers(here)) == (2, "", [])
    assert "exclude" in run.err


def test_exclusion_twice(cli, here):
    twice = ("--exclude", "last.bias=kv-cache", "--exclude", "last.bias=workspace")
    run = cli("weigh", "tinynet:with_inputs", "-o", "m", *IDENTITY, *twice)
    assert run.code == 2
    assert "expected NAME=REASON, each name once, found 'last.bias=workspace'" in run.err


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        ("tinynet:training", 18, "(6) stage and method: (model): is in training mode"),
        ("tinynet:leaves", 70, "code of the model ended the process (exit 0)"),
        ("tinynet:broken", 2, "ValueError: no such checkpoint"),
        ("tinynet:interrupted", 130, "interrupted"),
        ("nowhere:load", 2, "no module named 'nowhere'"),
        ("nowhere", 2, "nowhere: no such file or directory"),
    ],
)
def test_model_that_cannot_be_weighed_leaves_nothing(cli, here, model, code, said):
    run = cli("weigh", model, "-o", "m", *IDENTITY, *INPUTS)
    assert (run.code, run.out, leftovers(here)) == (code, "", [])
    assert said in run.err


def test_example_that_the_model_does_not_run(cli, here):
    run = cli("weigh", "tinynet:load", "-o", "m", *IDENTITY, "--example", "tinynet:mistaken", "--json")
    assert (run.code, run.json["result"], leftovers(here)) == (18, "halt", [])
    assert "the model does not run it: RuntimeError" in run.json["faults"][0]["detail"]


def test_example_file_that_is_none(cli, here):
    assert cli("weigh", "tinynet:load", "-o", "m", *IDENTITY, "--example", "absent.safetensors").code == 2
    (here / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    run = cli("weigh", "tinynet:load", "-o", "m", *IDENTITY, "--example", "bad.safetensors")
    assert run.code == 20
    assert "bad.safetensors: header length" in run.err


def test_interrupt_while_writing_leaves_nothing(cli, here, monkeypatch):
    written = []

    def interrupted(path, data, **options):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        path.write_bytes(data)

    monkeypatch.setattr(artefact, "write_atomically", interrupted)
    run = cli("weigh", "tinynet:with_inputs", "-o", "m", *IDENTITY)
    assert (run.code, run.out, len(written), leftovers(here)) == (130, "", 3, [])


def test_directory_that_exists_is_not_touched(cli, here):
    before = sorted(p.name for p in (here / "manifest").iterdir())
    run = cli("weigh", "tinynet:leaves", "-o", "manifest", *IDENTITY)  # refused before the model is loaded
    assert run.code == 2
    assert "manifest: exists already and is not overwritten" in run.err
    assert sorted(p.name for p in (here / "manifest").iterdir()) == before


def test_file_system_that_refuses_is_70(cli, here):
    run = cli("weigh", "tinynet:with_inputs", "-o", "/proc/weighmaster/m", *IDENTITY)
    assert (run.code, run.out) == (70, "")
    assert "/proc/weighmaster/m: cannot be written" in run.err


@pytest.mark.parametrize("words", [("--threads", "0"), ("--threads", "many"), ("--serial", "one"), ("--serial", "-1")])
def test_numbers(cli, here, words):
    run = cli("weigh", "tinynet:with_inputs", "-o", "m", *IDENTITY, *words)
    assert (run.code, leftovers(here)) == (2, [])


# -- files at rest ----------------------------------------------------------------------------------------------------


def test_bare_files_are_weighed_at_rest(cli, here):
    tensors = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    save_file(tensors, "w.safetensors")
    torch.save(tensors, "w.pt")
    (here / "shards").mkdir()
    save_file(tensors, "shards/w.safetensors")
    documents = [
        cli("weigh", model, "-o", f"m{i}", *IDENTITY, "--json").json
        for i, model in enumerate(("w.safetensors", "w.pt", "shards"))
    ]
    assert {d["root"] for d in documents} == {documents[0]["root"]}
    assert all(d["gateTable"] == {"stage": "S0", "view": "logical"} for d in documents)
    assert all(d["coverage"] is None and d["classDigest"] is None for d in documents)


def test_files_of_a_model_directory_on_request(cli, here):
    (here / "model").mkdir()
    (here / "model/config.json").write_text("{}")
    save_file({"a": torch.ones(2)}, "model/model.safetensors")
    run = cli("weigh", "model", "-o", "m", *IDENTITY, "--files")
    assert run.code == 0
    assert "coverage      none: files were read, nothing was run\n" in run.out
    assert {s.path for s in wm.read_unsigned("m").statement.sources} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    "words", [("--example", "tinynet:inputs"), ("--source", "."), ("--exclude", "a=kv-cache"), ("--materialize", "a")]
)
def test_options_of_live_models_have_no_meaning_for_files(cli, here, words):
    save_file({"a": torch.ones(2)}, "w.safetensors")
    run = cli("weigh", "w.safetensors", "-o", "m", *IDENTITY, *words)
    assert (run.code, leftovers(here)) == (2, [])
    assert f"{words[0]}: has no meaning where files are weighed at rest" in run.err


def test_pickle_that_asks_for_more_is_not_run(cli, here):
    class Attack:
        def __reduce__(self):
            return (json.dump, ({}, None))

    torch.save({"a": Attack()}, "evil.pt")
    run = cli("weigh", "evil.pt", "-o", "m", *IDENTITY)
    assert (run.code, run.out, leftovers(here)) == (2, "", [])
    assert "evil.pt" in run.err
