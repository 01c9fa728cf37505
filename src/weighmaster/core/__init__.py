# SPDX-License-Identifier: Apache-2.0
"""The trusted core: value types and pure functions. Standard library only; no I/O, clock, randomness or environment."""
