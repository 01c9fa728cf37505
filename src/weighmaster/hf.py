# SPDX-License-Identifier: Apache-2.0
"""Load packs with transformers: ``import weighmaster.hf`` registers the quantization method ``weighmaster``.

Example::

    import weighmaster.hf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with weighmaster.hf.trusting("trust.json", roots=PIN, expect="triage-summary"):
        model = AutoModelForCausalLM.from_pretrained("model.pack", dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained("model.pack")

Every tensor is rebuilt and compared with its digest before it becomes a parameter, other files before they are opened.
Outside of `trusting` a pack is only consistent: its origin is not checked, and code that it brings is never run. With
``trust_remote_code=True`` inside of it, code of a trusted pack is run, and no other code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weighmaster.capture.hf_directory import judged
from weighmaster.capture.hf_hooks import install
from weighmaster.capture.hf_quantizer import METHOD, LoadedPack, PackConfig, loaded_from
from weighmaster.flows.clock import wall_clock
from weighmaster.flows.mark import MarkFile
from weighmaster.flows.pack_seal import open_trusted_pack
from weighmaster.flows.trusted import read_trust
from weighmaster.pack.reader import Pack
from weighmaster.seal.trust_chain import VerifiedTrust

__all__ = ["METHOD", "LoadedPack", "PackConfig", "loaded_from", "trusting"]

install()


@contextmanager
def trusting(
    trust: VerifiedTrust | Path | str, *, roots: str | None = None, expect: str, mark: Path | str | None = None
) -> Iterator[None]:
    """Load packs only if they are sealed by whom they must be, in this context (of a thread or task).

    Args:
        trust: trust file, or one that was verified already.
        roots: fingerprint of the roots at which the trust file must begin.
        expect: the product that is deployed here.
        mark: high-water mark of a gate: nothing older than it is loaded; it is read, not raised.

    Raises:
        UsageError: the trust file is missing, or the pin is.
        MalformedArtefact: a file does not follow its specification.
        NotAdmitted: the trust file does not hold; and from within the context: a pack is not trusted.
    """
    verified = read_trust(trust, roots, wall_clock())
    kept = None if mark is None else MarkFile(mark)

    def judge(pack: Pack) -> str:
        found = open_trusted_pack(pack, verified, expect, now=wall_clock(), mark=kept)
        persons = ", ".join(sorted({s.person for s in found.signers}))
        statement = found.statement
        return f"{statement.product} {statement.version}, serial {statement.serial}, signed by {persons}"

    with judged(judge):
        yield
