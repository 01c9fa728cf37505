# SPDX-License-Identifier: Apache-2.0
"""Nothing turns verification off: no parameter of its entry points, and no environment variable that code asks for."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import weighmaster as wm
from weighmaster.cli.main import VERBS, load_verb
from weighmaster.cli.verb import build_parser
from weighmaster.flows.trusted import open_trusted
from weighmaster.flows.verify import verify
from weighmaster.seal.check import require_signed

SOURCE = Path(wm.__file__).parent
SWITCH = re.compile(r"skip|force|ignore|unsafe|insecure|strict|allow|disable|no_|warn|dry", re.IGNORECASE)


def reads_of_the_environment(source: str) -> list[int]:
    """Return the lines of `source` that read a variable of the process."""
    nodes = ast.walk(ast.parse(source))
    return sorted(
        n.lineno for n in nodes if isinstance(n, ast.Attribute) and n.attr in {"environ", "environb", "getenv"}
    )


@pytest.mark.requirement("REQ-ADM-17")
def test_only_probes_read_variables_and_they_record_them():
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if reads_of_the_environment(path.read_text(encoding="utf-8"))
    }
    assert {path for path in found if not path.startswith("probe/")} == set()
    assert found


def test_a_read_of_the_environment_would_be_seen():
    assert reads_of_the_environment("import os\nx = os.environ.get('OFF')\ny = os.getenv('OFF')\n") == [2, 3]


@pytest.mark.requirement("REQ-ADM-17")
@pytest.mark.parametrize(
    "entry", [wm.Gate, wm.Gate.admit, wm.Gate.guard, wm.Admission.recheck, open_trusted, require_signed, verify]
)
def test_no_entry_point_takes_a_switch(entry):
    for name, parameter in inspect.signature(entry).parameters.items():
        assert parameter.annotation not in {"bool", bool, "bool | None"}, name
        assert not isinstance(parameter.default, bool), name
        assert not SWITCH.search(name), name


@pytest.mark.requirement("REQ-ADM-17")
def test_the_verb_that_verifies_takes_no_switch():
    options = {o for a in build_parser("verify", load_verb("verify"))._actions for o in a.option_strings}
    assert "verify" in VERBS
    assert [o for o in options if SWITCH.search(o.replace("-", "_").removeprefix("__"))] == []
