# SPDX-License-Identifier: Apache-2.0
"""The public names, and nothing else. ``import weighmaster as wm`` gives them lazily."""

from __future__ import annotations

from weighmaster.capture.open_model import Opened, open_model
from weighmaster.capture.probe_set import ProbeSet
from weighmaster.core.compare import Diff, compare
from weighmaster.core.manifest import Row, Table
from weighmaster.core.policy import Policy, Rule, read_policy
from weighmaster.core.statement import Coverage, Statement
from weighmaster.flows.admission import Admission, Recheck, Verdict
from weighmaster.flows.admit import Gate
from weighmaster.flows.answers_explain import Explanation, explain_answers
from weighmaster.flows.answers_files import RecordedAnswers, read_answers, write_answers
from weighmaster.flows.answers_record import record_answers
from weighmaster.flows.answers_verify import AnswersVerdict, CaseVerdict, check_answers, verify_answers
from weighmaster.flows.approve import read_unsigned, sign
from weighmaster.flows.artefact import Manifest, SealedManifest, read_manifest
from weighmaster.flows.derived import read_reference
from weighmaster.flows.keep import write_trust
from weighmaster.flows.pack_seal import PackClaim, sign_pack, verify_trusted_pack
from weighmaster.flows.pack_verification import PackVerification, verify_pack
from weighmaster.flows.packing import PackResult, pack_model
from weighmaster.flows.report import WrittenReport, write_report
from weighmaster.flows.report_run import ReportRun
from weighmaster.flows.selftest import self_test
from weighmaster.flows.trusted import read_trust
from weighmaster.flows.unpacking import Unpacked, unpack, unpack_model
from weighmaster.flows.weigh import weigh, weigh_files
from weighmaster.pack.reader import Pack, Rebuilt, open_pack
from weighmaster.seal.keys import PrivateKey, PublicKey, load_private, load_public
from weighmaster.seal.trust import (
    Authority,
    Identity,
    ProductRule,
    RoleThreshold,
    RootKey,
    Roots,
    TimestampAuthority,
    Trust,
    TrustedKey,
)
from weighmaster.seal.trust_chain import VerifiedTrust

__all__ = [
    "Admission",
    "AnswersVerdict",
    "Authority",
    "CaseVerdict",
    "Coverage",
    "Diff",
    "Explanation",
    "Gate",
    "Identity",
    "Manifest",
    "Opened",
    "Pack",
    "PackClaim",
    "PackResult",
    "PackVerification",
    "Policy",
    "PrivateKey",
    "ProbeSet",
    "ProductRule",
    "PublicKey",
    "Rebuilt",
    "Recheck",
    "RecordedAnswers",
    "ReportRun",
    "RoleThreshold",
    "RootKey",
    "Roots",
    "Row",
    "Rule",
    "SealedManifest",
    "Statement",
    "Table",
    "TimestampAuthority",
    "Trust",
    "TrustedKey",
    "Unpacked",
    "Verdict",
    "VerifiedTrust",
    "WrittenReport",
    "check_answers",
    "compare",
    "explain_answers",
    "load_private",
    "load_public",
    "open_model",
    "open_pack",
    "pack_model",
    "read_answers",
    "read_manifest",
    "read_policy",
    "read_reference",
    "read_trust",
    "read_unsigned",
    "record_answers",
    "self_test",
    "sign",
    "sign_pack",
    "unpack",
    "unpack_model",
    "verify_answers",
    "verify_pack",
    "verify_trusted_pack",
    "weigh",
    "weigh_files",
    "write_answers",
    "write_report",
    "write_trust",
]
