# SPDX-License-Identifier: Apache-2.0
"""Plans: the same again from their state, and only from that."""

from decimal import Decimal

import numpy as np
import pytest
from tests.unit.pack.views import view

from weighmaster.core.canonical import dumps, loads
from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.pack.plan import plan_calibrated, plan_datafree, plan_exact, resume
from weighmaster.pack.statistics import Moments


def gaussian(rows, cols, seed):
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


VIEWS = [
    view(gaussian(rows, cols, seed), name=name)
    for seed, (name, rows, cols) in enumerate([("a", 90, 120), ("b", 200, 64), ("unseen", 80, 80)])
]


def statistics(scale=1.0):
    x = gaussian(500, 120, 7) @ gaussian(120, 120, 8), gaussian(500, 64, 9)
    outputs = np.full(90, scale), np.linspace(1, 5, 200)
    return {
        name: Moments(inputs=(i.T @ i / 500).astype(np.float32), outputs=o)
        for name, i, o in zip(("a", "b"), x, outputs, strict=True)
    }


def calibrated(stats=None):
    return plan_calibrated(VIEWS, stats or statistics(), bits=Decimal("5.0"), fixed_bytes=100)


def test_plans_resume_to_the_same_bytes():
    for encoder in (plan_exact(), plan_datafree(VIEWS, bits=Decimal(5), fixed_bytes=100), calibrated()):
        again = resume(encoder.state(), statistics())
        assert again.profile == encoder.profile
        assert again.state() == encoder.state()
        assert again.parameters() == encoder.parameters()
        assert [again.encode(v).blob for v in VIEWS] == [encoder.encode(v).blob for v in VIEWS]


def test_a_plan_is_made_the_same_twice():
    assert calibrated().state() == calibrated().state()


def test_the_calibrated_file_takes_what_was_asked():
    encoder = calibrated()
    size = 100 + sum(len(encoder.encode(v).blob) for v in VIEWS)
    assert 4.98 <= 8 * size / sum(v.nbytes // 4 for v in VIEWS) <= 5.0


def test_what_the_calibration_did_not_see_is_packed_all_the_same():
    coded = calibrated().encode(VIEWS[2])
    assert coded.codec == "five-v1"
    assert 0 < coded.squared_error < 0.1 * coded.squared


def test_what_matters_more_gets_more_bits():
    sizes = [len(calibrated(statistics(scale)).encode(VIEWS[0]).blob) for scale in (0.1, 1.0, 10.0)]
    assert sizes == sorted(sizes)
    assert sizes[2] > 1.2 * sizes[0]


def test_other_statistics_do_not_resume_a_plan():
    with pytest.raises(MalformedArtefact, match="statistics") as caught:
        resume(calibrated().state(), statistics(1.0000001))
    assert caught.value.field == "statistics"


def test_a_calibrated_plan_does_not_resume_without_statistics():
    with pytest.raises(MalformedArtefact, match="statistics"):
        resume(calibrated().state())


def test_statistics_of_another_model_are_refused():
    with pytest.raises(UsageError, match="no weight of this checkpoint"):
        plan_calibrated(VIEWS, {"c": statistics()["a"]}, bits=Decimal(5), fixed_bytes=0)
    with pytest.raises(UsageError, match=r"b: statistics of 90 x 120 for a matrix of 200 x 64"):
        plan_calibrated(VIEWS, {"b": statistics()["a"]}, bits=Decimal(5), fixed_bytes=0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"profile": "other"}, "profile"),
        ({"bits": "9"}, "bits"),
        ({"bits": "5e0"}, "bits"),
        ({"row": 0}, "row"),
        ({"row": 0x7F80}, "row"),
        ({"more": 1}, "more"),
    ],
)
def test_a_state_is_read_strictly(change, field):
    state = loads(plan_datafree(VIEWS, bits=Decimal(5), fixed_bytes=100).state(), "state")
    with pytest.raises(MalformedArtefact) as caught:
        resume(dumps(state | change))
    assert field in str(caught.value)


@pytest.mark.parametrize("change", [{"damping": "0"}, {"damping": "nan"}, {"damping": "x"}, {"place": -1}])
def test_a_calibrated_state_is_read_strictly(change):
    state = loads(calibrated().state(), "state")
    with pytest.raises(MalformedArtefact, match=next(iter(change))):
        resume(dumps(state | change), statistics())
