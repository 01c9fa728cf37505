# SPDX-License-Identifier: Apache-2.0
"""The matrix is a program of its own (it writes its page): its files lie beside these tests, on the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
