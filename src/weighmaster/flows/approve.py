# SPDX-License-Identifier: Apache-2.0
"""Sign: put a person's signature beside a manifest, after checking that its files belong together."""

from __future__ import annotations

from pathlib import Path

from weighmaster.durable import write_atomically
from weighmaster.errors import MalformedArtefact, SignatureFault, UsageError
from weighmaster.flows.artefact import STATEMENT, Manifest, bind, next_bundle_name, read_manifest
from weighmaster.seal.bundle import Signer, make_bundle, open_sealed
from weighmaster.seal.trust import ROLES

__all__ = ["read_unsigned", "sign"]


def read_unsigned(directory: Path | str) -> Manifest:
    """Read a manifest directory without asking who signed it; its files are bound to ``statement.json``.

    For showing, comparing and signing. Nothing about its origin is proven.

    Raises:
        MalformedArtefact: a file does not follow its specification, or is missing.
        SignatureFault: a file is not the one that the statement names.
    """
    sealed = read_manifest(directory)
    if STATEMENT not in sealed.files:
        raise MalformedArtefact(f"{sealed.origin}/{STATEMENT}", "", expected="the statement", found="no such file")
    return bind(sealed.files[STATEMENT], sealed.files, sealed.origin)


def sign(directory: Path | str, key: Signer, *, role: str = "signer", certificate: bytes | None = None) -> Path:
    """Sign the statement of the manifest in `directory`; return the path of the new bundle.

    All files are bound to the statement first: what is signed is consistent. Bundles that are there already must be
    over the same statement bytes.

    Args:
        directory: a manifest directory.
        key: private key, or a token that signs.
        role: role of the signature, part of the bundle's name; the trust file decides what the key may do.
        certificate: X.509 certificate of the key, DER: the bundle carries it in place of the key's fingerprint.

    Raises:
        UsageError: no such role.
        KeyFault: the certificate is not that of the key.
        MalformedArtefact: a file of the manifest does not follow its specification.
        SignatureFault: a file is not the one that the statement names, or a bundle is over another statement.
    """
    if role not in ROLES:
        raise UsageError(f"role: expected one of {', '.join(ROLES)}, found {role!r}")
    root = Path(directory)
    manifest = read_unsigned(root)
    bundles = read_manifest(root).bundles
    if bundles and open_sealed(bundles).payload != manifest.payload:
        raise SignatureFault(str(root), "its bundles are over another statement than statement.json")
    path = root / next_bundle_name(root, role)
    write_atomically(path, make_bundle(manifest.payload, key, certificate=certificate), replace=False)
    return path
