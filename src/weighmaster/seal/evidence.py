# SPDX-License-Identifier: Apache-2.0
"""Read what others signed about source files: Sigstore bundles by model_signing and by cosign (spec/evidence.md).

The numbers are those of the specification. Only the signature by a key that the caller names is believed; log entries
and timestamps in such a bundle are not checked, and nothing follows from them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from weighmaster.core.canonical import loads
from weighmaster.core.fields import Fields
from weighmaster.core.source import Evidence, Source, path_problem
from weighmaster.errors import MalformedArtefact, NotWeighed, SignatureFault, SourceFault
from weighmaster.seal.bundle import MAX_BUNDLE, MEDIA_TYPE
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.keys import InvalidSignature, PublicKey

__all__ = ["OMS_TYPE", "verify_evidence"]

OMS_TYPE: Final = "https://model_signing/signature/v1.0"
"""Predicate type of OpenSSF Model Signing v1.0."""

_STATEMENTS: Final = ("https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1")
"""cosign 3 still writes v0.1 around a predicate that is given to it; both versions spell the subjects alike."""
_MESSAGE: Final = "messageSignature"
_WHOLE: Final = "."
"""How model_signing names the one file of a model that is a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """What a bundle says: digests, and for a whole model the files' names as well.

    Attributes:
        kind: one of `EVIDENCE_KINDS`.
        digests: SHA-256 of each file that it speaks of.
        named: name to digest of every file of the model; None where names are not part of the claim.
    """

    kind: str
    digests: frozenset[str]
    named: Mapping[str, str] | None


def verify_evidence(
    data: bytes, file: str, key: PublicKey, sources: tuple[Source, ...], *, is_source: Callable[[str], bool]
) -> Evidence:
    """Verify a bundle by others against a key and against the files found here; return what the statement records.

    Args:
        data: the bundle.
        file: its name, for messages.
        key: whose signature it must carry.
        sources: the files that the model is loaded from.
        is_source: tells whether a file of this name would be among them; a signed model may hold prose that is not.

    Raises:
        MalformedArtefact: it is no such bundle, or of a form that is not supported; a file signed with Ed25519 is one.
        NotWeighed: the signature does not hold, or it speaks of other files than these.
    """
    kind, content = _open(data, file, key)
    claim = _verified_file(content, file, key) if kind == _MESSAGE else _verified_statement(content, file, key)
    faults = tuple(_faults(claim, file, sources, is_source))
    if faults:
        raise NotWeighed(f"{file} is no evidence about these source files", faults)
    covered = sum(s.sha256 in claim.digests for s in sources)
    return Evidence(kind=claim.kind, sha256=hashlib.sha256(data).hexdigest(), key=key.fingerprint, files=covered)


def _open(data: bytes, file: str, key: PublicKey) -> tuple[str, Fields]:  # (1)
    """Return what the bundle holds, envelope or message, and its fields, after reading what is around it."""
    if len(data) > MAX_BUNDLE:
        raise MalformedArtefact(file, "", expected=f"at most {MAX_BUNDLE} bytes", found=str(len(data)))
    fields = Fields(loads(data, file), file=file)
    fields.text("mediaType", choices=(MEDIA_TYPE,))
    hint = _read_material(fields.nested("verificationMaterial"))
    kind = _MESSAGE if fields.has(_MESSAGE) else "dsseEnvelope"
    content = fields.nested(kind)
    fields.done()
    if hint is not None and hint not in _hints(key):
        raise _unsigned(file, key, f"a bundle that names the key {hint}")
    return kind, content


def _hints(key: PublicKey) -> tuple[str, str]:
    """Return how model_signing names a key, which is how we do, and how cosign does."""
    body = b"".join(key.pem.splitlines()[1:-1])
    return key.fingerprint, base64.b64encode(hashlib.sha256(base64.b64decode(body)).digest()).decode("ascii")


def _read_material(fields: Fields) -> str | None:
    """Require a bare key, and return how the bundle names it."""
    for other in ("certificate", "x509CertificateChain"):
        if fields.has(other):
            raise fields.fault(other, "a bare publicKey", f"{other}, which is not supported as evidence")
    public_key = fields.nested("publicKey")
    hint = public_key.text("hint") if public_key.has("hint") else None
    public_key.done()
    for unchecked in ("tlogEntries", "timestampVerificationData"):
        if fields.has(unchecked):
            fields.any(unchecked)
    fields.done()
    return hint


def _verified_statement(content: Fields, file: str, key: PublicKey) -> _Claim:
    content.text("payloadType", choices=(PAYLOAD_TYPE,))
    payload = _base64(content, "payload")
    values = content.objects("signatures", _read_signature)
    if len(values) != 1:
        raise content.fault("signatures", "exactly one signature", str(len(values)))
    content.done()
    _require(file, key, lambda: key.verify(values[0], pae(PAYLOAD_TYPE, payload)))  # (2)
    return _read_statement(payload, f"{file}: payload")


def _read_signature(fields: Fields) -> bytes:
    if fields.has("keyid"):
        fields.text("keyid", empty=True)
    return _base64(fields, "sig")


def _verified_file(content: Fields, file: str, key: PublicKey) -> _Claim:
    stated = content.nested("messageDigest")
    if key.kind == "ed25519":
        raise content.fault("signature", "an ECDSA P-256 signature", "one by Ed25519, which needs the file's bytes")
    stated.text("algorithm", choices=("SHA2_256",))
    digest = _base64(stated, "digest")
    stated.done()
    signature = _base64(content, "signature")
    content.done()
    _require(file, key, lambda: key.verify_digest(signature, digest))  # (2)
    return _Claim(kind="cosign-blob", digests=frozenset({digest.hex()}), named=None)


def _require(file: str, key: PublicKey, verify: Callable[[], None]) -> None:
    try:
        verify()
    except (InvalidSignature, ValueError):  # ValueError: a digest that is not 32 bytes long
        raise _unsigned(file, key, "a signature by another key, over other bytes, or damaged") from None


def _unsigned(file: str, key: PublicKey, found: str) -> NotWeighed:
    text = "the signature does not verify under the key given for it"
    fault = SignatureFault(file, text, expected=f"a signature by {key.fingerprint}", found=found)
    return NotWeighed(f"{file} is no evidence about these source files", (fault,))


def _base64(fields: Fields, key: str) -> bytes:
    text = fields.text(key)
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if base64.b64encode(data).decode("ascii") != text:
        raise fields.fault(key, "canonical base64 (RFC 4648, section 4)", "another spelling")
    return data


def _read_statement(payload: bytes, file: str) -> _Claim:  # (3)
    fields = Fields(loads(payload, file, foreign=True), file=file)
    fields.text("_type", choices=_STATEMENTS)
    subjects = fields.objects("subject", _read_subject)
    if not subjects:
        raise fields.fault("subject", "at least one subject", "none")
    if fields.text("predicateType") == OMS_TYPE:
        return _read_oms(fields.nested("predicate"), subjects)
    return _Claim(kind="in-toto", digests=frozenset(subjects), named=None)


def _read_subject(fields: Fields) -> str:
    """Return the digest; names of subjects are opaque, and what else describes them is not ours to judge."""
    digests = fields.nested("digest")
    for key in ("name", "uri", "content", "downloadLocation", "mediaType", "annotations"):
        if fields.has(key):
            fields.any(key)
    return digests.digest("sha256")


def _read_oms(fields: Fields, subjects: tuple[str, ...]) -> _Claim:  # (4)
    how = fields.nested("serialization")
    how.text("method", choices=("files",))
    how.text("hash_type", choices=("sha256",))
    resources = fields.objects("resources", _read_resource)
    named = dict(resources)
    if len(named) != len(resources):
        raise fields.fault("resources", "each name once", "a name twice")
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in resources)).hexdigest()
    if subjects != (root,):
        raise fields.fault("resources", f"the digests that the subject {', '.join(subjects)} is made of", root)
    return _Claim(kind="oms-v1", digests=frozenset(named.values()), named=named)


def _read_resource(fields: Fields) -> tuple[str, str]:
    fields.text("algorithm", choices=("sha256",))
    name = fields.text("name")
    if name != _WHOLE and (problem := path_problem(name)):
        raise fields.fault("name", "a relative path", problem)
    return name, fields.digest("digest")


def _faults(
    claim: _Claim, file: str, sources: tuple[Source, ...], is_source: Callable[[str], bool]
) -> Iterator[SourceFault]:
    here = {s.path: s.sha256 for s in sources}
    if claim.named is None:  # (5)
        for digest in sorted(claim.digests - set(here.values())):
            yield SourceFault(file, "speaks of a file that is not among the sources", expected=digest, found=None)
    else:
        yield from _model_faults(_named(claim.named, here), file, here, is_source)


def _named(named: Mapping[str, str], here: Mapping[str, str]) -> Mapping[str, str]:
    """Return the files by name; the one file of a model that is a file gets the name that it has here."""
    if set(named) == {_WHOLE} and len(here) == 1:
        return dict(zip(here, named.values(), strict=True))
    return named


def _model_faults(
    named: Mapping[str, str], file: str, here: Mapping[str, str], is_source: Callable[[str], bool]
) -> Iterator[SourceFault]:  # (6)
    for path in sorted(named.keys() | here.keys()):
        if path not in named:
            yield SourceFault(path, f"a source file that {file} does not cover", expected=None, found=here[path])
        elif path in here:
            if here[path] != named[path]:
                text = f"the file is not the one that {file} was signed over"
                yield SourceFault(path, text, expected=named[path], found=here[path])
        elif is_source(path):
            yield SourceFault(path, f"{file} was signed over a file that is not here", expected=named[path], found=None)
