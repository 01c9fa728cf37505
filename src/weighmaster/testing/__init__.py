# SPDX-License-Identifier: Apache-2.0
"""Conformance classes for third parties who write a capture or an engine."""
