# SPDX-License-Identifier: Apache-2.0
"""``show`` and ``diff``: what a manifest says, and how two differ."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import weighmaster as wm
from weighmaster.core.environment import Environment, Fact
from weighmaster.core.statement import EnvironmentRef, TableEntry


def weigh(cli, model: str, out: str, *words: object) -> None:
    run = cli(
        "weigh",
        model,
        "-o",
        out,
        "--product",
        "net",
        "--version",
        "2",
        "--serial",
        9,
        "--example",
        "tinynet:inputs",
        *words,
    )
    assert run.code == 0, run.err


def rewritten(out: str, facts: dict[str, Fact]) -> None:
    """Write a copy of the manifest with other facts in its environment."""
    manifest = wm.read_unsigned("manifest")
    kept = {f.name: f for f in manifest.environment.facts}
    environment = Environment.of(f for f in {**kept, **facts}.values() if f is not None)
    import hashlib

    ref = dataclasses.replace(
        manifest.statement.environment,
        sha256=hashlib.sha256(environment.to_bytes()).hexdigest(),
        class_digest=environment.class_digest,
    )
    assert isinstance(ref, EnvironmentRef)
    statement = dataclasses.replace(manifest.statement, environment=ref)
    dataclasses.replace(manifest, statement=statement, payload=statement.to_bytes(), environment=environment).write(out)


# -- show -------------------------------------------------------------------------------------------------------------


def test_show_says_that_signatures_are_not_checked(cli, here):
    run = cli("show", "manifest")
    assert (run.code, run.err) == (0, "")
    assert (
        "signatures    signer-1.sigstore.json\n              signatures not checked: anybody can have written this"
        in run.out
    )
    assert "product       net 1.0, serial 7\n" in run.out
    document = cli("show", "manifest", "--json").json
    assert (document["signaturesChecked"], document["bundles"]) == (False, ["signer-1.sigstore.json"])


def test_show_works_without_signatures_and_for_files(cli, here):
    (here / "manifest/signer-1.sigstore.json").unlink()
    run = cli("show", "manifest", "--tensors", "--environment", "--structure")
    assert "signatures    none\n" in run.out
    manifest = wm.read_unsigned("manifest")
    for row in manifest.gate.rows:
        assert f"{row.name}  " in run.out
        assert row.sha256 in run.out
    assert "python.version" in run.out
    assert "\n\npath " in run.out


def test_show_everything_as_a_document(cli, here):
    document = cli("show", "manifest", "--tensors", "--environment", "--structure", "--json").json
    manifest = wm.read_unsigned("manifest")
    assert [t["fsverity64k"] for t in document["tensors"]] == [r.fsverity64k for r in manifest.gate.rows]
    assert len(document["environmentFacts"]) == len(manifest.environment.facts)
    assert len(document["structureFacts"]) == len(manifest.structure.facts)
    assert document["structure"] == manifest.structure.digest


def test_show_checks_that_files_belong_to_the_statement(cli, here):
    table = here / "manifest/tensors.S3.kernel.jsonl"
    table.write_bytes(table.read_bytes().replace(b'"parameter"', b'"buffer"', 1))
    run = cli("show", "manifest")
    assert (run.code, run.out) == (13, "")
    (here / "manifest/notes.txt").write_text("hello")
    assert cli("show", "manifest").code == 20
    assert cli("show", "absent").code == 2


# -- diff -------------------------------------------------------------------------------------------------------------


def test_same(cli, here):
    shutil.copytree("manifest", "copy")
    run = cli("diff", "manifest", "copy")
    assert (run.code, run.err) == (0, "")
    assert "same: nothing that the gate compares differs\n" in run.out
    document = cli("diff", "manifest", "copy", "--json").json
    assert (document["result"], document["exitCode"], document["faults"]) == ("same", 0, [])


def test_changed_bytes_name_the_leaf(cli, here):
    weigh(cli, "tinynet:flipped", "b")
    run = cli("diff", "manifest", "b")
    assert (run.code, run.err) == (10, "")
    assert (
        "  (9) tensor digests: first.weight: bytes differ, first in leaf 0 of 1 (bytes 0 to 511); expected " in run.out
    )
    assert "net 1.0, serial 7" in run.out
    assert "net 2, serial 9" in run.out
    document = cli("diff", "manifest", "b", "--json").json
    assert (document["result"], document["exitCode"]) == ("different", 10)
    assert {f["subject"] for f in document["faults"]} == {"first.weight", "S1 kernel: first.weight"}


@pytest.mark.parametrize(("model", "code", "step"), [("transposed", 11, 8), ("patched", 17, 7), ("grown", 11, 8)])
def test_other_differences_have_the_code_of_their_lowest_step(cli, here, model, code, step):
    weigh(cli, f"tinynet:{model}", "b")
    document = cli("diff", "manifest", "b", "--json").json
    faults = document["faults"]
    assert document["exitCode"] == cli("diff", "manifest", "b").code == faults[0]["exitCode"]
    assert step in {f["step"] for f in faults}
    assert faults[0]["step"] <= step
    if faults[0]["step"] == step:
        assert document["exitCode"] == code


def test_sources_and_method_and_exclusions(cli, here):
    (here / "model").mkdir()
    (here / "model/config.json").write_text("{}")
    weigh(cli, "tinynet:load", "b", "--source", "model", "--exclude", "last.bias=opaque-handle")
    run = cli("diff", "manifest", "b", "--json")
    assert run.code == 17
    found = [(f["step"], f["subject"]) for f in run.json["faults"]]
    assert (5, "config.json") in found
    assert (8, "last.bias") in found
    assert (10, "exclusions") in found


def test_probe_set_is_part_of_the_method(cli, here):
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2, 8)}, "other.safetensors")
    run = cli("weigh", "tinynet:load", "-o", "b", "--product", "net", "--version", "2", "--serial", 9,
              "--example", "other.safetensors")  # fmt: skip
    assert run.code == 0
    run = cli("diff", "manifest", "b", "--json")
    assert run.code == 18
    assert [(f["step"], f["subject"]) for f in run.json["faults"]] == [(6, "probe set")]


def test_environment_fact_by_fact(cli, here):
    name = "cpu.model"
    facts = {f.name: f for f in wm.read_unsigned("manifest").environment.scoped("class")}
    name = next(n for n, f in facts.items() if f.status == "value")
    rewritten("b", {name: Fact.of(name, "another"), "zz.unread": Fact.unreadable("zz.unread")})
    run = cli("diff", "manifest", "b")
    assert run.code == 12
    assert (
        f"(4) environment: {name}: differs (default: halt); expected {facts[name].shown()}, found 'another'" in run.out
    )
    assert "(4) environment: zz.unread: cannot be read" in run.out
    rewritten("c", {name: Fact.of(name, "another"), "zz.unread": Fact.unreadable("zz.unread")})
    assert cli("diff", "b", "c").code == 0  # unread in both is no difference between them


def test_instance_facts_are_no_difference(cli, here):
    rewritten("b", {"zz.host": Fact.of("zz.host", "other", scope="instance")})
    assert cli("diff", "manifest", "b").code == 0


def test_live_and_files(cli, here):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, "w.safetensors")
    assert cli("weigh", "w.safetensors", "-o", "b", "--product", "net", "--version", "2", "--serial", 9).code == 0
    run = cli("diff", "manifest", "b", "--json")
    assert run.code == 12
    assert run.json["faults"][0]["detail"] == "only one has it"
    assert {4, 5, 6, 7} <= {f["step"] for f in run.json["faults"]}


def test_shown_findings_are_limited_and_counted(cli, here):
    facts = [f for f in wm.read_unsigned("manifest").environment.scoped("class") if f.status == "value"][:30]
    rewritten("b", {f.name: Fact.of(f.name, "another") for f in facts})
    run = cli("diff", "manifest", "b")
    assert run.out.count("(4) environment") == 20
    assert "different: 30 findings\n" in run.out
    assert "      and 10 more of this step (--show all)\n" in run.out
    assert cli("diff", "manifest", "b", "--show", "all").out.count("(4) environment") == 30
    assert cli("diff", "manifest", "b", "--show", 3).out.count("(4) environment") == 3
    assert len(cli("diff", "manifest", "b", "--show", 3, "--json").json["faults"]) == 30
    assert cli("diff", "manifest", "b", "--show", 0).code == 2


def test_moved_tensor_is_named_as_such(cli, here):
    manifest = wm.read_unsigned("manifest")
    rows = tuple(
        sorted(
            (dataclasses.replace(r, name="last.weightx") if r.name == "last.weight" else r for r in manifest.gate.rows),
            key=lambda r: r.name,
        )
    )
    table = wm.Table(stage="S3", view="kernel", rows=rows)
    tables = tuple(table if (t.stage, t.view) == ("S3", "kernel") else t for t in manifest.tables)
    statement = dataclasses.replace(manifest.statement, tables=tuple(TableEntry.of(t) for t in tables))
    leaves = {("last.weightx" if n == "last.weight" else n): d for n, d in manifest.leaves.items()}
    dataclasses.replace(
        manifest, statement=statement, payload=statement.to_bytes(), tables=tables, leaves=leaves
    ).write(Path("b"))
    run = cli("diff", "manifest", "b")
    assert run.code == 11
    assert "last.weight: is missing; its bytes stand under 'last.weightx'" in run.out
    assert "last.weightx: is not in the validated table; its bytes are those of 'last.weight'" in run.out


def _rule(fact: str, **changes: object) -> dict[str, object]:
    rule = {"compare": "equal", "fact": fact, "onDiff": "inform", "onMissing": "halt", "reference": "R-9", "values": []}
    return {**rule, **changes}


def _policy(path: str, *rules: dict[str, object]) -> None:
    Path(path).write_text(json.dumps({"scheme": "environment-policy-v1", "default": "halt", "rules": rules}, indent=1))


def test_each_finding_names_its_rule_and_what_passes_is_listed_apart(cli, here):
    changed = {name: Fact.of(name, "X") for name in ("cpu.vendor", "torch.flush_denormal")}
    rewritten("b", {**changed, "platform.system": None})
    _policy("p.json", _rule("torch.*"), _rule("platform.*", onMissing="change-control"))
    run = cli("diff", "manifest", "b", "--policy", "p.json")
    assert run.code == 12
    assert "different: 2 findings\n" in run.out
    assert "(4) environment: cpu.vendor: differs (default: halt); expected " in run.out
    gone = "platform.system: class fact of the validated environment is gone"
    assert f"{gone} (rule platform.* (equal, R-9): change-control)" in run.out
    assert "informed: 1 difference that the policy lets pass\n  torch.flush_denormal: differs (rule torch.*" in run.out
    document = cli("diff", "manifest", "b", "--policy", "p.json", "--json").json
    assert {d["fact"]: (d["level"], d["rule"] and d["rule"]["fact"]) for d in document["environment"]} == {
        "cpu.vendor": ("halt", None),
        "platform.system": ("change-control", "platform.*"),
        "torch.flush_denormal": ("inform", "torch.*"),
    }
    assert [f["subject"] for f in document["faults"]] == ["cpu.vendor", "platform.system"]


def test_what_the_policy_lets_pass_has_no_exit_code(cli, here):
    rewritten("b", {"torch.flush_denormal": Fact.of("torch.flush_denormal", "T")})
    _policy("p.json", _rule("torch.*"))
    assert cli("diff", "manifest", "b").code == 12
    run = cli("diff", "manifest", "b", "--policy", "p.json", "--json")
    assert (run.code, run.json["result"]) == (0, "informed")
    run = cli("diff", "manifest", "b", "--policy", "p.json")
    assert "\n\nnothing that differs halts\n\ninformed: 1 difference" in run.out
    assert "same" not in run.out


def test_another_policy_is_a_finding(cli, here):
    manifest = wm.read_unsigned("manifest")
    policy = wm.Policy(rules=(wm.Rule(fact="torch.*", compare="known", on_diff="inform", on_missing="inform"),))
    ref = dataclasses.replace(manifest.statement.environment, policy_sha256=policy.sha256)
    statement = dataclasses.replace(manifest.statement, environment=ref)
    dataclasses.replace(manifest, statement=statement, payload=statement.to_bytes(), policy=policy).write("b")
    run = cli("diff", "manifest", "b")
    assert run.code == 12
    assert f"policy: differs; expected {manifest.policy.sha256}, found {policy.sha256}" in run.out


def test_two_documents(cli, here):
    rewritten("b", {"torch.flush_denormal": Fact.of("torch.flush_denormal", "T")})
    words = ("diff", "--environment", "manifest/environment.json", "b/environment.json")
    run = cli(*words)
    assert run.code == 12
    assert "torch.flush_denormal: differs (default: halt)" in run.out
    _policy("p.json", _rule("torch.*"))
    run = cli(*words, "--policy", "p.json", "--json")
    assert (run.code, run.json["result"], run.json["faults"]) == (0, "informed", [])
    same = cli("diff", "--environment", "manifest/environment.json", "manifest/environment.json")
    assert (same.code, "same: nothing that the gate compares differs" in same.out) == (0, True)
    assert cli("diff", "--environment", "manifest/policy.json", "b/environment.json").code == 20
