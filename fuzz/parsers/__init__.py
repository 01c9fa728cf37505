# SPDX-License-Identifier: Apache-2.0
"""One file per parser: ``SEEDS`` and ``one(data)``; the driver finds them by their names."""
