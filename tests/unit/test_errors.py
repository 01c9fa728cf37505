# SPDX-License-Identifier: Apache-2.0
"""What an error says, which exit code it gives, and how findings are grouped and ordered."""

from __future__ import annotations

import inspect

import pytest

from weighmaster import errors
from weighmaster.errors import (
    EnvironmentFault,
    Fault,
    Faults,
    MalformedArtefact,
    NotAdmitted,
    NotWeighed,
    StructureFault,
    TensorFault,
    TensorSetFault,
    WeighmasterError,
)

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]
FAULTS = [c for c in CLASSES if issubclass(c, Fault) and c is not Fault]
SINGLE = [c for c in CLASSES if issubclass(c, WeighmasterError)]


def test_everything_is_public() -> None:
    assert sorted(errors.__all__) == sorted(c.__name__ for c in CLASSES)


def test_steps_are_those_of_the_algorithm() -> None:
    """Eleven steps can find something; the twelfth is the verdict."""
    assert sorted(c.step for c in FAULTS) == list(range(1, 12))
    assert len({c.title for c in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_each_has_a_description_and_a_remedy(cls: type[WeighmasterError]) -> None:
    assert cls.__doc__
    assert cls.remedy.endswith(".") or "please report" in cls.remedy


@pytest.mark.parametrize("cls", FAULTS, ids=lambda c: c.__name__)
def test_a_finding_has_its_own_remedy(cls: type[Fault]) -> None:
    assert [c for c in SINGLE if c.remedy == cls.remedy] == [cls]


def test_exit_codes_are_shared_only_where_the_specification_says() -> None:
    codes: dict[int, list[str]] = {}
    for cls in FAULTS:
        codes.setdefault(cls.exit_code, []).append(cls.__name__)
    shared = {code: sorted(names) for code, names in codes.items() if len(names) > 1}
    assert shared == {17: ["SourceFault", "StructureFault"], 18: ["CoverageFault", "StageFault"]}
    assert all(10 <= code <= 18 for code in codes)


@pytest.mark.parametrize(
    ("expected", "found", "text"),
    [
        (None, None, "w: bytes differ"),
        ("a", "b", "w: bytes differ; expected a, found b"),
        ("a", None, "w: bytes differ; expected a, found nothing"),
        (None, "b", "w: bytes differ; expected nothing, found b"),
        ("", "b", "w: bytes differ; expected , found b"),
    ],
)
def test_a_finding_says_what_where_expected_and_found(expected: str | None, found: str | None, text: str) -> None:
    fault = TensorFault("w", "bytes differ", expected=expected, found=found)
    assert str(fault) == text
    assert fault.to_json() == {
        "step": 9,
        "title": "tensor digests",
        "exitCode": 10,
        "subject": "w",
        "detail": "bytes differ",
        "expected": expected,
        "found": found,
    }


def test_a_malformed_artefact_names_file_and_field() -> None:
    error = MalformedArtefact("statement.json", "tables[0].root", expected="64 digits", found="3")
    assert str(error) == "statement.json: tables[0].root: expected 64 digits, found 3"
    assert str(MalformedArtefact("x", "", expected="a", found="b")) == "x: expected a, found b"
    assert not isinstance(error, ValueError)


class TestGroups:
    FOUND = (
        TensorFault("b", "bytes differ"),
        TensorSetFault("z", "is missing"),
        TensorFault("a", "bytes differ"),
        EnvironmentFault("env.X", "differs"),
    )

    @pytest.mark.requirement("REQ-CLI-01")
    def test_the_lowest_step_decides(self) -> None:
        group = NotAdmitted("not admitted", self.FOUND)
        assert (group.step, group.exit_code) == (4, 12)
        assert [(f.step, f.subject) for f in group.faults] == [(4, "env.X"), (8, "z"), (9, "a"), (9, "b")]

    @pytest.mark.parametrize("cls", FAULTS, ids=lambda c: c.__name__)
    def test_one_finding_gives_its_own_code(self, cls: type[Fault]) -> None:
        assert NotWeighed("no", [cls("x", "y")]).exit_code == cls.exit_code

    def test_text_lists_every_finding(self) -> None:
        assert str(NotAdmitted("p: not admitted", self.FOUND[:2])).splitlines() == [
            "p: not admitted (2 faults)",
            "  (8) tensor set: z: is missing",
            "  (9) tensor digests: b: bytes differ",
        ]
        assert str(NotWeighed("no", self.FOUND[:1])).startswith("no (1 fault)\n")

    def test_except_star_takes_a_part_and_keeps_the_kind(self) -> None:
        taken: list[object] = []

        def handled() -> None:
            try:
                raise NotAdmitted("no", self.FOUND)
            except* TensorFault as group:
                taken.extend((type(group), [f.subject for f in group.exceptions]))

        with pytest.raises(NotAdmitted) as rest:
            handled()
        assert taken == [NotAdmitted, ["a", "b"]]
        assert [type(f) for f in rest.value.faults] == [EnvironmentFault, TensorSetFault]

    @pytest.mark.parametrize("cls", [Faults, NotWeighed, NotAdmitted])
    def test_a_group_without_findings_cannot_be_made(self, cls: type[Faults]) -> None:
        with pytest.raises(ValueError, match="non-empty sequence"):
            cls("no", [])

    def test_the_two_groups_are_told_apart(self) -> None:
        assert not issubclass(NotWeighed, NotAdmitted)
        assert not issubclass(NotAdmitted, NotWeighed)
        assert not issubclass(StructureFault, Faults)
