# SPDX-License-Identifier: Apache-2.0
"""Signatures over opaque bytes, and what the verifier trusts (spec/seal.md). Knows nothing of what the bytes say."""
