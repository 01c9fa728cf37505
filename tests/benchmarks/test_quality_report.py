# SPDX-License-Identifier: Apache-2.0
"""The tables of quality say what the results say; a missed bound is called so, and unlike results are refused."""

from __future__ import annotations

import argparse
import copy

import pytest

pytest.importorskip("numpy")
KL = (1.0e-3, 3.0e-3)


@pytest.fixture(scope="module")
def report(script):
    return script("report_quality.py")


def row(name, bits, factor, *, calibrated=False):
    return {
        "name": name,
        "what": f"what {name} is",
        "calibrated": calibrated,
        "bits": bits,
        "kl": [factor * x for x in KL],
        "nll": [factor * 2e-4, factor * 4e-4],
        "top1": [0.99, 0.97],
        "cosine": [factor * x for x in KL],
    }


def result(rows, *, encoder=()):
    head = {"date": "2026-01-02", "parameters": {"sequences": 2, "length": 3, "texts": 2, "half": "report"}}
    causal = {"parameters": 1000, "sequences": "ab", "reference_nll": [2.0, 3.0], "methods": rows}
    return head | {
        "causal": {"small-lm": causal},
        "encoder": {"minilm": {"parameters": 500, "texts": 2, "methods": list(encoder)}} if encoder else {},
    }


@pytest.fixture
def peers():
    return result([row("Q5_K", 5.514, 1.0), row("RTN 5 g64", 5.26, 2.0)], encoder=[row("Q5_K (reshaped)", 5.55, 1.0)])


@pytest.fixture
def packs():
    rows = [row("calibrated 5.0", 4.99, 0.28), row("calibrated 4.0", 3.99, 0.9), row("calibrated 5.5", 5.49, 0.1)]
    encoder = [row("calibrated 5.0", 4.99, 0.7), row("calibrated 5.5", 5.49, 0.5)]
    return result([*rows, row("calibrated 5.2", 5.19, 0.5)], encoder=encoder)


def by_what(report, peers, packs):
    return {target.what: target for target in report.targets(peers, packs)}


def test_a_bound_reached_exactly_is_met_and_one_missed_is_named(report, peers, packs):
    found = by_what(report, peers, packs)
    assert found["small-lm: KL at 5.0, of Q5_K's"].row()[1:] == (
        "0.28 (0.28 to 0.28)",
        "at most 0.28",
        "met",
        "at most 0.18",
        "**not met**",
    )
    assert found["small-lm: KL at 4.0, of Q5_K's"].row()[2:4] == ("at most 0.85", "**not met**")
    assert found["minilm: 1 - cosine at 5.0, thousandths"].row()[2:] == ("at most 2", "met", "at most 1.5", "met")


def test_what_rounds_to_the_bound_without_keeping_it_is_not_met(report, peers, packs):
    packs["causal"]["small-lm"]["methods"][0] = row("calibrated 5.0", 4.99, 0.2800001)
    assert by_what(report, peers, packs)["small-lm: KL at 5.0, of Q5_K's"].row()[1:4] == (
        "0.28 (0.28 to 0.28)",
        "at most 0.28",
        "**not met**",
    )


def test_the_worst_peer_at_equal_bits_stands_for_all(report, peers, packs):
    target = by_what(report, peers, packs)["small-lm: at no more bits, of the nearest of 2 peers (RTN 5 g64)"]
    assert target.row()[1:4] == ("0.25 (0.25 to 0.25)", "under 1", "met")
    packs["causal"]["small-lm"]["methods"][2] = row("calibrated 5.5", 5.49, 1.0)
    target = by_what(report, peers, packs)["small-lm: at no more bits, of the nearest of 2 peers (Q5_K)"]
    assert target.row()[2:4] == ("under 1", "**not met**")


def test_a_pack_of_fewer_bits_stands_in_and_one_of_more_never(report, peers, packs):
    found = list(report.equal_bits(*(report.methods(r, "small-lm") for r in (peers, packs)), "calibrated"))
    assert [(peer["bits"], pack["bits"]) for peer, pack in found] == [(5.514, 5.49), (5.26, 5.19)]
    del packs["causal"]["small-lm"]["methods"][3]
    found = list(report.equal_bits(*(report.methods(r, "small-lm") for r in (peers, packs)), "calibrated"))
    assert [(peer["bits"], pack["bits"]) for peer, pack in found] == [(5.514, 5.49), (5.26, 4.99)]


def test_a_peer_of_fewer_bits_than_any_pack_leaves_the_claim_out(report, peers, packs):
    peers["causal"]["small-lm"]["methods"].append(row("NF3", 3.2, 9.0))
    assert not [what for what in by_what(report, peers, packs) if what.startswith("small-lm: at no more bits")]


def test_the_page_shows_every_method_and_marks_the_calibrated(report, peers, packs):
    peers["causal"]["small-lm"]["methods"].append(row("Q5_K, imatrix", 5.514, 0.9, calibrated=True))
    page = "\n".join(report.quality_section(peers, "p", packs, "q"))
    assert "| Q5_K | 5.514 | 2.00 (1.00 to 3.00) | 1.0003 (1.0002 to 1.0004) | 98.00 |" in page
    assert "| Q5_K, imatrix * | 5.514 |" in page
    assert "| **pack, calibrated 5.0** | 4.990 | 0.56 (0.28 to 0.84) |" in page
    assert "| small-lm | RTN 5 g64 | 5.260 | 5.190 | 0.25 (0.25 to 0.25) |  |  |" in page
    assert "what Q5_K is" in page


def test_a_note_is_on_the_page(report, peers, packs):
    assert "made of snow" in list(report.quality_section(peers, "p", packs | {"note": "made of snow"}, "q"))


def test_without_packs_the_page_says_so(report, peers):
    assert "Packs: **NOT RUN** yet." in list(report.quality_section(peers, "p"))


@pytest.mark.parametrize(
    ("key", "value", "message"), [("sequences", "cd", "different sequences"), ("reference_nll", [2.0, 3.1], "models")]
)
def test_results_of_other_tokens_or_of_another_model_are_not_compared(report, peers, packs, key, value, message):
    other = copy.deepcopy(packs)
    other["causal"]["small-lm"][key] = value
    with pytest.raises(ValueError, match=message):
        list(report.quality_section(peers, "p", other, "q"))


def test_packs_are_asked_for_at_each_peer_s_bits_rounded_down(script, peers):
    pytest.importorskip("torch")
    peers["causal"]["small-lm"]["methods"].append(row("Q6_K", 8.21, 0.1))
    wanted = list(script("own_packs.py").asked_for("small-lm", peers))
    targets = [("calibrated", b) for b in (5.0, 4.5, 4.0)] + [("datafree", b) for b in (5.0, 4.5, 5.5)]
    assert wanted == targets + [("calibrated", b) for b in (5.2, 5.5, 8.0)]


def test_a_candidate_names_model_profile_bits_and_directory(script):
    pytest.importorskip("torch")
    read = script("own_packs.py").Candidate.read
    found = read("small-lm/calibrated 5.0=/a:b/c:4.987")
    assert (found.model, found.profile, found.asked, str(found.directory), found.bits) == (
        "small-lm",
        "calibrated",
        5.0,
        "/a:b/c",
        4.987,
    )
    with pytest.raises(argparse.ArgumentTypeError, match="expected 'MODEL/PROFILE ASKED=DIRECTORY:BITS'"):
        read("small-lm=/a:5")
