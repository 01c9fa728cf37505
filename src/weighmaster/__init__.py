# SPDX-License-Identifier: Apache-2.0
"""Weighmaster: prove that the weights a kernel executes are bit for bit the weights that were validated.

Example::

    import weighmaster as wm

    manifest = wm.weigh(model, product="triage-encoder", version="1.0", serial=1)
    manifest.write("manifest")
    wm.sign("manifest", wm.load_private("ana.key", None))

    gate = wm.Gate("manifest", "trust.json", roots=PIN, expect="triage-encoder", mark="/var/lib/triage/mark")
    admission = gate.admit(model)  # raises NotAdmitted
    admission.guard(model)

Importing this package imports neither torch nor numpy: names are fetched on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weighmaster import errors as _errors
from weighmaster.errors import *  # noqa: F403  # the error tree is public whole

__version__ = "0.1.0"

_NAMES = {
    "Admission": "weighmaster.flows.admission",
    "AnswersVerdict": "weighmaster.flows.answers_verify",
    "Authority": "weighmaster.seal.trust",
    "CaseVerdict": "weighmaster.flows.answers_verify",
    "Coverage": "weighmaster.core.statement",
    "Diff": "weighmaster.core.compare",
    "Explanation": "weighmaster.flows.answers_explain",
    "Gate": "weighmaster.flows.admit",
    "Identity": "weighmaster.seal.trust",
    "Manifest": "weighmaster.flows.artefact",
    "Opened": "weighmaster.capture.open_model",
    "Pack": "weighmaster.pack.reader",
    "PackClaim": "weighmaster.flows.pack_seal",
    "PackResult": "weighmaster.flows.packing",
    "PackVerification": "weighmaster.flows.pack_verification",
    "Policy": "weighmaster.core.policy",
    "PrivateKey": "weighmaster.seal.keys",
    "ProbeSet": "weighmaster.capture.probe_set",
    "ProductRule": "weighmaster.seal.trust",
    "PublicKey": "weighmaster.seal.keys",
    "Rebuilt": "weighmaster.pack.reader",
    "Recheck": "weighmaster.flows.admission",
    "RecordedAnswers": "weighmaster.flows.answers_files",
    "ReportRun": "weighmaster.flows.report_run",
    "RoleThreshold": "weighmaster.seal.trust",
    "RootKey": "weighmaster.seal.trust",
    "Roots": "weighmaster.seal.trust",
    "Row": "weighmaster.core.manifest",
    "Rule": "weighmaster.core.policy",
    "SealedManifest": "weighmaster.flows.artefact",
    "Statement": "weighmaster.core.statement",
    "Table": "weighmaster.core.manifest",
    "TimestampAuthority": "weighmaster.seal.trust",
    "Trust": "weighmaster.seal.trust",
    "TrustedKey": "weighmaster.seal.trust",
    "Unpacked": "weighmaster.flows.unpacking",
    "Verdict": "weighmaster.flows.admission",
    "VerifiedTrust": "weighmaster.seal.trust_chain",
    "WrittenReport": "weighmaster.flows.report",
    "check_answers": "weighmaster.flows.answers_verify",
    "compare": "weighmaster.core.compare",
    "explain_answers": "weighmaster.flows.answers_explain",
    "load_private": "weighmaster.seal.keys",
    "load_public": "weighmaster.seal.keys",
    "open_model": "weighmaster.capture.open_model",
    "open_pack": "weighmaster.pack.reader",
    "pack_model": "weighmaster.flows.packing",
    "read_answers": "weighmaster.flows.answers_files",
    "read_manifest": "weighmaster.flows.artefact",
    "read_policy": "weighmaster.core.policy",
    "read_reference": "weighmaster.flows.derived",
    "read_trust": "weighmaster.flows.trusted",
    "read_unsigned": "weighmaster.flows.approve",
    "record_answers": "weighmaster.flows.answers_record",
    "self_test": "weighmaster.flows.selftest",
    "sign": "weighmaster.flows.approve",
    "sign_pack": "weighmaster.flows.pack_seal",
    "unpack": "weighmaster.flows.unpacking",
    "unpack_model": "weighmaster.flows.unpacking",
    "verify_answers": "weighmaster.flows.answers_verify",
    "verify_pack": "weighmaster.flows.pack_verification",
    "verify_trusted_pack": "weighmaster.flows.pack_seal",
    "weigh": "weighmaster.flows.weigh",
    "weigh_files": "weighmaster.flows.weigh",
    "write_answers": "weighmaster.flows.answers_files",
    "write_report": "weighmaster.flows.report",
    "write_trust": "weighmaster.flows.keep",
}

__all__ = sorted((*_NAMES, *_errors.__all__))  # noqa: PLE0605  # checked against api.__all__ by a test

if TYPE_CHECKING:
    from weighmaster.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use."""
    if name in _NAMES:
        value = getattr(import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'weighmaster' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
