# SPDX-License-Identifier: Apache-2.0
"""Pack-report v1: written in one form, read strictly, and no field can be another without a fault."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest
from tests.pack_reports import EMBEDDINGS, LANGUAGE, PLAIN, REPORTS

from weighmaster.core.canonical import dumps
from weighmaster.core.pack_report import Estimate, Inputs
from weighmaster.core.pack_report_reader import parse_report
from weighmaster.errors import MalformedArtefact


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_what_is_written_is_read_back(report):
    data = report.to_bytes()
    assert parse_report(data, "report.json") == report
    assert parse_report(data, "report.json").to_bytes() == data


def test_bits_are_those_of_the_bytes():
    document = json.loads(LANGUAGE.to_bytes())
    size = document["size"]
    counted = size["payload"] + size["headers"] + size["index"] + size["shardIndex"]
    assert counted == 60 + 40 + 20 + 400 + 300 + 50
    assert size["bitsPerWeight"] == "87" == str(8 * counted // size["elements"])
    assert [t["bits"] for t in document["tensors"]] == ["7.5", "26.6666667", "40"]


def read(document):
    return parse_report(dumps(document), "report.json")


def paths(value, path=()):
    """Yield the path of every value within a document."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths(child, (*path, key))


def at(document, path):
    for key in path:
        document = document[key]
    return document


FREE = {("machine",), ("pack", "encoder", "parameters")}
"""Objects whose keys are data."""


def is_free(path):
    return path[:-1] in FREE


WRONG = ([], {}, True, "x y", -7, None)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_each_field_is_required_and_of_its_type(report):
    document = json.loads(report.to_bytes())
    checked = 0
    for path in list(paths(document))[1:]:
        parent, key = at(document, path[:-1]), path[-1]
        original = parent[key]
        if isinstance(parent, dict) and not is_free(path):
            del parent[key]
            with pytest.raises(MalformedArtefact, match=str(key)):
                read(document)
        assert accepted(document, parent, key) == _allowed(path, original), path
        parent[key] = original
        checked += 1
    assert checked > 60


def accepted(document, parent, key):
    """Return which of the wrong values the reader takes for this field."""
    out = []
    for value in WRONG:
        parent[key] = value
        with contextlib.suppress(MalformedArtefact):
            read(document)
            out.append(value)
    return out


def _allowed(path, original):
    """Return which of the wrong values are none: other texts where text is free, empty lists and objects, nulls."""
    names = [key for key in path if isinstance(key, str)]
    last = names[-1]
    if is_free(path):
        return ["x y"]
    if path[-1] in {"parameters", "machine"}:
        return [{}]
    if path in {("metrics",), ("source",), ("size", "beside"), ("outputs", "positions")}:
        return [[]]
    if path[:1] == ("tensors",) and path[-1] == "rms":
        return [None]
    if path == ("pack", "encoder", "bits"):
        return [None]
    if path == ("pack", "calibration") or (last == "seed" and original is None):
        return [None]
    free_text = {("pack", "encoder", "name"), ("pack", "encoder", "version"), ("outputs", "reason")}
    if path in free_text or (last in {"path", "name"} and isinstance(original, str)):
        return ["x y"] if path not in ORDERED else []
    if last == "first" and "histogram" in names:
        return [-7]
    return []


ORDERED = {("tensors", 0, "name"), ("tensors", 1, "name"), ("size", "beside", 0, "path")}
"""Names after which a smaller one stands."""


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "weighmaster-pack-report-v2", "format: expected 'weighmaster-pack-report-v1'"),
        (("pack", "root"), "AB" * 32, "pack.root: expected 64 lowercase hexadecimal digits"),
        (
            ("pack", "encoder", "profile"),
            "best",
            "pack.encoder.profile: expected 'calibrated' or 'datafree' or 'exact'",
        ),
        (("source", 0, "path"), "../model", "source[0].path: expected a path within the directory"),
        (("size", "payload"), 121, "size.bitsPerWeight: expected 87.1, which the bytes give"),
        (("size", "elements"), 81, "size.bitsPerWeight: expected"),
        (("size", "bitsPerWeight"), "86", "size.bitsPerWeight: expected 87, which the bytes give, found 86"),
        (("tensors", 0, "bytes"), 61, "tensors[0].bits: expected 7.625"),
        (("tensors", 0, "bits"), "7.4", "tensors[0].bits: expected 7.5, which the bytes give, found 7.4"),
        (("tensors", 0, "shape"), [8, 4], "tensors[0].bits: expected"),
        (("tensors", 0, "relativeSquaredError"), "-0.1", "expected a number at least 0"),
        (("tensors", 0, "maxError"), "1e-3", "plain decimal notation"),
        (("outputs", "predicted"), 9, "9 tokens predicted in 2 sequences"),
        (("outputs", "inputs", "tokens"), 13, "10 tokens predicted in 2 sequences"),
        (("outputs", "inputs", "sequences"), 3, "10 tokens predicted in 3 sequences"),
        (("outputs", "inputs", "available"), 1, "2 sequences of 1"),
        (("outputs", "inputs", "seed"), 5, "inputs of kind 'tokens' have no seed"),
        (("outputs", "inputs", "kind"), "self", "inputs of kind 'self' have seed"),
        (("outputs", "histogram", "below"), 5, "the histogram: 14 tokens, of 10 predicted"),
        (("outputs", "bySequence", 0, "predicted"), 4, "the sequences: 9 tokens, of 10 predicted"),
        (("outputs", "bySequence"), [], "0 lines for 2 sequences"),
        (("outputs", "ratio", "value"), "1.3", "two ratios of perplexity, 1.3 and 1.25"),
        (("outputs", "ratio", "low"), "1.4", "interval from 1.4 down to 1.3"),
        (("outputs", "ratio", "low"), None, "an interval has both ends or none"),
        (("outputs", "perplexityPacked"), "10.1", "ratio 1.25: the perplexities give 1.2625"),
        (("outputs", "perplexityReference"), "0.5", "expected a number at least 1"),
        (("outputs", "agreement", "value"), "1.01", "expected a number from 0 to 1"),
        (("outputs", "kind"), "encoder", "outputs.pooling: expected a value, found no such key"),
    ],
)
def test_parts_that_do_not_fit_together(path, value, message):
    document = json.loads(LANGUAGE.to_bytes())
    at(document, path[:-1])[path[-1]] = value
    with pytest.raises(MalformedArtefact) as caught:
        read(document)
    assert message in str(caught.value)


def test_sums_of_the_tensors():
    document = json.loads(LANGUAGE.to_bytes())
    document["size"] |= {"payload": 121, "bitsPerWeight": "87.1"}
    with pytest.raises(MalformedArtefact, match=r"size\.payload: 121, and the tensors have 120"):
        read(document)
    document = json.loads(LANGUAGE.to_bytes())
    del document["tensors"][2]
    document["size"] |= {"payload": 100, "bitsPerWeight": "85"}
    with pytest.raises(MalformedArtefact, match=r"size\.elements: 80, and the tensors have 76"):
        read(document)


def test_order_of_names():
    document = json.loads(LANGUAGE.to_bytes())
    document["tensors"].reverse()
    with pytest.raises(MalformedArtefact, match="tensors: expected each once, ascending by the UTF-8 bytes"):
        read(document)
    document = json.loads(EMBEDDINGS.to_bytes())
    document["outputs"]["histogram"]["below"] = 1
    with pytest.raises(MalformedArtefact, match="the histogram: 4 sequences, of 3"):
        read(document)


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("pack",),
        ("size",),
        ("tensors", 0),
        ("outputs",),
        ("outputs", "inputs"),
        ("outputs", "kl"),
        ("outputs", "histogram"),
        ("outputs", "positions", 0),
        ("outputs", "bySequence", 1),
        ("metrics", 0),
        ("pack", "encoder"),
        ("pack", "calibration"),
        ("source", 0),
    ],
    ids=str,
)
def test_unknown_keys(path):
    document = json.loads(LANGUAGE.to_bytes())
    at(document, path)["extra"] = 1
    with pytest.raises(MalformedArtefact, match="extra: expected only the keys of the specification"):
        read(document)


def test_other_spellings_are_refused():
    data = PLAIN.to_bytes()
    for other in (data + b"\n", data.replace(b'":', b'": ', 1), data[:-1], b"\xef\xbb\xbf" + data):
        with pytest.raises(MalformedArtefact, match=r"report\.json"):
            parse_report(other, "report.json")


def test_constructors_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="both ends or none"):
        Estimate(value="1", low="0", high=None)
    with pytest.raises(ValueError, match="have seed"):
        Inputs(kind="random", seed=None, sha256="0" * 64, sequences=1, available=1, tokens=1)
    with pytest.raises(ValueError, match=r"size\.elements"):
        dataclasses.replace(PLAIN, tensors=())
