# SPDX-License-Identifier: Apache-2.0
"""A directory of recorded answers: document, side file of tensors, environment. Read bound by their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weighmaster.core.answers import Answers
from weighmaster.core.answers_reader import parse_answers
from weighmaster.core.environment import Environment, parse_environment
from weighmaster.core.safetensors_header import parse_file
from weighmaster.durable import new_directory, read_whole, write_atomically
from weighmaster.errors import MalformedArtefact, UsageError

__all__ = ["DOCUMENT", "ENVIRONMENT", "SIDE", "RecordedAnswers", "bind_answers", "read_answers", "write_answers"]

DOCUMENT: Final = "answers.json"
SIDE: Final = "answers.safetensors"
ENVIRONMENT: Final = "environment.json"
MAX_SIDE: Final = 1 << 34
"""Bytes of a side file: 16 GiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswers:
    """Known answers whose files belong together.

    Attributes:
        answers: the document, parsed.
        document: its bytes.
        side: bytes of the side file.
        entries: name, dtype, shape and bytes of each tensor of the side file, by name.
        environment: in which the answers were recorded.
    """

    answers: Answers
    document: bytes
    side: bytes
    entries: Mapping[str, tuple[str, str, tuple[int, ...], bytes]]
    environment: Environment


def bind_answers(document: bytes, side: bytes, environment: Environment, origin: str) -> RecordedAnswers:
    """Parse answers and bind the side file and the environment to them, each tensor to the case that names it.

    Raises:
        MalformedArtefact: a file breaks its format, is not the one that the document names, or an output has another
            form or digest than its case says.
    """
    file = f"{origin}/{DOCUMENT}"
    answers = parse_answers(document, file)
    _require(f"{origin}/{SIDE}", "bytes", str(answers.side_bytes), str(len(side)))
    _require(f"{origin}/{SIDE}", "SHA-256", answers.side_sha256, hashlib.sha256(side).hexdigest())
    found = hashlib.sha256(environment.to_bytes()).hexdigest()
    _require(f"{origin}/{ENVIRONMENT}", "SHA-256", answers.environment, found)
    _require(f"{origin}/{ENVIRONMENT}", "class digest", answers.class_digest, environment.class_digest)
    entries = _entries(side, f"{origin}/{SIDE}")
    _check_cases(answers, entries, f"{origin}/{SIDE}")
    return RecordedAnswers(answers=answers, document=document, side=side, entries=entries, environment=environment)


def _require(file: str, field: str, expected: str, found: str) -> None:
    if expected != found:
        raise MalformedArtefact(file, field, expected=expected, found=found)


def _entries(side: bytes, file: str) -> dict[str, tuple[str, str, tuple[int, ...], bytes]]:
    return {e.name: (e.name, e.dtype, e.shape, data) for e, data in parse_file(side, file)[0]}


def _check_cases(answers: Answers, entries: Mapping[str, tuple[str, str, tuple[int, ...], bytes]], file: str) -> None:
    named: set[str] = set()
    for case in answers.cases:
        names = [case.output, *(name for _, name in case.inputs), *([case.oracle] if case.oracle else [])]
        for name in names:
            if name not in entries:
                raise MalformedArtefact(file, name, expected=f"the tensor that case {case.id} names", found="none")
        named.update(names)
        _, dtype, shape, data = entries[case.output]
        _require(file, f"{case.output} dtype and shape", f"{case.dtype} {case.shape}", f"{dtype} {shape}")
        _require(file, f"{case.output} SHA-256", case.sha256, hashlib.sha256(data).hexdigest())
        if case.oracle is not None:
            _, dtype, shape, _ = entries[case.oracle]
            _require(file, f"{case.oracle} dtype and shape", f"float64 {case.shape}", f"{dtype} {shape}")
    for name in sorted(entries.keys() - named):
        raise MalformedArtefact(file, name, expected="only tensors that a case names", found="another tensor")


def write_answers(recorded: RecordedAnswers, directory: Path) -> Path:
    """Write the directory, which must not exist: it appears whole or not at all.

    Raises:
        UsageError: it exists.
        StorageError: the file system refused; nothing is left behind.
    """
    with new_directory(directory) as temporary:
        write_atomically(temporary / DOCUMENT, recorded.document)
        write_atomically(temporary / SIDE, recorded.side)
        write_atomically(temporary / ENVIRONMENT, recorded.environment.to_bytes())
    return directory


def read_answers(directory: Path | str) -> RecordedAnswers:
    """Read a directory of answers and bind its files.

    Raises:
        UsageError: there is no such directory, or a file is missing.
        MalformedArtefact: as `bind_answers`, or a file that no such directory has.
    """
    root = Path(directory)
    if not root.is_dir():
        raise UsageError(f"{root}: no such directory of answers")
    for path in sorted(root.iterdir()):
        if path.name not in (DOCUMENT, SIDE, ENVIRONMENT):
            raise MalformedArtefact(str(path), "", expected="only files of recorded answers", found="an unknown file")
    environment = parse_environment(read_whole(root / ENVIRONMENT), str(root / ENVIRONMENT))
    return bind_answers(read_whole(root / DOCUMENT), read_whole(root / SIDE, limit=MAX_SIDE), environment, str(root))
