# SPDX-License-Identifier: Apache-2.0
"""Calibration on a small trained model (tests/trained) and on tiny ones of other kinds."""

import hashlib
import json
import math
import sysconfig
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

from weighmaster.capture.calibration import collect, named_as, token_digest
from weighmaster.capture.safetensors_files import open_checkpoint
from weighmaster.capture.self_sample import calibrate, read_tokens, self_sample, words_sample
from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.pack.backends import best
from weighmaster.pack.coder import decode_blob
from weighmaster.pack.plan import plan_calibrated, plan_datafree, resume
from weighmaster.pack.quantize import values_of
from weighmaster.pack.statistics import digest_of

TRAINED = Path(__file__).parents[2] / "trained"


@pytest.fixture(scope="module")
def trained():
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(TRAINED, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def names():
    with open_checkpoint(TRAINED) as checkpoint:
        return [view.name for view in checkpoint.views()]


@pytest.fixture(scope="module")
def own_text(trained):
    return collect(trained, list(self_sample(trained, 24, 96, 3)), seed=0)


def held_out():
    """Text that the model was not trained on (tests/trained/make.py)."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    data = np.frombuffer(b"".join(f.read_bytes() for i, f in enumerate(files) if i % 8 == 7), np.uint8)
    return torch.from_numpy(data[: 16 * 128].reshape(16, 128).astype(np.int64))


def divergence(model, encoder):
    """Return real bits per weight, and the mean KL divergence of the packed model from the model."""
    size, elements, tokens = 0, 0, held_out()
    with torch.no_grad(), open_checkpoint(TRAINED) as checkpoint:
        before = torch.log_softmax(model(input_ids=tokens).logits, -1)
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        for view in checkpoint.views():
            coded = encoder.encode(view)
            size, elements = size + len(coded.blob), elements + math.prod(view.shape)
            if coded.codec == "five-v1":
                data = decode_blob(memoryview(coded.blob), view.name, best())[1]
                values = torch.from_numpy(values_of(data, view.dtype).reshape(view.shape).copy())
                model.get_parameter(view.name).copy_(values)
        after = torch.log_softmax(model(input_ids=tokens).logits, -1)
        for name, value in weights.items():
            model.get_parameter(name).copy_(value)
    return 8 * size / elements, float((before.exp() * (before - after)).sum(-1).mean())


@pytest.mark.slow
def test_calibrated_is_better_than_data_free_at_equal_bits(trained, own_text):
    with open_checkpoint(TRAINED) as checkpoint:
        plain = plan_datafree(checkpoint.views(), bits=Decimal(4), fixed_bytes=0)
        calibrated = plan_calibrated(checkpoint.views(), own_text, bits=Decimal(4), fixed_bytes=0)
    plain_bits, plain_loss = divergence(trained, plain)
    bits, loss = divergence(trained, calibrated)
    assert 3.98 <= bits <= 4
    assert 3.98 <= plain_bits <= 4
    assert 0 < loss < 0.6 * plain_loss


def test_the_same_model_gives_the_same_calibration(trained, names, monkeypatch):
    monkeypatch.setattr("weighmaster.capture.self_sample.COUNT", 3)
    monkeypatch.setattr("weighmaster.capture.self_sample.LENGTH", 20)
    one, again = calibrate(trained, names), calibrate(trained, names)
    assert (again.kind, again.tokens, again.sha256) == ("self", 60, one.sha256)
    assert digest_of(again.statistics) == digest_of(one.statistics)
    with open_checkpoint(TRAINED) as checkpoint:
        state = plan_calibrated(checkpoint.views(), one.statistics, bits=Decimal(5), fixed_bytes=0).state()
    assert resume(state, again.statistics).state() == state


def test_a_file_takes_the_place_of_own_text(trained, names, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(list(range(30))))
    found = calibrate(trained, names, file=tmp_path / "a.json")
    assert (found.kind, found.tokens) == ("file", 30)
    assert found.sha256 == token_digest([np.arange(30)])


def test_every_matrix_of_the_model_is_seen(own_text, names):
    assert set(own_text) == {name for name in names if "norm" not in name}
    for moments in own_text.values():
        assert np.isfinite(moments.inputs).all()
        assert np.allclose(moments.inputs, moments.inputs.T, rtol=1e-3, atol=1e-6 * np.abs(moments.inputs).max())
        assert (moments.outputs >= 0).all()
        assert moments.outputs.sum() > 0


def test_the_model_is_left_as_it_was(trained):
    before = {name: p.requires_grad for name, p in trained.named_parameters()}
    collect(trained, [np.arange(20)], seed=0)
    assert {name: p.requires_grad for name, p in trained.named_parameters()} == before
    assert not any(m._forward_hooks for m in trained.modules())


def test_moments_are_means_of_inputs(trained):
    tokens = np.arange(40, 70)
    seen = []
    layer = trained.model.layers[1].mlp.down_proj
    handle = layer.register_forward_hook(lambda _m, given, _o: seen.append(given[0].detach()[0]))
    statistics = collect(trained, [tokens], seed=0)
    handle.remove()
    wanted = (seen[0].T @ seen[0] / 30).numpy()
    assert np.allclose(statistics["model.layers.1.mlp.down_proj.weight"].inputs, wanted, rtol=1e-4, atol=1e-6)
    shares = statistics["model.embed_tokens.weight"].outputs
    assert shares.sum() == pytest.approx(1)
    assert np.flatnonzero(shares).tolist() == tokens.tolist()


def test_fisher_of_the_head_is_what_theory_says(trained):
    text = self_sample(trained, 24, 64, 3)
    outputs = collect(trained, list(text), seed=0)["lm_head.weight"].outputs
    with torch.no_grad():
        p = torch.softmax(trained(input_ids=torch.from_numpy(text)).logits, -1).reshape(-1, 256)
    wanted = (p * (1 - p)).mean(0).numpy()
    assert outputs.sum() == pytest.approx(wanted.sum(), rel=0.1)
    assert np.corrcoef(outputs, wanted)[0, 1] > 0.95


def test_matrices_may_lie_in_files(trained, tmp_path):
    tokens = [np.arange(50)]
    assert digest_of(collect(trained, tokens, seed=1, work=tmp_path)) == digest_of(collect(trained, tokens, seed=1))
    assert len(list(tmp_path.iterdir())) == 16


def test_own_text_is_drawn_from_the_model(trained):
    text = self_sample(trained, 8, 100, 5)
    assert text.shape == (8, 100)
    assert np.array_equal(text, self_sample(trained, 8, 100, 5))
    assert not np.array_equal(text, self_sample(trained, 8, 100, 6))
    assert (text[:, 1:] == 32).mean() > 0.05  # code is full of spaces


def test_an_encoder_is_calibrated_on_its_embedding(bert):
    model = bert()
    statistics = collect(model, words_sample(model, None, 12, 24, 0), seed=0)
    dense = statistics["encoder.layer.0.output.dense.weight"]
    assert dense.inputs.shape == (64, 64)
    assert dense.outputs.shape == (32,)
    assert np.trace(dense.inputs) == pytest.approx(1, rel=1e-3)
    words = statistics["embeddings.word_embeddings.weight"]
    assert words.outputs[:5].sum() > words.outputs[60:65].sum()  # frequent words count for more
    assert "pooler.dense.weight" not in statistics  # it has no part in the embedding


def test_a_convolution_is_fed_windows():
    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(30, 3 * 8 * 8)
            self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)

        def forward(self, input_ids):
            x = self.conv(self.words(input_ids[:, :1]).reshape(-1, 3, 8, 8))
            hidden = x.flatten(2).transpose(1, 2)
            return type("Answer", (), {"last_hidden_state": hidden})()

    torch.manual_seed(0)
    statistics = collect(Reader(), [np.array([i, i]) for i in range(6)], seed=0)
    assert statistics["conv.weight"].inputs.shape == (27, 27)
    assert statistics["conv.weight"].outputs.shape == (6,)


def test_what_is_neither_kind_is_refused():
    class Other(torch.nn.Module):
        def forward(self, input_ids):
            return input_ids

    with pytest.raises(UsageError, match="no causal language model and gives no last_hidden_state"):
        collect(Other(), [np.arange(4)], seed=0)
    with pytest.raises(UsageError, match="at least two tokens, found none"):
        collect(Other(), [np.arange(1)], seed=0)


def test_names_of_a_checkpoint_may_have_a_prefix():
    statistics = {"encoder.a.weight": 1, "b.weight": 2, "c.weight": 3, "d.weight": 4}
    names = ["bert.encoder.a.weight", "b.weight", "x.c.weight", "y.c.weight"]
    assert named_as(statistics, names) == {"bert.encoder.a.weight": 1, "b.weight": 2}


def test_the_digest_is_of_32_bit_tokens():
    tokens = [np.array([1, 2]), np.array([70000])]
    assert token_digest(tokens) == hashlib.sha256(b"\1\0\0\0\2\0\0\0\x70\x11\1\0").hexdigest()


def read(path, vocabulary=256, tokenizer=None):
    return [s.tolist() for s in read_tokens(path, vocabulary, tokenizer=tokenizer, length=4)]


def test_tokens_are_read_from_files(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([1, 2, 3, 4, 5, 6, 7, 8, 9]))
    (tmp_path / "b.json").write_text(json.dumps([[1, 2], [3, 4, 5]]))
    np.save(tmp_path / "c.npy", np.array([[1, 2, 3], [4, 5, 6]], np.uint16))
    (tmp_path / "d.txt").write_text("abc\u00e9")

    class Letters:
        def encode(self, text):
            return [ord(c) for c in text]

    assert read(tmp_path / "a.json") == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert read(tmp_path / "b.json") == [[1, 2], [3, 4, 5]]
    assert read(tmp_path / "c.npy") == [[1, 2, 3], [4, 5, 6]]
    assert read(tmp_path / "d.txt", tokenizer=Letters()) == [[97, 98, 99, 233]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[1, 256]", "tokens below 256"),
        ("a.json", b"[1, -2]", "tokens below 256"),
        ("a.json", b"[1, 2.5]", "a list of integers"),
        ("a.json", b"[1, true]", "a list of integers"),
        ("a.json", b'{"a": 1}', "a list of integers"),
        ("a.json", b"[1", "JSON"),
        ("a.json", b"[7]", "a sequence of at least two tokens"),
        ("a.npy", b"\x93NUMPY", "a NumPy array"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MalformedArtefact, match=message) as caught:
        read(tmp_path / name)
    assert caught.value.file == str(tmp_path / name)


def test_an_array_of_something_else_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(5))
    with pytest.raises(MalformedArtefact, match="integers in one or two dimensions"):
        read(tmp_path / "a.npy")


def test_text_needs_a_tokenizer(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UsageError, match="turned into tokens by the model's tokenizer"):
        read(tmp_path / "a.txt")
