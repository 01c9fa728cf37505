# SPDX-License-Identifier: Apache-2.0
"""Say what went wrong: in words on standard error, as a document on standard output, and as an exit code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from weighmaster.errors import Fault, Faults, UsageError, WeighmasterError

__all__ = ["Failure", "describe", "fault_documents", "fault_lines"]

_EXTRAS: Final = {
    "bitsandbytes": "bitsandbytes",
    "numpy": "weighmaster[pack]",
    "pkcs11": "weighmaster[hsm]",
    "rfc3161_client": "weighmaster[time]",
    "safetensors": "weighmaster[hf]",
    "shtab": "weighmaster[completion]",
    "torch": "weighmaster[torch]",
    "transformers": "weighmaster[hf]",
}
"""Package that can be missing, and what to install."""

_INTERNAL: Final = 70
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error for print.

    Attributes:
        exit_code: of the process; never 0.
        text: for standard error.
        document: for ``--json``.
    """

    exit_code: int
    text: str
    document: Mapping[str, object]


def describe(error: BaseException, verb: str) -> Failure:
    """Return what to print about `error`, raised by `verb` (empty: by none)."""
    who = f"weighmaster {verb}".rstrip()
    if isinstance(error, Faults):
        return _halt(who, error.message, error.faults, error.exit_code)
    if isinstance(error, Fault):
        return _halt(who, error.title, (error,), error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return _plain(who, error, "interrupted; nothing half-written was left under its final name", "", _INTERRUPTED)
    if isinstance(error, WeighmasterError):
        return _plain(who, error, str(error), error.remedy, error.exit_code)
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        missing = f"the package {error.name} is not installed"
        return _plain(who, error, missing, f"pip install '{_EXTRAS[error.name]}'", UsageError.exit_code)
    if isinstance(error, SystemExit):
        # A model's code that ends the process, with 0 perhaps, is not a check that passed.
        return _plain(who, error, f"code of the model ended the process (exit {error.code})", _REPORT, _INTERNAL)
    return _plain(who, error, f"internal error: {type(error).__name__}: {error}", _REPORT, _INTERNAL)


_REPORT: Final = "Run it again with --traceback; if the model's own code is not the cause, please report it."


def _halt(who: str, message: str, faults: tuple[Fault, ...], exit_code: int) -> Failure:
    number = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}"
    lines = [f"{who}: {message} ({number})", *fault_lines(faults), "remedies:", *_remedies(faults)]
    return Failure(
        exit_code=exit_code,
        text="\n".join(lines),
        document={
            "result": "halt",
            "exitCode": exit_code,
            "message": message,
            "faults": fault_documents(faults),
        },
    )


def fault_lines(faults: Iterable[Fault]) -> list[str]:
    """Return a line per fault: step, title, subject, what is wrong, expected, found."""
    return [f"  ({f.step}) {f.title}: {' '.join(str(f).splitlines())}" for f in faults]


def fault_documents(faults: Iterable[Fault]) -> list[dict[str, object]]:
    """Return faults as JSON objects, each with its remedy."""
    return [{**f.to_json(), "remedy": f.remedy} for f in faults]


def _remedies(faults: tuple[Fault, ...]) -> list[str]:
    kinds = dict.fromkeys((f.step, f.title, f.remedy) for f in faults)
    return [f"  ({step}) {title}: {remedy}" for step, title, remedy in kinds]


def _plain(who: str, error: BaseException, message: str, remedy: str, exit_code: int) -> Failure:
    return Failure(
        exit_code=exit_code,
        text=f"{who}: {message}" + (f"\nremedy: {remedy}" if remedy else ""),
        document={
            "result": "error",
            "exitCode": exit_code,
            "kind": type(error).__name__,
            "message": message,
            "remedy": remedy,
        },
    )
