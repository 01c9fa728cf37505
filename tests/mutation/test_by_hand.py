# SPDX-License-Identifier: Apache-2.0
"""What the package says to a mutated index of a pack, tools/unpack_by_hand.py says: a second reading of section 5."""

from __future__ import annotations

import contextlib
import io
import runpy
from itertools import islice
from pathlib import Path

import pytest
from formats import FORMATS, PACK_FILES, index_file

from weighmaster.errors import Faults, WeighmasterError
from weighmaster.flows.pack_verification import verify_pack

TOOL = Path(__file__).parents[2] / "tools" / "unpack_by_hand.py"
EVERY = 12
"""Of the mutations, so many are left out for one that is tried; 1 tries them all."""


def holds(pack: Path) -> bool:
    try:
        verify_pack(pack, threads=1)
    except (Faults, WeighmasterError):
        return False
    return True


@pytest.mark.slow
def test_both_readers_of_an_index_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (form,) = [form for form in FORMATS if form.name == "pack index"]
    main = runpy.run_path(str(TOOL), run_name="by_hand")["main"]
    monkeypatch.setattr("sys.argv", [TOOL.name, str(tmp_path)])
    for path, data in PACK_FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    outcomes = set()
    for mutation in islice(form.mutations(), 0, None, EVERY):
        (tmp_path / "pack.index").write_bytes(index_file(mutation.data, mutation.data))
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == (0 if holds(tmp_path) else 1), (mutation.field, mutation.kind)
        outcomes.add(end.value.code)
    assert outcomes == {0, 1}
