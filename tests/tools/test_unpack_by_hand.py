# SPDX-License-Identifier: Apache-2.0
"""tools/unpack_by_hand.py as a person runs it; on the vectors it runs in tests/vectors/test_pack_vectors.py."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from weighmaster.core.canonical import dumps
from weighmaster.core.dtype import DTYPES, SAFETENSORS_NAMES
from weighmaster.flows.packing import pack_model
from weighmaster.pack.index import PROFILES
from weighmaster.pack.packed import EXACT, FIVE, RAW

TOP = Path(__file__).parents[2]
TOOL = TOP / "tools" / "unpack_by_hand.py"
VECTORS = TOP / "vectors" / "pack"
PACK = VECTORS / "pack_shards" / "pack"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script in an interpreter that finds no package but NumPy's: ``-I`` shuts out the current folder."""
    command = [sys.executable, "-I", str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def root(case: str) -> str:
    return str(json.loads((VECTORS / case / "expect.json").read_bytes())["root"])


def test_it_imports_nothing_but_numpy() -> None:
    names = set()
    for node in ast.walk(ast.parse(TOOL.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    assert names - sys.stdlib_module_names == {"numpy"}


def test_a_pack_is_written_plainly(tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    done = run(PACK, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == (
        f"RESULT: CONSISTENT, origin not checked: 4 tensors, pack root {root('pack_shards')}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    header = json.loads(out.read_bytes()[8 : 8 + int.from_bytes(out.read_bytes()[:8], "little")])
    expect = json.loads((VECTORS / "pack_shards" / "expect.json").read_bytes())["tensors"]
    assert [*header] == [tensor["name"] for tensor in expect]
    assert [entry["shape"] for entry in header.values()] == [tensor["shape"] for tensor in expect]


def test_what_it_writes_is_what_was_packed(tmp_path: Path) -> None:
    """Over the library's own reader, from a pack that this package made."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    model = {
        "a": random.normal(0, 0.02, (40, 70)).astype(np.float32),
        "b": random.normal(0, 0.02, (300,)).astype(np.float16),
        "c": np.arange(5),
    }
    save_file(model, tmp_path / "model.safetensors")
    pack_model(tmp_path / "model.safetensors", tmp_path / "pack")
    done = run(tmp_path / "pack", "--out", tmp_path / "again.safetensors")
    assert done.returncode == 0, done.stdout + done.stderr
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == model.keys()
    assert all(np.array_equal(again[name], model[name]) for name in model)


def test_one_tensor_alone(tmp_path: Path) -> None:
    done = run(PACK, "--tensor", "b.weight", "--out", tmp_path / "one")
    assert done.returncode == 0
    assert done.stdout.count("[ok]") == 1
    assert "1 tensors, pack root" in done.stdout
    assert (tmp_path / "one").read_bytes()[8:20] == b'{"b.weight":'[:12]


def test_an_unknown_tensor_is_refused() -> None:
    done = run(PACK, "--tensor", "c")
    assert done.returncode == 1
    assert "[FAIL] --tensor: expected the name of a tensor of the index, found c" in done.stdout


def test_the_root_is_compared() -> None:
    done = run(PACK, "--root", root("pack_shards"))
    assert done.returncode == 0
    assert f"RESULT: HOLDS: 4 tensors, pack root {root('pack_shards')}" in done.stdout
    done = run(PACK, "--root", root("pack"))
    assert done.returncode == 1
    assert f"[FAIL] pack root: expected {root('pack')}, found {root('pack_shards')}" in done.stdout


def test_a_seal_that_nobody_checked_is_said() -> None:
    done = run(VECTORS / "pack_sealed" / "pack")
    assert done.returncode == 3
    assert "[NOT CHECKED] signer-1.sigstore.json: " in done.stdout
    assert run(VECTORS / "pack_sealed" / "pack", "--root", root("pack_sealed")).returncode == 0


@pytest.mark.parametrize(
    "arguments", [(), ("nowhere",), (str(PACK), "--outt", "x"), (str(PACK), "--out", "/nowhere/x")]
)
def test_usage_is_another_exit_code(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_nothing_is_left_of_a_tensor_that_fails(tmp_path: Path) -> None:
    done = run(VECTORS / "tensor_digest_fail" / "pack", "--out", tmp_path / "out.safetensors")
    assert done.returncode == 1
    assert "w: rebuilt bytes" in done.stdout
    assert [*tmp_path.iterdir()] == []


def test_a_link_is_no_file(tmp_path: Path) -> None:
    for name in ("pack.index", "config.json", "model.safetensors"):
        pack = tmp_path / f"of {name}" / "pack"
        shutil.copytree(VECTORS / "pack" / "pack", pack)
        (pack / name).rename(pack.parent / "moved")
        (pack / name).symlink_to("../moved")
        done = run(pack)
        assert done.returncode == 1
        assert f"[FAIL] {name}: expected a regular file" in done.stdout


@pytest.mark.slow
def test_large_tensors_are_rebuilt_by_parts(tmp_path: Path) -> None:
    """More than one group of chunks, the last one smaller; both digests over more than one leaf."""
    from safetensors.numpy import save_file

    data = np.random.default_rng(1).normal(0, 0.02, (1100, 3000)).astype(np.float16)
    save_file({"w": data}, tmp_path / "model.safetensors")
    pack_model(tmp_path / "model.safetensors", tmp_path / "pack")
    done = run(tmp_path / "pack", "--out", tmp_path / "again.safetensors")
    assert done.returncode == 0, done.stdout + done.stderr
    assert np.array_equal(load_file(tmp_path / "again.safetensors")["w"], data)


def module() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "unpack_by_hand"}
    exec(compile(TOOL.read_text(encoding="utf-8"), str(TOOL), "exec"), names)
    return names


def test_words_of_the_format_are_those_of_the_package() -> None:
    tool = module()
    assert {label: name for name, label in tool["LABELS"].items()} == SAFETENSORS_NAMES
    assert {name: size for name, size in DTYPES.items() if name in tool["SIZES"]} == tool["SIZES"]
    assert set(tool["CODECS"]) == {EXACT, FIVE, RAW}
    assert set(tool["INDEX"]["encoder"]["profile"].split("|")) == set(PROFILES)


def test_canonical_form_is_that_of_the_package() -> None:
    canonical = module()["canonical"]
    for value in ({"b": [1, None, True, {}], "a": '\u2028\x00\x1f"\\/é😀', "\uffee": 1, "😀": 2}, [], "", -1):
        assert canonical(value).encode() == dumps(value)
