# SPDX-License-Identifier: Apache-2.0
"""``weighmaster triage``: a verdict is exit code 0, whatever it says; evidence and record are written."""

from __future__ import annotations

import json

import pytest

TRIAGE = ("triage", "manifest", "--model", "tinynet:load", "-o", "incident")
SAID = ("--said", "authentic=yes:receipt checked by Ana", "--said", "file=yes:sha256sum by Ben")


def test_flipped_bit_beside_a_right_load(cli, here):
    run = cli("triage", "manifest", "--model", "tinynet:flipped", "--reload", "tinynet:load", "-o", "incident", *SAID)
    assert run.code == 0
    assert "W-live, confidence moderate" in run.out
    assert "no signature was checked" in run.out
    document = json.loads((here / "incident/triage.json").read_bytes())
    assert document["decision"]["code"] == "W-live"
    assert (here / "incident/evidence/bundle.json").exists()
    assert "| verdict | W-live |" in (here / "incident/triage.md").read_text()


def test_wrong_load(cli, here):
    run = cli("triage", "manifest", "--model", "tinynet:flipped", "-o", "incident", *SAID, "--json")
    assert (run.code, run.json["triage"]["decision"]["code"]) == (0, "W-load")
    assert run.json["result"] == "triaged"


def test_undetermined_is_a_verdict(cli, here):
    run = cli(*TRIAGE, "--json")
    assert (run.code, run.json["triage"]["decision"]["code"]) == (0, "U-undetermined")
    replies = {n["node"]: n["answer"] for n in run.json["triage"]["nodes"]}
    assert (replies["preserved"], replies["load"], replies["live"]) == ("yes", "yes", "yes")
    assert replies["authentic"] == replies["answers"] == "not answered"


def test_signers_where_trust_is_given(cli, here):
    run = cli(*TRIAGE, "--trust", "trust.json", "--roots", "PIN", "--expect", "net", "--json")
    assert run.code == 0
    assert run.json["triage"]["signaturesChecked"] is True
    assert run.json["triage"]["signers"][0].startswith("Ana (signer), key ")


def test_another_product_is_refused_and_the_evidence_kept(cli, here):
    run = cli(*TRIAGE, "--trust", "trust.json", "--roots", "PIN", "--expect", "other")
    assert run.code != 0
    assert (here / "incident/evidence/bundle.json").exists()
    assert not (here / "incident/triage.json").exists()


def test_parent_and_replay_are_run(cli, here):
    (here / "check.py").write_text(
        "import itertools\nCOUNT = itertools.count()\n"
        "def parent(): return 'benign'\ndef accept(): return lambda output: output == 'benign'\n"
        "def replay(): return next(COUNT)\n"
    )
    options = ("--parent", "check:parent", "--accept", "check:accept", "--replay", "check:replay")
    document = cli(*TRIAGE, *options, "--json").json["triage"]
    replies = {n["node"]: n["answer"] for n in document["nodes"]}
    assert (replies["parent"], replies["reproducible"]) == ("yes", "no")


def test_known_answers_are_run_once_the_evidence_is_there(cli, here):
    assert cli("answers", "record", "tinynet:load", "-o", "answers").code == 0
    document = cli(*TRIAGE, "--answers", "answers", "--json").json["triage"]
    node = next(n for n in document["nodes"] if n["node"] == "answers")
    assert (node["answer"], node["by"], node["evidence"]) == ("yes", "machine", "verdict EXACT")
    document = cli(*TRIAGE[:3], "tinynet:flipped", "-o", "other", "--answers", "answers", "--json").json["triage"]
    replies = {n["node"]: n["answer"] for n in document["nodes"]}
    assert (replies["load"], replies["answers"]) == ("no", "yes")  # a flipped bit that no known answer shows


def test_known_answers_of_other_weights_say_nothing(cli, here):
    assert cli("answers", "record", "tinynet:flipped", "-o", "answers").code == 0
    document = cli(*TRIAGE, "--answers", "answers", "--json").json["triage"]
    node = next(n for n in document["nodes"] if n["node"] == "answers")
    assert (node["answer"], node["by"]) == ("not answered", "nobody")
    assert node["reason"].startswith("answers of other weights; expected root ")


def test_logs_are_kept(cli, here):
    (here / "server.log").write_text("Xid 48")
    assert cli(*TRIAGE, "--log", "server.log").code == 0
    assert (here / "incident/evidence/logs/1-server.log").read_text() == "Xid 48"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--said", "live=perhaps:r"), "--said: expected NODE=yes:reason or NODE=no:reason, found 'live=perhaps:r'"),
        (("--said", "live=yes"), "--said: expected NODE=yes:reason"),
        (("--said", "live=yes:a", "--said", "live=no:b"), "--said: live: expected one answer, found two"),
        (("--said", "moon=yes:a"), "found 'moon'"),
        (("--trust", "trust.json"), "--trust, --roots and --expect: expected all or none"),
        (("--parent", "check:parent"), "--parent and --accept: expected both or none"),
        (("--replay", "check"), "--replay: expected module:callable, found 'check'"),
        (("--log", "gone.log"), "gone.log"),
        (("--source", "gone"), "gone: no such file or directory"),
    ],
)
def test_bad_calls_are_2_and_write_nothing(cli, here, words, message):
    run = cli(*TRIAGE, *words)
    assert run.code == 2
    assert message in run.err
    assert not (here / "incident").exists()


def test_an_existing_directory_is_refused(cli, here):
    (here / "incident").mkdir()
    run = cli(*TRIAGE)
    assert run.code == 2
    assert "incident: exists already and is not overwritten" in run.err
