# SPDX-License-Identifier: Apache-2.0
"""Try every mutation of every format, and write docs/mutation-matrix.md: ``python tests/mutation/matrix.py``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from formats import FORMATS, Format
from mutations import Mutation

from weighmaster.errors import Fault, Faults, KeyFault, MalformedArtefact

__all__ = ["PAGE", "Result", "page", "results"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "mutation-matrix.md"
OTHER: Final = "another document"
SPELLING: Final = "another spelling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one mutated document.

    Attributes:
        mutation: the document.
        received: for each way of slipping it in, the class that refused it, or None.
        anew: the class that refused it although it was signed for; or `OTHER` or `SPELLING`.
    """

    mutation: Mutation
    received: tuple[str | None, ...]
    anew: str


def results(form: Format) -> tuple[Result, ...]:
    """Return what became of every mutation; an exception that is no documented refusal goes through."""
    original = form.signed_anew(form.document)
    return tuple(_result(form, mutation, original) for mutation in form.mutations())


def _result(form: Format, mutation: Mutation, original: str) -> Result:
    identity: list[str] = []
    refused = _refusal(lambda data: identity.append(form.signed_anew(data)), mutation.data)
    return Result(
        mutation=mutation,
        received=tuple(_refusal(check, mutation.data) for check in form.received),
        anew=refused or (SPELLING if identity == [original] else OTHER),
    )


def _refusal(check: Callable[[bytes], object], data: bytes) -> str | None:
    try:
        check(data)
    except Faults as faults:
        return type(faults.faults[0]).__name__
    except (MalformedArtefact, Fault, KeyFault) as refusal:
        return type(refusal).__name__
    return None


def same_value(form: Format, mutation: Mutation) -> bool:
    """Tell whether a mutated document says what the original says, in other words of JSON."""
    return bool(json.loads(mutation.data) == json.loads(form.document))


def page(found: Iterable[tuple[Format, tuple[Result, ...]]]) -> str:
    """Return the report."""
    pairs = tuple(found)
    total = sum(len(results) for _, results in pairs)
    kinds = len({r.mutation.kind for _, results in pairs for r in results})
    lines = [
        _HEAD.format(total=total, kinds=kinds, fields=sum(len(_fields(results)) for _, results in pairs)),
        "| format | fields | mutations | passed as received | refused, signed anew | another document | spelling |",
        "|---|---|---|---|---|---|---|",
        *(_summary(form, results) for form, results in pairs),
    ]
    return "\n".join([*lines, *(_section(form, results) for form, results in pairs)])


_HEAD: Final = """# Mutation matrix
<!-- written by `python tests/mutation/matrix.py`; a test holds it -->

Every field of every format, with every mutation of a closed list that applies to its type: {total:,} documents,
{fields} fields, {kinds} kinds of mutation. Each document is tried twice.

- **As received**: in place of the original, under the signature and digests made for the original. None may pass.
- **Signed anew**: with signatures and digests made for it by the trusted key, up to what needs the live model
  (signature, identity, every file against the statement). It is refused, or it is *another document*: its identity
  differs, and the field is on the list of those that a signer is free to fill, below. Where any spelling of the JSON
  is taken, it may also be *another spelling*: the same value, the same identity.
"""


def _fields(results: tuple[Result, ...]) -> list[str]:
    return list(dict.fromkeys(r.mutation.field for r in results))


def _summary(form: Format, results: tuple[Result, ...]) -> str:
    passed = str(sum(None in r.received for r in results)) if form.received else "not bound"
    count = Counter(r.anew for r in results)
    other, spelling = count.pop(OTHER, 0), count.pop(SPELLING, 0)
    refused = f"{count.total():,} ({_classes(count)})"
    return f"| {form.name} | {len(_fields(results))} | {len(results):,} | {passed} | {refused} | {other} | {spelling} |"


def _classes(count: Counter[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in sorted(count.items()))


def _section(form: Format, results: tuple[Result, ...]) -> str:
    received = Counter(name for r in results for name in r.received if name is not None)
    lines = [f"\n## {form.name}", f"Bound by {form.bound}."]
    if received:
        lines.append(f"As received: refused {received.total():,} times ({_classes(received)}).")
    lines += ["", "| field | mutations | refused, though signed anew | another document, after |", "|---|---|---|---|"]
    for field in _fields(results):
        own = [r for r in results if r.mutation.field == field]
        kinds = dict.fromkeys(r.mutation.kind for r in own if r.anew == OTHER)
        refused = sum(r.anew not in {OTHER, SPELLING} for r in own)
        lines.append(f"| `{field}` | {len(own)} | {refused} | {', '.join(kinds)} |")
    if form.varies:
        lines += ["", "Fields that another valid document may hold otherwise:", ""]
        lines += [f"- `{field}`: {reason}" for field, reason in form.varies.items()]
    return "\n".join(lines) + ("\n" if form is FORMATS[-1] else "")


if __name__ == "__main__":
    PAGE.write_text(page((form, results(form)) for form in FORMATS), encoding="utf-8")
