# SPDX-License-Identifier: Apache-2.0
"""Export a dump as an OpenSSF Model Signing v1.0 bundle, which others check by their own tool (spec/export-oms.md)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from weighmaster.capture.sources import open_regular, resolve_directory
from weighmaster.core.canonical import dumps
from weighmaster.core.statement import STATEMENT_TYPE
from weighmaster.durable import write_atomically
from weighmaster.errors import Fault, KeyFault, NotAdmitted, StorageError, TensorFault, TensorSetFault, UsageError
from weighmaster.flows.artefact import Manifest
from weighmaster.flows.dump_files import dump_digests
from weighmaster.flows.selftest import require_self_test
from weighmaster.seal.bundle import Signer, make_bundle
from weighmaster.seal.evidence import OMS_TYPE

__all__ = ["Exported", "export_oms", "oms_statement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was signed: the bundle's path, files covered, and the digest over their digests (the OMS subject)."""

    path: Path
    files: int
    root: str


def export_oms(manifest: Manifest, dump: Path, key: Signer, out: Path) -> Exported:
    """Sign the files of a dump in the format of OpenSSF Model Signing, after comparing each with the manifest.

    Args:
        manifest: whose dump it is; whether it is to be trusted is the caller's to ask.
        dump: directory that `flows.dump` wrote.
        key: ECDSA P-256; the tool knows no Ed25519.
        out: file of the bundle; not within the dump, which stays as it was written.

    Raises:
        KeyFault: the key is not an ECDSA key.
        NotAdmitted: with a fault per file that is missing, extra, or not what the manifest says.
        MalformedArtefact: something in the dump is no regular file.
        UsageError: `out` exists or lies within the dump, or there is no such directory.
        StorageError: a file cannot be read, or the bundle not written.
    """
    require_self_test()
    if key.public.kind != "ecdsa-p256-sha256":
        raise KeyFault(f"expected an ECDSA P-256 key, as OpenSSF Model Signing asks for, found {key.public.kind}")
    folder = resolve_directory(dump)
    if resolve_directory(out.parent).is_relative_to(folder):
        raise UsageError(f"{out}: lies within the dump, which would then hold a file that was not signed")
    digests = dump_digests(manifest.gate)
    faults = tuple(_faults(folder, digests))
    if faults:
        raise NotAdmitted("the dump is not that of the manifest; nothing was signed", faults)
    write_atomically(out, make_bundle(oms_statement(manifest.statement.product, digests), key), replace=False)
    return Exported(path=out, files=len(digests), root=_root(digests))


def _faults(folder: Path, expected: Mapping[str, str]) -> Iterator[Fault]:
    try:
        here = set(os.listdir(folder))  # noqa: PTH208  # names alone
    except OSError as error:
        raise StorageError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    for name in sorted(expected.keys() | here):
        if name not in here:
            yield TensorSetFault(name, "a file of the dump is missing", expected=expected[name])
        elif name not in expected:
            yield TensorSetFault(name, "a file that no dump of this manifest has")
        elif (found := _digest(folder / name)) != expected[name]:
            yield TensorFault(name, "the file is not what the manifest says", expected=expected[name], found=found)


def _digest(path: Path) -> str:
    fd = open_regular(path)
    try:
        with os.fdopen(fd, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error


def oms_statement(name: str, digests: Mapping[str, str]) -> bytes:
    """Return the statement of OpenSSF Model Signing v1.0 over files given by name and SHA-256, in canonical JSON.

    Args:
        name: of the model; for information alone, as the format says.
        digests: flat names; they are ordered here, as the tool orders paths without folders.
    """
    ordered = sorted(digests.items())
    return dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": _root(digests)}}],
            "predicateType": OMS_TYPE,
            "predicate": {
                "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
                "resources": [{"name": n, "algorithm": "sha256", "digest": digest} for n, digest in ordered],
            },
        }
    )


def _root(digests: Mapping[str, str]) -> str:
    """Return the digest over the digests, in the order of the names, which themselves do not enter it."""
    return hashlib.sha256(b"".join(bytes.fromhex(digests[name]) for name in sorted(digests))).hexdigest()
