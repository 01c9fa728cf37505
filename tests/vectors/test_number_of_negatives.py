# SPDX-License-Identifier: Apache-2.0
"""Each format has at least twenty vectors that must be refused, each for its own reason, and a generator of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "vectors"
FORMATS = sorted(path.name for path in ROOT.iterdir() if path.is_dir())


def test_every_format_has_vectors() -> None:
    assert {"manifest", "seal", "structure", "tensor-digest"} <= set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_at_least_twenty_are_refused(name: str) -> None:
    cases = [path.parent for path in (ROOT / name).glob("*/expect.json")]
    negative = [case for case in cases if json.loads((case / "expect.json").read_bytes())["error"] is not None]
    assert len(negative) >= 20
    assert {case.name for case in negative} == {case.name for case in cases if case.name.endswith("_fail")}
    assert len(cases) > len(negative)
    assert (ROOT / name / "generate.py").exists()
