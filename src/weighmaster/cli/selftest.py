# SPDX-License-Identifier: Apache-2.0
"""``weighmaster selftest``: put known questions to the digests of this installation."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import ssl
from pathlib import Path
from typing import Final

import weighmaster as wm
from weighmaster.cli.failure import fault_documents
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.verb import Outcome
from weighmaster.core.canonical import dumps
from weighmaster.durable import write_atomically
from weighmaster.errors import Faults

DESCRIPTION: Final = """\
Compute digests whose answers are published (FIPS 180-4, fs-verity, RFC 6962) through the reference code and through
the engine that weighs, and compare. The same test runs before every weighing and every verification. It shows that
the digests of this installation are right here and now; it says nothing about any model."""

EXAMPLES: Final = (
    ("weighmaster selftest", "prints how many answers were right; exit code 16 if one was wrong"),
    ("weighmaster selftest --report selftest.json", "keeps the result for the installation record"),
)

_PACKAGES: Final = ("cryptography", "torch", "transformers", "numpy", "safetensors", "bitsandbytes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--report", metavar="FILE", type=Path, help="new file for the result as JSON, right or wrong")


def run(args: argparse.Namespace) -> Outcome:
    """Run the self-test; write the report first, then raise what was wrong."""
    checks, faults = wm.self_test()
    document: dict[str, object] = {
        "result": "wrong" if faults else "right",
        "checks": checks,
        "faults": fault_documents(faults),
        "versions": _versions(),
    }
    if args.report is not None:
        write_atomically(args.report, dumps(document) + b"\n", replace=False)
    if faults:
        raise Faults("the self-test failed", faults)
    rows = [("self-test", f"{count(checks, 'known answer')} right"), *_versions().items()]
    return Outcome(document=document, text=pairs(rows))


def _versions() -> dict[str, str]:
    return {
        "weighmaster": wm.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION,
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
