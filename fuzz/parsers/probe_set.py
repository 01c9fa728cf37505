# SPDX-License-Identifier: Apache-2.0
"""capture.probe_set.parse_probe_set; an input that begins with { gets the length of its header put before it."""

from __future__ import annotations

import json

from fuzz.harness import ROOT, refused_or_read, require
from weighmaster.capture.probe_set import parse_probe_set

JSON = True
SEEDS = ("vectors/manifest/live/manifest/probe-set.safetensors",)
_WHOLE = (ROOT / SEEDS[0]).read_bytes()
_PLANS = (
    (
        '{"calls":[{"args":[{"list":[{"value":1},{"dict":{"a":{"tensor":"t"}}}]}],"kwargs":{"k":{"past":true}}}],'
        '"kind":"given","scheme":"probe-set-v1","seed":-1}'
    ),
    '{"calls":[],"kind":"given","scheme":"probe-set-v1","seed":-1}',
    '{"calls":[{"args":[{"tensor":{}}],"kwargs":{}}],"kind":"given","scheme":"probe-set-v1","seed":-1}',
)
INPUTS = (
    _WHOLE[8:],
    *(
        json.dumps(
            {
                "__metadata__": {"probe-set": plan},
                "t": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]},
                "u": {"dtype": "F8_E8M0", "shape": [0], "data_offsets": [2, 2]},
            }
        ).encode()
        + b"\1\2"
        for plan in _PLANS
    ),
)


def one(data: bytes) -> None:
    """What is accepted is written, and what was written is read as what would be written again."""
    probe_set = refused_or_read(_framed(data), lambda d: parse_probe_set(d, "file").to_bytes())
    if probe_set is not None:
        again = parse_probe_set(probe_set, "file").to_bytes()
        require(again == probe_set, "what was written is read as something else")


def _framed(data: bytes) -> bytes:
    if not data.startswith(b"{"):
        return data
    try:
        _, end = json.JSONDecoder().raw_decode(data.decode("latin-1"))
    except (ValueError, RecursionError):
        end = len(data)
    return end.to_bytes(8, "little") + data
