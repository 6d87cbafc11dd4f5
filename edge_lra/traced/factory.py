"""A torch module of the user's own, made by `package.module:factory`.

The factory takes nothing and returns `(module, inputs)`: a torch.nn.Module with its weights, and
one batch of example inputs, tensors by the names of `forward`'s arguments. Or a dict of these:

    module, inputs   as above
    axes             names of the axes that may have another size, {"x": {0: "batch"}}; without it
                     the first axis of every input is "batch"
    weights          a .safetensors or .bin file with the module's state dict
    task             what the outputs mean: one of the tasks that a bundle knows

Only a model given in this form has the user's code imported, from the current folder first.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edge_lra.config import FACTORY
from edge_lra.errors import EdgeError
from edge_lra.graph.trace import Subject
from edge_lra.recipe import TASKS as RECIPE_TASKS
from edge_lra.tensor_files import open_tensor_file, read_rows
from edge_lra.traced.model import CUSTOM, TASKS, TracedModel
from edge_lra.traced.tensors import StateTensors

if TYPE_CHECKING:
    import torch

KEYS = ("module", "inputs", "axes", "weights", "task")


def is_factory(model: str | None) -> bool:
    """Say whether a model's name is of the form `package.module:factory`."""
    text = model or ""
    return bool(FACTORY.fullmatch(text)) and not text.startswith("pypi:")


def open_factory(name: str, task: str | None) -> TracedModel:
    """Import the user's code, call the factory and check what it returns.

    Args:
        name: `package.module:factory`.
        task: what the outputs mean, over the factory's own word.

    Raises:
        EdgeError: there is no such factory, it fails, or it returns something else.
    """
    code, function = name.split(":")
    module_file = _import(code, name)
    found = _call(module_file, function, name)
    module, inputs, axes = found["module"], found["inputs"], found.get("axes")
    if found.get("weights") is not None:
        _load_weights(module, Path(found["weights"]), name)
    module = module.float().eval()
    examples = _check_examples(module, inputs, name)
    chosen = task or found.get("task") or CUSTOM
    if chosen not in (known := (*RECIPE_TASKS, *TASKS)):
        raise EdgeError(f"{name}: task: found {chosen!r}, expected one of {', '.join(known)}")
    path = Path(module_file.__file__ or code)
    state = module.state_dict(keep_vars=True)
    return TracedModel(
        family=type(module).__name__,
        task=chosen,
        subject=Subject(module, examples, _axes(examples, axes, name), name),
        tensors=StateTensors(path, {}, state),
        load=lambda: copy.deepcopy(module),
    )


def _import(code: str, name: str) -> ModuleType:
    """Import the user's module; the current folder comes first, as with `python -m`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(code)
    except ModuleNotFoundError as error:
        if error.name is not None and (code + ".").startswith(error.name + "."):
            raise EdgeError(
                f"{name}: found no module {error.name}, expected it in the current folder or "
                "installed; check the name"
            ) from None
        raise _failed(name, f"importing {code}", error) from error
    except Exception as error:  # the user's code raises what it likes
        raise _failed(name, f"importing {code}", error) from error


def _failed(name: str, doing: str, error: Exception) -> EdgeError:
    reason = (str(error).strip().splitlines() or [""])[0]
    return EdgeError(
        f"{name}: {doing} found {type(error).__name__}: {reason}, expected a module and its "
        "example inputs; correct your code"
    )


def _call(code: ModuleType, function: str, name: str) -> dict[str, Any]:
    """Return what the factory gives, as a dict with the keys of the contract."""
    import torch

    factory = getattr(code, function, None)
    if not callable(factory):
        known = [n for n, v in vars(code).items() if callable(v) and not n.startswith("_")]
        raise EdgeError(
            f"{name}: found no function {function!r} in {code.__name__}, expected a factory; it "
            f"has {', '.join(sorted(known)) or 'none'}"
        )
    try:
        found = factory()
    except Exception as error:  # the user's code raises what it likes
        raise _failed(name, f"{function}()", error) from error
    if isinstance(found, tuple) and len(found) == 2:
        found = dict(zip(KEYS, found, strict=False))
    if not isinstance(found, Mapping) or not {"module", "inputs"} <= found.keys():
        raise EdgeError(
            f"{name}: found {type(found).__name__}, expected (module, inputs) or a dict with them; "
            "return the module and one batch of example inputs"
        )
    if odd := sorted(map(str, found.keys() - set(KEYS))):
        raise EdgeError(f"{name}: found key {odd[0]!r}, expected one of {', '.join(KEYS)}")
    if not isinstance(found["module"], torch.nn.Module):
        raise EdgeError(
            f"{name}: module: found {type(found['module']).__name__}, expected a torch.nn.Module; "
            "return an instance of one"
        )
    return dict(found)


def _load_weights(module: torch.nn.Module, path: Path, name: str) -> None:
    """Fill the module from a file of its state dict, every tensor and no other."""
    import torch

    if not path.is_file():
        raise EdgeError(f"{name}: weights: found no file {path}, expected the module's state dict")
    file = open_tensor_file(path)
    own = module.state_dict()
    wanted = {n: tuple(t.shape) for n, t in own.items() if t.is_floating_point()}
    found = {n: info.shape for n, info in file.tensors.items() if n in wanted or n not in own}
    if odd := sorted(set(wanted.items()) ^ set(found.items())):
        tensor = odd[0][0]
        raise EdgeError(
            f"{path}: {tensor}: found {found.get(tensor, 'none')}, the module has "
            f"{wanted.get(tensor, 'none')}; are these weights of another module?"
        )
    state = {n: torch.from_numpy(read_rows(file, n)).reshape(wanted[n]) for n in wanted}
    module.load_state_dict(state, strict=False, assign=True)


def _check_examples(module: torch.nn.Module, inputs: Any, name: str) -> dict[str, torch.Tensor]:
    """Run the module once on its examples; return them, floats as float32.

    Raises:
        EdgeError: they are no tensors by name, or the module does not take them.
    """
    import torch

    tensors = isinstance(inputs, Mapping) and inputs
    if not tensors or not all(isinstance(x, torch.Tensor) for x in inputs.values()):
        raise EdgeError(
            f"{name}: inputs: found {type(inputs).__name__}, expected tensors by the names of "
            "forward's arguments, {'x': torch.zeros(1, 3)}"
        )
    empty = [key for key, value in inputs.items() if value.dim() == 0 or value.numel() == 0]
    if empty:
        raise EdgeError(f"{name}: inputs: {empty[0]}: found no entries or axes, expected a batch")
    examples = {
        str(key): value.detach().float() if value.is_floating_point() else value.detach()
        for key, value in inputs.items()
    }
    meta = [n for n, t in module.state_dict(keep_vars=True).items() if t.is_meta]
    if meta:
        raise EdgeError(
            f"{name}: {meta[0]}: found a tensor on the meta device, expected its values; give "
            "'weights', or build the module on the CPU"
        )
    known = inspect.signature(module.forward).parameters
    loose = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    if odd := [key for key in examples if key not in known and not loose]:
        raise EdgeError(
            f"{name}: inputs: found {odd[0]!r}, expected forward's arguments {', '.join(known)}"
        )
    try:
        with torch.no_grad():
            module(**examples)
    except Exception as error:  # what a forward pass raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EdgeError(
            f"{name}: the module did not take its example inputs, found {type(error).__name__}: "
            f"{reason}; correct their names and shapes"
        ) from error
    return examples


def _axes(examples: Mapping[str, torch.Tensor], given: Any, name: str) -> dict[str, dict[int, str]]:
    """Return the names of the free axes; without a word from the factory, the first is the batch.

    Raises:
        EdgeError: they name no axis of an input.
    """
    if given is None:
        return {key: {0: "batch"} for key in examples}
    if not isinstance(given, Mapping):
        raise EdgeError(f"{name}: axes: found {given!r:.60}, expected {{'x': {{0: 'batch'}}}}")
    for key, names in given.items():
        if key not in examples:
            known = ", ".join(examples)
            raise EdgeError(f"{name}: axes: found input {key!r}, expected one of {known}")
        count = examples[key].dim()
        fits = isinstance(names, Mapping) and all(
            type(axis) is int
            and 0 <= axis < count
            and isinstance(word, str)
            and word.isidentifier()
            for axis, word in names.items()
        )
        if not fits:
            raise EdgeError(
                f"{name}: axes: {key}: found {names!r:.60}, expected names by axis of 0 to "
                f"{count - 1}, such as {{0: 'batch'}}"
            )
    return {key: dict(names) for key, names in given.items()}
