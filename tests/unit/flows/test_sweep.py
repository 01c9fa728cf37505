# SPDX-License-Identifier: Apache-2.0
"""A sweep of a small model: figures, crash, time limit, resume, tampered results, nondeterminism."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from weighmaster.capture import sweep_worker
from weighmaster.core.canonical import loads_canonical
from weighmaster.core.environment import Environment, Fact
from weighmaster.core.sweep import Result, propose_policy
from weighmaster.errors import AnswerFault, MalformedArtefact, UsageError
from weighmaster.flows.sweep import Ended, Sweep, run_child, sweep
from weighmaster.flows.sweep_report import document, markdown, write_report
from weighmaster.flows.sweep_run import read_run
from weighmaster.probe.variables import variable_facts

TRAINED = str(Path(__file__).parents[2] / "trained")
TINY = "sweep_models:tiny"
MODELS = """
import itertools, os, torch
counter = itertools.count()

def tiny():
    torch.manual_seed(0)
    layers = torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.LayerNorm(32), torch.nn.Linear(32, 4)
    if os.environ.get("MKL_CBWR") == "COMPATIBLE":
        layers[3].weight.data[0, 0] += 0.5
    return torch.nn.Sequential(*layers).eval()

class Narrows(torch.nn.Module):
    def forward(self, x):
        return x.type("torch.FloatTensor").to(x)

def narrowing():
    return torch.nn.Sequential(tiny(), Narrows()).eval()

def training():
    return tiny().train()

def other():
    model = tiny()
    model[0].weight.data[0, 0] += 1.0
    return model

def drifting():
    model = tiny()
    model[3].bias.data[0] += next(counter)
    return model

def crashing():
    os.kill(os.getpid(), 11)

def infinite():
    model = tiny()
    model[3].bias.data[0] = float("nan")
    return model
"""


def _collect(facts: Iterable[Fact]) -> Environment:
    """Return what changes from one configuration to another here; files are hashed by the real child below."""
    variables = [f for f in variable_facts() if not f.name.startswith("env.start")]
    return Environment.of((*variables, *facts))


class InProcess:
    """Runs the worker here: what a child does, without its start. `endings` replace a configuration's process."""

    def __init__(self, **endings: Ended) -> None:
        self.endings = {name.replace("_", "=", 1): ending for name, ending in endings.items()}
        self.ran: list[str] = []

    def __call__(self, arguments: Sequence[str], variables: Mapping[str, str], timeout: float) -> Ended:
        assert timeout > 0
        self.ran.append(arguments[1])
        if arguments[1] in self.endings:
            return self.endings[arguments[1]]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            said: list[str] = []
            patch.setattr(sweep_worker, "collect", _collect)
            patch.setattr(sys.stderr, "write", lambda text: said.append(text) or len(text))
            code = sweep_worker.main(arguments)
        return Ended(code=code, stderr="".join(said))


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "sweep_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MKL_CBWR", raising=False)
    yield
    sys.modules.pop("sweep_models", None)


def by_name(swept: Sweep) -> dict[str, Result]:
    return {result.configuration: result for result in swept.results}


ONLY = ("mkl-cbwr=COMPATIBLE", "mkl-cbwr=AVX2", "attention=eager")


def test_figures_facts_and_reasons(tmp_path: Path) -> None:
    swept = sweep(TINY, tmp_path / "out", only=ONLY, run=InProcess())
    found = by_name(swept)
    flipped = found["mkl-cbwr=COMPATIBLE"]
    assert (flipped.status, flipped.level) == ("changed", "halt")
    # One weight of the last layer: the first of four outputs, in batches of 1 and 2.
    assert [(c.changed, c.elements) for c in flipped.cases] == [(1, 4), (2, 8)]
    assert flipped.first is not None
    assert (flipped.first.index, flipped.first.of, flipped.first.module) == (3, 4, "3")
    assert flipped.first.subsystem.startswith("GEMM library")
    assert [c.name for c in flipped.facts] == ["env.MKL_CBWR"]
    assert found["mkl-cbwr=AVX2"].status == "same"
    assert [c.name for c in found["mkl-cbwr=AVX2"].facts] == ["env.MKL_CBWR"]
    assert (found["attention=eager"].status, found["attention=eager"].reason) == (
        "not-run",
        "the model has no attention backend to choose",
    )
    assert found["dtype=float64"].first is not None
    assert found["dtype=float64"].first.index == 0  # another dtype from the first module on
    assert swept.narrow == ()
    (rule,) = propose_policy(swept.results, "sweep").rules
    assert (rule.fact, rule.on_diff) == ("env.MKL_CBWR", "halt")


def test_a_causal_model_is_prefilled_and_decodes_and_its_float64_run_is_one(tmp_path: Path) -> None:
    swept = sweep(TRAINED, tmp_path / "out", only=["batch-row"], run=InProcess())
    assert swept.cases == (
        *("prefill-1", "prefill-3", "prefill-5", "prefill-48"),
        *("decode-batch-1", "decode-batch-2", "decode-batch-4"),
    )
    assert swept.narrow == ()  # the norms of Llama ask for float32 whatever the model is in, and do not get it
    assert "is not float64 throughout" not in markdown(swept, "")
    row = by_name(swept)["batch-row"]
    assert [c.elements for c in row.cases] == [256, 768, 1280, 12288, 3072, 6144, 12288]
    assert all(c.distance for c in row.cases)


def test_operators_that_stay_narrow_in_the_float64_run_are_told(tmp_path: Path) -> None:
    swept = sweep("sweep_models:narrowing", tmp_path / "out", only=["dtype=float64"], run=InProcess())
    assert "aten._to_copy.default" in swept.narrow
    assert "is not float64 throughout" in markdown(swept, "")


def test_a_crash_and_a_time_limit_are_results_and_are_kept(tmp_path: Path) -> None:
    crash, late = Ended(code=-11, stderr=""), Ended(code=None, stderr="")
    endings = {"mkl-cbwr_COMPATIBLE": crash, "mkl-cbwr_AVX2": late, "attention_eager": Ended(code=1, stderr="a\nbad\n")}
    swept = sweep(TINY, tmp_path / "out", only=ONLY, timeout=7, run=InProcess(**endings))
    found = by_name(swept)
    assert {n: found[n].reason for n in ONLY} == {
        "attention=eager": "exit code 1: bad",
        "mkl-cbwr=AVX2": "not finished after 7 s",
        "mkl-cbwr=COMPATIBLE": "killed by SIGSEGV",
    }
    assert {found[n].status for n in ONLY} == {"failed"}
    again = InProcess()
    resumed = sweep(TINY, tmp_path / "out", only=ONLY, timeout=7, run=again)
    assert again.ran == ["baseline", "baseline"]
    assert resumed.results == swept.results
    assert set(resumed.kept) == {*ONLY, "dtype=float64"}


def test_a_sweep_that_was_cut_off_goes_on_where_it_ended(tmp_path: Path) -> None:
    class Cut(InProcess):
        def __call__(self, arguments: Sequence[str], variables: Mapping[str, str], timeout: float) -> Ended:
            if arguments[1] == "mkl-cbwr=AVX2":
                raise KeyboardInterrupt
            return super().__call__(arguments, variables, timeout)

    with pytest.raises(KeyboardInterrupt):
        sweep(TINY, tmp_path / "out", only=ONLY[:2], run=Cut())
    again = InProcess()
    swept = sweep(TINY, tmp_path / "out", only=ONLY[:2], run=again)
    assert again.ran == ["baseline", "baseline", "mkl-cbwr=AVX2"]
    assert swept.kept == ("dtype=float64", "mkl-cbwr=COMPATIBLE")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"status":"ok"', b'"status":"no"'))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def _swap(path: Path) -> None:
    path.write_bytes(path.with_name("dtype=float64" + path.suffix).read_bytes())


@pytest.mark.parametrize(
    ("suffix", "spoil"),
    [
        (".safetensors", _flip),
        (".safetensors", _truncate),
        (".safetensors", _swap),
        (".safetensors", Path.unlink),
        (".json", _edit),
        (".json", _truncate),
        (".json", _swap),
    ],
)
def test_a_tampered_result_is_refused_and_run_again(tmp_path: Path, suffix: str, spoil: object) -> None:
    assert callable(spoil)
    first = sweep(TINY, tmp_path / "out", only=["mkl-cbwr=COMPATIBLE"], run=InProcess())
    spoil(tmp_path / "out" / "results" / f"mkl-cbwr=COMPATIBLE{suffix}")
    again = InProcess()
    swept = sweep(TINY, tmp_path / "out", only=["mkl-cbwr=COMPATIBLE"], run=again)
    assert again.ran == ["baseline", "baseline", "mkl-cbwr=COMPATIBLE"]
    assert swept.results == first.results


@pytest.mark.parametrize(("model", "timeout"), [("sweep_models:other", 600), (TINY, 60)])
def test_results_of_another_model_or_other_arguments_are_foreign(tmp_path: Path, model: str, timeout: float) -> None:
    sweep(TINY, tmp_path / "out", only=["mkl-cbwr=AVX2"], run=InProcess())
    again = InProcess()
    swept = sweep(model, tmp_path / "out", only=["mkl-cbwr=AVX2"], timeout=timeout, run=again)
    assert again.ran == ["baseline", "baseline", "dtype=float64", "mkl-cbwr=AVX2"]
    assert swept.kept == ()


def test_other_weights_under_the_same_name_are_foreign(tmp_path: Path) -> None:
    sweep(TINY, tmp_path / "out", only=["mkl-cbwr=AVX2"], run=InProcess())
    (tmp_path / "sweep_models.py").write_text(MODELS.replace("manual_seed(0)", "manual_seed(10)"))
    sys.modules.pop("sweep_models")
    assert sweep(TINY, tmp_path / "out", only=["mkl-cbwr=AVX2"], run=InProcess()).kept == ()


def test_two_baselines_that_differ_end_the_sweep(tmp_path: Path) -> None:
    runner = InProcess()
    with pytest.raises(
        AnswerFault, match=r"call-0: nondeterministic: two runs .* expected [0-9a-f]{64}, found"
    ) as caught:
        sweep("sweep_models:drifting", tmp_path / "out", run=runner)
    assert caught.value.exit_code == 15
    assert runner.ran == ["baseline", "baseline"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("sweep_models:training", r"baseline cannot be run: exit code 2: .*is in training mode"),
        ("sweep_models:infinite", r"baseline's outputs of case call-0 are not finite"),
        ("sweep_models:none", r"baseline cannot be run: exit code 2: .*none"),
    ],
)
def test_a_baseline_that_cannot_be_compared_with_is_refused(tmp_path: Path, model: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sweep(model, tmp_path / "out", run=InProcess())


def test_an_unknown_name_and_no_time_are_refused_before_anything_runs(tmp_path: Path) -> None:
    runner = InProcess()
    with pytest.raises(UsageError, match="no such configuration: threads=x"):
        sweep(TINY, tmp_path / "out", only=["threads=x"], run=runner)
    with pytest.raises(UsageError, match="seconds above 0, found 0"):
        sweep(TINY, tmp_path / "out", timeout=0, run=runner)
    assert runner.ran == []


def test_a_result_that_the_worker_did_not_write_whole_is_a_failure(tmp_path: Path) -> None:
    swept = sweep(
        TINY, tmp_path / "out", only=ONLY[:1], run=InProcess(**{"mkl-cbwr_COMPATIBLE": Ended(code=0, stderr="")})
    )
    assert by_name(swept)[ONLY[0]].reason.startswith("its result cannot be read: ")


def test_the_run_of_another_configuration_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    assert sweep_worker.main((TINY, "baseline", str(out))) == 0
    with pytest.raises(MalformedArtefact, match=r"configuration: expected threads=1, found baseline"):
        read_run(out.read_bytes(), out.name, "threads=1")
    with pytest.raises(MalformedArtefact):
        read_run(out.read_bytes()[:-8], out.name, "baseline")


def test_a_worker_without_its_variable_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep_worker.main((TINY, "mkl-cbwr=COMPATIBLE", str(tmp_path / "x"))) == 2
    assert "MKL_CBWR is not COMPATIBLE in this process" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_configurations_are_not_run_without_one(tmp_path: Path) -> None:
    swept = sweep(TINY, tmp_path / "out", only=["tf32=on"], run=InProcess())
    found = by_name(swept)
    assert {found[n].status for n in ("device=cuda", "tf32=on")} == {"not-run"}
    assert "| `tf32=on` | device=cuda | NOT RUN: torch sees no CUDA device |" in markdown(swept, "")


def test_the_report_is_canonical_and_complete(tmp_path: Path) -> None:
    out = tmp_path / "out"
    swept = sweep(TINY, out, only=ONLY, run=InProcess())
    names = write_report(swept, out)
    assert {"sweep.json", "sweep.md"} <= set(names)
    read = loads_canonical((out / "sweep.json").read_bytes(), "sweep.json")
    assert read == json.loads(json.dumps(document(swept)))
    assert [r["configuration"] for r in read["results"]] == [r.configuration for r in swept.results]
    text = (out / "sweep.md").read_text()
    assert "3 of 12 (25.0%)" in text
    assert "- `mkl-cbwr=COMPATIBLE`: env.MKL_CBWR: absent → 'COMPATIBLE'" in text


def test_the_heat_map_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    picture = pytest.importorskip("weighmaster.flows.sweep_picture", exc_type=ImportError)
    swept = sweep(TINY, tmp_path / "out", only=ONLY, run=InProcess())
    svg = picture.heat_map(swept)
    assert svg.startswith(b"<?xml")
    assert svg == picture.heat_map(swept)


def test_without_matplotlib_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept = sweep(TINY, tmp_path / "out", only=ONLY[:1], run=InProcess())
    monkeypatch.setitem(sys.modules, "weighmaster.flows.sweep_picture", None)
    assert write_report(swept, tmp_path / "out") == ("sweep.json", "sweep.md")
    assert "no heat map: matplotlib is not installed" in (tmp_path / "out" / "sweep.md").read_text()


def test_a_child_gets_its_variables_and_leaves_its_result(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    ended = run_child((TINY, "mkl-cbwr=COMPATIBLE", str(path)), {"MKL_CBWR": "COMPATIBLE"}, 300)
    assert ended == Ended(code=0, stderr=ended.stderr)
    run = read_run(path.read_bytes(), path.name, "mkl-cbwr=COMPATIBLE")
    assert [f.value for f in run.environment.facts if f.name == "env.MKL_CBWR"] == ["COMPATIBLE"]
    assert "MKL_CBWR" not in os.environ


def test_the_signal_that_ended_a_child_is_known(tmp_path: Path) -> None:
    assert run_child(("sweep_models:crashing", "baseline", str(tmp_path / "x")), {}, 300).code == -11
    assert not (tmp_path / "x").exists()


def test_a_child_past_its_time_is_ended(tmp_path: Path) -> None:
    assert run_child((TINY, "baseline", str(tmp_path / "x")), {}, 0.05).code is None
    assert not (tmp_path / "x").exists()
