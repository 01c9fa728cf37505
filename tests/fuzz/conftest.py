# SPDX-License-Identifier: Apache-2.0
"""The fuzzers are no part of the package: their folder's parent goes on the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
