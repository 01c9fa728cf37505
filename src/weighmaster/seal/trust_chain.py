# SPDX-License-Identifier: Apache-2.0
"""The trust file: signed documents in a chain, and who signed them. The numbers are those of spec/trust.md.

A trust file holds the current document and, before it, one document per former set of roots, so that a verifier that
knows an old set can follow every rotation. The fingerprint of one set of roots, the *pin*, is all that it must be told.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from weighmaster.core.canonical import dumps, loads
from weighmaster.core.fields import Fields
from weighmaster.core.instant import instant_text
from weighmaster.errors import MalformedArtefact, NotAdmitted, SignatureFault, UsageError
from weighmaster.seal.bundle import Signer
from weighmaster.seal.dsse import pae
from weighmaster.seal.keys import InvalidSignature, PublicKey
from weighmaster.seal.trust import RootKey, Roots, Trust
from weighmaster.seal.trust_document import PAYLOAD_TYPE, parse_document, trust_to_bytes

__all__ = [
    "MAX_FILE",
    "SCHEME",
    "Chain",
    "Envelope",
    "VerifiedTrust",
    "amend",
    "chain_to_bytes",
    "countersign",
    "expiry_faults",
    "missing_signatures",
    "new_chain",
    "open_trust",
    "parse_chain",
    "verify_chain",
]

SCHEME: Final = "weighmaster-trust-v1"
MAX_FILE: Final = 1 << 24
"""Bytes: a larger trust file is refused before it is parsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One document as it lies in the file: its exact bytes, and the signatures presented over them.

    Attributes:
        payload: the bytes of the document.
        signatures: pairs of a key's fingerprint and a signature: claims, not yet verified.
        trust: what the bytes say.
    """

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]
    trust: Trust

    @property
    def sha256(self) -> str:
        """SHA-256 of the document's bytes."""
        return hashlib.sha256(self.payload).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A trust file, read and not verified: at least one envelope, oldest first, versions rising."""

    envelopes: tuple[Envelope, ...]
    file: str

    @property
    def current(self) -> Envelope:
        """The envelope that is in force, if the chain holds."""
        return self.envelopes[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTrust:
    """A trust document that the keepers of its roots signed, by an unbroken chain from the pin.

    Attributes:
        trust: what is trusted.
        sha256: of the document's bytes.
        keepers: persons who signed the current document.
        chain: the whole file, which a high-water mark is held against.
    """

    trust: Trust
    sha256: str
    keepers: tuple[str, ...]
    chain: Chain


# -- read and write ---------------------------------------------------------------------------------------------------


def parse_chain(data: bytes, file: str) -> Chain:
    """Read a trust file strictly (1); verify nothing. Any spelling of the JSON around the documents is taken.

    Raises:
        MalformedArtefact: it does not follow spec/trust.md; the message names file and field.
    """
    if len(data) > MAX_FILE:
        raise MalformedArtefact(file, "", expected=f"at most {MAX_FILE} bytes", found=str(len(data)))
    fields = Fields(loads(data, file), file=file)
    fields.text("scheme", choices=(SCHEME,))
    envelopes = fields.objects("envelopes", _read_envelope)
    fields.done()
    if not envelopes:
        raise fields.fault("envelopes", "at least one", "none")
    for i, (before, after) in enumerate(pairwise(envelopes), start=1):
        if before.trust.version >= after.trust.version:
            expected = f"a version above {before.trust.version}"
            raise fields.fault(f"envelopes[{i}].version", expected, str(after.trust.version))
    return Chain(envelopes=envelopes, file=file)


def _read_envelope(fields: Fields) -> Envelope:
    fields.text("payloadType", choices=(PAYLOAD_TYPE,))
    payload = fields.base64("payload")
    signatures = fields.objects("signatures", lambda f: (f.digest("keyid"), f.base64("sig")))
    keyids = [keyid for keyid, _ in signatures]
    if len(set(keyids)) != len(keyids):
        raise fields.fault("signatures", "each keyid once", ", ".join(keyids))
    trust = replace(parse_document(payload, f"{fields.file}: {fields.path}"), file=fields.file)
    return Envelope(payload=payload, signatures=signatures, trust=trust)


def chain_to_bytes(chain: Chain) -> bytes:
    """Return the trust file, in canonical form."""
    return dumps({"scheme": SCHEME, "envelopes": [_envelope_to_json(e) for e in chain.envelopes]})


def _envelope_to_json(envelope: Envelope) -> dict[str, object]:
    return {
        "payload": _encode(envelope.payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": keyid, "sig": _encode(value)} for keyid, value in envelope.signatures],
    }


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# -- verify -----------------------------------------------------------------------------------------------------------


def open_trust(data: bytes, file: str, *, roots: str, now: datetime) -> VerifiedTrust:
    """Read and verify a trust file.

    Args:
        data: the file.
        file: its name, for messages.
        roots: the pin: fingerprint of a set of roots, from outside of the file.
        now: the moment at which the current document must be in force.

    Raises:
        MalformedArtefact: it does not follow the format.
        NotAdmitted: with every `SignatureFault` found.
    """
    chain = parse_chain(data, file)
    verified, faults = verify_chain(chain, roots)
    faults = (*faults, *expiry_faults(chain.current.trust, now))
    if verified is None or faults:
        raise NotAdmitted(f"{file}: the trust file does not hold", faults)
    return verified


def verify_chain(chain: Chain, roots: str) -> tuple[VerifiedTrust | None, tuple[SignatureFault, ...]]:
    """Return what is trusted, or everything that is wrong with the signatures. Data: `open_trust` decides.

    Args:
        chain: a trust file.
        roots: the pin.
    """
    start = next((i for i, e in enumerate(chain.envelopes) if e.trust.roots.fingerprint == roots), None)
    if start is None:  # (2)
        found = ", ".join(dict.fromkeys(e.trust.roots.fingerprint for e in chain.envelopes))
        detail = "does not begin at the roots that are pinned here"
        return None, (SignatureFault(chain.file, detail, expected=f"roots {roots}", found=f"roots {found}"),)
    trusted, faults = chain.envelopes[start].trust.roots, list[SignatureFault]()
    known = _root_keys(chain)
    for envelope in chain.envelopes[start:]:  # (3) to (5)
        faults += _envelope_faults(envelope, trusted, known)
        trusted = envelope.trust.roots
    if faults:
        return None, tuple(faults)
    current = chain.current
    keepers = sorted({k.person for keyid, _ in current.signatures if (k := current.trust.roots.key(keyid))})
    verified = VerifiedTrust(
        trust=current.trust,
        sha256=current.sha256,
        keepers=tuple(keepers),
        chain=chain,
    )
    return verified, ()


def _root_keys(chain: Chain) -> Mapping[str, RootKey]:
    return {k.key.fingerprint: k for e in chain.envelopes for k in e.trust.roots.keys}


def _envelope_faults(envelope: Envelope, trusted: Roots, known: Mapping[str, RootKey]) -> Iterator[SignatureFault]:
    own, name = envelope.trust.roots, f"{envelope.trust.file}, version {envelope.trust.version}"
    message = pae(PAYLOAD_TYPE, envelope.payload)
    good = set[str]()
    for keyid, value in envelope.signatures:
        listed = known.get(keyid)
        if listed is None:  # (3) every signature presented must be by a root key of the file, and hold
            yield SignatureFault(name, "signed with a key that is no root key", expected="a root key", found=keyid)
        elif not _holds(listed.key, value, message):
            detail = f"the signature does not verify under the root key of {listed.person}"
            yield SignatureFault(name, detail, expected=f"a signature by {keyid}", found="another, or other bytes")
        else:
            good.add(keyid)
    yield from _threshold_faults(name, "", trusted, good)  # (4)
    if own.fingerprint != trusted.fingerprint:  # (5) whoever takes over must have signed too
        yield from _threshold_faults(name, "new ", own, good)


def _threshold_faults(name: str, which: str, roots: Roots, good: set[str]) -> Iterator[SignatureFault]:
    persons = sorted({k.person for k in roots.keys if k.key.fingerprint in good})
    if len(persons) < roots.threshold:
        found = f"{len(persons)} ({', '.join(persons) or 'nobody'})"
        detail = f"too few keepers of the {which}roots signed"
        yield SignatureFault(name, detail, expected=f"at least {roots.threshold}", found=found)


def _holds(key: PublicKey, value: bytes, message: bytes) -> bool:
    try:
        key.verify(value, message)
    except InvalidSignature:
        return False
    return True


def expiry_faults(trust: Trust, now: datetime) -> tuple[SignatureFault, ...]:
    """Return a fault where the document is not in force any more (6)."""
    if now < trust.expires:
        return ()
    expected, found = f"a moment before {instant_text(trust.expires)}", instant_text(now)
    return (SignatureFault(f"{trust.file}, version {trust.version}", "has expired", expected=expected, found=found),)


# -- change -----------------------------------------------------------------------------------------------------------


def missing_signatures(chain: Chain) -> tuple[str, ...]:
    """Return in words who must still sign the current document; nothing where it is complete under its predecessor."""
    before = chain.envelopes[-2].trust.roots if len(chain.envelopes) > 1 else chain.current.trust.roots
    return tuple(str(fault) for fault in _envelope_faults(chain.current, before, _root_keys(chain)))


def amend(chain: Chain, trust: Trust) -> Chain:
    """Return the chain with `trust` as its current document, unsigned.

    A document that nobody signed yet is replaced; one that was signed is followed by the next version. One that was in
    force stays in the chain where a later verifier needs it to follow a rotation, or could until `trust` is signed.
    """
    head, before = chain.current, chain.envelopes[:-1]
    trust = replace(trust, version=head.trust.version + (1 if head.signatures else 0))
    first = not before or head.trust.roots.fingerprint != before[-1].trust.roots.fingerprint
    if first and not missing_signatures(chain):
        before = (*before, head)
    return replace(chain, envelopes=(*before, _unsigned(trust)))


def _unsigned(trust: Trust) -> Envelope:
    return Envelope(payload=trust_to_bytes(trust), signatures=(), trust=trust)


def new_chain(trust: Trust, file: str) -> Chain:
    """Return a chain of one unsigned document."""
    return Chain(envelopes=(_unsigned(trust),), file=file)


def countersign(chain: Chain, signer: Signer) -> Chain:
    """Return the chain with one more signature over its current document.

    Raises:
        UsageError: the key is no root key here, or has signed already.
    """
    head, public = chain.current, signer.public
    before = chain.envelopes[-2].trust.roots if len(chain.envelopes) > 1 else head.trust.roots
    if (before.key(public.fingerprint) or head.trust.roots.key(public.fingerprint)) is None:
        found = f"found {public.fingerprint}"
        raise UsageError(f"{chain.file}: expected a root key of version {head.trust.version}, {found}")
    if public.fingerprint in {keyid for keyid, _ in head.signatures}:
        raise UsageError(f"{chain.file}: version {head.trust.version} is signed by {public.fingerprint} already")
    message = pae(PAYLOAD_TYPE, head.payload)
    value = signer.sign(message)
    public.verify(value, message)  # a fault in token, memory or library is not published
    signed = replace(head, signatures=(*head.signatures, (public.fingerprint, value)))
    return _settled(replace(chain, envelopes=(*chain.envelopes[:-1], signed)))


def _settled(chain: Chain) -> Chain:
    """Return the chain without a first document in whose place the current one stands: the same roots, all signed."""
    same = len({e.trust.roots.fingerprint for e in chain.envelopes}) == 1
    return chain if not same or missing_signatures(chain) else replace(chain, envelopes=(chain.current,))
