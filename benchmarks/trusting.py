# SPDX-License-Identifier: Apache-2.0
"""A trust document in which one key keeps, signs, and answers for one product."""

from __future__ import annotations

from datetime import UTC, datetime

import weighmaster as wm

__all__ = ["trusting"]


def trusting(key: wm.PrivateKey, rule: wm.ProductRule) -> wm.Trust:
    """Return the document of `key` and `rule`, in force until 2100."""
    return wm.Trust(
        expires=datetime(2100, 1, 1, tzinfo=UTC),
        roots=wm.Roots(keys=(wm.RootKey(person="Benchmark", key=key.public),), threshold=1),
        keys=(wm.TrustedKey(person="Benchmark", key=key.public, roles=("signer",)),),
        products=(rule,),
    )
