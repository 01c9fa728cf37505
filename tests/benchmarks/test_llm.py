# SPDX-License-Identifier: Apache-2.0
"""The evaluation of large models, from its entry point, on a model and a text small enough for a test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = pytest.mark.slow
TEXT = Path(__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def evaluate(script):
    return script("llm/evaluate.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Llama of random weights with tied embeddings, and a tokenizer of 300 entries made from this file."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    directory = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT], trainer)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(directory)
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(directory)
    return directory


def packed(directory, model, change):
    """Write what an unpacked pack would hold: the model's tensors after a change."""
    directory.mkdir()
    tensors = safetensors.load_file(model / "model.safetensors")
    safetensors.save_file(change(tensors), directory / "model.safetensors")
    return directory


def run(evaluate, monkeypatch, capsys, model, out, protocol, *packs):
    text = out.parent / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    given = [word for pack in packs for word in ("--pack", f"{pack}={pack}")]
    options = ["--device", "cpu", "--text", str(text), "--length", "64", "--windows", "8", "--batch", "4"]
    words = ["evaluate.py", protocol, "--model", str(model), *given, *options, "-o", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    evaluate.main()
    return json.loads(out.read_text(encoding="utf-8")), capsys.readouterr().out


def shaken(tensors):
    generator = torch.Generator().manual_seed(7)
    return {n: (t + 0.02 * torch.randn(t.shape, generator=generator)).to(t.dtype) for n, t in tensors.items()}


@pytest.mark.parametrize("protocol", ["wikitext-2", "fineweb-edu"])
def test_a_pack_is_measured_against_its_model(evaluate, monkeypatch, capsys, model, tmp_path, protocol):
    same, other = packed(tmp_path / "same", model, dict), packed(tmp_path / "other", model, shaken)
    found, printed = run(evaluate, monkeypatch, capsys, model, tmp_path / "out.json", protocol, same, other)
    exact, shaken_row = found["methods"]
    assert (found["windows"], found["length"], found["dtype"]) == (8, 64, "float32")
    assert (set(exact["kl"]), set(exact["nll"]), set(exact["top1"])) == ({0.0}, {0.0}, {1.0})
    assert shaken_row["kl"] == pytest.approx(by_another_formula(model, other, evaluate, protocol), rel=1e-3)
    size = (same / "model.safetensors").stat().st_size
    count = sum(t.numel() for t in safetensors.load_file(same / "model.safetensors").values())
    assert exact["bits"] == 8 * size / count
    assert "same: " in printed
    assert "other: " in printed
    assert "text.txt in its place" in found["protocol"]


def by_another_formula(model, unpacked, evaluate, protocol):
    """KL per window in float64, by torch's own function, on the same windows."""
    theirs, ours = (transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64) for _ in range(2))
    state = {n: t.double() for n, t in safetensors.load_file(unpacked / "model.safetensors").items()}
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"}  # tied to the embedding
    assert not unexpected
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = evaluate.PROTOCOLS[protocol].tokens(tokenizer, iter([TEXT]), None)
    cut = torch.tensor(tokens[: 8 * 64]).reshape(8, 64)
    with torch.inference_mode():
        p, q = (m(input_ids=cut[:, :-1]).logits.log_softmax(-1) for m in (theirs, ours))
    return torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean(1).tolist()


def test_a_tensor_that_is_missing_is_named(evaluate, monkeypatch, capsys, model, tmp_path):
    def without(tensors):
        return {name: tensor for name, tensor in tensors.items() if name != "model.layers.1.mlp.up_proj.weight"}

    lacking = packed(tmp_path / "lacking", model, without)
    with pytest.raises(
        SystemExit, match=r"1 parameters are missing, the first is model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        run(evaluate, monkeypatch, capsys, model, tmp_path / "out.json", "wikitext-2", lacking)


def test_a_tensor_of_another_shape_is_named(evaluate, monkeypatch, capsys, model, tmp_path):
    def turned(tensors):
        name = "model.layers.0.mlp.up_proj.weight"
        return tensors | {name: tensors[name].T.contiguous()}

    odd = packed(tmp_path / "odd", model, turned)
    with pytest.raises(
        SystemExit, match=r"model\.layers\.0\.mlp\.up_proj\.weight: shape \(32, 64\), expected \(64, 32\)"
    ):
        run(evaluate, monkeypatch, capsys, model, tmp_path / "out.json", "wikitext-2", odd)


def test_documents_are_closed_by_the_end_of_text_and_read_only_as_far_as_needed(evaluate, model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    read = []

    def texts():
        for text in ("first", "second", "third"):
            read.append(text)
            yield text

    few = evaluate.fineweb_tokens(tokenizer, texts(), 2)
    assert (few[-1], few.count(tokenizer.eos_token_id), read) == (tokenizer.eos_token_id, 1, ["first"])
    every = evaluate.fineweb_tokens(tokenizer, texts(), None)
    assert (every[: len(few)], every.count(tokenizer.eos_token_id)) == (few, 3)
