# SPDX-License-Identifier: Apache-2.0
"""``weighmaster waive``, and what policy and waivers change in ``weigh``, ``verify``, ``show`` and ``environment``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import weighmaster as wm
from weighmaster.core.environment import Environment, Fact, parse_environment
from weighmaster.core.waiver import parse_waiver
from weighmaster.seal.bundle import parse_bundle


def rule(fact: str, compare: str, on_diff: str, on_missing: str, reference: str) -> dict[str, object]:
    rest = {"onDiff": on_diff, "onMissing": on_missing, "reference": reference, "values": []}
    return {"compare": compare, "fact": fact, **rest}


POLICY = {
    "scheme": "environment-policy-v1",
    "default": "halt",
    "rules": [
        rule("env.OMP_NUM_THREADS", "equal", "change-control", "halt", "CC-7"),
        rule("env.OMP_*", "known", "inform", "inform", ""),
        rule("env.start.OMP_*", "known", "inform", "inform", ""),
    ],
}
WEIGH = ("weigh", "tinynet:with_inputs", "-o", "m", "--product", "net", "--version", "1", "--serial", 8)
VERIFY = ("verify", "m", "--trust", "trust.json", "--roots", "PIN", "--expect", "net")
WAIVE = ("waive", "m", "--environment", "here.json", "--fact", "env.OMP_NUM_THREADS", "--reason", "CR 118")
UNTIL = ("--expires", "2027-01-31T00:00:00Z", "--key", "ben.key", "-o", "ben.waiver.sigstore.json")


@pytest.fixture
def weighed(cli, here: Path, monkeypatch) -> Path:
    """A manifest under `POLICY`, signed by Ana, and a document of an environment with one thread more."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    Path("policy.json").write_text(json.dumps(POLICY, indent=2))
    assert cli(*WEIGH, "--policy", "policy.json").code == 0
    cli("sign", "m", "--key", "ana.key")
    facts = {f.name: f for f in wm.read_unsigned("m").environment.facts}
    other = Environment.of({**facts, "env.OMP_NUM_THREADS": Fact.of("env.OMP_NUM_THREADS", "3")}.values())
    Path("here.json").write_bytes(other.to_bytes())
    return here


def test_weigh_puts_the_policy_into_the_manifest(cli, weighed):
    policy = wm.read_unsigned("m").policy
    assert json.loads(Path("m/policy.json").read_bytes()) == POLICY
    assert [r.reference for r in policy.rules] == ["CC-7", "", ""]
    run = cli("show", "m", "--environment")
    assert f"policy        3 rules; what none fits must be equal, SHA-256 {policy.sha256}\n" in run.out
    assert "env.OMP_NUM_THREADS  equal       change-control  halt        CC-7\n" in run.out
    document = cli("show", "m", "--environment", "--json").json
    assert document["policySha256"] == policy.sha256
    assert document["policyRules"] == POLICY["rules"]
    assert "policy        no rules: every class fact must be equal, SHA-256 " in cli("show", "manifest").out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"scheme":"environment-policy-v1","default":"inform","rules":[]}', "p.json: default: expected 'halt'"),
        ("{}", "p.json: scheme: expected a value, found no such key"),
        ("", "p.json: byte 0: expected one JSON value"),
    ],
)
def test_weigh_refuses_what_is_no_policy(cli, here, text, said):
    Path("p.json").write_text(text)
    run = cli(*WEIGH, "--policy", "p.json")
    assert (run.code, said in run.err) == (20, True)
    assert not Path("m").exists()


def test_files_have_no_policy(cli, here):
    run = cli("weigh", "tinynet:load", "--files", "-o", "m", "--product", "p", "--version", "1", "--serial", 1,
              "--policy", "p.json")  # fmt: skip
    assert run.code == 2
    assert "--policy: has no meaning where files are weighed" in run.err


def test_waive_and_countersign(cli, weighed):
    run = cli(*WAIVE, *UNTIL)
    assert run.code == 0
    assert "facts    env.OMP_NUM_THREADS: validated '2', found '3'\n" in run.out
    payload = parse_bundle(Path("ben.waiver.sigstore.json").read_bytes(), "w").payload
    waiver = parse_waiver(payload, "w")
    assert (waiver.product, waiver.root, waiver.reason) == ("net", wm.read_unsigned("m").root, "CR 118")
    run = cli("waive", "m", "--countersign", "ben.waiver.sigstore.json", "--key", "ana.key", "-o", "2.json", "--json")
    assert run.json["facts"] == [fact.document() for fact in waiver.facts]
    assert parse_bundle(Path("2.json").read_bytes(), "w").payload == payload


def test_waive_takes_the_environment_of_a_manifest(cli, weighed, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    cli("weigh", "tinynet:with_inputs", "-o", "m3", "--product", "net", "--version", "1", "--serial", 9)
    run = cli("waive", "m", "--from-manifest", "m3", *WAIVE[4:], *UNTIL, "--json")
    assert run.json["facts"][0]["found"] == {"status": "value", "value": "3"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((*WAIVE[:4], *UNTIL), 2, "expected --fact, --reason and --expires"),
        ((*WAIVE, *UNTIL, "--countersign", "x"), 2, "not allowed with argument"),
        (("waive", "m", "--countersign", "here.json", "--reason", "x", *UNTIL[2:]), 2, "says already which facts"),
        ((*WAIVE, "--fact", "cpu.isa", *UNTIL), 2, "cpu.isa: is no difference"),
        ((*WAIVE, "--expires", "2027-01-31", *UNTIL[2:]), 2, "not of the form YYYY-MM-DDTHH:MM:SSZ"),
        ((*WAIVE, *UNTIL[:-1], "here.json"), 2, "exists already"),
        (("waive", "m", "--countersign", "here.json", *UNTIL[2:]), 20, "here.json"),
        (("waive", "manifest", *WAIVE[2:], *UNTIL), 2, "env.OMP_NUM_THREADS: only what is under change control"),
    ],
)
def test_what_cannot_be_waived(cli, weighed, words, code, said):
    run = cli(*words)
    assert (run.code, run.out) == (code, "")
    assert said in run.err


def test_verify_prints_what_passes_and_says_why_the_rest_halts(cli, weighed, monkeypatch):
    verify = (*VERIFY, "--model", "tinynet:load")
    monkeypatch.setenv("OMP_SCHEDULE", "static")
    run = cli(*verify)
    assert run.code == 0
    assert "informed     env.OMP_SCHEDULE: class fact that the validated environment does not have (rule" in run.out
    informed = cli(*verify, "--json").json["informed"]
    assert [text.split(":")[0] for text in informed] == ["env.OMP_SCHEDULE", "env.start.OMP_SCHEDULE"]
    assert informed[0].startswith("env.OMP_SCHEDULE: ")
    assert informed[0].endswith("(rule env.OMP_* (known): inform); expected nothing, found 'static'")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    cli(*WAIVE, *UNTIL)
    run = cli(*verify, "--waiver", "ben.waiver.sigstore.json")
    assert run.code == 12
    assert "waiver ben.waiver.sigstore.json does not hold: trust.json accepts no waiver for net" in run.err
    assert "this version has no known answers, so it halts" in run.err
    run = cli(*VERIFY, "--waiver", "ben.waiver.sigstore.json")
    assert (run.code, "--waiver: has no meaning where no model is loaded" in run.err) == (2, True)


def test_environment_writes_its_document(cli, here):
    document = cli("environment", "-o", "e.json", "--json").json
    written = parse_environment(Path("e.json").read_bytes(), "e.json")
    assert (written.class_digest, document["written"]) == (document["classDigest"], "e.json")
    assert written.scoped("instance")
    assert "exists already" in cli("environment", "-o", "e.json").err
