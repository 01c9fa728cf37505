# SPDX-License-Identifier: Apache-2.0
"""Arrays as the tensors of a checkpoint."""

import numpy as np

from weighmaster.core.tensor import TensorView, row_major


def view(values, dtype="float32", name="w"):
    """Return float32 values, cut or rounded to a dtype, as a tensor that can be read by ranges."""
    values = np.ascontiguousarray(values, np.float32)
    if dtype == "bfloat16":
        data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    else:
        data = values.astype({"float16": "<f2", "float32": "<f4"}[dtype]).tobytes()
    return TensorView(
        name=name,
        dtype=dtype,
        shape=values.shape,
        stride=row_major(values.shape),
        nbytes=len(data),
        layout="canonical",
        role="file",
        extent=None,
        read=lambda start, stop: memoryview(data)[start:stop],
    )
