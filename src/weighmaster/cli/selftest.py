# SPDX-License-Identifier: Apache-2.0
"""``weighmaster selftest``: put known questions to the digests of this installation, or qualify the whole of it."""

from __future__ import annotations

import argparse
import platform
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.failure import fault_documents
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.verb import Outcome
from weighmaster.core.canonical import dumps
from weighmaster.durable import write_atomically
from weighmaster.errors import Faults, UsageError

if TYPE_CHECKING:
    from weighmaster.core.qualification import Qualification

DESCRIPTION: Final = """\
Compute digests whose answers are published (FIPS 180-4, fs-verity, RFC 6962) through the reference code and through
the engine that weighs, and compare. The same test runs before every weighing and every verification. It shows that
the digests of this installation are right here and now; it says nothing about any model.

With --report, qualify the installation (IQ: files against RECORD, versions, ranges) and its operation (OQ: a release
made and signed with throw-away keys in a temporary folder, and every way to spoil it, each of which must be refused
with its exit code). Every check is numbered and reported, passed or not; one that did not pass gives exit code 16."""

EXAMPLES: Final = (
    ("weighmaster selftest", "prints how many answers were right; exit code 16 if one was wrong"),
    ("weighmaster selftest --report iq-oq.json --report iq-oq.md", "the record, and a form for people to sign"),
)

_PACKAGES: Final = ("cryptography", "torch", "transformers", "numpy", "safetensors", "bitsandbytes")
_MARKDOWN: Final = (".md", ".markdown")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="qualify, and write the report to this new file: Markdown where it ends in .md, else JSON; repeatable",
    )


def run(args: argparse.Namespace) -> Outcome:
    """Run the self-test, or the qualification where a report is asked for."""
    return _qualify(args.report) if args.report else _self_test()


def _self_test() -> Outcome:
    from weighmaster.flows.qualification import installed  # noqa: PLC0415  # not for the help

    checks, faults = wm.self_test()
    if faults:
        raise Faults("the self-test failed", faults)
    versions = {
        "weighmaster": wm.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION,
        **{name: installed(name) for name in _PACKAGES},
    }
    document = {"result": "right", "checks": checks, "faults": fault_documents(faults), "versions": versions}
    rows = [("self-test", f"{count(checks, 'known answer')} right"), *versions.items()]
    return Outcome(document=document, text=pairs(rows))


def _qualify(reports: list[Path]) -> Outcome:
    """Write the reports first, then raise what did not pass."""
    from weighmaster.flows.qualification import qualify  # noqa: PLC0415  # not for the help

    for path in reports:
        if path.exists():
            raise UsageError(f"{path}: exists already and is not overwritten")
    qualification = qualify(wm.__version__, lambda: datetime.now(UTC))
    document = qualification.document()
    for path in reports:
        text = qualification.markdown().encode("utf-8", "backslashreplace")
        write_atomically(path, text if path.suffix in _MARKDOWN else dumps(document) + b"\n", replace=False)
    if qualification.faults:
        raise Faults("the qualification failed", qualification.faults)
    return Outcome(document=document, text=pairs(_rows(qualification, reports)))


def _rows(qualification: Qualification, reports: list[Path]) -> list[tuple[str, str]]:
    checks = qualification.checks
    return [
        ("IQ", f"{count(sum(c.number.startswith('IQ') for c in checks), 'check')} passed"),
        ("OQ", f"{count(sum(c.number.startswith('OQ') for c in checks), 'check')} passed"),
        ("report", f"SHA-256 {qualification.document()['sha256']}"),
        *(("file", str(path)) for path in reports),
    ]
