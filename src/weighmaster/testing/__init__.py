# SPDX-License-Identifier: Apache-2.0
"""Conformance classes for third parties: subclass one in your tests and inherit its checks (needs pytest)."""

from weighmaster.testing.capture import CaptureSuite
from weighmaster.testing.codec import CodecSuite
from weighmaster.testing.engine import EngineSuite

__all__ = ["CaptureSuite", "CodecSuite", "EngineSuite"]
