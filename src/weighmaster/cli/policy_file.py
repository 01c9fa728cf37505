# SPDX-License-Identifier: Apache-2.0
"""Read an environment policy that a person wrote."""

from __future__ import annotations

from pathlib import Path

from weighmaster.core.policy import Policy, read_policy
from weighmaster.durable import read_whole

__all__ = ["read_policy_file"]


def read_policy_file(path: Path) -> Policy:
    """Return the policy in a file, in any spelling of the JSON; the manifest holds it in the canonical one.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: it does not follow spec/environment.md.
    """
    return read_policy(read_whole(path), str(path))
