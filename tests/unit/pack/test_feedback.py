# SPDX-License-Identifier: Apache-2.0
"""Rounding with feedback."""

import numpy as np
import pytest

from weighmaster.pack.feedback import inverse_root, rounded


def moments(size, seed=0, tokens=500):
    random = np.random.default_rng(seed)
    x = random.standard_normal((tokens, size)) @ (random.standard_normal((size, size)) * 0.3 + np.eye(size))
    return (x.T @ x / tokens).astype(np.float32)


def test_the_root_is_of_the_inverse():
    h = moments(70)
    root = inverse_root(h, 0.1)
    damped = h.astype(np.float64) + 0.1 * np.diag(h).mean() * np.eye(70)
    assert np.allclose(root.T @ root @ damped, np.eye(70), atol=1e-6)
    assert np.array_equal(np.triu(root), root)


def test_moments_of_zero_are_damped_too():
    assert np.isfinite(inverse_root(np.zeros((5, 5), np.float32), 0.1)).all()


def one_by_one(weights, root, row, col):
    """The definition, column after column, without blocks."""
    work, levels = weights.astype(np.float64).copy(), np.zeros(weights.shape, np.int16)
    for c in range(weights.shape[1]):
        levels[:, c] = np.clip(np.rint(work[:, c] / (row * col[c])), -255, 255)
        error = (work[:, c] - levels[:, c] * row * col[c]) / root[c, c]
        work[:, c + 1 :] -= np.outer(error, root[c, c + 1 :])
    return levels


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 40), (50, 97), (20, 64)])
def test_blocks_do_what_the_definition_says(shape):
    random = np.random.default_rng(3)
    weights = random.standard_normal(shape).astype(np.float32)
    root = inverse_root(moments(shape[1]), 0.1)
    row, col = random.uniform(0.05, 0.1, shape[0]), random.uniform(0.8, 1.2, shape[1])
    levels = rounded(weights, root, row, col)
    assert (levels != one_by_one(weights, root, row, col)).mean() < 0.001  # a tie may fall either way


def test_feedback_lowers_the_error_that_counts():
    random = np.random.default_rng(4)
    weights, h = random.standard_normal((64, 96)).astype(np.float32), moments(96)
    row, col = np.full(64, 0.25), np.ones(96)

    def loss(levels):
        e = levels * 0.25 - weights
        return float(np.einsum("rc,cd,rd->", e, h, e))

    assert loss(rounded(weights, inverse_root(h, 0.01), row, col)) < 0.7 * loss(np.rint(weights / 0.25))


def test_what_no_level_reaches_is_taken_as_kept():
    weights = np.ones((2, 40), np.float32)
    weights[1, 3] = 1e6
    levels = rounded(weights, inverse_root(moments(40), 0.1), np.full(2, 0.1), np.ones(40))
    assert levels[1, 3] == 0
    assert np.abs(levels).max() < 60  # its neighbours do not make up for it
