# SPDX-License-Identifier: Apache-2.0
"""Quality figures: against formulas written a second time, on a model small enough to reckon by hand."""

from __future__ import annotations

import math

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def deviation(script):
    return script("deviation.py")


@pytest.fixture(scope="module")
def intervals(script):
    return script("intervals.py")


def fixed(table):
    """A model that answers each token by its row of a table of probabilities."""
    logits = torch.tensor(table).log()
    return lambda tokens: logits[tokens]


THEIRS = [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]
OURS = [[0.25, 0.5, 0.25], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6]]


@pytest.mark.parametrize("keep", [True, False])
def test_kl_nll_and_top1_are_what_the_formulas_give(deviation, keep):
    sequences = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])
    reference = deviation.Reference(fixed(THEIRS), sequences, batch=1, keep=keep)
    found = deviation.measured(reference, fixed(OURS))

    def kl(at):
        return sum(p * math.log(p / q) for p, q in zip(THEIRS[at], OURS[at], strict=True))

    assert found.kl == pytest.approx([(kl(0) + kl(1) + kl(2)) / 3, (2 * kl(2) + kl(1)) / 3], abs=1e-6)
    first = (math.log(0.25 / 0.5) + math.log(0.1 / 0.2) + 0) / 3  # 0 -> 1, 1 -> 2, 2 -> 0
    second = (0 + 0 + math.log(0.8 / 0.7)) / 3  # 2 -> 2, 2 -> 1, 1 -> 1
    assert found.nll == pytest.approx([first, second], abs=1e-6)
    assert found.top1 == pytest.approx([2 / 3, 1.0])
    assert reference.nll()[1] == pytest.approx(-(math.log(0.6) + math.log(0.2) + math.log(0.8)) / 3, abs=1e-6)


def test_a_model_deviates_from_itself_by_nothing(deviation):
    sequences = torch.tensor([[0, 1, 2], [2, 0, 1]])
    reference = deviation.Reference(fixed(THEIRS), sequences, batch=2, keep=True)
    found = deviation.measured(reference, fixed(THEIRS))
    assert (found.kl, found.nll, found.top1) == ((0.0, 0.0), (0.0, 0.0), (1.0, 1.0))


def test_sequences_do_not_overlap_and_the_halves_share_no_token(deviation):
    tokens = np.arange(2000)
    chosen, reported = (deviation.drawn(tokens, half, 60, 16) for half in ("choose", "report"))
    assert chosen.shape == reported.shape == (60, 16)
    every = torch.cat([chosen, reported]).flatten().tolist()
    assert len(set(every)) == len(every)
    assert chosen.max() < 1000 <= reported.min()
    assert deviation.digest(chosen) == deviation.digest(deviation.drawn(tokens, "choose", 60, 16))
    assert deviation.digest(chosen) != deviation.digest(reported)


def test_too_few_tokens_are_refused(deviation):
    with pytest.raises(ValueError, match="report half: holds 62 sequences of 16 tokens, 63 are asked for"):
        deviation.drawn(np.arange(2000), "report", 63, 16)


def test_windows_follow_each_other_and_the_last_incomplete_one_is_dropped(deviation):
    assert deviation.windows(list(range(11)), 3).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert deviation.windows(list(range(11)), 3, 2).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_one_minus_cosine(deviation):
    theirs, ours = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
    assert deviation.cosines(theirs, ours) == pytest.approx([0.0, 1 - 1 / math.sqrt(2)])


def test_an_interval_holds_the_mean_and_is_as_wide_as_theory_says(intervals):
    sample = np.random.default_rng(1).normal(5, 1, 400)
    mean, low, high = intervals.interval(lambda means: means[0], sample)
    assert mean == pytest.approx(sample.mean())
    assert high - low == pytest.approx(2 * 1.96 * sample.std() / 20, rel=0.1)
    assert low < mean < high


def test_ratios_are_paired(intervals):
    sample = np.random.default_rng(2).lognormal(0, 1, 100)
    found = intervals.interval(lambda means: means[0] / means[1], 0.3 * sample, sample)
    assert found == pytest.approx((0.3, 0.3, 0.3))  # unpaired resamples would spread it


def test_samples_of_different_sequences_are_refused(intervals):
    with pytest.raises(ValueError, match=r"samples of \[3, 4\] sequences: not of the same ones"):
        intervals.interval(lambda means: means[0], [1.0] * 3, [1.0] * 4)
