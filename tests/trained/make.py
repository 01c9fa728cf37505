# SPDX-License-Identifier: Apache-2.0
"""Train the small byte-level Llama that lies beside this file, on the source of Python's standard library.

    python tests/trained/make.py

The checkpoint is committed, so that the tests take no time for it: 115,000 parameters in bfloat16, about 230 kB. A
random model would not do: what quantization does to a trained one is what the tests are about. Text: *.py of the
standard library (PSF licence); the model holds no sentence of it. Held out for the tests: every eighth file.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
STEPS, BATCH, LENGTH = 400, 8, 129


def text(*, held_out: bool) -> np.ndarray:
    """Return the bytes of the library's modules: uint8 [n]."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    chosen = [f for i, f in enumerate(files) if (i % 8 == 7) == held_out]
    return np.frombuffer(b"".join(f.read_bytes() for f in chosen), np.uint8)


def main() -> None:
    """Train and write."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=256,
        max_position_embeddings=256,
        bos_token_id=10,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    data, random = text(held_out=False), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
    for step in range(STEPS):
        at = random.integers(0, len(data) - LENGTH, BATCH)
        tokens = torch.from_numpy(np.stack([data[i : i + LENGTH] for i in at]).astype(np.int64))
        loss = model(input_ids=tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(step, loss.item(), flush=True)
    print("last", loss.item())
    model.to(torch.bfloat16).save_pretrained(HERE)


if __name__ == "__main__":
    main()
