# SPDX-License-Identifier: Apache-2.0
"""The block formats of llama.cpp, by its own quantizer: `llama-quantize` on a file, `ggml_quantize_chunk` on a tensor.

Where every row is a multiple of 256 the model goes through `llama-quantize --pure` as a real GGUF file. Other rows
`llama-quantize` gives to another format than was asked for (Q5_K falls back to Q5_1); this is one row of the results,
and the format asked for is shown by `ggml_quantize_chunk` over the tensor reshaped to rows of 256, labelled so.
Both are built by `get_llama.sh`. Blocks are dequantized by the `gguf` package (its values were compared with those of
ggml's own functions: the same bits in all five formats) and run in torch like all others. Query
and key matrices keep the row order of the checkpoint: llama.cpp permutes whole rows, which no block format notices.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

from peers import Peer, Rebuilt, Tensors, each_matrix

__all__ = ["Llama", "chunk_peer", "file_peer"]

PURE: Final = ("Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
MIXED: Final = ("Q4_K_M", "Q5_K_M")
ROW: Final = 256


class Llama:
    """The programs and libraries of llama.cpp in one directory."""

    def __init__(self, directory: Path, version: str) -> None:
        """Take the directory that holds ``llama-quantize`` and ``libggml-base.so``, and what to call its version."""
        self.version = version
        self._program = directory / "llama-quantize"
        self._chunk = ctypes.CDLL(str(directory / "libggml-base.so")).ggml_quantize_chunk
        self._chunk.restype = ctypes.c_size_t
        pointer, int64 = ctypes.c_void_p, ctypes.c_int64
        self._chunk.argtypes = [ctypes.c_int, pointer, pointer, int64, int64, int64, pointer]

    def quantize_file(self, source: Path, target: Path, kind: str, *options: str) -> None:
        """Run ``llama-quantize`` with one thread."""
        command = [str(self._program), *options, str(source), str(target), kind, "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"llama-quantize {kind}: exit code {done.returncode}: {done.stderr[-400:]}")

    def quantize_rows(self, matrix: np.ndarray, kind: Type) -> np.ndarray:
        """Quantize a float32 matrix row by row; return the blocks, uint8, (rows, bytes)."""
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows, columns = matrix.shape
        if columns % block:
            raise ValueError(f"{kind.name}: rows of {columns} are not whole blocks of {block}")
        source = np.ascontiguousarray(matrix, dtype=np.float32)
        out = np.zeros((rows, columns // block * size), dtype=np.uint8)
        count = self._chunk(int(kind), source.ctypes.data, out.ctypes.data, 0, rows, columns, None)
        if count != out.nbytes:
            raise RuntimeError(f"{kind.name}: {count} bytes written, {out.nbytes} expected")
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One run of ``llama-quantize``: the format, whether for all matrices alike, whether with an importance matrix."""

    kind: str
    pure: bool
    weighted: bool = False

    @property
    def words(self) -> str:
        return " ".join(
            ("llama-quantize", *("--pure",) * self.pure, *("--imatrix FILE",) * self.weighted, self.kind),
        )


_RUNS: Final = (
    *(_Run(kind=kind, pure=True) for kind in PURE),
    *(_Run(kind=kind, pure=False) for kind in MIXED),
    *(_Run(kind=kind, pure=kind not in MIXED, weighted=True) for kind in ("Q4_K", "Q5_K", "Q5_K_M")),
)


def file_peer(llama: Llama, config: Mapping[str, Any], importance: Mapping[str, np.ndarray]) -> Peer:
    """Return the peer that sends a Llama through ``llama-quantize``, in all formats.

    Args:
        llama: its programs.
        config: the model's configuration.
        importance: per matrix the mean square of each of its input columns, on calibration text (llama.cpp's imatrix).
    """

    def run(tensors: Tensors) -> Iterator[Rebuilt]:
        whole = all(tensor.shape[-1] % ROW == 0 for tensor in tensors.values() if tensor.ndim == 2)
        with tempfile.TemporaryDirectory() as name:
            source, weights = Path(name) / "source.gguf", Path(name) / "imatrix.gguf"
            names = write_gguf(source, tensors, config)
            write_imatrix(weights, {gguf_name: importance.get(ours) for gguf_name, ours in names.items()})
            for step in _RUNS:
                target = Path(name) / "target.gguf"
                options = (*("--pure",) * step.pure, *("--imatrix", str(weights)) * step.weighted)
                llama.quantize_file(source, target, step.kind, *options)
                yield _file(llama, target, names, step, whole=whole)
                target.unlink()

    return run


def _file(llama: Llama, path: Path, names: Mapping[str, str], step: _Run, *, whole: bool) -> Rebuilt:
    """Read a quantized file back; the bytes are those of its tensors."""
    tensors: dict[str, torch.Tensor] = {}
    kinds: Counter[str] = Counter()
    nbytes = 0
    for tensor in gguf.GGUFReader(path).tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        values = dequantize(np.array(tensor.data), tensor.tensor_type).astype(np.float32).reshape(shape)
        tensors[names[tensor.name]] = torch.from_numpy(values)
        nbytes += int(tensor.n_bytes)
        kinds[tensor.tensor_type.name] += 1
    del kinds[Type.F32.name]  # the norms
    found = ", ".join(f"{count} of {name}" for name, count in sorted(kinds.items()))
    fell_back = "" if whole or set(kinds) == {step.kind} else ", as llama-quantize falls back"
    return Rebuilt(
        name=f"{step.kind}{', imatrix' * step.weighted}{fell_back}",
        what=f"llama.cpp {llama.version}, `{step.words}`: {found}",
        nbytes=nbytes,
        tensors=tensors,
        calibrated=step.weighted,
    )


def chunk_peer(llama: Llama) -> Peer:
    """Return the peer that calls ``ggml_quantize_chunk`` over each matrix, reshaped to rows of 256 where it must be."""

    def run(tensors: Tensors) -> Iterator[Rebuilt]:
        for name in PURE:
            kind = Type[name]
            rebuilt, nbytes = each_matrix(tensors, lambda _, matrix, kind=kind: _chunked(llama, matrix, kind))
            reshaped = any(_needs_reshaping(tensor.shape[1], kind) for tensor in tensors.values() if tensor.ndim == 2)
            how = ", matrices reshaped to rows of 256" if reshaped else ""
            what = f"llama.cpp {llama.version}, `ggml_quantize_chunk`{how}"
            yield Rebuilt(name=f"{name}{' (reshaped)' * reshaped}", what=what, nbytes=nbytes, tensors=rebuilt)

    return run


def _needs_reshaping(columns: int, kind: Type) -> bool:
    return columns % gguf.GGML_QUANT_SIZES[kind][0] != 0


def _chunked(llama: Llama, matrix: torch.Tensor, kind: Type) -> tuple[torch.Tensor, int]:
    """Quantize one matrix; what is left over of the last row of 256 is filled with zeros, and its bytes are counted."""
    array = matrix.numpy()
    if _needs_reshaping(array.shape[1], kind):
        flat = array.reshape(-1)
        array = np.pad(flat, (0, -len(flat) % ROW)).reshape(-1, ROW)
    blocks = llama.quantize_rows(array, kind)
    values = dequantize(blocks, kind).astype(np.float32).reshape(-1)[: matrix.numel()]
    return torch.from_numpy(values).reshape(matrix.shape), blocks.nbytes


def write_gguf(path: Path, tensors: Tensors, config: Mapping[str, Any]) -> dict[str, str]:
    """Write a Llama as a float32 GGUF file without a tokenizer; return checkpoint names by GGUF names."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    names: dict[str, str] = {}
    for name, tensor in tensors.items():
        renamed = known.get_name(name, try_suffixes=(".weight", ".bias"))
        if renamed is None:
            raise ValueError(f"{name}: GGUF has no name for it in a Llama")
        names[renamed] = name
        writer.add_tensor(renamed, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return names


def write_imatrix(path: Path, importance: Mapping[str, np.ndarray | None]) -> None:
    """Write an importance matrix file of llama.cpp: sums of squares and counts, here one mean and a count of one."""
    writer = gguf.GGUFWriter(path, "")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["calibration tokens"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 1)
    for name, squares in importance.items():
        if squares is not None:
            writer.add_tensor(f"{name}.in_sum2", squares.astype(np.float32).reshape(1, -1))
            writer.add_tensor(f"{name}.counts", np.ones((1, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def config_of(directory: Path) -> dict[str, Any]:
    """Read the configuration of a Hugging Face directory."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config
