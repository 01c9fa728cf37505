# SPDX-License-Identifier: Apache-2.0
"""Weighmaster: prove that the weights a kernel executes are bit for bit the weights that were validated.

Example::

    import weighmaster as wm

    manifest = wm.weigh(model, product="triage-encoder", version="1.0", serial=1)
    manifest.write("manifest")
    wm.sign("manifest", wm.load_private("ana.key", None))

    admission = wm.Gate("manifest", "trust.json", expect="triage-encoder").admit(model)  # raises NotAdmitted
    admission.guard(model)

Importing this package imports neither torch nor numpy: names are fetched on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weighmaster import errors as _errors
from weighmaster.errors import *  # noqa: F403  # the error tree is public whole

__version__ = "0.1.0"

_NAMES = (
    "Admission",
    "Coverage",
    "Diff",
    "Gate",
    "Manifest",
    "Opened",
    "PrivateKey",
    "ProbeSet",
    "ProductRule",
    "PublicKey",
    "Recheck",
    "RoleThreshold",
    "Row",
    "SealedManifest",
    "Statement",
    "Table",
    "Trust",
    "TrustedKey",
    "Verdict",
    "compare",
    "load_private",
    "load_public",
    "open_model",
    "parse_trust",
    "read_manifest",
    "read_unsigned",
    "self_test",
    "sign",
    "weigh",
    "weigh_files",
)

__all__ = sorted((*_NAMES, *_errors.__all__))  # noqa: PLE0605  # checked against api.__all__ by a test

if TYPE_CHECKING:
    from weighmaster.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Fetch a public name from `weighmaster.api` on first use."""
    if name in _NAMES:
        value = getattr(import_module("weighmaster.api"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'weighmaster' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
