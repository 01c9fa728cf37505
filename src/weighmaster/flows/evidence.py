# SPDX-License-Identifier: Apache-2.0
"""Take what others signed about the source files into the manifest, after verifying it."""

from __future__ import annotations

from pathlib import Path

from weighmaster.capture.sources import is_source
from weighmaster.core.source import Evidence, Source
from weighmaster.durable import read_whole
from weighmaster.errors import UsageError
from weighmaster.seal.bundle import MAX_BUNDLE
from weighmaster.seal.evidence import verify_evidence
from weighmaster.seal.keys import load_public

__all__ = ["read_evidence"]


def read_evidence(
    given: tuple[tuple[Path | str, Path | str], ...], sources: tuple[Source, ...]
) -> tuple[Evidence, ...]:
    """Verify each bundle against its public key and the source files; return what the statement records.

    Args:
        given: pairs of a bundle file and a public key file.
        sources: the files that the model is loaded from.

    Raises:
        UsageError: there are no source files, a file is missing, or a bundle is given twice.
        MalformedArtefact: a bundle is of no supported form.
        KeyFault: a key is of no supported kind.
        NotWeighed: a signature does not hold, or a bundle is about other files.
    """
    if given and not sources:
        raise UsageError("evidence is about source files, and none are known: name them with source")
    found = tuple(_read(Path(bundle), Path(key), sources) for bundle, key in given)
    if len({e.sha256 for e in found}) != len(found):
        raise UsageError("evidence: the same bundle is given twice")
    return found


def _read(bundle: Path, key: Path, sources: tuple[Source, ...]) -> Evidence:
    data = read_whole(bundle, limit=MAX_BUNDLE)
    return verify_evidence(data, str(bundle), load_public(key), sources, is_source=is_source)
