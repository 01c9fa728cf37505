# SPDX-License-Identifier: Apache-2.0
"""Code digests say what code does, not where it stands."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch

from weighmaster.capture import torch_code
from weighmaster.capture.torch_code import class_binding, class_functions, code_digest, function_table


def compiled(source: str, name: str = "f", file: str = "a.py", **scope: Any) -> types.FunctionType:
    space: dict[str, Any] = {"__name__": "made", **scope}
    exec(compile(source, file, "exec"), space)
    return space[name]


def digest(source: str, **keywords: Any) -> str:
    return code_digest(compiled(source, **keywords).__code__)


def test_file_names_and_line_numbers_do_not_matter() -> None:
    assert digest("def f(x): return x + 1") == digest("\n\n\ndef f(x): return x + 1", file="b.py")


@pytest.mark.parametrize(
    "other",
    [
        "def f(x): return x + 2",
        "def f(x): return x - 1",
        "def f(x): return x + 1.0",
        "def f(x): return x + True",
        "def f(*, x): return x + 1",
        "def f(x): return y + 1",
        "def f(x):\n try:\n  return x + 1\n except ValueError: pass",
    ],
)
def test_any_other_code_has_another_digest(other: str) -> None:
    assert digest(other) != digest("def f(x): return x + 1")


def test_a_change_deep_in_nested_code_counts() -> None:
    assert digest("def f():\n def g():\n  return lambda: 0.5\n") != digest(
        "def f():\n def g():\n  return lambda: 0.25\n"
    )
    assert digest("def f(x): return x == -0.0") != digest("def f(x): return x == 0.0")
    assert digest("def f(x): return x in {1, 2}") != digest("def f(x): return x in {1, 3}")


def test_the_digest_is_the_same_in_processes_with_other_hash_seeds() -> None:
    script = (
        "from weighmaster.capture.torch_code import code_digest\n"
        "def f(x): return x in {'a', 'b', 'c', 'd', 1.5, None, (1, 'z')}\n"
        "print(code_digest(f.__code__))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_functions_are_followed_through_globals_modules_and_cells() -> None:
    inner = compiled("def inner(): return 1", name="inner")
    module = types.ModuleType("m")
    module.deep = inner  # type: ignore[attr-defined]
    outer = compiled("def f(): return m.deep()", m=module)
    assert set(function_table(iter([outer]))) == {"made.f", "made.inner"}
    cell = compiled("def make(g):\n def f(): return g()\n return f", name="make")(inner)
    assert "made.inner" in function_table(iter([cell]))


def test_two_functions_of_one_name_make_one_digest_of_both() -> None:
    a, b = compiled("def f(): return 1"), compiled("def f(): return 2")
    both = function_table(iter([a, b]))["made.f"]
    assert both == function_table(iter([b, a]))["made.f"]
    assert both not in (function_table(iter([a]))["made.f"], function_table(iter([b]))["made.f"])


def test_default_values_are_part_of_a_function() -> None:
    a, b = compiled("def f(x=1): return x"), compiled("def f(x=2): return x")
    assert code_digest(a.__code__) == code_digest(b.__code__)
    assert function_table(iter([a])) != function_table(iter([b]))


def test_autograd_functions_are_followed() -> None:
    class Op(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x

    table = function_table(iter([compiled("def f(x): return Op.apply(x)", Op=Op)]))
    assert any(name.endswith("Op.forward") for name in table)


def test_layers_of_torch_are_followed_to_what_they_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def evil(*_a: Any) -> None: ...

    monkeypatch.setattr(torch.nn.functional, "linear", evil)
    table = function_table(class_functions(torch.nn.Linear))
    assert any(name.endswith("<locals>.evil") for name in table)


def test_too_many_functions_stop_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_code, "_MAX_FUNCTIONS", 3)
    made: list[Callable[..., Any]] = [compiled(f"def f{i}(): return {i}", name=f"f{i}") for i in range(5)]
    with pytest.raises(RuntimeError, match="more than 3 functions reachable from one model"):
        function_table(iter(made))  # type: ignore[arg-type]


def test_class_functions_include_properties_static_and_class_methods() -> None:
    class Base:
        def inherited(self) -> None: ...

    class Child(Base):
        @property
        def prop(self) -> None: ...
        @staticmethod
        def static() -> None: ...
        @classmethod
        def cls(cls) -> None: ...

    found = {f.__name__ for f in class_functions(Child)}
    assert found == {"inherited", "prop", "static", "cls"}
    assert "prop=" in class_binding(Child)
    assert "inherited" not in class_binding(Child)
