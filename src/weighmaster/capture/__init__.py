# SPDX-License-Identifier: Apache-2.0
"""The only importers of runtimes: one file per runtime or step, each opening live tensors or files for the digest."""
