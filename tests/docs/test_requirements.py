# SPDX-License-Identifier: Apache-2.0
"""Every requirement has a test or says that it has none; every mark names a requirement; the pages are up to date."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load(name):
    spec = spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = load("requirements")

LIST = """
[areas]
TRU = "Trust"
[[requirement]]
id = "REQ-TRU-01"
text = "It holds."
source = "spec"
"""


def marks_of(tmp_path, source):
    (tmp_path / "tests").mkdir(exist_ok=True)
    (tmp_path / "tests/test_x.py").write_text(source, encoding="utf-8")
    return tool.read_marks(tmp_path / "tests")


@pytest.mark.requirement("REQ-REL-04")
def test_list_marks_and_pages_agree():
    for path, text in tool.pages().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, "run: make requirements"


def test_nothing_shrinks_in_silence():
    """Lower these numbers only with a reason in the change that does it."""
    _, requirements = tool.read_requirements((ROOT / tool.SOURCE).read_bytes())
    assert len(requirements) >= 142
    assert len(tool.read_marks(ROOT / "tests")) >= 100


def test_each_step_of_the_admission_has_its_requirement():
    _, requirements = tool.read_requirements((ROOT / tool.SOURCE).read_bytes())
    sources = {r.source for r in requirements if r.area == "ADM"}
    assert [n for n in range(1, 13) if f"spec/admission.md, step {n}" not in sources] == []


def test_marks_are_read_from_functions_classes_and_modules(tmp_path):
    source = (
        "import pytest\n"
        "pytestmark = [pytest.mark.slow, pytest.mark.requirement('REQ-A')]\n"
        "@pytest.mark.parametrize('x', [1, 2])\n"
        "@pytest.mark.requirement('REQ-B', 'REQ-A')\n"
        "def test_one(x): ...\n"
        "@pytest.mark.requirement('REQ-C')\n"
        "class TestTwo:\n"
        "    @pytest.mark.requirement('REQ-D')\n"
        "    def test_three(self): ...\n"
        "    def helper(self): ...\n"
        "def helper(): ...\n"
    )
    one, three = "tests/test_x.py::test_one", "tests/test_x.py::TestTwo::test_three"
    assert marks_of(tmp_path, source) == {"REQ-A": [one, three], "REQ-B": [one], "REQ-C": [three], "REQ-D": [three]}


@pytest.mark.parametrize("mark", ["('REQ-' + x)", "()", "", "('REQ-A', x)", "('REQ-A', reason='x')", "(1)"])
def test_a_mark_whose_ids_are_not_written_out_is_refused(tmp_path, mark):
    with pytest.raises(tool.RequirementError, match=r"^tests/test_x\.py:1: expected pytest\.mark\.requirement"):
        marks_of(tmp_path, f"@pytest.mark.requirement{mark}\ndef test_x(): ...\n")


def test_what_does_not_fit_is_named():
    a, b = (tool.Requirement(id=f"REQ-TRU-0{n}", text="x.", source="s", pending=n == 2) for n in (1, 2))
    assert list(tool.problems([a, b], {"REQ-TRU-01": ["t::a"]})) == []
    assert list(tool.problems([a, b], {})) == ["REQ-TRU-01: no test is marked with it"]
    assert list(tool.problems([a, b], {"REQ-TRU-01": ["t::a"], "REQ-TRU-02": ["t::b"]})) == [
        "REQ-TRU-02: is shown by t::b and still pending in docs/requirements.toml"
    ]
    assert list(tool.problems([a], {"REQ-TRU-01": ["t::a"], "REQ-TRU-09": ["t::b"]})) == [
        "t::b: REQ-TRU-09 is no requirement of docs/requirements.toml"
    ]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("REQ-TRU-01", "REQ-XXX-01", "REQ-XXX-01: expected REQ-AAA-NN with an area of TRU"),
        ("REQ-TRU-01", "REQ-TRU-1", "REQ-TRU-1: expected REQ-AAA-NN"),
        ("It holds.", "It holds", "REQ-TRU-01: expected one sentence and a source"),
        ("It holds.", "It holds. And more.", "REQ-TRU-01: expected one sentence"),
        ('source = "spec"', 'source = ""', "REQ-TRU-01: expected one sentence and a source"),
        ('source = "spec"', 'source = "spec"\nsince = "x"', "REQ-TRU-01: .*since"),
        (
            'source = "spec"',
            LIST[LIST.index("[[") :].replace("[[requirement]]", 'source = "s"\n[[requirement]]'),
            "REQ-TRU-01: stands twice",
        ),
    ],
)
def test_a_list_that_is_wrong_is_refused(before, after, said):
    tool.read_requirements(LIST.encode())
    with pytest.raises(tool.RequirementError, match=said):
        tool.read_requirements(LIST.replace(before, after, 1).encode())


def test_pending_ones_are_shown_as_such():
    shown = tool.Requirement(id="REQ-TRU-01", text="x.", source="s")
    pending = tool.Requirement(id="REQ-TRU-02", text="y.", source="s", pending=True)
    page = tool.matrix({"TRU": "Trust"}, [shown, pending], {"REQ-TRU-01": ["t::a", "t::b"]})
    assert "2 requirements; 1 are shown by at least one test, 1 are not shown yet." in page
    assert "| REQ-TRU-01 | x. | `t::a`<br>`t::b` |\n" in page
    assert "| REQ-TRU-02 | y. | **NOT SHOWN YET** |\n" in page
    assert "| REQ-TRU-02 | y. *(not shown yet)* | s |" in tool.datasheet_tables({"TRU": "Trust"}, [shown, pending])
