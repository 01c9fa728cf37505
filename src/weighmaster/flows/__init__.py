# SPDX-License-Identifier: Apache-2.0
"""The use cases: the only place where capture, engines, seal and probe meet."""
