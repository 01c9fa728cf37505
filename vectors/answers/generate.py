# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/answers.md: ``python vectors/answers/generate.py [DIRECTORY]``.

A case is an ``answers.json`` and what a reader says of it (``expect.json``). Every run writes the same bytes.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from weighmaster.core.canonical import dumps

Json = dict[str, Any]
Edit = Callable[[Json], object]


def sha256(text: str) -> str:
    """Return a digest that stands for something."""
    return hashlib.sha256(f"weighmaster test vector: {text}".encode()).hexdigest()


def line(module: str, kind: str, shape: list[int]) -> Json:
    """Return what a leaf module gave."""
    return {
        "absmax": "1.5",
        "dtype": "float32",
        "kind": kind,
        "l2": "3.25",
        "module": module,
        "sha256": sha256(module),
        "shape": shape,
    }


def schedule(mode: str, *, batch: int = 1, row: int = 0, padded: int = 3, cache: str = "none", chunk: int = 0) -> Json:
    """Return how a case is run."""
    return {"batch": batch, "cache": cache, "chunk": chunk, "mode": mode, "pad": "none", "padded": padded, "row": row}


def case(name: str, how: Json) -> Json:
    """Return one known answer of three tokens and a vocabulary of four."""
    return {
        "absmax": "2",
        "commitment": None,
        "dtype": "float32",
        "error": "0.000001",
        "id": name,
        "inputs": [
            {"key": "attention_mask", "tensor": f"in.{name}.attention_mask"},
            {"key": "input_ids", "tensor": f"in.{name}.input_ids"},
        ],
        "length": 3,
        "oracle": f"oracle.{name}",
        "output": f"out.{name}",
        "schedule": how,
        "sha256": sha256(name),
        "shape": [3, 4],
        "top": [{"ids": [3, 0], "position": 2, "values": ["2", "-0.5"]}],
        "trace": [line("embed", "Embedding", [1, 3, 2]), line("head", "Linear", [1, 3, 4])],
    }


BASE: Final[Json] = {
    "cases": [case("prefill-3", schedule("prefill")), case("decode", schedule("decode", cache="cold", chunk=2))],
    "classDigest": sha256("class"),
    "dtype": "float32",
    "environment": sha256("environment"),
    "kind": "causal-lm",
    "oracle": "float64",
    "oracleNote": "every operator computed in float64",
    "private": False,
    "root": sha256("weights"),
    "scheme": "answers-v1",
    "seed": 20480,
    "side": {"bytes": "4096", "sha256": sha256("side")},
    "structure": sha256("structure"),
    "tokenizer": None,
}


def without_oracle(document: Json) -> None:
    """Say that no float64 run was possible."""
    document["oracle"], document["oracleNote"] = "none", "none: the model has no float64 copy"
    for each in document["cases"]:
        each["oracle"] = each["error"] = None


def private(document: Json) -> None:
    """Commit to inputs instead of keeping them."""
    document["private"] = True
    for each in document["cases"]:
        each["inputs"], each["commitment"] = [], sha256(each["id"])


def call(document: Json) -> None:
    """Make it a model that takes no tokens."""
    document["kind"] = "callable"
    one = case("call-0", schedule("call", padded=0))
    document["cases"] = [{**one, "length": 0, "inputs": [{"key": "args.0", "tensor": "in.call-0.args.0"}]}]


GOOD: Final[dict[str, Edit]] = {
    "causal_lm": lambda d: None,
    "no_oracle": without_oracle,
    "private": private,
    "no_tokens": call,
}

FIRST: Final = "cases[0]"
BAD: Final[dict[str, tuple[Edit, list[str]]]] = {
    "scheme_of_tomorrow_fail": (lambda d: d.update(scheme="answers-v2"), ["scheme", "answers-v1"]),
    "key_unknown_fail": (lambda d: d.update(factor=2), ["factor", "unknown key"]),
    "key_missing_fail": (lambda d: d.pop("tokenizer"), ["tokenizer", "no such key"]),
    "kind_unknown_fail": (lambda d: d.update(kind="diffusion"), ["kind", "diffusion"]),
    "root_short_fail": (lambda d: d.update(root=d["root"][1:]), ["root", "64 lowercase"]),
    "class_digest_upper_case_fail": (lambda d: d.update(classDigest="A" * 64), ["classDigest", "64 lowercase"]),
    "seed_negative_fail": (lambda d: d.update(seed=-1), ["seed", "-1"]),
    "seed_text_fail": (lambda d: d.update(seed="1"), ["seed", "an integer"]),
    "private_number_fail": (lambda d: d.update(private=0), ["private", "true or false"]),
    "side_bytes_number_fail": (lambda d: d["side"].update(bytes=4096), ["side.bytes", "a string"]),
    "side_key_unknown_fail": (lambda d: d["side"].update(name="x"), ["side.name", "unknown key"]),
    "no_cases_fail": (lambda d: d.update(cases=[]), ["at least one"]),
    "case_twice_fail": (lambda d: d["cases"][1].update(id="prefill-3"), ["'prefill-3' stands twice"]),
    "tensor_twice_fail": (lambda d: d["cases"][1].update(output="out.prefill-3"), ["'out.prefill-3' stands twice"]),
    "mode_unknown_fail": (lambda d: d["cases"][0]["schedule"].update(mode="beam"), [f"{FIRST}.schedule.mode", "beam"]),
    "row_outside_fail": (lambda d: d["cases"][0]["schedule"].update(row=1), [f"{FIRST}.schedule", "row", "found 1"]),
    "decode_without_prompt_fail": (
        lambda d: d["cases"][1]["schedule"].update(chunk=0),
        ["cases[1].schedule", "mode decode"],
    ),
    "prefill_with_cache_fail": (
        lambda d: d["cases"][0]["schedule"].update(cache="warm"),
        [f"{FIRST}.schedule", "mode prefill"],
    ),
    "prompt_too_long_fail": (lambda d: d["cases"][1]["schedule"].update(chunk=4), ["cases[1].schedule", "at most 3"]),
    "longer_than_padded_fail": (lambda d: d["cases"][0].update(length=4), [FIRST, "length", "at most 3"]),
    "shape_of_one_number_fail": (lambda d: d["cases"][0].update(shape=[4]), [FIRST, "positions and features"]),
    "dtype_unknown_fail": (lambda d: d["cases"][0].update(dtype="float128"), [f"{FIRST}.dtype", "float128"]),
    "inputs_and_commitment_fail": (lambda d: d["cases"][0].update(commitment="0" * 64), [FIRST, "one of the two"]),
    "neither_inputs_nor_commitment_fail": (lambda d: d["cases"][0].update(inputs=[]), [FIRST, "one of the two"]),
    "commitment_where_nothing_is_private_fail": (
        lambda d: d["cases"][0].update(inputs=[], commitment="0" * 64),
        ["no commitment in each"],
    ),
    "inputs_out_of_order_fail": (lambda d: d["cases"][0]["inputs"].reverse(), [FIRST, "ascending order"]),
    "error_without_oracle_fail": (lambda d: d["cases"][0].update(oracle=None), [FIRST, "both or neither"]),
    "oracle_left_out_fail": (lambda d: d["cases"][0].update(oracle=None, error=None), ["an oracle in each"]),
    "error_negative_fail": (lambda d: d["cases"][0].update(error="-1"), [FIRST, "error", "not negative"]),
    "number_with_exponent_fail": (lambda d: d["cases"][0].update(absmax="2e0"), [FIRST, "absmax", "2e0"]),
    "top_outside_fail": (lambda d: d["cases"][0]["top"][0].update(position=3), [FIRST, "positions and ids"]),
    "top_id_twice_fail": (lambda d: d["cases"][0]["top"][0].update(ids=[3, 3]), [f"{FIRST}.top[0]", "each id once"]),
    "top_values_too_few_fail": (lambda d: d["cases"][0]["top"][0].update(values=["2"]), [f"{FIRST}.top[0]"]),
    "trace_digest_missing_fail": (
        lambda d: d["cases"][0]["trace"][1].update(sha256=None),
        [f"{FIRST}.trace[1].sha256", "null"],
    ),
    "trace_norm_negative_fail": (lambda d: d["cases"][0]["trace"][0].update(l2="-1"), [f"{FIRST}.trace[0]", "l2"]),
}


def edited(edit: Edit) -> Json:
    """Return the base document after an edit."""
    document = copy.deepcopy(BASE)
    edit(document)
    return document


def main(directory: Path) -> None:
    """Write every case."""
    for name, edit in GOOD.items():
        document = edited(edit)
        expect = {"cases": len(document["cases"]), "error": None, "root": document["root"]}
        write(directory / name, dumps(document), expect)
    for name, (edit, contains) in BAD.items():
        write(directory / name, dumps(edited(edit)), {"contains": contains, "error": "MalformedArtefact"})
    spaced = dumps(BASE).replace(b'"seed":', b'"seed": ')
    write(directory / "another_spelling_fail", spaced, {"contains": ["RFC 8785"], "error": "MalformedArtefact"})


def write(folder: Path, data: bytes, expect: Json) -> None:
    """Write one case."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers.json").write_bytes(data)
    (folder / "expect.json").write_bytes(dumps(expect) + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
