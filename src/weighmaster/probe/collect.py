# SPDX-License-Identifier: Apache-2.0
"""Unite the facts of all groups with those that the caller read from its runtime."""

from __future__ import annotations

from collections.abc import Iterable

from weighmaster.core.environment import Environment, Fact
from weighmaster.probe.cpu import cpu_facts
from weighmaster.probe.gpu import gpu_facts
from weighmaster.probe.libraries import anonymous_fact, library_facts
from weighmaster.probe.platform_facts import platform_facts
from weighmaster.probe.python_stack import python_facts
from weighmaster.probe.variables import variable_facts

__all__ = ["collect"]


def collect(extra: Iterable[Fact] = ()) -> Environment:
    """Return the environment of this process as it is now; call it after the warm-up, because libraries load lazily.

    Args:
        extra: facts of the runtime, such as `capture.torch_switches.torch_facts()`, read in the thread that serves.

    Raises:
        ValueError: a fact in `extra` has a name that is taken.
    """
    given = tuple(extra)
    # Libraries first: asking NVML maps its library, and asking is not part of what is described.
    groups = (
        library_facts(),
        (anonymous_fact(),),
        cpu_facts(),
        gpu_facts(),
        platform_facts(),
        python_facts(),
        variable_facts(),
    )
    return Environment.of((*(fact for group in groups for fact in group), *given))
