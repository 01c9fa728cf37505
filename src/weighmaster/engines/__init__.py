# SPDX-License-Identifier: Apache-2.0
"""Digest engines: one file per way to compute tensor-digest v1. `hashlib_engine` is the reference and the FIPS path."""
