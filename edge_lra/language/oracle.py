"""The float oracle of a language model: transformers in float32, PEFT loading the adapter itself.

Hidden states of all texts are taken first, (tokens, width) each; logits follow from them a few
positions at a time, through the model's own head: those of a whole text at once would take more
memory than a small model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.metrics import Array
from edge_lra.oracle import AUTO_CLASSES, switch, with_adapters
from edge_lra.quiet import quiet_transformers

Adapters = Sequence[tuple[Path, float]]  # folders and weights
Step = Callable[[int, int], None]  # done, of how many


class FloatModel(Protocol):
    """A float model, whole or in parts.

    Attributes:
        way: how it is run: "whole", "layer by layer" or "first N layers".
    """

    way: str

    def hidden(self, rows: Sequence[Array], adapted: bool, step: Step) -> list[Any]:
        """Return what the head reads of each row of token ids: torch tensors (tokens, width)."""

    def logits(self, hidden: Any, adapted: bool) -> Array:
        """Return the logits (tokens, vocabulary) of hidden states."""

    def layer_outputs(self, row: Array) -> list[Array]:
        """Return each layer's output (1, tokens, width) for one row, in order."""


class Parts:
    """A causal language model of transformers, taken apart by what all of them have.

    Attributes:
        whole: the model with its head.
        backbone: what the head reads.
        layers: of the backbone, in order.
        head: the linear that gives the logits.
        embedding: of the tokens.
    """

    def __init__(self, model: Any) -> None:
        """Take a model as transformers made it; PEFT may have changed modules inside."""
        self.whole = model
        self.backbone = getattr(model, model.base_model_prefix)
        count = model.config.num_hidden_layers
        lists = [
            (name, child)
            for name, child in self.backbone.named_children()
            if type(child).__name__ == "ModuleList" and len(child) == count
        ]
        if len(lists) != 1:
            raise EdgeError(
                f"{type(model).__name__}: found {len(lists)} lists of {count} layers, expected "
                "one; use --no-verify"
            )
        self._name, self.layers = lists[0]

    @property
    def head(self) -> Any:
        """The linear that gives the logits, with what PEFT put around it."""
        return self.whole.get_output_embeddings()

    @property
    def embedding(self) -> Any:
        """The embedding of the tokens, with what PEFT put around it."""
        return self.whole.get_input_embeddings()

    def keep_first(self, count: int) -> None:
        """Leave out all layers but the first."""
        self.layers = self.layers[:count]
        setattr(self.backbone, self._name, self.layers)
        self.whole.config.num_hidden_layers = count

    def run_backbone(self, row: Any) -> Any:
        """Return the last hidden states (tokens, width) of one row of ids, a torch tensor."""
        return self.backbone(input_ids=row[None], use_cache=False).last_hidden_state[0]

    def run_head(self, hidden: Any) -> Any:
        """Return the logits (tokens, rows of the head) of hidden states.

        The model's own code does it, which bounds the logits where the family does: only what it
        calls for hidden states is replaced.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        given = BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden[None])
        self.backbone.forward = lambda *_, **__: given
        try:
            ids = torch.zeros((1, len(hidden)), dtype=torch.int64)
            return self.whole(input_ids=ids, use_cache=False).logits[0]
        finally:
            del self.backbone.forward


class WholeModel:
    """A model that is in memory as a whole."""

    way = "whole"

    def __init__(self, model: Path, adapters: Adapters) -> None:
        """Load the base and, through PEFT, the adapters."""
        import torch
        import transformers

        quiet_transformers()
        loader = getattr(transformers, AUTO_CLASSES["text-generation"])
        base = loader.from_pretrained(
            **Checkpoint(model).oracle_source(),
            dtype=torch.float32,
            local_files_only=True,
            attn_implementation="eager",
        )
        self._model = with_adapters(base, adapters).eval()  # PEFT changes the base itself
        self._parts = Parts(base.eval())

    def hidden(self, rows: Sequence[Array], adapted: bool, step: Step) -> list[Any]:
        """Return what the head reads of each row of token ids."""
        import torch

        switch(self._model, adapted)
        found = []
        with torch.no_grad():
            for place, row in enumerate(rows):
                found.append(self._parts.run_backbone(torch.from_numpy(row)))
                step(place + 1, len(rows))
        return found

    def logits(self, hidden: Any, adapted: bool) -> Array:
        """Return the logits (tokens, vocabulary) of hidden states."""
        import torch

        switch(self._model, adapted)
        with torch.no_grad():
            found: Array = self._parts.run_head(hidden).numpy()
        return found

    def layer_outputs(self, row: Array) -> list[Array]:
        """Return each layer's output (1, tokens, width) for one row, in order."""
        import torch

        switch(self._model, True)
        found: list[Array] = []
        hooks = [
            layer.register_forward_hook(lambda _, __, out: found.append(first(out).numpy()))
            for layer in self._parts.layers
        ]
        try:
            with torch.no_grad():
                self._parts.run_backbone(torch.from_numpy(row))
        finally:
            for hook in hooks:
                hook.remove()
        return found


def first(output: Any) -> Any:
    """Return a layer's hidden states, whether it gives them alone or first of several."""
    return output[0] if isinstance(output, tuple) else output
