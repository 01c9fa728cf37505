# SPDX-License-Identifier: Apache-2.0
"""Read an answers document, strictly (answers v1, "Format")."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from weighmaster.core.answers import (
    CACHES,
    KINDS,
    MODES,
    PADS,
    SCHEME,
    Answers,
    Case,
    ModuleLine,
    Schedule,
    TopK,
)
from weighmaster.core.canonical import loads_canonical
from weighmaster.core.dtype import DTYPES
from weighmaster.core.fields import Fields
from weighmaster.errors import MalformedArtefact

__all__ = ["parse_answers"]

T = TypeVar("T")


def parse_answers(data: bytes, file: str) -> Answers:
    """Parse ``answers.json``.

    Args:
        data: the bytes of the file.
        file: its name, for errors.

    Raises:
        MalformedArtefact: names the field, what was expected and what was found.
    """
    fields = Fields(loads_canonical(data, file), file=file)
    fields.text("scheme", choices=(SCHEME,))
    side = fields.nested("side")
    answers = _made(
        fields,
        lambda: Answers(
            kind=fields.text("kind", choices=KINDS),
            seed=fields.integer("seed"),
            private=fields.boolean("private"),
            root=fields.digest("root"),
            structure=fields.optional_digest("structure"),
            class_digest=fields.digest("classDigest"),
            environment=fields.digest("environment"),
            tokenizer=fields.optional_digest("tokenizer"),
            dtype=fields.text("dtype", choices=tuple(DTYPES)),
            oracle=fields.text("oracle", choices=("float64", "none")),
            oracle_note=fields.text("oracleNote"),
            side_sha256=side.digest("sha256"),
            side_bytes=side.decimal("bytes"),
            cases=fields.objects("cases", _case),
        ),
    )
    side.done()
    fields.done()
    return answers


def _made(fields: Fields, make: Callable[[], T]) -> T:
    """Say of parts that do not fit together where they stand."""
    try:
        return make()
    except ValueError as error:
        raise MalformedArtefact(
            fields.file, fields.path, expected="parts that fit together", found=str(error)
        ) from None


def _case(fields: Fields) -> Case:
    schedule = fields.nested("schedule")
    case = _made(
        fields,
        lambda: Case(
            id=fields.text("id"),
            schedule=_schedule(schedule),
            length=fields.integer("length"),
            inputs=fields.objects("inputs", lambda f: (f.text("key"), f.text("tensor"))),
            commitment=fields.optional_digest("commitment"),
            output=fields.text("output"),
            dtype=fields.text("dtype", choices=tuple(DTYPES)),
            shape=fields.integers("shape", minimum=1),
            sha256=fields.digest("sha256"),
            top=fields.objects("top", _top),
            absmax=fields.text("absmax"),
            oracle=fields.optional_text("oracle"),
            error=fields.optional_text("error"),
            trace=fields.objects("trace", _line),
        ),
    )
    schedule.done()
    return case


def _schedule(fields: Fields) -> Schedule:
    return _made(
        fields,
        lambda: Schedule(
            mode=fields.text("mode", choices=MODES),
            batch=fields.integer("batch", minimum=1),
            row=fields.integer("row"),
            pad=fields.text("pad", choices=PADS),
            padded=fields.integer("padded"),
            cache=fields.text("cache", choices=CACHES),
            chunk=fields.integer("chunk"),
        ),
    )


def _top(fields: Fields) -> TopK:
    return _made(
        fields,
        lambda: TopK(position=fields.integer("position"), ids=fields.integers("ids"), values=fields.texts("values")),
    )


def _line(fields: Fields) -> ModuleLine:
    return _made(
        fields,
        lambda: ModuleLine(
            module=fields.text("module", empty=True),
            kind=fields.text("kind"),
            dtype=fields.text("dtype", choices=tuple(DTYPES)),
            shape=fields.integers("shape"),
            sha256=fields.digest("sha256"),
            absmax=fields.text("absmax"),
            l2=fields.text("l2"),
        ),
    )
