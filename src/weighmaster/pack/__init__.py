# SPDX-License-Identifier: Apache-2.0
"""Codec and container of packs: spec/pack.md."""
