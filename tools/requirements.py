# SPDX-License-Identifier: Apache-2.0
"""Set requirements and the tests that show them beside each other.

Reads ``docs/requirements.toml`` and the marks ``@pytest.mark.requirement("REQ-...")`` in the source of the tests.
Writes the requirements into ``docs/soup-datasheet.md`` (between its two marks) and ``docs/requirements-matrix.md``;
with ``--check`` it writes nothing and says what is not up to date.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = "docs/requirements.toml"
DATASHEET: Final = "docs/soup-datasheet.md"
MATRIX: Final = "docs/requirements-matrix.md"
BEGIN: Final = "<!-- requirements:begin -->"
END: Final = "<!-- requirements:end -->"
MARK: Final = "pytest.mark.requirement"


class RequirementError(Exception):
    """The list, or a mark, is not as it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One sentence that a test can contradict."""

    id: str
    text: str
    source: str
    pending: bool = False

    @property
    def area(self) -> str:
        """The letters between the dashes of the id."""
        return self.id.split("-")[1]


# -- read -----------------------------------------------------------------------------------------------------------


def read_requirements(data: bytes) -> tuple[dict[str, str], tuple[Requirement, ...]]:
    """Return areas and requirements, in their order.

    Raises:
        RequirementError: an id twice or of another form, an unknown area or key, or a text that is not one sentence.
    """
    document = tomllib.loads(data.decode("utf-8"))
    areas: dict[str, str] = document["areas"]
    requirements = tuple(_requirement(entry) for entry in document["requirement"])
    ids = [r.id for r in requirements]
    problems = [f"{i}: stands twice" for i in sorted({i for i in ids if ids.count(i) > 1})]
    for r in requirements:
        if not re.fullmatch(r"REQ-[A-Z]{3}-[0-9]{2}", r.id) or r.area not in areas:
            problems.append(f"{r.id}: expected REQ-AAA-NN with an area of {', '.join(areas)}")
        if not r.text.endswith(".") or ". " in r.text or not r.source:
            problems.append(f"{r.id}: expected one sentence and a source")
    if problems:
        raise RequirementError("\n".join(problems))
    return areas, requirements


def _requirement(entry: Mapping[str, object]) -> Requirement:
    try:
        return Requirement(**entry)  # type: ignore[arg-type]
    except TypeError as error:
        raise RequirementError(f"{entry.get('id', entry)}: {error}") from None


def read_marks(tests: Path) -> dict[str, list[str]]:
    """Return test ids (``file::function`` or ``file::Class::function``) by requirement, in the order of the files.

    The source is read, nothing is imported: the matrix does not depend on what is installed. A mark of a module or of
    a class is one of each test in it.

    Raises:
        RequirementError: a mark without an id, or with one that is not written out.
    """
    out: dict[str, list[str]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        file = f"{tests.name}/{path.relative_to(tests).as_posix()}"
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=file)
        for test, ids in _marked(tree, file):
            for requirement in ids:
                out.setdefault(requirement, []).append(f"{file}::{test}")
    return out


def _marked(tree: ast.Module, file: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each test function with the ids of its marks, those of its class and of its module included."""
    whole = [i for node in tree.body if _is_pytestmark(node) for i in _ids(_items(node), file)]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            yield node.name, _unique([*whole, *_ids(node.decorator_list, file)])
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            outer = [*whole, *_ids(node.decorator_list, file)]
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test"):
                    yield f"{node.name}::{inner.name}", _unique([*outer, *_ids(inner.decorator_list, file)])


def _is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["pytestmark"]


def _items(node: ast.stmt) -> list[ast.expr]:
    value = node.value if isinstance(node, ast.Assign) else None
    return list(value.elts) if isinstance(value, (ast.List, ast.Tuple)) else [value] if value else []


def _ids(marks: Iterable[ast.expr], file: str) -> Iterator[str]:
    for mark in marks:
        if ast.unparse(mark.func if isinstance(mark, ast.Call) else mark) != MARK:
            continue
        values = [a.value for a in mark.args if isinstance(a, ast.Constant)] if isinstance(mark, ast.Call) else []
        texts = [value for value in values if isinstance(value, str)]
        if not texts or (isinstance(mark, ast.Call) and len(texts) != len(mark.args) + len(mark.keywords)):
            raise RequirementError(f"{file}:{mark.lineno}: expected {MARK}('REQ-...', ...), ids written out")
        yield from texts


def _unique(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(ids))


# -- judge ----------------------------------------------------------------------------------------------------------


def problems(requirements: Sequence[Requirement], marks: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield what does not fit: requirements without a test, pending ones with one, and marks of none."""
    known = {r.id for r in requirements}
    for requirement in requirements:
        shown = bool(marks.get(requirement.id))
        if not shown and not requirement.pending:
            yield f"{requirement.id}: no test is marked with it"
        if shown and requirement.pending:
            yield f"{requirement.id}: is shown by {marks[requirement.id][0]} and still pending in {SOURCE}"
    for name in sorted(set(marks) - known):
        yield f"{marks[name][0]}: {name} is no requirement of {SOURCE}"


# -- write ----------------------------------------------------------------------------------------------------------


def datasheet_tables(areas: Mapping[str, str], requirements: Sequence[Requirement]) -> str:
    """Return the requirements as they stand in the datasheet: one table per area."""
    return "\n".join(_datasheet_lines(areas, requirements)) + "\n"


def _datasheet_lines(areas: Mapping[str, str], requirements: Sequence[Requirement]) -> Iterator[str]:
    for area, title in areas.items():
        yield from ("", f"### {title}", "", "| id | requirement | laid down in |", "|---|---|---|")
        for r in requirements:
            if r.area == area:
                state = " *(not shown yet)*" if r.pending else ""
                yield f"| {r.id} | {r.text}{state} | {r.source} |"


def matrix(areas: Mapping[str, str], requirements: Sequence[Requirement], marks: Mapping[str, Sequence[str]]) -> str:
    """Return the page of requirements and tests."""
    return "\n".join(_matrix_lines(areas, requirements, marks)) + "\n"


def _matrix_lines(
    areas: Mapping[str, str], requirements: Sequence[Requirement], marks: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    shown = sum(bool(marks.get(r.id)) for r in requirements)
    yield "<!-- SPDX-License-Identifier: Apache-2.0 -->"
    yield f"<!-- Generated by `make requirements` from {SOURCE} and the marks of the tests: do not edit. -->"
    yield "# Requirements and the tests that show them"
    yield ""
    yield (
        f"{len(requirements)} requirements; {shown} are shown by at least one test, {len(requirements) - shown} are "
        "not shown yet. A test is named once, whatever the number of its cases. `make test` runs them all; that a "
        "requirement is shown says that these tests pass, on the platforms that the README names, and no more."
    )
    for area, title in areas.items():
        yield from ("", f"## {title}", "", "| id | requirement | tests |", "|---|---|---|")
        for r in requirements:
            if r.area == area:
                tests = "<br>".join(f"`{test}`" for test in marks.get(r.id, ())) or "**NOT SHOWN YET**"
                yield f"| {r.id} | {r.text} | {tests} |"


def pages(root: Path = ROOT) -> dict[str, str]:
    """Return the text of every generated page by its path.

    Raises:
        RequirementError: the list, the marks or the datasheet are not as they must be.
    """
    areas, requirements = read_requirements((root / SOURCE).read_bytes())
    marks = read_marks(root / "tests")
    for requirement, tests in read_marks(root / "interop").items():
        marks.setdefault(requirement, []).extend(tests)
    found = list(problems(requirements, marks))
    if found:
        raise RequirementError("\n".join(found))
    sheet = (root / DATASHEET).read_text(encoding="utf-8")
    if sheet.count(BEGIN) != 1 or sheet.count(END) != 1:
        raise RequirementError(f"{DATASHEET}: expected {BEGIN} and {END}, each once")
    before, rest = sheet.split(BEGIN)
    after = rest.split(END)[1]
    return {
        DATASHEET: f"{before}{BEGIN}\n{datasheet_tables(areas, requirements)}{END}{after}",
        MATRIX: matrix(areas, requirements, marks),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a page is not up to date"
    )
    args = parser.parse_args(argv)
    try:
        wanted = pages()
    except RequirementError as error:
        print(error, file=sys.stderr)
        return 1
    old = [p for p, text in wanted.items() if not (ROOT / p).exists() or (ROOT / p).read_text(encoding="utf-8") != text]
    for path in old:
        if args.check:
            print(f"{path} is not up to date: run make requirements", file=sys.stderr)
        else:
            (ROOT / path).write_text(wanted[path], encoding="utf-8")
    return 1 if args.check and old else 0


if __name__ == "__main__":
    sys.exit(main())
