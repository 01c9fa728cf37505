# SPDX-License-Identifier: Apache-2.0
"""Name every way in which Weighmaster says no.

The tree (a test compares this drawing with the classes; the number is the exit code)::

    WeighmasterError                70
    ├── UsageError                   2
    ├── MalformedArtefact           20
    ├── KeyFault                    13
    ├── StorageError                70
    ├── ServiceError                70
    └── Fault                       70
        ├── SelfTestFault           16
        ├── SignatureFault          13
        ├── IdentityFault           14
        ├── EnvironmentFault        12
        ├── SourceFault             17
        ├── StageFault              18
        ├── StructureFault          17
        ├── TensorSetFault          11
        ├── TensorFault             10
        ├── CoverageFault           18
        └── AnswerFault             15

A `Fault` is one finding of the numbered algorithm in ``spec/admission.md``; ``step`` is its number there. Faults are
collected in a `Faults` group, of which there are two: `NotWeighed` and `NotAdmitted`. The exit code of a group is that
of its lowest step. Nothing in this package turns a fault into a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

__all__ = [
    "AnswerFault",
    "CoverageFault",
    "EnvironmentFault",
    "Fault",
    "Faults",
    "IdentityFault",
    "KeyFault",
    "MalformedArtefact",
    "NotAdmitted",
    "NotWeighed",
    "SelfTestFault",
    "ServiceError",
    "SignatureFault",
    "SourceFault",
    "StageFault",
    "StorageError",
    "StructureFault",
    "TensorFault",
    "TensorSetFault",
    "UsageError",
    "WeighmasterError",
]


class WeighmasterError(Exception):
    """Root of the tree: something did not hold, or could not be done."""

    exit_code: ClassVar[int] = 70
    remedy: ClassVar[str] = "This is a defect of Weighmaster: please report it with the message above."


class UsageError(WeighmasterError):
    """The call or the command line asks for something that does not exist or does not fit together."""

    exit_code = 2
    remedy = "Read the help of the verb (weighmaster VERB --help) and correct the call."


class MalformedArtefact(WeighmasterError):
    """A file does not follow its specification.

    Attributes:
        file: name of the file, or of the document when it came from memory.
        field: path of the field within it, such as ``tables[0].root``; empty for the file as a whole.
        expected: what the specification asks for.
        found: what stands there.
    """

    exit_code = 20
    remedy = "Fetch the artefact again from where it was published; if it is still malformed, it was made wrongly."

    def __init__(self, file: str, field: str, *, expected: str, found: str) -> None:
        self.file, self.field, self.expected, self.found = file, field, expected, found
        where = f"{file}: {field}" if field else file
        super().__init__(f"{where}: expected {expected}, found {found}")


class KeyFault(WeighmasterError):
    """A private key cannot be made, read or used."""

    exit_code = 13
    remedy = "Check the key file, its permissions (0600) and its passphrase, or the token, its labels and its PIN."


class StorageError(WeighmasterError):
    """A file could not be read or written whole; nothing half-written was left under its final name."""

    exit_code = 70
    remedy = "Free disk space, correct the permissions or make the directory, then run the command again."


class ServiceError(WeighmasterError):
    """A service outside did not answer, or answered something else than what it was asked for."""

    exit_code = 70
    remedy = "Try again later or at another service; nothing was changed."


class Fault(WeighmasterError):
    """One finding of the numbered algorithm.

    Attributes:
        subject: the tensor, module, fact or file that the finding is about.
        detail: what is wrong, in words.
        expected: the validated value, or None where there is none.
        found: the value found here, or None where there is none.
    """

    step: ClassVar[int] = 0
    title: ClassVar[str] = "fault"

    def __init__(self, subject: str, detail: str, *, expected: str | None = None, found: str | None = None) -> None:
        self.subject, self.detail, self.expected, self.found = subject, detail, expected, found
        text = f"{subject}: {detail}"
        if expected is not None or found is not None:
            text += f"; expected {expected if expected is not None else 'nothing'}"
            text += f", found {found if found is not None else 'nothing'}"
        super().__init__(text)

    def to_json(self) -> dict[str, object]:
        """Return the finding as a JSON object: step, title, exitCode, subject, detail, expected, found."""
        return {
            "step": self.step,
            "title": self.title,
            "exitCode": self.exit_code,
            "subject": self.subject,
            "detail": self.detail,
            "expected": self.expected,
            "found": self.found,
        }


class SelfTestFault(Fault):
    """Step 1: a digest routine gave a wrong answer to a known question."""

    step, title, exit_code = 1, "self-test", 16
    remedy = "Do not serve from this machine or installation: its digests cannot be believed."


class SignatureFault(Fault):
    """Step 2: no signature by a trusted key over exactly these bytes."""

    step, title, exit_code = 2, "signature and trust", 13
    remedy = "Obtain the signed manifest from its signer, the trust file and its pin from its keepers."


class IdentityFault(Fault):
    """Step 3: genuine, but not this deployment's: other product, revoked, or older than allowed."""

    step, title, exit_code = 3, "identity", 14
    remedy = "Deploy the manifest that is in force for this product."


class EnvironmentFault(Fault):
    """Step 4: a fact of machine, libraries or switches differs from the validated one."""

    step, title, exit_code = 4, "environment", 12
    remedy = "Restore the validated configuration, or validate this one and sign a manifest for it."


class SourceFault(Fault):
    """Step 5: a weight, configuration, tokenizer, template or code file is not the validated one."""

    step, title, exit_code = 5, "sources", 17
    remedy = "Restore the file from the validated release."


class StageFault(Fault):
    """Step 6: taken at another stage or by another method, vacuous entry, training mode, or unclean loading report."""

    step, title, exit_code = 6, "stage and method", 18
    remedy = "Load the model as production does, in evaluation mode, and use the probe set beside the manifest."


class StructureFault(Fault):
    """Step 7: classes, code, scalars, hooks, adapters or configuration differ."""

    step, title, exit_code = 7, "structure", 17
    remedy = "Remove the hook, patch or adapter, or restore the configuration; then load again."


class TensorSetFault(Fault):
    """Step 8: a tensor is missing, extra, renamed, reshaped, recast or aliased otherwise."""

    step, title, exit_code = 8, "tensor set", 11
    remedy = "Load the validated checkpoint with the validated loader, in a new process."


class TensorFault(Fault):
    """Step 9: the bytes of a tensor are not the validated bytes."""

    step, title, exit_code = 9, "tensor digests", 10
    remedy = "Halt. Preserve the process for triage, then load the validated weights in a new process."


class CoverageFault(Fault):
    """Step 10: the kernels consume something that the table does not hold, or more is excluded than allowed."""

    step, title, exit_code = 10, "coverage", 18
    remedy = "Name the tensor with extra={name: tensor}, or have its exclusion reviewed and signed."


class AnswerFault(Fault):
    """Step 11: a known answer is not reproduced."""

    step, title, exit_code = 11, "known answers", 15
    remedy = "Find the changed kernel, library or setting before serving."


class Faults(ExceptionGroup[Fault]):
    """All findings of one run, none left out; the lowest step decides the exit code."""

    remedy: ClassVar[str] = "Each fault above names its own remedy."

    def __new__(cls, message: str, faults: Sequence[Fault]) -> Self:
        """Order the faults by step, then subject, so that reports are stable."""
        return super().__new__(cls, message, sorted(faults, key=lambda f: (f.step, f.subject)))

    def derive(self, excs: Sequence[Fault]) -> Faults:  # type: ignore[override]  # a subgroup of faults holds faults
        """Return a subgroup of the same kind (used by ``except*``)."""
        return type(self)(self.message, excs)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The findings in the order of their steps."""
        return tuple(e for e in self.exceptions if isinstance(e, Fault))

    @property
    def exit_code(self) -> int:
        """Exit code of the lowest faulty step."""
        return self.faults[0].exit_code

    @property
    def step(self) -> int:
        """Number of the lowest faulty step."""
        return self.faults[0].step

    def __str__(self) -> str:
        lines = [f"{self.message} ({len(self.exceptions)} fault{'s' if len(self.exceptions) != 1 else ''})"]
        lines += [f"  ({f.step}) {f.title}: {f}" for f in self.faults]
        return "\n".join(lines)


class NotWeighed(Faults):
    """The model cannot be weighed as it stands; no manifest was made."""


class NotAdmitted(Faults):
    """The live model is not the validated one, or that could not be shown: do not serve."""
