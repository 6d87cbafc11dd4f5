"""The float oracle a layer at a time, for models that do not fit in memory.

transformers builds the model without weights; PEFT puts its adapters in. The model's own forward
pass is run once with layers that only note what they are given: masks, rotations, positions. Then
each layer gets its weights from the checkpoint, reads all texts, and gives the weights back. No
code is shared with the reader of checkpoints that made the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_lra.errors import EdgeError
from edge_lra.language.oracle import Adapters, Parts, Step, first
from edge_lra.metrics import Array
from edge_lra.oracle import switch, with_adapters
from edge_lra.quiet import quiet_transformers

HEAD_ROWS = 16384  # of the head in float32 at once
SINGLE = ("model.safetensors", "pytorch_model.bin")


class LayeredModel:
    """A model of which one layer, and the head in the checkpoint's dtype, are in memory."""

    def __init__(self, model: Path, adapters: Adapters, layers: int | None = None) -> None:
        """Build the model without weights and load the adapters.

        Args:
            model: checkpoint folder.
            adapters: folders and weights; their changes are summed.
            layers: how many of the first layers to keep; None for all.

        Raises:
            EdgeError: a tensor is not in the checkpoint.
        """
        import transformers

        quiet_transformers()
        config = transformers.AutoConfig.from_pretrained(model, local_files_only=True)
        with _without_memory():
            base = transformers.AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, attn_implementation="eager"
            )
        _put_hollow(base)
        base.tie_weights()
        self.way = "layer by layer" if layers is None else f"first {layers} layers"
        self._files = TensorFiles(model)
        self._names = self._tensor_names(base)
        self._add_adapters(base, adapters)
        if layers is not None:
            self._parts.keep_first(layers)
        self._keep_small()
        self._head: torch.Tensor | None = None

    def _tensor_names(self, base: Any) -> dict[int, str]:
        """Return each parameter's name in the checkpoint; PEFT keeps the parameters themselves."""
        prefix = f"{base.base_model_prefix}."
        found = {}
        for name, parameter in base.named_parameters():
            choices = (name, name.removeprefix(prefix), prefix + name)
            known = next((choice for choice in choices if choice in self._files), None)
            if known is None:
                raise EdgeError(
                    f"{self._files.path}: found no tensor {name}, expected it in the weights; "
                    "is the checkpoint complete?"
                )
            found[id(parameter)] = known
        return found

    def _add_adapters(self, base: Any, adapters: Adapters) -> None:
        """Let PEFT put the adapters in.

        Of an adapter for the embedding or the head PEFT saves the base's weight too, and writes
        it: what it wrote stays. Memory that is not written to is none.
        """
        modules = (base.get_input_embeddings(), base.get_output_embeddings())
        for parameter in (p for module in modules for p in module.parameters()):
            parameter.data = torch.empty(parameter.shape)
        before = {id(p): p._version for p in base.parameters()}
        self._model = with_adapters(base, adapters).eval()
        self._parts = Parts(base.eval())
        for parameter in base.parameters():
            if parameter._version != before.get(id(parameter), parameter._version):
                del self._names[id(parameter)]
            elif id(parameter) in self._names:
                parameter.data = _hollow(parameter.shape)

    def _keep_small(self) -> None:
        """Load what is in no layer, embedding or head: the final norm, learned positions."""
        parts = self._parts
        apart = [*parts.layers, parts.embedding, parts.head]
        left = {id(parameter) for module in apart for parameter in module.parameters()}
        for parameter in parts.whole.parameters():
            if id(parameter) in self._names and id(parameter) not in left:
                parameter.data = self._load(parameter)

    def _load(self, parameter: nn.Parameter) -> torch.Tensor:
        return self._files.read(self._names[id(parameter)]).float()

    @contextmanager
    def _loaded(self, module: Any) -> Iterator[None]:
        """Give a module its weights for as long as the block runs."""
        own = [p for p in module.parameters() if id(p) in self._names]
        for parameter in own:
            parameter.data = self._load(parameter)
        try:
            yield
        finally:
            for parameter in own:
                parameter.data = _hollow(parameter.shape)

    # ---- backbone --------------------------------------------------------------------------

    def hidden(self, rows: Sequence[Array], adapted: bool, step: Step) -> list[Any]:
        """Return what the head reads of each row of token ids."""
        count = len(self._parts.layers)
        switch(self._model, adapted)
        with torch.no_grad():
            calls = self._note(rows)
            for index in range(count):
                self._pass(index, calls)
                step(index + 1, count)
            with self._embedded(rows) as ids:
                return [self._finish(row, call) for row, call in zip(ids, calls, strict=True)]

    def layer_outputs(self, row: Array) -> list[Array]:
        """Return each layer's output (1, tokens, width) for one row, in order."""
        switch(self._model, True)
        found = []
        with torch.no_grad():
            calls = self._note([row])
            for index in range(len(self._parts.layers)):
                self._pass(index, calls)
                found.append(calls[0].hidden.numpy())
        return found

    def _note(self, rows: Sequence[Array]) -> list[_Call]:
        """Run the model's own pass with layers that change nothing; return what they were given."""
        calls = []
        with self._embedded(rows) as ids:
            for row in ids:
                call = _Call()
                with _replaced(self._parts.layers, call.note):
                    self._parts.run_backbone(row)
                calls.append(call)
        return calls

    def _pass(self, index: int, calls: Sequence[_Call]) -> None:
        """Let one layer read every text."""
        layer = self._parts.layers[index]
        with self._loaded(layer):
            for call in calls:
                positional, named = call.given[index]
                call.hidden = first(layer(call.hidden, *positional, **named))

    def _finish(self, row: torch.Tensor, call: _Call) -> torch.Tensor:
        """Return what follows the last layer: the model's pass again, ending in its output."""
        with _replaced(self._parts.layers, lambda *_, **__: call.hidden):
            return self._parts.run_backbone(row)  # type: ignore[no-any-return]

    @contextmanager
    def _embedded(self, rows: Sequence[Array]) -> Iterator[list[torch.Tensor]]:
        """Yield ids for rows, while the embedding holds the rows of these alone.

        An embedding that PEFT changed is loaded whole, for its change goes by the token's id.
        """
        embedding = self._parts.embedding
        ids = [torch.from_numpy(row) for row in rows]
        weight: Any = getattr(embedding, "weight", None)
        if not isinstance(embedding, nn.Embedding) or id(weight) not in self._names:
            with self._loaded(embedding):
                yield ids
            return
        used, places = torch.unique(torch.cat(ids), return_inverse=True)
        weight.data = self._files.read_rows(self._names[id(weight)], used)
        padding, embedding.padding_idx = embedding.padding_idx, None
        try:
            yield list(torch.split(places, [len(row) for row in ids]))
        finally:
            weight.data = _hollow((embedding.num_embeddings, embedding.embedding_dim))
            embedding.padding_idx = padding

    # ---- head ------------------------------------------------------------------------------

    def logits(self, hidden: Any, adapted: bool) -> Array:
        """Return the logits (tokens, vocabulary) of hidden states."""
        switch(self._model, adapted)
        head = self._parts.head
        weight: Any = getattr(head, "weight", None)
        plain = type(head) is nn.Linear and head.bias is None and id(weight) in self._names
        with torch.no_grad():
            if not plain:
                with self._loaded(head):
                    return self._parts.run_head(hidden).numpy()  # type: ignore[no-any-return]
            if self._head is None:
                self._head = self._files.read(self._names[id(weight)])
            parts = []
            for rows in torch.split(self._head, HEAD_ROWS):
                weight.data = rows.float()
                parts.append(self._parts.run_head(hidden))
            weight.data = _hollow(self._head.shape)
            return torch.cat(parts, -1).numpy()


class _Call:
    """What one text's pass gives each layer, and how far it got.

    Attributes:
        hidden: (1, tokens, width) before the next layer.
        given: of each layer, what it takes beside the hidden states.
    """

    def __init__(self) -> None:
        self.hidden: Any = None
        self.given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(self, hidden: Any, *positional: Any, **named: Any) -> Any:
        """Stand in for a layer."""
        if self.hidden is None:
            self.hidden = hidden
        self.given.append((positional, named))
        return hidden


@contextmanager
def _replaced(layers: Any, forward: Any) -> Iterator[None]:
    """Let every layer do something else for as long as the block runs."""
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _hollow(shape: Sequence[int]) -> torch.Tensor:
    """Return a tensor of any shape that takes four bytes: PEFT wants shape, dtype and device."""
    return torch.zeros(()).expand(*shape)


def _put_hollow(base: nn.Module) -> None:
    """Replace parameters on the meta device, which PEFT would put its own on too."""
    for module in base.modules():
        for name, parameter in module.named_parameters(recurse=False):
            hollow = nn.Parameter(_hollow(parameter.shape), requires_grad=False)
            setattr(module, name, hollow)


@contextmanager
def _without_memory() -> Iterator[None]:
    """Keep the weights of modules that are built in the block on torch's meta device.

    Buffers are real: rotations and scales are computed, and in no checkpoint.
    """
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


class TensorFiles:
    """The tensors of a checkpoint by name, read by safetensors and torch themselves."""

    def __init__(self, path: Path) -> None:
        """Read the names.

        Raises:
            EdgeError: there are no weights of a known kind.
        """
        self.path = path
        self._places = self._find()

    def _find(self) -> dict[str, Path]:
        for single in SINGLE:
            index = self.path / f"{single}.index.json"
            if index.is_file():
                places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                return {name: self.path / shard for name, shard in places.items()}
            file = self.path / single
            if file.is_file():
                return dict.fromkeys(self._keys(file), file)
        raise EdgeError(
            f"{self.path}: found none of {', '.join(SINGLE)} and no index of shards, expected one "
            "to verify layer by layer; use --no-verify"
        )

    @staticmethod
    def _keys(file: Path) -> list[str]:
        from safetensors import safe_open

        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                return list(tensors.keys())
        return list(torch.load(file, mmap=True, weights_only=True))

    def __contains__(self, name: str) -> bool:
        """Say whether there is a tensor of this name."""
        return name in self._places

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor in the file's dtype."""
        from safetensors import safe_open

        file = self._places[name]
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                return tensors.get_tensor(name)  # type: ignore[no-any-return]
        return torch.load(file, mmap=True, weights_only=True)[name].clone()  # type: ignore[no-any-return]

    def read_rows(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """Return some rows of a tensor in float32."""
        from safetensors import safe_open

        file = self._places[name]
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                part = tensors.get_slice(name)
                return torch.cat([part[int(row) : int(row) + 1] for row in rows]).float()
        return torch.load(file, mmap=True, weights_only=True)[name][rows].float()  # type: ignore[no-any-return]
