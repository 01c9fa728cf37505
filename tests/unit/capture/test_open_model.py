# SPDX-License-Identifier: Apache-2.0
"""Opening by name: what is taken for what, and that every kind of model can be weighed without changing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from weighmaster.capture.open_model import Opened, open_model
from weighmaster.capture.probe_set import output_tensors
from weighmaster.capture.torch_model import TorchModel
from weighmaster.capture.torch_walk import walk
from weighmaster.errors import NotWeighed, StageFault, UsageError
from weighmaster.flows.artefact import Manifest
from weighmaster.flows.weigh import as_probe_set, weigh


def llama(*, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=64,
        max_position_embeddings=64,
    )
    return BertModel(config).eval()


def convnet() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    return layers.eval()


EXAMPLE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def directory_of(model: nn.Module, path: Path) -> Path:
    model.save_pretrained(path)
    return path


def script_of(model: torch.jit.ScriptModule, path: Path) -> Path:
    model.save(str(path))
    return path


def export_of(path: Path) -> Path:
    torch.export.save(torch.export.export(convnet(), (EXAMPLE,)), path)
    return path


MODELS = {
    "llama": ("huggingface", lambda p: directory_of(llama(tied=False), p / "m")),
    "llama-tied": ("huggingface", lambda p: directory_of(llama(tied=True), p / "m")),
    "bert": ("huggingface", lambda p: directory_of(bert(), p / "m")),
    "scripted": ("torchscript", lambda p: script_of(torch.jit.script(convnet()), p / "m.pt")),
    "traced": ("torchscript", lambda p: script_of(torch.jit.trace(convnet(), EXAMPLE), p / "m.ts")),
    "frozen": ("torchscript", lambda p: script_of(torch.jit.freeze(torch.jit.script(convnet())), p / "m.pth")),
    "exported": ("torch-export", lambda p: export_of(p / "m.pt2")),
}


def weighed(opened: Opened) -> Manifest:
    return weigh(
        opened.model,
        product="p",
        version="1",
        serial=1,
        example_inputs=opened.probe,
        source=opened.source,
        loading_faults=opened.faults,
    )


def outputs(model: nn.Module, probe: object) -> list[torch.Tensor]:
    return list(output_tensors(as_probe_set(probe, TorchModel(model)).run(model)))


@pytest.mark.parametrize("kind", MODELS)
def test_weighs_without_changing(kind: str, tmp_path: Path) -> None:
    loader, make = MODELS[kind]
    path = make(tmp_path)
    opened = open_model(path)
    assert (opened.loader, opened.source, opened.faults) == (loader, path, ())
    assert not any(getattr(m, "training", False) for m in opened.model.modules()) or loader == "torch-export"
    before = outputs(opened.model, opened.probe)
    manifest = weighed(opened)
    after = outputs(opened.model, opened.probe)
    coverage = manifest.statement.coverage
    assert coverage is not None
    assert coverage.consumed_bytes == coverage.consumed_hashed_bytes > 0
    assert coverage.excluded == ()
    assert manifest.statement.method.trace == "same path"
    assert before
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", ["llama", "bert", "scripted", "frozen", "exported"])
def test_two_openings_have_one_root(kind: str, tmp_path: Path) -> None:
    path = MODELS[kind][1](tmp_path)
    first, second = (weighed(open_model(str(path))) for _ in range(2))
    assert first.tables[-1].root == second.tables[-1].root
    assert first.statement.structure == second.statement.structure


def test_a_live_convnet_needs_no_examples() -> None:
    model = convnet()
    before = model(EXAMPLE)
    manifest = weigh(model, product="p", version="1", serial=1)
    coverage = manifest.statement.coverage
    assert coverage is not None
    assert coverage.consumed_bytes == coverage.consumed_hashed_bytes == 1204
    assert torch.equal(before, model(EXAMPLE))


def test_frozen_weights_are_named_by_their_constants(tmp_path: Path) -> None:
    manifest = weighed(open_model(MODELS["frozen"][1](tmp_path)))
    rows = manifest.tables[-1].rows
    assert [r.role for r in rows] == ["constant"] * len(rows)
    assert sum(r.nbytes for r in rows) == 1076


def test_one_flipped_bit_in_a_script_is_another_root(tmp_path: Path) -> None:
    model = convnet()
    first = weighed(open_model(script_of(torch.jit.script(model), tmp_path / "a.pt")))
    with torch.no_grad():
        model[5].bias.view(torch.int32)[0] ^= 1
    second = weighed(open_model(script_of(torch.jit.script(model), tmp_path / "b.pt")))
    changed = [a.name for a, b in zip(first.tables[-1].rows, second.tables[-1].rows, strict=True) if a != b]
    assert changed == ["5.bias"]


def test_a_program_exported_in_training_mode_is_a_fault(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)).train()
    torch.export.save(torch.export.export(model, (torch.randn(2, 4),)), tmp_path / "t.pt2")
    opened = open_model(tmp_path / "t.pt2")
    assert [type(f) for f in opened.faults] == [StageFault, StageFault]
    assert [f.subject for f in opened.faults] == ["dropout", "batch_norm"]
    assert "operator aten.dropout.default" in str(opened.faults[0])
    assert "expected evaluation mode, found training mode" in str(opened.faults[0])
    with pytest.raises(NotWeighed) as caught:
        weighed(opened)
    assert "dropout: the program was exported in training mode" in str(caught.value)


def test_an_export_with_both_kinds_of_arguments_keeps_its_examples(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
            return self.linear(x) * scale

    program = torch.export.export(Scaled().eval(), (torch.ones(2, 4),), {"scale": torch.full((4,), 2.0)})
    torch.export.save(program, tmp_path / "s.pt2")
    opened = open_model(tmp_path / "s.pt2")
    probe = as_probe_set(opened.probe, TorchModel(opened.model))
    assert [name for name, _ in probe.tensors] == ["call.0.args.0", "call.0.scale"]
    coverage = weighed(opened).statement.coverage
    assert coverage is not None
    assert coverage.consumed_bytes == coverage.consumed_hashed_bytes == 80


def test_a_script_with_two_inputs_asks_for_examples(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.linear(x) + y

    opened = open_model(script_of(torch.jit.script(Two().eval()), tmp_path / "two.pt"))
    assert opened.probe == "auto"
    with pytest.raises(UsageError, match="give example_inputs"):
        weighed(opened)


def test_a_scripted_embedding_is_given_tokens(tmp_path: Path) -> None:
    layers = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 2)).eval()
    opened = open_model(script_of(torch.jit.script(layers), tmp_path / "e.pt"))
    probe = as_probe_set(opened.probe, TorchModel(opened.model))
    assert (probe.kind, [tuple(t.shape) for _, t in probe.tensors]) == ("tokens", [(1, 16), (2, 16)])
    assert max(int(t.max()) for _, t in probe.tensors) < 11
    assert weighed(opened).statement.method.trace == "same path"


def test_a_script_saved_in_training_mode_is_put_into_evaluation_mode(tmp_path: Path) -> None:
    opened = open_model(script_of(torch.jit.script(convnet().train()), tmp_path / "t.pt"))
    assert opened.model.training is False


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.safetensors", "a safetensors file has no model to run; it can be weighed at rest"),
        ("renamed.bin", "a safetensors file has no model to run; it can be weighed at rest"),
    ],
)
def test_a_bare_safetensors_file_has_no_model(name: str, expected: str, tmp_path: Path) -> None:
    source = directory_of(bert(), tmp_path / "m") / "model.safetensors"
    (tmp_path / name).write_bytes(source.read_bytes())
    with pytest.raises(UsageError) as caught:
        open_model(tmp_path / name)
    assert expected in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_directory_without_config_has_no_model(tmp_path: Path) -> None:
    path = directory_of(bert(), tmp_path / "m")
    (path / "config.json").unlink()
    with pytest.raises(
        UsageError, match=r"no config\.json: a checkpoint without it has no model to run; it can be wei"
    ):
        open_model(path)


def test_an_empty_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json: this is no Hugging Face model directory"):
        open_model(tmp_path)


def test_a_checkpoint_of_tensors_has_no_model(tmp_path: Path) -> None:
    torch.save(convnet().state_dict(), tmp_path / "m.pt")
    with pytest.raises(UsageError, match="a checkpoint of tensors has no model to run; it can be weighed at rest"):
        open_model(tmp_path / "m.pt")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07 something")
    with pytest.raises(UsageError, match=r"is no TorchScript or torch\.export file"):
        open_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("spec", ["meta-llama/Llama-3", "/no/such/place", "model.pt"])
def test_what_is_not_there_is_not_downloaded(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_model(spec)
    assert str(caught.value).startswith(f"{spec}: no such file or directory")
    assert "none is downloaded" in str(caught.value)


def test_importing_it_imports_no_transformers() -> None:
    code = "import sys, weighmaster.capture.open_model; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


def test_a_module_called_by_a_graph_has_a_mode() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.drop(self.linear(x))

    graph = torch.fx.symbolic_trace(Dropping().eval())
    graph.eval = lambda: graph  # as torch.export leaves it, which fixes the mode; torch.fx does not
    graph.drop.train()
    with pytest.raises(NotWeighed) as caught:
        weigh(graph, product="p", version="1", serial=1)
    assert [f.subject for f in caught.value.faults] == ["drop"]
    assert "drop: is in training mode" in str(caught.value)


def test_the_structure_does_not_count_what_else_was_traced() -> None:
    first, second = (
        weigh(torch.jit.trace(convnet(), EXAMPLE), product="p", version="1", serial=1, example_inputs=EXAMPLE)
        for _ in range(2)
    )
    assert first.statement.structure == second.statement.structure


def test_a_text_in_a_script_is_part_of_the_structure_whole() -> None:
    def graph_of(text: str) -> list[str]:
        class Tagged(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear, self.text = nn.Linear(4, 4), text

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                assert x.dim() == 2, self.text
                return self.linear(x)

        torch.manual_seed(0)
        model = torch.jit.freeze(torch.jit.script(Tagged().eval()))
        return [f.value for f in walk(model).facts if f.kind == "graph"]

    assert graph_of("a # a") == graph_of("a # a")
    assert graph_of("a # a") != graph_of("a # b")
