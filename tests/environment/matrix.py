# SPDX-License-Identifier: Apache-2.0
"""The cases of the environment matrix: settings of real child processes, and which facts they must halt on.

``python tests/environment/matrix.py`` writes ``docs/environment-matrix.md`` from them; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

__all__ = ["CASES", "PAGE", "Case", "render"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "environment-matrix.md"

Where = Literal["gate", "torch", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One setting, and what follows from it.

    Attributes:
        name: by which a test and its preparation find the case.
        what: the setting, in the words of the page.
        where: ``gate``: a process asks the gate to admit a torch model. ``torch``: a process with torch makes the
            setting itself and collects. ``plain``: a process with numpy starts under the setting and collects.
        facts: the facts that must be named, all of them; none: it must not halt. ``*`` at the end stands for the rest
            of a name that depends on the build.
        variables: of the process; ``{tmp}`` is the folder that the preparation filled.
        code: run in the process before it collects.
    """

    name: str
    what: str
    where: Where
    facts: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    code: str = ""


def _gate(name: str, what: str, *facts: str, code: str = "", **variables: str) -> Case:
    return Case(name=name, what=what, where="gate", facts=facts, variables=variables, code=code)


def _torch(name: str, what: str, *facts: str, code: str) -> Case:
    return Case(name=name, what=what, where="torch", facts=facts, code=code)


def _plain(name: str, what: str, *facts: str, code: str = "", **variables: str) -> Case:
    return Case(name=name, what=what, where="plain", facts=facts, variables=variables, code=code)


_SITE: Final = "sys.path.insert(0, {tmp!r}); "

CASES: Final = (
    # Whole way: weighed and signed in one process, gated in another.
    _gate("gate-same", "nothing", PYTHONHASHSEED="7"),
    _gate(
        "gate-threads", "`OMP_NUM_THREADS=1`", "env.OMP_NUM_THREADS", "torch.threads.*", OMP_NUM_THREADS="1"
    ),  # torch.threads.intraop, .mkl, .openmp: as many as the build has
    _gate(
        "gate-capability",
        "`ATEN_CPU_CAPABILITY=default`",
        "env.ATEN_CPU_CAPABILITY",
        "torch.cpu.capability",
        ATEN_CPU_CAPABILITY="default",
    ),
    _gate(
        "gate-precision",
        "`torch.set_float32_matmul_precision('medium')`",
        "torch.precision.*",
        code="torch.set_float32_matmul_precision('medium')",
    ),
    _gate(
        "gate-bytecode",
        "bytecode of one module forged, under the right time and size of its source",
        "python.bytecode",
        PYTHONPATH="{tmp}",
    ),
    # Switches of torch, made in a process that has it.
    _torch("sdp-flash", "flash attention off", "torch.sdp.flash", code="torch.backends.cuda.enable_flash_sdp(False)"),
    _torch("sdp-math", "math attention off", "torch.sdp.math", code="torch.backends.cuda.enable_math_sdp(False)"),
    _torch(
        "sdp-order",
        "another order of attention backends",
        "torch.sdp.priority",
        code="torch._C._set_sdp_priority_order([2, 1, 0])",
    ),
    _torch(
        "mha",
        "no fast path of attention",
        "torch.mha.fastpath",
        code="torch.backends.mha.set_fastpath_enabled(False)",
    ),
    _torch("mkldnn", "oneDNN off", "torch.mkldnn.enabled", code="torch.backends.mkldnn.enabled = False"),
    _torch(
        "deterministic",
        "`torch.use_deterministic_algorithms(True)`",
        "torch.deterministic.enabled",
        code="torch.use_deterministic_algorithms(True)",
    ),
    _torch("dtype", "default dtype float64", "torch.default.dtype", code="torch.set_default_dtype(torch.float64)"),
    _torch("denormal", "subnormal numbers flushed", "torch.flush_denormal", code="torch.set_flush_denormal(True)"),
    _torch("threads", "`torch.set_num_threads(1)`", "torch.threads.*", code="torch.set_num_threads(1)"),
    # What a process is started with.
    _plain("variable", "`MKL_CBWR=AVX2`", "env.MKL_CBWR", MKL_CBWR="AVX2"),
    _plain("unknown", "a variable that nobody knows, `OMP_NEW_SWITCH=1`", "env.OMP_NEW_SWITCH", OMP_NEW_SWITCH="1"),
    _plain("tunables", "`GLIBC_TUNABLES`", "env.GLIBC_TUNABLES", GLIBC_TUNABLES="glibc.malloc.check=0"),
    _plain("optimize", "`PYTHONOPTIMIZE=1`", "python.optimize", PYTHONOPTIMIZE="1"),
    _plain(
        "preload",
        "`LD_PRELOAD` of a library with one function",
        "env.LD_PRELOAD",
        "lib.libhook.so",
        LD_PRELOAD="{tmp}/libhook.so",
    ),
    _plain(
        "library-path",
        "`LD_LIBRARY_PATH` with another file in place of the C++ library",
        "lib.libstdc++.so*",
        LD_LIBRARY_PATH="{tmp}",
    ),
    _plain("affinity", "one processor instead of all", "cpu.affinity", code="import os; os.sched_setaffinity(0, {0})"),
    _plain("sitecustomize", "a `sitecustomize` module", "python.sitecustomize", PYTHONPATH="{tmp}"),
    # Files of Python.
    _plain(
        "shadow-standard",
        "`PYTHONPATH` with another `random` of the standard library",
        "python.shadowed",
        code="import random",
        PYTHONPATH="{tmp}",
    ),
    _plain(
        "shadow-numpy",
        "`PYTHONPATH` with a `numpy` that runs the real one after its own line",
        "python.numpy.record",
        PYTHONPATH="{tmp}",
    ),
    _plain(
        "bytecode",
        "a forged `.pyc` of `numpy.version` in `PYTHONPYCACHEPREFIX`",
        "python.bytecode",
        code="assert numpy.version.forged",
        PYTHONPYCACHEPREFIX="{tmp}",
    ),
    _plain(
        "bytecode-standard",
        "a forged `.pyc` of `colorsys`, of the standard library, in `PYTHONPYCACHEPREFIX`",
        "python.bytecode",
        code="import colorsys; assert colorsys.forged",
        PYTHONPYCACHEPREFIX="{tmp}",
    ),
    _plain(
        "sourceless",
        "`safetensors` as bytecode without its source",
        "python.bytecode",
        "python.safetensors.record",
        "lib._safetensors_rust*",  # an extension module outside the folders of installed distributions
        code="import safetensors",
        PYTHONPATH="{tmp}",
    ),
    _plain(
        "swapped-library",
        "one byte more in the extension module of a copied numpy",
        "lib._multiarray_umath*",
        "python.numpy.record",
        PYTHONPATH="{tmp}",
    ),
    _plain("memory-library", "a library that lives in memory only", "lib.memfd:hidden", code="{memfd}"),
    _plain("deleted-library", "a library deleted after it was loaded", "lib.libhook.so", code="{deleted}"),
    # A second virtual environment over the same packages.
    _plain(
        "venv-other-version",
        "another virtual environment, with another version of safetensors",
        "python.safetensors.record",
        "python.safetensors.version",
    ),
    _plain("venv-pth", "another virtual environment, with a `.pth` file that has an `import` line", "python.pth"),
    # What must not halt.
    _plain("venv-same", "another virtual environment, same packages, a `.pth` file with a path"),
    _plain("copied", "numpy copied to another folder, files as they were", PYTHONPATH="{tmp}"),
    _plain("cwd", "another working directory", code="import os; os.chdir('/')"),
    _plain("seed", "`PYTHONHASHSEED=1`", PYTHONHASHSEED="1"),
    _plain("cache", "`PYTHONPYCACHEPREFIX` to an empty folder", PYTHONPYCACHEPREFIX="{tmp}"),
    _plain("home", "`HF_HOME` elsewhere", HF_HOME="{tmp}"),
    _plain("malloc", "`MALLOC_ARENA_MAX=2`", MALLOC_ARENA_MAX="2"),
    _plain("logs", "`TORCH_LOGS=+all`, `NCCL_DEBUG=INFO`", TORCH_LOGS="+all", NCCL_DEBUG="INFO"),
    _plain("locale", "`LANG=C.UTF-8`, `TZ=Asia/Tokyo`", LANG="C.UTF-8", TZ="Asia/Tokyo"),
    _plain("other-imports", "`ssl`, `sqlite3` and `json.tool` imported", code="import ssl, sqlite3, json.tool"),
    _plain("application", "a module of the application that no RECORD lists", code="import app", PYTHONPATH="{tmp}"),
)

_WHERE: Final = {
    "gate": (
        "## Through the gate",
        "A torch model weighed and signed in one process, and admitted, or refused with exit code 12, in another.",
    ),
    "torch": (
        "## Switches of torch",
        "Made in a process with torch, each in a fork of its own, judged against one without it.",
    ),
    "plain": ("## Settings of a process", "A process with numpy under each setting, judged against one without it."),
}

_HEAD: Final = """Generated by `tests/environment/matrix.py` from the cases that \
`tests/environment/test_matrix.py` runs; do not edit. Each case is a real child process. It must halt on exactly the \
facts named here, or not at all. A `*` stands for the rest of a name that depends on the build."""


def render() -> str:
    """Return the page."""
    parts = [part for where, words in _WHERE.items() for part in (*words, _table(c for c in CASES if c.where == where))]
    return "\n\n".join(("# What halts: environments, tried", _HEAD, *parts, _NOT_RUN)) + "\n"


_NOT_RUN: Final = """## Not run

The case with another version of safetensors needs a package index, and is skipped, with a word, where there is none. \
Nothing here has met a GPU: driver, CUDA libraries and NVML are tested with a stand-in only."""


def _table(cases: Iterable[Case]) -> str:
    return "\n".join(("| setting | halts on |", "|---|---|", *_rows(cases)))


def _rows(cases: Iterable[Case]) -> Iterator[str]:
    for case in cases:
        yield f"| {case.what} | {', '.join(f'`{fact}`' for fact in case.facts) or 'does not halt'} |"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
