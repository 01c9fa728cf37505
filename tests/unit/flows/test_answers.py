# SPDX-License-Identifier: Apache-2.0
"""Known answers: recorded on a trained model, verified, and attacked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import weighmaster as wm
from weighmaster.capture.answer_cases import cases_of
from weighmaster.capture.answer_record import record_cases
from weighmaster.core.canonical import dumps
from weighmaster.errors import AnswerFault, MalformedArtefact, NotAdmitted, UsageError
from weighmaster.flows.answers_files import RecordedAnswers, bind_answers

TRAINED = Path(__file__).parents[2] / "trained"
OTHER = "0" * 64


@pytest.fixture(scope="module")
def recorded() -> RecordedAnswers:
    return wm.record_answers(wm.open_model(TRAINED).model, source=TRAINED)


@pytest.fixture
def model() -> Any:
    return wm.open_model(TRAINED).model


def verdict(recorded: RecordedAnswers, model: Any, *, same: bool = False, **options: Any) -> wm.AnswersVerdict:
    digest = recorded.answers.class_digest if same else OTHER
    return wm.verify_answers(recorded, model, class_digest=digest, **options)


def refused(recorded: RecordedAnswers, opened: wm.Opened) -> list[str]:
    """Return the faults with which answers are refused before a case is run, without the digests."""
    with pytest.raises(NotAdmitted, match="known answers of another model") as caught:
        wm.check_answers(recorded, opened)
    assert caught.value.exit_code == 15
    return [str(f).split("; expected")[0] for f in caught.value.faults]


def test_the_matrix_holds_what_a_long_prefill_is_blind_to(recorded: RecordedAnswers) -> None:
    cases = recorded.answers.cases
    assert recorded.answers.kind == "causal-lm"
    assert {c.schedule.mode for c in cases} == {"prefill", "decode", "chunked"}
    assert {c.schedule.batch for c in cases} == {1, 2, 4, 8, 44}
    assert {(c.schedule.row, c.schedule.batch) for c in cases} >= {(row, 8) for row in range(8)}
    assert {c.length for c in cases} >= {1, 2, 3, 4, 5, 48}
    assert {c.schedule.pad for c in cases} == {"none", "left", "right"}
    assert {c.schedule.cache for c in cases} == {"none", "cold", "warm"}
    assert all(c.trace and c.top for c in cases)


def test_the_oracle_is_float64_and_says_what_was_widened(recorded: RecordedAnswers) -> None:
    assert recorded.answers.oracle == "float64"
    assert "requests for a narrower type" in recorded.answers.oracle_note
    assert all(recorded.entries[c.oracle or ""][1] == "float64" for c in recorded.answers.cases)


def test_the_same_configuration_gives_the_recorded_bits(recorded: RecordedAnswers, model: Any) -> None:
    found = verdict(recorded, model, same=True)
    assert (found.verdict, found.faults) == ("EXACT", ())
    assert str(found).startswith(f"EXACT ({len(recorded.answers.cases)} known answers")


def test_another_attention_backend_is_in_the_envelope_and_named(recorded: RecordedAnswers, model: Any) -> None:
    model.config._attn_implementation = "eager"  # set_attn_implementation() leaves a mark on the class
    found = verdict(recorded, model)
    assert found.verdict == "ENVELOPE"
    explanation = wm.explain_answers(recorded, model, found, recorded.environment)
    assert explanation is not None
    assert explanation.module == "model.layers.0.self_attn.o_proj"
    assert explanation.points_to == "attention backend"
    assert len(explanation.layers) == explanation.modules


def test_other_bits_in_the_recorded_class_fail(recorded: RecordedAnswers, model: Any) -> None:
    model.config._attn_implementation = "eager"  # set_attn_implementation() leaves a mark on the class
    found = verdict(recorded, model, same=True)
    assert found.verdict == "FAIL"
    assert "in the very environment class in which it was recorded" in str(found.faults[0])


def test_a_changed_weight_leaves_the_envelope(recorded: RecordedAnswers, model: Any) -> None:
    model.model.layers[0].mlp.down_proj.weight.data[0, 0] = 40.0
    found = verdict(recorded, model)
    assert found.verdict == "FAIL"
    assert "outside the envelope" in str(found.faults[0])
    explanation = wm.explain_answers(recorded, model, found, recorded.environment)
    assert explanation is not None
    assert explanation.module == "model.layers.0.mlp.down_proj"


def test_answers_of_other_weights_are_refused_before_a_case_is_run(recorded: RecordedAnswers) -> None:
    opened = wm.open_model(TRAINED)
    model: Any = opened.model
    model.model.norm.weight.data[0] += 1
    assert refused(recorded, opened) == ["root: answers of other weights"]


def test_a_renamed_layer_is_another_structure(recorded: RecordedAnswers) -> None:
    opened = wm.open_model(TRAINED)
    model: Any = opened.model
    layer = model.model.layers[0]
    layer.mlp.act = layer.mlp.act_fn
    del layer.mlp.act_fn
    type(layer.mlp).act_fn = property(lambda mlp: mlp.act)  # it computes the same, under another name
    try:
        found = refused(recorded, opened)
    finally:
        del type(layer.mlp).act_fn
    assert found == ["structure: answers of another structure (classes, code, hooks, scalars)"]


def test_answers_to_another_tokenizer_are_refused(tmp_path: Path) -> None:
    shutil.copytree(TRAINED, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    recorded = wm.record_answers(wm.open_model(tmp_path / "model").model, source=tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text('{"a":1}')
    found = refused(recorded, wm.open_model(tmp_path / "model"))
    assert found == ["tokenizer: answers to tokens of another tokenizer or template"]


def test_a_model_in_training_mode_is_refused_by_name(recorded: RecordedAnswers, model: Any) -> None:
    model.model.layers[1].train()
    with pytest.raises(UsageError, match=r"model\.layers\.1 .*training mode"):
        verdict(recorded, model)


def test_a_model_that_draws_is_named_when_recording() -> None:
    class Draws(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + next(counter)

    counter = iter(range(1000))
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), Draws()).eval()
    with pytest.raises(AnswerFault, match=r"not deterministic.*first in 1 \(Draws\)"):
        record_cases(model, cases_of(model, 1))


def test_a_fault_that_comes_and_goes_is_not_called_another_kernel(recorded: RecordedAnswers, model: Any) -> None:
    counter = iter(range(1, 1000))
    model.model.norm.register_forward_hook(lambda _m, _i, output: output + next(counter))
    found = verdict(recorded, model, only=["prefill-3"])
    assert "a second run gives other bits again" in str(found.faults[0])


def test_an_output_that_is_not_finite_fails(recorded: RecordedAnswers, model: Any) -> None:
    model.lm_head.weight.data[0, 0] = torch.nan
    found = verdict(recorded, model, only=["prefill-1", "decode-row-0-of-1"])
    assert [c.verdict for c in found.cases] == ["FAIL", "FAIL"]
    assert "not finite" in str(found.faults[0])
    with pytest.raises(AnswerFault, match="not finite"):
        record_cases(model, cases_of(model, 1)[:1])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["output", "oracle"])
def test_recorded_numbers_that_are_not_finite_allow_nothing(
    recorded: RecordedAnswers, model: Any, which: str, number: float
) -> None:
    case = recorded.answers.cases[0]
    name, dtype, shape, data = recorded.entries[getattr(case, which)]
    bad = torch.tensor([number], dtype=getattr(torch, dtype)).view(torch.uint8).numpy().tobytes()
    entries = {**recorded.entries, name: (name, dtype, shape, bad + data[len(bad) :])}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-1.5)
    given = verdict(replace(recorded, entries=entries), model, only=[case.id])
    assert given.verdict == "FAIL"
    assert "recorded numbers that are not finite" in given.cases[0].detail


def test_own_tokens_that_exceed_the_context_are_refused(model: Any) -> None:
    with pytest.raises(UsageError, match=r"at most 256 tokens.*found 300"):
        wm.record_answers(model, cases={"long": torch.zeros(300, dtype=torch.int64)})
    with pytest.raises(UsageError, match="from 0 to 255, found 0 to 256"):
        wm.record_answers(model, cases={"big": torch.tensor([0, 256])})
    with pytest.raises(UsageError, match="vector of token ids"):
        wm.record_answers(model, cases={"flat": torch.zeros(2, 2, dtype=torch.int64)})


def test_two_cases_of_one_name_are_refused(model: Any) -> None:
    with pytest.raises(UsageError, match="cases: a-of-8: "):
        wm.record_answers(model, cases={"a": torch.arange(3), "a-of-8": torch.arange(4)})


def test_a_module_that_gives_infinity_is_named_when_recording() -> None:
    class Opens(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / 0.0

    class Closes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1.0 / x

    model = torch.nn.Sequential(torch.nn.Linear(3, 3), Opens(), Closes()).eval()
    with pytest.raises(AnswerFault, match=r"1 \(Opens\) gives numbers that are not finite"):
        record_cases(model, cases_of(model, 1))


def test_own_tokens_are_run_alone_among_others_and_step_by_step(model: Any) -> None:
    recorded = wm.record_answers(model, cases={"note": torch.arange(9)})
    assert [c.id for c in recorded.answers.cases] == ["note", "note-of-8", "note-decode"]
    assert verdict(recorded, model, same=True).verdict == "EXACT"


def test_a_callable_module_is_recorded_by_its_probe_set() -> None:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).eval()
    recorded = wm.record_answers(model)
    assert (recorded.answers.kind, len(recorded.answers.cases)) == ("callable", 2)
    assert verdict(recorded, model, same=True).verdict == "EXACT"


def test_without_an_oracle_only_the_recorded_bits_pass() -> None:
    torch.manual_seed(3)
    # the quantized kernels have no float64 form
    quantized: Any = torch.ao.quantization.quantize_dynamic(
        torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)), {torch.nn.Linear}
    ).eval()
    recording = record_cases(quantized, cases_of(torch.nn.Sequential(torch.nn.Linear(8, 16)), 1))
    assert recording.oracle == "none"
    assert recording.oracle_note.startswith("none: ")


def test_floating_inputs_have_an_oracle_too() -> None:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).eval()
    recording = record_cases(model, cases_of(model, 1))
    assert (recording.oracle, recording.oracle_note) == ("float64", "every operator computed in float64")
    assert all(0 < float(case.error or 0) < 1e-5 for case in recording.cases)


def test_code_that_stays_narrow_makes_no_oracle_and_is_named() -> None:
    class Narrows(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.type("torch.FloatTensor").to(x)

    model = torch.nn.Sequential(torch.nn.Linear(8, 16), Narrows()).eval()
    recording = record_cases(model, cases_of(model, 1))
    assert (recording.oracle, recording.oracle_note) == ("none", "none: not float64: aten._to_copy.default")


def test_a_kernel_that_raises_fails_its_case_and_the_others_are_run(recorded: RecordedAnswers, model: Any) -> None:
    def refuse(_module: Any, inputs: Any) -> None:
        if inputs[0].shape[1] == 3:
            raise RuntimeError("no kernel for three rows")

    model.lm_head.register_forward_pre_hook(refuse)
    found = verdict(recorded, model, only=["prefill-2", "prefill-3"])
    assert [c.verdict for c in found.cases] == ["EXACT", "FAIL"]
    assert str(found.faults[0]) == "prefill-3: the model raises RuntimeError: no kernel for three rows"


def test_private_inputs_are_not_run(recorded: RecordedAnswers, model: Any) -> None:
    cases = tuple(replace(c, inputs=(), commitment=OTHER) for c in recorded.answers.cases)
    private = replace(recorded, answers=replace(recorded.answers, private=True, cases=cases))
    with pytest.raises(UsageError, match="inputs are private"):
        verdict(private, model)


def test_no_such_case(recorded: RecordedAnswers, model: Any) -> None:
    with pytest.raises(UsageError, match=r"no such case: prefill-77$"):
        verdict(recorded, model, only=["prefill-3", "prefill-77"])
    with pytest.raises(UsageError, match="no such case: none was named"):
        verdict(recorded, model, only=[])


# -- files


@pytest.fixture
def folder(recorded: RecordedAnswers, tmp_path: Path) -> Path:
    return wm.write_answers(recorded, tmp_path / "answers")


def test_what_is_written_is_read_again(recorded: RecordedAnswers, folder: Path) -> None:
    again = wm.read_answers(folder)
    assert again.answers == recorded.answers
    assert again.answers.to_bytes() == recorded.document == again.document
    with pytest.raises(UsageError, match="not overwritten"):
        wm.write_answers(recorded, folder)


def test_a_cut_side_file_is_refused(folder: Path) -> None:
    side = folder / "answers.safetensors"
    side.write_bytes(side.read_bytes()[:-1])
    with pytest.raises(MalformedArtefact, match=r"answers\.safetensors"):
        wm.read_answers(folder)


def test_one_bit_of_the_side_file_is_seen(folder: Path) -> None:
    side = folder / "answers.safetensors"
    data = bytearray(side.read_bytes())
    data[-1] ^= 1
    side.write_bytes(data)
    with pytest.raises(MalformedArtefact, match="SHA-256"):
        wm.read_answers(folder)


def test_an_output_exchanged_together_with_the_side_digest_is_seen(recorded: RecordedAnswers) -> None:
    case = replace(recorded.answers.cases[0], sha256=OTHER)
    edited = replace(recorded.answers, cases=(case, *recorded.answers.cases[1:]))
    with pytest.raises(MalformedArtefact, match=r"out\.prefill-1 SHA-256"):
        bind_answers(edited.to_bytes(), recorded.side, recorded.environment, "x")


def test_an_edited_document_is_refused(folder: Path) -> None:
    file = folder / "answers.json"
    document = json.loads(file.read_bytes())
    document["classDigest"] = OTHER
    file.write_bytes(dumps(document))
    with pytest.raises(MalformedArtefact, match="class digest"):
        wm.read_answers(folder)
    file.write_bytes(dumps({**document, "more": 1}))
    with pytest.raises(MalformedArtefact, match="unknown key"):
        wm.read_answers(folder)


def test_another_environment_document_is_refused(folder: Path) -> None:
    file = folder / "environment.json"
    document = json.loads(file.read_bytes())
    document["facts"] = document["facts"][1:]
    file.write_bytes(dumps(document))
    with pytest.raises(MalformedArtefact, match=r"environment\.json.*SHA-256"):
        wm.read_answers(folder)


def test_a_file_too_many_or_too_few_is_refused(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")
    with pytest.raises(MalformedArtefact, match=r"notes\.txt"):
        wm.read_answers(folder)
    (folder / "notes.txt").unlink()
    (folder / "answers.json").unlink()
    with pytest.raises(UsageError):
        wm.read_answers(folder)
