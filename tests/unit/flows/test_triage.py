# SPDX-License-Identifier: Apache-2.0
"""Triage of faults that are really there: each injected into a small model or its files, and the verdict on it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import torch
from safetensors.torch import load_file, save_file

import weighmaster as wm
from weighmaster.capture.open_model import Opened
from weighmaster.core.environment import Environment, Fact
from weighmaster.errors import MalformedArtefact, StorageError, UsageError
from weighmaster.flows import triage as flow
from weighmaster.flows import triage_nodes
from weighmaster.flows.preserve import preserve
from weighmaster.flows.triage import Said, triage

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
X = torch.linspace(-1, 1, 16).reshape(2, 8)
AUTHENTIC = {"authentic": Said(yes=True, reason="receipt checked by Ana")}
NOISE = [0.0]


class Net(torch.nn.Module):
    """Two layers, and a place for noise that no structure shows."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.last = torch.nn.Linear(16, 4)

    def forward(self, x):
        return self.last(torch.relu(self.first(x))) + NOISE[0] * torch.rand(4)


@dataclass(frozen=True)
class Known:
    verdict: str


def opened(folder):
    """Load as production does: from the file."""
    model = Net()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return Opened(model=model.eval(), loader="callable", source=folder, faults=(), probe=X)


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validated") / "model"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(Net().state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"layers":2}')
    (folder / "tokenizer.json").write_text('{"a":0}')
    made = wm.weigh(opened(folder).model, product="net", version="1", serial=1, example_inputs=X, source=folder)
    made.write(folder.with_name("manifest"))
    return made, folder


@pytest.fixture
def release(validated, tmp_path, monkeypatch):
    """A copy to spoil; the environment that is found here is the validated one."""
    made, folder = validated
    shutil.copytree(folder.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr("weighmaster.flows.preserve.collect", lambda _facts: made.environment)
    return tmp_path / "model"


@pytest.fixture
def run(release, tmp_path):
    """Triage with everything well, save what a test changes."""

    def start(live=None, **keywords):
        loaded = opened(release)
        live = loaded.model if live is None else live
        given = {
            "loaded": loaded,
            "source": release,
            "known_answers": Known("EXACT"),
            "replay": lambda: live(X),
            "parent": lambda: torch.ones(2),
            "accept": lambda output: bool((output == 1).all()),
            "said": AUTHENTIC,
        }
        return triage(tmp_path / "manifest", live, tmp_path / "out", now=NOW, **{**given, **keywords})

    return start


def decided(done):
    return done.record.decision.code


def answer(done, node):
    return next(a for a in done.record.answers if a.node == node)


class TestInjected:
    def test_wrong_file(self, run, release):
        torch.manual_seed(1)
        save_file(Net().state_dict(), release / "model.safetensors")
        done = run()
        assert decided(done) == "W-file"
        assert "model.safetensors: the file is not the validated one" in answer(done, "file").reason

    def test_wrong_load(self, run, release):
        wrong = opened(release)
        wrong.model.last.weight.data = wrong.model.last.weight.data.half().float()
        done = run(wrong.model, loaded=wrong)
        assert decided(done) == "W-load"
        assert "last.weight: bytes differ" in answer(done, "load").reason

    def test_flipped_live_bit(self, run, release):
        live = opened(release).model
        live.first.weight.detach().view(torch.int32)[3, 2] ^= 1 << 30
        done = run(live)
        assert decided(done) == "W-live"
        assert answer(done, "live").reason.startswith("first.weight: bytes differ")
        assert answer(done, "load").answer == "yes"

    def test_flipped_live_bit_without_a_load_is_undetermined(self, run, release):
        live = opened(release).model
        live.first.weight.detach().view(torch.int32)[3, 2] ^= 1
        done = run(live, loaded=None)
        assert decided(done) == "U-undetermined"
        assert "load (not answered)" in done.record.decision.text

    @pytest.mark.parametrize("given", [True, False])
    def test_other_environment(self, run, validated, monkeypatch, given):
        facts = {f.name: f for f in validated[0].environment.facts}
        other = Environment.of((facts | {"env.OMP_NUM_THREADS": Fact.of("env.OMP_NUM_THREADS", "77")}).values())
        if not given:
            monkeypatch.setattr("weighmaster.flows.preserve.collect", lambda _facts: other)
        done = run(environment=other) if given else run()
        assert decided(done) == "K-config"
        assert "env.OMP_NUM_THREADS" in answer(done, "configuration").reason
        assert "found '77'" in answer(done, "configuration").reason

    def test_patched_code(self, run, release):
        live = opened(release).model
        original = live.first.forward
        live.first.forward = lambda x: original(x) * 1.5
        done = run(live)
        assert decided(done) == "K-config"
        assert answer(done, "live").answer == "yes"

    def test_training_mode(self, run, release):
        done = run(opened(release).model.train())
        assert decided(done) == "K-config"
        assert "is in training mode" in answer(done, "configuration").reason

    def test_changed_configuration_file(self, run, release):
        (release / "config.json").write_text('{"layers":3}')
        assert decided(run()) == "K-config"

    def test_failed_known_answers(self, run):
        assert decided(run(known_answers=Known("FAIL"))) == "K-kernel"

    def test_an_envelope_passes(self, run):
        assert answer(run(known_answers=Known("ENVELOPE")), "answers").answer == "yes"

    def test_changed_tokenizer_file(self, run, release):
        (release / "tokenizer.json").write_text('{"a":1}')
        done = run()
        assert decided(done) == "P-pipeline"
        assert answer(done, "file").answer == "yes"
        assert "tokenizer.json" in answer(done, "pipeline").reason

    def test_changed_decoding_parameters(self, run, release):
        (release / "generation_config.json").write_text('{"temperature":2}')
        done = run()
        assert decided(done) == "P-pipeline"
        assert answer(done, "configuration").answer == "yes"

    def test_nondeterministic_layer(self, run, release):
        live = opened(release).model

        def replay():
            NOISE[0] = 1e-3
            try:
                return live(X)
            finally:
                NOISE[0] = 0.0

        done = run(live, replay=replay)
        assert decided(done) == "N-nondeterminism"
        assert answer(done, "reproducible").reason == "3 different outputs in 3 runs"

    @pytest.mark.parametrize(("inside", "code"), [(True, "Q-quantization-inside"), (False, "Q-quantization-outside")])
    def test_the_parent_accepts(self, run, inside, code):
        envelope = Said(yes=inside, reason="report of the pack read by Ben")
        assert decided(run(said={**AUTHENTIC, "envelope": envelope})) == code

    def test_the_parent_accepts_and_nobody_compared_the_deviation(self, run):
        assert decided(run()) == "U-undetermined"

    @pytest.mark.parametrize(("intended", "code"), [(True, "M-model"), (False, "D-drift")])
    def test_the_parent_does_not(self, run, intended, code):
        said = {**AUTHENTIC, "intended": Said(yes=intended, reason="labelling")}
        done = run(parent=lambda: torch.zeros(2), said=said)
        assert (decided(done), done.record.decision.confidence) == (code, "moderate")

    def test_a_response_of_another(self, run):
        assert decided(run(said={"authentic": Said(yes=False, reason="no such receipt")})) == "X-provenance"


class TestNotAnswered:
    @pytest.mark.parametrize(
        ("keywords", "node", "reason"),
        [
            ({"source": None}, "file", "no directory of sources was given"),
            ({"loaded": None}, "load", "no load was made"),
            ({"known_answers": None}, "answers", "no run of known answers was given"),
            ({"known_answers": Known("FINE")}, "answers", "expected EXACT, ENVELOPE or FAIL, found 'FINE'"),
            ({"replay": None}, "reproducible", "no replay was given"),
            ({"replay": object}, "reproducible", "found object"),
            ({"parent": None}, "parent", "no parent"),
            ({"accept": lambda _output: 1}, "parent", "accept: expected True or False, found int"),
            ({"parent": lambda: 1 / 0}, "parent", "ZeroDivisionError"),
        ],
    )
    def test_what_a_machine_cannot_see_is_not_answered(self, run, keywords, node, reason):
        found = answer(run(**keywords), node)
        assert (found.answer, found.by) == ("not answered", "nobody")
        assert reason in found.reason

    def test_a_manifest_of_files_answers_files_alone(self, release, tmp_path):
        wm.weigh_files(release, product="net", version="1", serial=1).write(tmp_path / "files")
        live = opened(release)
        done = triage(tmp_path / "files", live.model, tmp_path / "out", now=NOW, loaded=live, source=release)
        given = {a.node: a.answer for a in done.record.answers if a.answer != "not answered"}
        assert given == {"preserved": "yes", "file": "yes", "pipeline": "yes"}
        assert decided(done) == "U-undetermined"


class TestSaid:
    def test_does_not_count_against_a_machine(self, run, release):
        live = opened(release).model
        live.first.weight.detach().view(torch.int32)[0, 0] ^= 1
        done = run(live, said={"live": Said(yes=True, reason="looks fine")})
        assert decided(done) == "W-live"
        assert "a person said yes, which does not count beside it: looks fine" in answer(done, "live").reason

    def test_a_restart_before_is_evidence_lost(self, run):
        done = run(said={"preserved": Said(yes=False, reason="the replica was restarted at noon")})
        assert decided(done) == "U-undetermined"
        assert "the evidence is lost or incomplete: the replica was restarted at noon" in done.record.decision.text

    def test_nobody_can_say_that_evidence_is_there(self, run):
        assert answer(run(said={"preserved": Said(yes=True, reason="sure")}), "preserved").by == "machine"

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({"moon": Said(yes=True, reason="r")}, "said: expected a node of preserved, .*, found 'moon'"),
            ({"live": Said(yes=True, reason=" ")}, "said: live: expected a reason, found none"),
        ],
    )
    def test_what_is_no_answer_is_refused_before_anything(self, run, tmp_path, said, message):
        with pytest.raises(UsageError, match=message):
            run(said=said)
        assert not (tmp_path / "out").exists()


class TestEvidence:
    def test_bundle_names_each_file_with_its_digest(self, run, tmp_path):
        log = tmp_path / "server.log"
        log.write_text("Xid 48")
        kept = run(logs=[log]).preserved
        document = json.loads((kept.directory / "bundle.json").read_bytes())
        named = {f["name"]: f["sha256"] for f in document["files"]}
        there = {str(p.relative_to(kept.directory)) for p in kept.directory.rglob("*") if p.is_file()}
        assert there == {*named, "bundle.json", "SHA256SUMS"}
        assert {"environment.json", "health.json", "live.json", "known-answers.json", "logs/1-server.log"} <= there
        assert "manifest/statement.json" in there
        assert all(hashlib.sha256((kept.directory / n).read_bytes()).hexdigest() == d for n, d in named.items())
        sums = dict(reversed(line.split("  ")) for line in (kept.directory / "SHA256SUMS").read_text().splitlines())
        assert sums == {**named, "bundle.json": kept.sha256}
        assert document["live"]["root"] == kept.table.root

    def test_is_on_disk_before_anything_else_is_looked_at(self, run, tmp_path, monkeypatch):
        seen = []

        def spy(name):
            original = getattr(flow, name)

            def watched(*args, **keywords):
                seen.append((tmp_path / "out/evidence/bundle.json").exists())
                return original(*args, **keywords)

            monkeypatch.setattr(flow, name, watched)

        looks = [n for n in vars(triage_nodes) if n.startswith("answer_")] + ["compared_files", "reach_steady"]
        for name in looks:
            spy(name)
        run()
        assert seen == [True] * (len(looks) - 1)  # of `answer_known` and `answer_recorded`, one

    def test_holds_the_flipped_bit_as_it_lay(self, run, release):
        live = opened(release).model
        live.first.weight.detach().view(torch.int32)[3, 2] ^= 1
        kept = run(live).preserved
        rows = {r["name"]: r for r in map(json.loads, (kept.directory / "tensors.S4.kernel.jsonl").open())}
        expected = hashlib.sha256(live.first.weight.detach().numpy().tobytes()).hexdigest()
        assert rows["first.weight"]["sha256"] == expected

    def test_is_kept_where_the_manifest_is_not_what_it_says(self, run, tmp_path):
        (tmp_path / "manifest/statement.json").write_bytes(b"{}")
        with pytest.raises(MalformedArtefact, match=r"statement\.json"):
            run()
        assert (tmp_path / "out/evidence/bundle.json").exists()

    def test_an_existing_directory_is_left_alone(self, run, tmp_path):
        run()
        before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
        with pytest.raises(UsageError, match="exists already and is not overwritten"):
            run()
        assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before

    def test_a_bundle_is_not_written_over(self, release, tmp_path):
        live = wm.capture.torch_model.TorchModel(opened(release).model)
        sealed = wm.read_manifest(tmp_path / "manifest")
        preserve(tmp_path / "kept", live, sealed, now=NOW)
        with pytest.raises(UsageError, match="exists already"):
            preserve(tmp_path / "kept", live, sealed, now=NOW)

    def test_nothing_is_left_of_a_bundle_that_cannot_be_written(self, run, tmp_path, monkeypatch):
        def full(*_args, **_keywords):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("weighmaster.flows.preserve.write_atomically", full)
        with pytest.raises(StorageError, match="No space left on device"):
            run()
        assert [p.name for p in (tmp_path / "out").iterdir()] == []

    def test_a_log_that_is_not_there_is_refused(self, run, tmp_path):
        with pytest.raises(UsageError, match=r"gone\.log"):
            run(logs=[tmp_path / "gone.log"])
        assert not (tmp_path / "out").exists()

    def test_a_tensor_that_cannot_be_read_is_evidence_lost(self, run, release):
        live = opened(release).model
        live.register_buffer("lost", torch.empty(3, device="meta"))
        done = run(live, replay=None)
        assert answer(done, "preserved").answer == "no"
        assert decided(done) == "U-undetermined"


class TestTrust:
    def test_without_trust_the_record_says_so(self, run):
        done = run()
        assert "no signature was checked" in (done.directory / "triage.md").read_text()
        assert json.loads((done.directory / "triage.json").read_bytes())["signaturesChecked"] is False

    def test_trust_and_product_go_together(self, run):
        with pytest.raises(UsageError, match="trust and expect: expected both or none, found one"):
            run(expect="net")

    def test_no_such_source(self, run, tmp_path):
        with pytest.raises(UsageError, match="gone: no such file or directory"):
            run(source=tmp_path / "gone")


def test_the_record_is_canonical(run):
    done = run()
    data = (done.directory / "triage.json").read_bytes()
    assert data == done.record.to_bytes()
    assert [n["number"] for n in json.loads(data)["nodes"]][:5] == ["0", "1", "2a", "2b", "2c"]
