# SPDX-License-Identifier: Apache-2.0
"""seal.evidence.verify_evidence: bundles by others as they come, and statements under a signature that holds."""

from __future__ import annotations

import hashlib
import json

from cryptography.hazmat.primitives.asymmetric import ed25519

from fuzz.harness import MALFORMED, refused_or_read, require
from weighmaster.core.source import Source
from weighmaster.errors import NotWeighed
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.evidence import OMS_TYPE, verify_evidence
from weighmaster.seal.keys import PrivateKey

JSON = True
SEEDS = ("vectors/seal/p256/*.sigstore.json", "vectors/evidence/*/*.json")
_KEY = PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)))
_FILES = {"config.json": hashlib.sha256(b"{}").hexdigest(), "a/model.safetensors": hashlib.sha256(b"m").hexdigest()}
_SOURCES = tuple(Source(path=p, role="other", nbytes=1, sha256=d) for p, d in _FILES.items())


def _statement(subjects: list[str], kind: str, predicate: object) -> bytes:
    subject = [{"name": "", "digest": {"sha256": digest}} for digest in subjects]
    whole = {"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": kind}
    return json.dumps({**whole, "predicate": predicate}).encode()


_RESOURCES = [{"algorithm": "sha256", "digest": d, "name": p} for p, d in sorted(_FILES.items())]
_ROOT = hashlib.sha256(b"".join(bytes.fromhex(str(r["digest"])) for r in _RESOURCES)).hexdigest()
_OMS = {"resources": _RESOURCES, "serialization": {"method": "files", "hash_type": "sha256"}}
INPUTS = (
    _statement([_ROOT], OMS_TYPE, _OMS),
    _statement([_ROOT], OMS_TYPE, {**_OMS, "resources": _RESOURCES[:1]}),
    _statement(list(_FILES.values()), "https://example.org/v1", {"score": 0.5}),
)


def one(data: bytes) -> None:
    """Evidence about exactly these files, or a documented refusal; under no signature nothing is believed."""
    require(_verified(data) is None, "evidence that nobody signed")
    if data:
        found = _verified(make_bundle(data, _KEY))
        require(found is None or 0 <= found <= len(_SOURCES), "evidence about more files than there are")


def _verified(data: bytes) -> int | None:
    evidence = refused_or_read(
        data,
        lambda d: verify_evidence(d, "file", _KEY.public, _SOURCES, is_source=lambda name: name.endswith(".json")),
        (*MALFORMED, NotWeighed),
    )
    return None if evidence is None else evidence.files
