# SPDX-License-Identifier: Apache-2.0
"""``weighmaster answers``: record, verify and explain as a user types them."""

from __future__ import annotations

import json

import pytest
import torch

from weighmaster.cli.main import main
from weighmaster.core.environment import Environment

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.act = torch.nn.GELU()
        self.last = torch.nn.Linear(16, 4)
    def forward(self, x):
        return self.last(self.act(self.first(x)))

def load():
    torch.manual_seed(0)
    return Net().eval()

def flipped():
    model = load()
    with torch.no_grad():
        model.first.weight.view(torch.int32)[1, 1] ^= 1
    return model
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    (folder / "answering_net.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["answers", "record", "answering_net:load", "-o", "answers"]) == 0
        yield folder


def test_record_writes_three_files_and_nothing_over_them(here, capsys):
    assert sorted(p.name for p in (here / "answers").iterdir()) == [
        "answers.json",
        "answers.safetensors",
        "environment.json",
    ]
    assert main(["answers", "record", "answering_net:load", "-o", "answers"]) == 2
    assert "exists already and is not overwritten" in capsys.readouterr().err


def test_verify_says_the_word(here, capsys):
    assert main(["answers", "verify", "answers", "answering_net:load"]) == 0
    assert capsys.readouterr().out.startswith("EXACT (2 known answers: 2 EXACT, 0 ENVELOPE, 0 FAIL)\n")
    assert main(["answers", "verify", "answers", "answering_net:load", "--case", "call-1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(c["id"], c["verdict"]) for c in document["cases"]] == [("call-1", "EXACT")]


def test_one_flipped_bit_is_answers_of_other_weights(here, capsys):
    assert main(["answers", "verify", "answers", "answering_net:flipped"]) == 15
    assert "root: answers of other weights; expected " in capsys.readouterr().err


def test_explain_draws(here, capsys):
    for name in ("why.svg", "why.png"):
        assert main(["answers", "explain", "answers", "answering_net:load", "--picture", name]) == 0
    assert "nothing to explain: every answer has the recorded bits" in capsys.readouterr().out
    assert (here / "why.svg").read_bytes().startswith(b"<?xml")
    assert (here / "why.png").read_bytes().startswith(b"\x89PNG")
    assert main(["answers", "explain", "answers", "answering_net:load", "--picture", "why.svg"]) == 2
    assert main(["answers", "explain", "answers", "answering_net:load", "--picture", "why.pdf"]) == 2


def test_explain_names_the_module(here, capsys, monkeypatch):
    monkeypatch.setattr("answering_net.Net.forward", lambda net, x: net.last(net.act(net.first(x)) * 1.5))
    assert main(["answers", "explain", "answers", "answering_net:load"]) == 15  # another structure: nothing is run
    monkeypatch.undo()
    other = torch.ops.aten.gelu

    def gelu(x, approximate="none"):
        return other(x.double(), approximate=approximate).float()

    monkeypatch.setattr("torch.nn.functional.gelu", gelu)
    monkeypatch.setattr("weighmaster.flows.answers_verify.identity_faults", lambda *_args, **_options: ())
    monkeypatch.setattr("weighmaster.flows.answers_verify.collect", lambda _facts: Environment(facts=()))
    assert main(["answers", "explain", "answers", "answering_net:load"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ENVELOPE (2 known answers: ")
    assert "first module that differs: act (GELU), 2 of 3\n" in out
    assert "points to: activation kernels" in out
    assert main(["answers", "explain", "answers", "answering_net:load", "--json"]) == 0
    explanation = json.loads(capsys.readouterr().out)["explanation"]
    assert (explanation["module"], explanation["place"], len(explanation["layers"])) == ("act", 1, 3)


def test_a_case_that_is_not_there(here, capsys):
    assert main(["answers", "verify", "answers", "answering_net:load", "--case", "call-7"]) == 2
    assert "no such case" in capsys.readouterr().err
