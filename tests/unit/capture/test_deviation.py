# SPDX-License-Identifier: Apache-2.0
"""What is measured between two models: against independent computations, and against models that are equal."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from weighmaster.capture import deviation
from weighmaster.capture.deviation import measure_embeddings, measure_metric, measure_tokens
from weighmaster.errors import UsageError

VOCABULARY = 11


class Tiny(torch.nn.Module):
    """Logits from the token and the one before it: small enough for a computation by hand."""

    def __init__(self, seed, change=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(VOCABULARY, VOCABULARY, generator=generator)
        self.table = torch.nn.Parameter(table + change * torch.randn(VOCABULARY, VOCABULARY, generator=generator))
        self.config = SimpleNamespace(vocab_size=VOCABULARY)
        self.batches = []

    def forward(self, input_ids):
        self.batches.append(tuple(input_ids.shape))
        before = torch.roll(input_ids, 1, dims=1)
        before[:, 0] = 0
        return SimpleNamespace(logits=self.table[input_ids] + 0.5 * self.table[before])


def sequences(*lengths):
    random = np.random.default_rng(8)
    return tuple(random.integers(0, VOCABULARY, length) for length in lengths)


def by_hand(model, sequence):
    """Log-probabilities in plain Python floats: [length][vocabulary]."""
    table = model.table.tolist()
    out = []
    for i, token in enumerate(sequence):
        before = sequence[i - 1] if i else 0
        # The model adds in float32.
        logits = [
            float(np.float32(np.float32(a) + np.float32(0.5) * np.float32(b)))
            for a, b in zip(table[token], table[before], strict=True)
        ]
        norm = math.log(math.fsum(math.exp(x) for x in logits))
        out.append([x - norm for x in logits])
    return out


def test_figures_are_those_of_an_independent_computation():
    a, b = Tiny(1), Tiny(1, 0.1)
    given = sequences(7, 4, 7, 2)
    found = measure_tokens(a, b, given)
    assert list(found.lengths) == [6, 3, 6, 1]
    kl, reference, packed, agrees = [], [], [], []
    for sequence in given:
        p, q = by_hand(a, sequence), by_hand(b, sequence)
        for i in range(len(sequence) - 1):
            kl.append(math.fsum(math.exp(x) * (x - y) for x, y in zip(p[i], q[i], strict=True)))
            reference.append(-p[i][sequence[i + 1]])
            packed.append(-q[i][sequence[i + 1]])
            agrees.append(max(range(VOCABULARY), key=p[i].__getitem__) == max(range(VOCABULARY), key=q[i].__getitem__))
    assert found.kl == pytest.approx(kl, rel=1e-12, abs=1e-15)
    assert found.reference == pytest.approx(reference, rel=1e-12)
    assert found.packed == pytest.approx(packed, rel=1e-12)
    assert list(found.agrees) == agrees
    assert min(kl) > 0
    assert found.kl.dtype == np.float64


def test_equal_models_do_not_deviate_at_all():
    found = measure_tokens(Tiny(2), Tiny(2), sequences(9, 9, 5))
    assert not found.kl.any()
    assert (found.reference == found.packed).all()
    assert found.agrees.all()


def test_divergence_is_from_the_reference():
    """KL is not symmetric: exchanging the models must show."""
    a, b, given = Tiny(1), Tiny(5), sequences(12)
    assert measure_tokens(a, b, given).kl.sum() != pytest.approx(measure_tokens(b, a, given).kl.sum(), rel=1e-3)


def test_batches_hold_sequences_of_one_length_and_change_nothing(monkeypatch):
    a, b, given = Tiny(1), Tiny(1, 0.1), sequences(5, 3, 5, 5, 3)
    whole = measure_tokens(a, b, given)
    assert a.batches == b.batches == [(2, 3), (3, 5)]
    monkeypatch.setattr(deviation, "_LOGITS", 1)
    monkeypatch.setattr(deviation, "_ROWS", 1)
    a.batches.clear()
    single = measure_tokens(a, b, given)
    assert a.batches == [(1, 3), (1, 3), (1, 5), (1, 5), (1, 5)]
    for name in ("lengths", "kl", "reference", "packed", "agrees"):
        assert (getattr(whole, name) == getattr(single, name)).all(), name


def test_a_token_that_both_exclude_adds_nothing():
    a, b, given = Tiny(1), Tiny(1, 0.1), tuple(np.array(s) for s in ([1, 2, 3, 4, 5],))
    with torch.no_grad():
        for model in (a, b):
            model.table[:, 7] = -math.inf
    found = measure_tokens(a, b, given)
    assert np.isfinite(found.kl).all()
    assert (found.kl > 0).all()


def test_a_token_that_the_pack_alone_excludes_is_an_infinite_divergence():
    a, b = Tiny(1), Tiny(1)
    with torch.no_grad():
        b.table[:, 7] = -math.inf
    with pytest.raises(UsageError, match="the divergence is infinite"):
        measure_tokens(a, b, sequences(5))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("which", ["source", "packed"])
def test_logits_that_are_no_numbers(which, value):
    a, b = Tiny(1), Tiny(1)
    with torch.no_grad():
        (a if which == "source" else b).table[3, 3] = value
    with pytest.raises(UsageError, match=f"the {which} model gives logits that are no numbers"):
        measure_tokens(a, b, (np.array([3, 3, 3]),))


@pytest.mark.parametrize("given", [(), (np.array([1]),), (np.array([1, 2]), np.array([1]))])
def test_nothing_to_predict(given):
    with pytest.raises(UsageError, match="expected sequences of at least two tokens"):
        measure_tokens(Tiny(1), Tiny(1), given)


class Body(torch.nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = torch.nn.Parameter(torch.tensor(rows))

    def forward(self, input_ids, attention_mask):
        assert attention_mask.shape == input_ids.shape
        return SimpleNamespace(last_hidden_state=self.rows[input_ids])


def test_embeddings_by_mean_and_by_first_token():
    a = Body([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    b = Body([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    given = (np.array([0, 1]), np.array([2]), np.array([0, 2]))
    means = measure_embeddings(a, b, given, pooling="mean")
    # By hand: (0.5, 0.5) twice; (1, 1) against (1, 0); (1, 0.5) against (1, 0).
    assert means == pytest.approx([0.0, 1 - math.sqrt(0.5), 1 - 2 / math.sqrt(5)], abs=1e-15)
    assert measure_embeddings(a, b, given, pooling="cls") == pytest.approx([0, 1 - math.sqrt(0.5), 0], abs=1e-15)
    assert not measure_embeddings(a, a, given, pooling="mean").any()


def test_small_distances_are_not_lost():
    """1 - a.b in floating point would be 0 here, or a multiple of 1.1e-16."""
    a, b = Body([[1.0, 0.0]]), Body([[1.0, 1e-9]])
    found = measure_embeddings(a, b, (np.array([0]),), pooling="mean")
    assert found[0] == pytest.approx(float(np.float32(1e-9)) ** 2 / 2, rel=1e-6)


def test_an_embedding_of_length_zero_has_no_direction():
    with pytest.raises(UsageError, match="the packed model gives embeddings that are no numbers"):
        measure_embeddings(Body([[1.0, 0.0]]), Body([[0.0, 0.0]]), (np.array([0]),), pooling="mean")
    with pytest.raises(UsageError, match="at least one token"):
        measure_embeddings(Body([[1.0]]), Body([[1.0]]), (), pooling="mean")


def test_a_metric_of_the_user_is_called_on_both_models():
    a, b, called = Tiny(1), Tiny(2), []

    def metric(model):
        called.append(model)
        return [1.0, 2.0] if model is a else torch.tensor([1.5, 2.0])

    found = measure_metric(metric, a, b)
    assert called == [a, b]
    assert (list(found.reference), list(found.packed)) == ([1.0, 2.0], [1.5, 2.0])
    assert list(measure_metric(lambda model: 0.25, a, b).packed) == [0.25]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (([1.0], [1.0, 2.0]), "1 items for the source and 2 for the packed model"),
        (("high", "low"), "the metric gives str: expected a number or an array of them"),
        ((math.nan, 1.0), "no finite numbers in one dimension"),
        (([[1.0]], [[1.0]]), "no finite numbers in one dimension"),
        (([], []), "no finite numbers in one dimension"),
        ((None, None), "the metric gives NoneType|no finite numbers"),
    ],
)
def test_a_metric_that_gives_something_else(results, message):
    given = iter(results)
    with pytest.raises(UsageError, match=message):
        measure_metric(lambda model: next(given), Tiny(1), Tiny(2))
