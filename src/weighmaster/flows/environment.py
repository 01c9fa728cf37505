# SPDX-License-Identifier: Apache-2.0
"""Step 4 of ``spec/admission.md``: collect the environment and judge it under the policy of the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from weighmaster.capture.torch_switches import torch_facts
from weighmaster.core.judgement import judge
from weighmaster.errors import EnvironmentFault
from weighmaster.flows.trusted import Trusted
from weighmaster.flows.waivers import Bundles, WaiverSubject, change_control_fault, check_waivers
from weighmaster.probe.collect import collect

__all__ = ["Judged", "judge_environment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a collection of the environment came to.

    Attributes:
        faults: what halts.
        informed: differences that the policy lets pass, in words, for print.
    """

    faults: tuple[EnvironmentFault, ...]
    informed: tuple[str, ...]


def judge_environment(trusted: Trusted, waivers: Bundles, now: datetime) -> Judged:
    """Collect now, in the thread that serves, and judge.

    Raises:
        MalformedArtefact: a waiver does not follow its specification.
    """
    manifest = trusted.manifest
    if manifest.environment is None or manifest.policy is None:
        fault = EnvironmentFault("environment", "is not in the manifest", expected="environment v1", found="none")
        return Judged(faults=(fault,), informed=())
    checked = check_waivers(waivers, WaiverSubject.of(trusted), now)
    differences = judge(manifest.environment, collect(torch_facts()), manifest.policy)
    return Judged(
        faults=tuple(
            d.fault() if d.level == "halt" else change_control_fault(d, checked)
            for d in differences
            if d.level != "inform"
        ),
        informed=tuple(str(d.fault()) for d in differences if d.level == "inform"),
    )
