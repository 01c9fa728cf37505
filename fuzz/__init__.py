# SPDX-License-Identifier: Apache-2.0
"""Fuzzers of every parser: ``python -m fuzz`` (see README.md beside this file)."""
