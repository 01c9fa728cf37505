# SPDX-License-Identifier: Apache-2.0
"""The part of the build that pyproject.toml has no words for: the codec of packs in C (docs/decisions/0001).

Optional: where no compiler is, the package installs without it, decodes with NumPy, and says so.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup

# No debug information: it would hold the folder of the build. -O3 is what the loops are written for.
FLAGS = [] if sys.platform == "win32" else ["-std=c11", "-O3", "-g0", "-fvisibility=hidden"]
SOURCES = sorted(str(path) for path in Path("native").glob("*.c"))

setup(
    ext_modules=[
        Extension(
            "weighmaster.pack._native",
            sources=SOURCES,
            depends=sorted(str(path) for path in Path("native").glob("*.h")),
            extra_compile_args=FLAGS,
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
