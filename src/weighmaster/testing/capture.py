# SPDX-License-Identifier: Apache-2.0
"""What weighing must do for every kind of model that an adapter opens."""

from __future__ import annotations

import ctypes
import hashlib
from typing import Any

from weighmaster.capture.torch_model import TorchModel
from weighmaster.capture.torch_trace import value_digest
from weighmaster.core.compare import compare
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.flows.artefact import Manifest
from weighmaster.flows.snapshots import digest_snapshot
from weighmaster.flows.weigh import as_probe_set, weigh

__all__ = ["CaptureSuite"]


class CaptureSuite:
    """Subclass it, return a freshly loaded model from `make_model`, and run pytest.

    The model must lie in host memory: the suite flips bits of it in place.
    """

    example: Any = "auto"
    """Inputs for the probe set, as `weigh` takes them."""

    def make_model(self) -> Any:
        """Return the module, in evaluation mode, loaded as production loads it."""
        raise NotImplementedError

    def weighed(self, model: Any) -> Manifest:
        """Weigh `model`."""
        return weigh(model, product="suite", version="1", serial=1, example_inputs=self.example)

    def test_every_consumed_byte_is_in_the_table(self) -> None:
        """No storage that an operator reads is left out, and something is consumed at all."""
        coverage = self.weighed(self.make_model()).statement.coverage
        assert coverage is not None
        assert coverage.consumed > 0
        assert coverage.consumed_hashed_bytes == coverage.consumed_bytes
        assert coverage.excluded_bytes == 0

    def test_two_loads_have_one_root(self) -> None:
        """Loading is deterministic, and so are names, forms and digests."""
        first, second = self.weighed(self.make_model()), self.weighed(self.make_model())
        assert first.gate.data == second.gate.data
        assert first.statement.structure == second.statement.structure

    def test_reading_changes_nothing(self) -> None:
        """Outputs and the bytes of all named tensors are the same before and after weighing."""
        model = self.make_model()
        live = TorchModel(model)
        probe = as_probe_set(self.example, live)
        for _ in range(live.warm_ups):
            live.run(probe)
        outputs, memory = [value_digest(t) for t in live.run(probe)], _memory(live)
        self.weighed(model)
        assert [value_digest(t) for t in live.run(probe)] == outputs
        assert _memory(live) == memory

    def test_each_flipped_bit_is_found(self) -> None:
        """One bit of each tensor in turn: the comparison names that tensor and its aliases, and no other."""
        model = self.make_model()
        validated, engine = self.weighed(model).gate, HashlibEngine(threads=1)
        live = TorchModel(model)
        snapshot = live.snapshot(structure=False)
        shared = {view.name: {o.name for o in snapshot.views if _overlap(view, o)} for view in snapshot.views}
        for view in snapshot.views:
            if view.extent is None or not view.nbytes:
                continue
            byte = ctypes.c_ubyte.from_address(view.extent.address + view.nbytes // 2)
            byte.value ^= 4
            found = digest_snapshot(live.snapshot(structure=False), engine, stage="S3", wanted="gate").table
            byte.value ^= 4
            changed = {c.validated.name for c in compare(validated, found).changed}
            assert view.name in changed
            assert changed <= shared[view.name]


def _memory(live: TorchModel) -> dict[str, str]:
    views = live.snapshot(structure=False).views
    return {v.name: hashlib.sha256(v.read(0, v.nbytes)).hexdigest() for v in views if v.nbytes}


def _overlap(a: Any, b: Any) -> bool:
    return bool(a.extent.address < b.extent.stop and b.extent.address < a.extent.stop)
