# SPDX-License-Identifier: Apache-2.0
"""Name every tensor that a torch module holds, and every fact that is not a tensor (``torch-names-v1``, structure v1).

The walk covers parameters, buffers (non-persistent too), tensor subclasses, and plain Python state reachable from
modules: attributes, dataclasses, slots, lists, dicts, numpy arrays, partials, cells of callables and hooks, attributes
of tensors. It only reads: no ``state_dict()``, no ``.to()``, no property of a module is evaluated.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import functools
import types
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.nn.modules import module as torch_module

from weighmaster.capture.kernel_choice import attention_choices
from weighmaster.capture.torch_code import class_binding, class_functions, code_digest, function_table, qualified_name
from weighmaster.capture.torch_guard import is_guard
from weighmaster.capture.torch_parts import parts_of
from weighmaster.capture.torch_plain import is_opaque, long_value, plain_text
from weighmaster.capture.torch_script import compiled_constants, graph_text, script_constants
from weighmaster.core.structure import StructureFact
from weighmaster.errors import Fault, StageFault

__all__ = ["LEFT_OUT", "MAX_DEPTH", "Held", "Walk", "walk"]

MAX_DEPTH: Final = 64
"""Steps from a module into its plain state; deeper nesting is a fault, never a silent stop."""

LEFT_OUT: Final[dict[str, str]] = {
    "_name_or_path": "where the model was loaded from; the files are in the sources by digest",
    "name_or_path": "as _name_or_path",
    "_commit_hash": "as _name_or_path",
    "_original_object_hash": "hash() of a configuration at loading, seeded anew in each process",
    "warnings_issued": "counts warnings that were printed",
    "_non_persistent_buffers_set": "is in the role of each buffer",
    "_forward_hooks_always_called": "bookkeeping of _forward_hooks, by process-wide ids",
    "_forward_hooks_with_kwargs": "bookkeeping of _forward_hooks, by process-wide ids",
    "_forward_pre_hooks_with_kwargs": "bookkeeping of _forward_pre_hooks, by process-wide ids",
}
"""Attributes that are not in the structure, each with its reason (closed list of structure v1)."""

_GRAPH_INTERNALS: Final = frozenset(
    {
        "_code",
        "_graph",
        "_in_spec",
        "_lineno_map",
        "_out_spec",
        "_prologue_start",
        "_tracer_cls",
        "_tracer_extras",
        "meta",
        "range_constraints",
        "shape_env",
    }
)
"""Attributes of torch.fx.GraphModule that describe its graph; the graph is one fact instead."""

_MODULE_TABLES: Final = frozenset({"_parameters", "_buffers", "_modules"})
_HOOK_TABLES: Final = frozenset(
    {
        "_backward_hooks",
        "_backward_pre_hooks",
        "_forward_hooks",
        "_forward_pre_hooks",
        "_load_state_dict_post_hooks",
        "_load_state_dict_pre_hooks",
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
    }
)
_GLOBAL_HOOKS: Final = (
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
    "_global_buffer_registration_hooks",
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
)
_PLAIN_TENSORS: Final = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A tensor that the model holds: its name, its role (manifest v1), and the plain dense tensor itself."""

    name: str
    role: str
    tensor: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What one walk found.

    Attributes:
        held: named tensors, in the order of the walk.
        facts: structure facts of the walk, sorted.
        faults: what could not be named or read.
        training: paths of modules in training mode.
    """

    held: tuple[Held, ...]
    facts: tuple[StructureFact, ...]
    faults: tuple[Fault, ...]
    training: tuple[str, ...]


def walk(model: torch.nn.Module, extra: Mapping[str, Any] | None = None, *, structure: bool = True) -> Walk:
    """Walk `model` and the caller's `extra` tensors (name to tensor, or to any state that holds tensors).

    Args:
        model: the live module.
        extra: what kernels consume and no walk of the module reaches.
        structure: whether code is digested; without it the facts are incomplete (used between two structure checks).
    """
    walker = _Walker(model, structure=structure)
    walker.module(model, "")
    for name, value in sorted((extra or {}).items()):
        walker.role_of_state = "extra"
        walker.value(value, name, 0)
    if structure:
        walker.finish()
    return walker.result()


class _Walker:
    """The state of one walk. Each method takes a thing and the name under which it was reached."""

    def __init__(self, root: torch.nn.Module, *, structure: bool) -> None:
        self.root = root
        self.paths = {id(m): path for path, m in root.named_modules(remove_duplicate=True)}
        self.done: dict[int, str] = {}
        self.keep: list[object] = []  # objects made by getters, kept alive so that their ids stay theirs
        self.held: list[Held] = []
        self.facts: dict[tuple[str, str], str] = {}
        self.faults: list[Fault] = []
        self.functions: list[types.FunctionType] = []
        self.classes: set[type] = set()
        self.training: list[str] = []
        self.structure = structure
        self.role_of_state = "attribute"

    def result(self) -> Walk:
        facts = (StructureFact(path=p, kind=k, value=v) for (p, k), v in self.facts.items())
        ordered = sorted(facts, key=lambda f: (f.path.encode("utf-8", "surrogatepass"), f.kind))
        return Walk(
            held=tuple(self.held),
            facts=tuple(ordered),
            faults=tuple(self.faults),
            training=tuple(self.training),
        )

    def fact(self, path: str, kind: str, value: str) -> None:
        """Record a fact; a second one under the same path and kind is joined, so that neither hides the other."""
        before = self.facts.get((path, kind))
        self.facts[(path, kind)] = long_value(value if before is None else f"{before} | {value}")

    # -- modules ------------------------------------------------------------------------------------------------------

    def module(self, module: torch.nn.Module, path: str, *, fixed: bool = False) -> None:
        """Record a module: class, mode (unless `fixed` by a graph above it), tensors, hooks, plain state, children."""
        if id(module) in self.done:
            self.fact(path, "class", f"the module at {self.done[id(module)]!r}")
            self._tied(module, path)
            return
        self.done[id(module)] = path
        self.fact(path, "class", qualified_name(type(module)))
        self.classes.add(type(module))
        if isinstance(module, torch.jit.ScriptModule):
            self._scripted(module, path)
            return
        # torch.export fixes the mode in the graph, leaves the flags as they were, and replaces eval() by an error.
        exported = isinstance(module, torch.fx.GraphModule) and "eval" in vars(module)
        fixed = (fixed or exported) and _without_mode(module)
        self.fact(path, "training", "fixed in the graph" if fixed else str(module.training).lower())
        if module.training and not fixed:
            self.training.append(path)
        self._tensors(module, path)
        self._state(module, path)
        for name, child in module._modules.items():
            if child is not None:
                self.module(child, _join(path, name), fixed=fixed)

    def _tied(self, module: torch.nn.Module, path: str) -> None:
        """Name the tensors of a module that stands at a second path: ties are rows of their own."""
        for name, child in module.named_modules(prefix=path):
            if not isinstance(child, torch.jit.ScriptModule):
                self._tensors(child, name)

    def _tensors(self, module: torch.nn.Module, path: str) -> None:
        for name, parameter in module._parameters.items():
            if parameter is not None:
                self.tensor(parameter, _join(path, name), "parameter", 0)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                passing = name in module._non_persistent_buffers_set
                self.tensor(buffer, _join(path, name), "non-persistent-buffer" if passing else "buffer", 0)

    def _state(self, module: torch.nn.Module, path: str) -> None:
        graph = isinstance(module, torch.fx.GraphModule)
        if graph:
            self.fact(path, "graph", str(module.code))
        for key, value in list(vars(module).items()):
            if key in _HOOK_TABLES:
                self._hooks(value, f"{path}#{key}")
            elif key in _MODULE_TABLES or key in LEFT_OUT or key == "training" or (graph and key in _GRAPH_INTERNALS):
                continue
            else:
                self.value(value, f"{path}#{key}", 0)

    def _hooks(self, table: Mapping[object, object], path: str) -> None:
        """Record hooks by their order: their keys count all hooks of the process."""
        hooks = [hook for hook in table.values() if not is_guard(hook)]
        for i, hook in enumerate(hooks):
            self.fact(f"{path}[{i}]", "hook", qualified_name(hook))
            self.value(hook, f"{path}[{i}]", 0)

    def finish(self) -> None:
        """Record what belongs to the process: global hooks, kernel choices, code of all classes and functions met."""
        self.role_of_state = "attribute"
        for name in _GLOBAL_HOOKS:
            self._hooks(getattr(torch_module, name, {}), f"<process>#{name}")
        bases = {base for cls in self.classes for base in cls.__mro__ if base is not object}
        for name, binding in sorted({(qualified_name(base), class_binding(base)) for base in bases}):
            self.fact(f"<code>{name}", "class", binding)
        for path, shown, function in attention_choices(self.root):
            self.fact(f"<process>attention@{path}", "kernel", shown)
            self.functions += [function] if function else []
        functions = [f for cls in self.classes for f in class_functions(cls)] + self.functions
        for name, digest in function_table(iter(functions)).items():
            self.fact(f"<code>{name}", "code", digest)

    # -- TorchScript --------------------------------------------------------------------------------------------------

    def _scripted(self, module: Any, path: str) -> None:
        """Record a scripted module: tensors, attributes that its graphs read, constants in its graphs."""
        for name, parameter in module.named_parameters(recurse=False):
            self.tensor(parameter, _join(path, name), "parameter", 0)
        for name, buffer in module.named_buffers(recurse=False):
            self.tensor(buffer, _join(path, name), "buffer", 0)
        training = getattr(module, "training", None)  # torch.jit.freeze writes the mode into the graph
        if training:
            self.training.append(path)
        self.fact(path, "training", "fixed in the graph" if training is None else str(bool(training)).lower())
        for method in module._c._method_names():
            self._script_graph(module, module._c._get_method(method).graph, f"{path}<{method}>", path)
        for i, constant in enumerate(compiled_constants(module)):
            self.tensor(constant, f"{path}<compiled:{i}>", "constant", 0)
        for name, child in module.named_children():
            self.module(child, _join(path, name))

    def _script_graph(self, module: Any, graph: Any, where: str, path: str) -> None:
        self.fact(where, "graph", graph_text(graph))
        for i, constant in enumerate(script_constants(graph)):
            self.tensor(constant, f"{where}<constant:{i}>", "constant", 0)
        known = {name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}
        for node in graph.findAllNodes("prim::GetAttr"):
            name = node.s("name")
            if node.inputsAt(0).debugName() == next(graph.inputs()).debugName() and name not in known:
                known.add(name)
                with contextlib.suppress(RuntimeError):  # a submodule: it is walked as a child
                    self.value(module._c.getattr(name), f"{path}#{name}", 0)

    # -- tensors ------------------------------------------------------------------------------------------------------

    def tensor(self, tensor: torch.Tensor, name: str, role: str, depth: int) -> None:
        """Record a tensor: its plain parts if it is a subclass that has some, itself otherwise; then its attributes."""
        if self._too_deep(name, depth):
            return
        if type(tensor) not in _PLAIN_TENSORS:
            self.fact(name, "context", qualified_name(type(tensor)))
            self.classes.add(type(tensor))
        parts = parts_of(tensor)
        if tensor.is_quantized:
            self._quantized(tensor, name, depth)
        if parts is None:
            self.held.append(Held(name=name, role=role, tensor=tensor))
        else:
            inner, context = parts
            self.value(context, f"{name}::<context>", depth + 1)
            for key, part in inner:
                self.keep.append(part)
                self.tensor(part, f"{name}::{key}", "inner", depth + 1)
        names = {key for key, _ in parts[0]} if parts else set()
        self._attributes_of_tensor(tensor, name, names, depth)

    def _quantized(self, tensor: torch.Tensor, name: str, depth: int) -> None:
        """Record the parameters of a tensor of torch's own quantized types; its integers are its storage."""
        if tensor.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
            self.fact(name, "scalar", f"{tensor.qscheme()} axis {tensor.q_per_channel_axis()}")
            self.tensor(tensor.q_per_channel_scales(), f"{name}::scales", "inner", depth + 1)
            self.tensor(tensor.q_per_channel_zero_points(), f"{name}::zero_points", "inner", depth + 1)
        else:
            self.fact(name, "scalar", f"{tensor.qscheme()} {tensor.q_scale().hex()} {tensor.q_zero_point()}")

    def _attributes_of_tensor(self, tensor: torch.Tensor, name: str, parts: set[str], depth: int) -> None:
        if id(tensor) in self.done:
            return
        state = getattr(tensor, "__dict__", None)
        if state:
            self.done[id(tensor)] = name
            before, self.role_of_state = self.role_of_state, "inner"
            for key, value in list(state.items()):
                if key not in parts and key not in LEFT_OUT:
                    self.value(value, f"{name}@{key}", depth + 1)
            self.role_of_state = before

    # -- plain Python state -------------------------------------------------------------------------------------------

    def value(self, value: Any, path: str, depth: int) -> None:
        """Record any Python value reached at `path`."""
        if self._too_deep(path, depth):
            return
        text = plain_text(value)
        if text is not None:
            self.fact(path, "scalar", text)
            if not isinstance(value, (type, enum.Enum)) and getattr(value, "__dict__", None):
                self._object_state(value, path, depth + 1)  # of a subclass of str, list and so on
        elif isinstance(value, torch.Tensor):
            self.tensor(value, path, self.role_of_state, depth + 1)
        elif isinstance(value, torch.nn.Module):
            self._module_in_state(value, path)
        elif isinstance(value, np.ndarray):
            self._array(value, path, depth)
        elif is_opaque(value):
            self.fact(path, "class", qualified_name(type(value)))
        elif id(value) in self.done:
            self.fact(path, "class", f"the object at {self.done[id(value)]!r}")
        else:
            self.done[id(value)] = path
            self.keep.append(value)
            self._container(value, path, depth + 1)

    def _module_in_state(self, module: torch.nn.Module, path: str) -> None:
        """Record a module held by plain state: by reference if it stands in the tree, else with all it has."""
        place = self.paths.get(id(module))
        if place is not None:
            self.fact(path, "class", f"the module at {place!r}")
        else:
            self.module(module, path)

    def _container(self, value: Any, path: str, depth: int) -> None:
        if isinstance(value, Mapping):
            self._mapping(value, path, depth)
        elif isinstance(value, (list, tuple, collections.deque)):
            if type(value) not in (list, tuple):
                self.fact(path, "class", qualified_name(type(value)))
                self._object_state(value, path, depth)
            for i, item in enumerate(value):
                self.value(item, f"{path}[{i}]", depth)
        elif isinstance(value, (set, frozenset)):
            self._set(value, path)
        elif callable(value) and not isinstance(value, enum.Enum):
            self._callable(value, path, depth)
        else:
            self._object(value, path, depth)

    def _mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> None:
        if type(value) not in (dict, types.MappingProxyType):
            self.fact(path, "class", qualified_name(type(value)))
        for key, item in list(value.items()):
            text = plain_text(key)
            if text is None:
                self.faults.append(StageFault(path, f"has a key of type {type(key).__name__} that has no stable name"))
            else:
                self.value(item, f"{path}[{text}]", depth)
        if type(value).__module__ not in ("builtins", "collections", "types"):
            self._object_state(value, path, depth)

    def _set(self, value: Any, path: str) -> None:
        """Record a set that holds more than plain values: its members have no stable order, so tensors are a fault."""
        kinds = sorted(qualified_name(type(v)) for v in value)
        self.fact(path, "class", f"set of {kinds}")
        if any(isinstance(v, torch.Tensor) for v in value):
            self.faults.append(StageFault(path, "holds tensors in a set, which has no order: name them with extra="))

    def _callable(self, value: Any, path: str, depth: int) -> None:
        if isinstance(value, types.MethodType):
            self.value(value.__func__, f"{path}<function>", depth)
            self.value(value.__self__, f"{path}<self>", depth)
        elif isinstance(value, types.FunctionType):
            self._function(value, path, depth)
        elif isinstance(value, functools.partial):
            self.value(value.func, f"{path}<function>", depth)
            self.value(value.args, f"{path}<args>", depth)
            self.value(value.keywords, f"{path}<keywords>", depth)
        else:
            self.classes.add(type(value))
            self._object(value, path, depth)

    def _function(self, function: types.FunctionType, path: str, depth: int) -> None:
        self.fact(path, "code", f"{qualified_name(function)} {code_digest(function.__code__)}")
        self.functions.append(function)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # an empty cell
                self.value(cell.cell_contents, f"{path}<cell:{name}>", depth)
        for i, default in enumerate(function.__defaults__ or ()):
            self.value(default, f"{path}<default:{i}>", depth)
        for key, default in sorted((function.__kwdefaults__ or {}).items()):
            self.value(default, f"{path}<default:{key}>", depth)
        for key, item in sorted(vars(function).items()):
            self.value(item, f"{path}.{key}", depth)

    def _array(self, array: np.ndarray[Any, Any], path: str, depth: int) -> None:
        if array.dtype.hasobject:
            for i, item in enumerate(array.ravel()):
                self.value(item, f"{path}[{i}]", depth + 1)
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "not writable": nothing is written
                tensor = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            self.faults.append(StageFault(path, f"is a numpy array that cannot be read as a tensor: {error}"))
            return
        self.keep.append(array)
        self.tensor(tensor, path, self.role_of_state, depth + 1)

    def _object(self, value: Any, path: str, depth: int) -> None:
        self.fact(path, "class", qualified_name(type(value)))
        self._object_state(value, path, depth)

    def _object_state(self, value: Any, path: str, depth: int) -> None:
        for key, item in _attributes(value):
            if key not in LEFT_OUT:
                self.value(item, f"{path}.{key}", depth)

    def _too_deep(self, path: str, depth: int) -> bool:
        if depth <= MAX_DEPTH:
            return False
        shown = path if len(path) <= 200 else f"{path[:200]}..."  # noqa: PLR2004
        self.faults.append(
            StageFault(shown, f"plain state is nested deeper than {MAX_DEPTH} steps; name it with extra=")
        )
        return True


def _without_mode(module: torch.nn.Module) -> bool:
    """Tell whether a module has no forward of its own to put in a mode: a graph, or what export keeps tensors in."""
    kind = type(module)
    plain = kind is torch.nn.Module or kind.__module__ == "torch.export._unlift"
    return plain or isinstance(module, torch.fx.GraphModule)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    """Yield instance attributes, from ``__dict__`` and from slots; properties are not evaluated."""
    yield from list(getattr(value, "__dict__", {}).items())
    for cls in (c for c in type(value).__mro__ if "__slots__" in vars(c)):
        for slot, member in list(vars(cls).items()):  # __slots__ may be an iterator, unmangled
            if isinstance(member, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # an unset slot
                    yield slot, member.__get__(value)
