# SPDX-License-Identifier: Apache-2.0
"""A probe set keeps its calls in a file, the same bytes for the same calls, and is read strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from weighmaster.capture.probe_set import ProbeSet, from_examples, output_tensors, parse_probe_set
from weighmaster.core.canonical import dumps
from weighmaster.errors import MalformedArtefact, UsageError


class Recorder:
    """Stands for a model: keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        return {"past_key_values": len(self.calls), "out": torch.ones(1)}


EXAMPLES = [
    torch.ones(2),
    (torch.ones(1), torch.zeros(2, dtype=torch.int64)),
    {"x": torch.ones(1), "a": [True, None, 3, "text"], "nested": {"n": torch.ones(1, dtype=torch.bool), "m": 1}},
    [torch.ones(1), {"x": torch.empty(0, 3)}],
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_calls_survive_the_file(example: Any) -> None:
    probe = from_examples(example)
    data = probe.to_bytes()
    again = parse_probe_set(data, "p")
    assert again.to_bytes() == data
    assert (again.kind, again.seed) == ("given", -1)
    first, second = Recorder(), Recorder()
    probe.run(first)
    again.run(second)
    assert str(first.calls) == str(second.calls), "in the same order too: what is weighed is what a gate will run"
    assert len(first.calls) == (len(example) if isinstance(example, list) else 1)


def test_values_of_all_types_are_kept_bit_for_bit() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64):
        tensor = torch.ones(3, dtype=dtype)
        ((_, found),) = parse_probe_set(from_examples(tensor).to_bytes(), "p").tensors
        assert found.dtype == dtype
        assert torch.equal(found, tensor)


def test_the_cache_of_the_call_before_is_handed_on() -> None:
    probe = ProbeSet(
        kind="k",
        seed=1,
        calls=({"args": [], "kwargs": {}}, {"args": [], "kwargs": {"past_key_values": {"past": True}}}),
        tensors=(),
    )
    model = Recorder()
    probe.run(model)
    assert model.calls[1] == ((), {"past_key_values": 1})


def test_nothing_is_recorded_for_gradients_and_the_random_state_stays() -> None:
    model = torch.nn.Linear(2, 2)
    state = torch.random.get_rng_state()
    (out,) = from_examples(torch.ones(1, 2)).run(lambda x: model(x) + torch.rand(1))
    assert not out.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)
    assert output_tensors(({"a": out, "b": 1}, [out])) == (out, out)


@pytest.mark.parametrize(
    ("example", "found"), [([], "is empty"), ((object(),), "is of type object"), ({"x": 0.5}, "float")]
)
def test_what_a_file_cannot_keep_is_refused(example: Any, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        from_examples(example)


def rewritten(change: Any) -> bytes:
    """A probe-set file whose plan went through `change`."""
    data = from_examples(torch.ones(1)).to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    plan = json.loads(header["__metadata__"]["probe-set"])
    change(plan, header)
    header["__metadata__"] = {**header["__metadata__"], "probe-set": dumps(plan).decode()}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def set_call(plan: Any) -> Any:
    return lambda p, _h: p["calls"][0].update(plan)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, _h: p.update(scheme="probe-set-v2"), "scheme"),
        (lambda p, _h: p.update(seed=-2), "seed"),
        (lambda p, _h: p.update(more=1), "more"),
        (set_call({"args": [{"tensor": "other"}]}), "a tensor of this file"),
        (set_call({"args": [{"tensor": {}}]}), "a tensor of this file"),
        (set_call({"args": [{"list": [{"tensor": ["call.0.args.0"]}]}]}), "a tensor of this file"),
        (set_call({"args": [{"value": 1, "tensor": "x"}]}), "an object with one of"),
        (set_call({"args": [{"list": [{"past": False}]}]}), "a tensor of this file"),
        (set_call({"args": {}}), "an array of arguments"),
        (set_call({"kwargs": {"x": {"dict": {"a": {"call": 1}}}}}), "a tensor of this file"),
        (set_call({"again": 1}), "again"),
        (lambda p, _h: p.update(calls=[]), "calls: expected at least one call, found none"),
        (lambda _p, h: h["__metadata__"].update(other="x"), "the one key 'probe-set'"),
    ],
)
def test_each_fault_of_a_file_is_named(change: Any, words: str) -> None:
    assert parse_probe_set(rewritten(lambda *_: None), "p").kind == "given"
    with pytest.raises(MalformedArtefact) as caught:
        parse_probe_set(rewritten(change), "probe.safetensors")
    assert caught.value.file.startswith("probe.safetensors")
    assert words in str(caught.value)


@pytest.mark.parametrize("cut", [0, 4, 8, 40, -1])
def test_a_truncated_file_is_refused(cut: int) -> None:
    with pytest.raises(MalformedArtefact):
        parse_probe_set(from_examples(torch.ones(4)).to_bytes()[:cut], "p")


def test_a_byte_too_many_is_refused() -> None:
    data = from_examples(torch.ones(4)).to_bytes()
    with pytest.raises(MalformedArtefact) as caught:
        parse_probe_set(data + b"\0", "p")
    assert (caught.value.expected, caught.value.found) == (f"{len(data)} bytes", f"{len(data) + 1} bytes")
