# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/structure.md: ``python vectors/structure/generate.py [DIRECTORY]``.

A case is the signed structure of a small model and the one found here. Every run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Final

from weighmaster.core.canonical import dumps

Facts = dict[tuple[str, str], str]
Files = dict[str, bytes]
Case = tuple[Files, dict[str, Any]]


def code(text: str) -> str:
    """Return a digest that stands for a function's code."""
    return hashlib.sha256(text.encode()).hexdigest()


MODEL: Final[Facts] = {
    ("", "class"): "triage.models.Encoder",
    ("", "training"): "false",
    ("#config.hidden_act", "scalar"): "'gelu'",
    ("#config.num_labels", "scalar"): "2",
    ("#eps", "scalar"): "0x1.0c6f7a0b5ed8dp-20",
    ("<code>triage.models.Encoder.forward", "code"): code("forward"),
    ("<probe>", "trace"): f"212 operators sha256:{code('program')}",
    ("<probe>[0]", "literal"): f"pooler float32 [] sha256:{code('literal')}",
    ("head", "class"): "torch.nn.modules.linear.Linear",
    ("head", "training"): "false",
    ("head#in_features", "scalar"): "4",
    ("head.weight", "context"): "bitsandbytes.nn.modules.Params4bit",
    ("head.weight@quant_state.blocksize", "scalar"): "64",
}
UNICODE: Final[Facts] = {
    ("", "class"): "m.M",
    ("#\U0001f600", "scalar"): "'a\\n\\x00'",
    ("#ä", "scalar"): "'\u2028\"'",
    ("#\uffee", "scalar"): f"sha256:{code('long')} (9000 bytes)",
}


def line(path: str, kind: str, value: str) -> bytes:
    """Return one line, with LF."""
    return dumps({"kind": kind, "path": path, "value": value}) + b"\n"


def data(facts: Facts) -> bytes:
    """Return a structure file."""
    ordered = sorted(facts, key=lambda key: (key[0].encode(), key[1]))
    return b"".join(line(*key, facts[key]) for key in ordered)


GOOD: Final = data(MODEL)


def good(facts: Facts) -> Case:
    """Return a case in which the structure found is the signed one."""
    made = data(facts)
    expect = {"digest": hashlib.sha256(made).hexdigest(), "error": None, "facts": len(facts)}
    return {"signed.jsonl": made, "found.jsonl": made}, expect


def differs(contains: list[str], facts: Facts | None = None, *gone: tuple[str, str]) -> Case:
    """Return a case in which facts were set or removed."""
    found = {key: value for key, value in (MODEL | (facts or {})).items() if key not in gone}
    expect = {"contains": contains, "error": "StructureFault"}
    return {"signed.jsonl": GOOD, "found.jsonl": data(found)}, expect


def malformed(contains: list[str], signed: bytes) -> Case:
    """Return a case in which the signed file does not follow the format."""
    return {"signed.jsonl": signed, "found.jsonl": GOOD}, {"contains": contains, "error": "MalformedArtefact"}


def positive() -> dict[str, Case]:
    """Return the cases that hold."""
    return {"model": good(MODEL), "unicode": good(UNICODE), "empty": good({})}


def negative_facts() -> dict[str, Case]:
    """Return models that are not the signed one, by one fact each."""
    hook, adapter = "head#_forward_hooks[0]", "head.lora_A"
    other = code("other")
    forward = "<code>triage.models.Encoder.forward"
    return {
        "class_swapped_fail": differs(
            ["head: class differs; expected torch.nn.modules.linear.Linear, found evil.Linear"],
            {("head", "class"): "evil.Linear"},
        ),
        "code_patched_fail": differs(
            [f"{forward}: code differs", f"expected {code('forward')}, found {other}"], {(forward, "code"): other}
        ),
        "scalar_changed_fail": differs(
            ["#eps: scalar differs; expected 0x1.0c6f7a0b5ed8dp-20, found 0x1.0c6f7a0b5ed8ep-20"],
            {("#eps", "scalar"): "0x1.0c6f7a0b5ed8ep-20"},
        ),
        "configuration_changed_fail": differs(
            ["#config.hidden_act: scalar differs; expected 'gelu', found 'relu'"],
            {("#config.hidden_act", "scalar"): "'relu'"},
        ),
        "type_of_scalar_changed_fail": differs(
            ["#config.num_labels: scalar differs; expected 2, found '2'"], {("#config.num_labels", "scalar"): "'2'"}
        ),
        "hook_added_fail": differs(
            [f"{hook}: hook that the signed structure does not have; expected nothing, found evil.hook"],
            {(hook, "hook"): "evil.hook"},
        ),
        "adapter_added_fail": differs(
            [f"{adapter}: class that the signed structure does not have (and 2 facts below it)"],
            {(adapter, "class"): "m.Linear", (f"{adapter}#rank", "scalar"): "8", (f"{adapter}#x", "scalar"): "1"},
        ),
        "fact_gone_fail": differs(
            ["head#in_features: scalar of the signed structure is gone; expected 4, found nothing"],
            None, ("head#in_features", "scalar"),
        ),
        "training_fail": differs(
            ["head: training differs; expected false, found true"], {("head", "training"): "true"}
        ),
        "context_changed_fail": differs(
            ["head.weight: context differs", "found torch.nn.parameter.Parameter"],
            {("head.weight", "context"): "torch.nn.parameter.Parameter"},
        ),
        "quantizer_state_changed_fail": differs(
            ["head.weight@quant_state.blocksize: scalar differs; expected 64, found 128"],
            {("head.weight@quant_state.blocksize", "scalar"): "128"},
        ),
        "operators_changed_fail": differs(
            ["<probe>: trace differs", f"213 operators sha256:{other}"],
            {("<probe>", "trace"): f"213 operators sha256:{other}"},
        ),
        "literal_changed_fail": differs(
            ["<probe>[0]: literal differs", f"found pooler float32 [] sha256:{other}"],
            {("<probe>[0]", "literal"): f"pooler float32 [] sha256:{other}"},
        ),
    }  # fmt: skip


def negative_files() -> dict[str, Case]:
    """Return files that do not follow the format, one fault each."""
    first, second = line("a", "class", "A"), line("b", "class", "B")
    return {
        "unsorted_fail": malformed(["expected facts in ascending order", "'a' class"], second + first),
        "fact_twice_fail": malformed(["expected facts in ascending order", "'a' class"], first + first),
        "final_line_feed_fail": malformed(["expected a line feed after the last fact"], GOOD[:-1]),
        "carriage_return_fail": malformed(["signed.jsonl:1", "RFC 8785 canonical form"], first[:-1] + b"\r\n"),
        "blank_line_fail": malformed(["signed.jsonl:2", "expected one JSON value"], first + b"\n" + second),
        "key_order_fail": malformed(
            ["signed.jsonl:1", "RFC 8785 canonical form"], b'{"path":"a","kind":"class","value":"A"}\n'
        ),
        "unknown_kind_fail": malformed(["signed.jsonl:1: kind", "found 'note'"], line("a", "note", "A")),
        "unknown_key_fail": malformed(
            ["signed.jsonl:1: why", "an unknown key"],
            dumps({"kind": "class", "path": "a", "value": "A", "why": ""}) + b"\n",
        ),
        "missing_key_fail": malformed(
            ["signed.jsonl:1: value", "no such key"], dumps({"kind": "class", "path": "a"}) + b"\n"
        ),
        "value_is_number_fail": malformed(
            ["signed.jsonl:1: value", "expected a string, found a number"],
            dumps({"kind": "class", "path": "a", "value": 1}) + b"\n",
        ),
        "not_utf8_fail": malformed(["signed.jsonl:1: byte 24", "expected UTF-8"], first.replace(b'"a"', b'"\xff"')),
    }


def write(directory: Path) -> None:
    """Write every case into a folder of its own."""
    for name, (files, expect) in (positive() | negative_facts() | negative_files()).items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in {**files, "expect.json": dumps(expect) + b"\n"}.items():
            (folder / file).write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
