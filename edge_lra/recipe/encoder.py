"""Encoders as data: which checkpoint tensor plays which role, and the task heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from edge_lra.recipe.base import Head, HeadLayer, Recipe

# What an encoder can be exported for; "embedding" tasks output hidden states.
TASKS = (
    "feature-extraction",
    "sentence-embedding",
    "sequence-classification",
    "token-classification",
    "question-answering",
)


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe(Recipe):
    """A post-norm encoder's tensors and heads."""

    position_ids: str

    tasks: ClassVar[tuple[str, ...]] = TASKS

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Return the recipe that a TOML document holds."""
        heads = {
            task: Head(
                tuple(HeadLayer(**layer) for layer in head["layers"]),
                head.get("first_token", False),
            )
            for task, head in document["heads"].items()
        }
        if document["position_ids"] not in ("range", "after_padding"):
            raise ValueError(f"{document['family']}: position_ids {document['position_ids']!r}")
        fields = dict(document) | {"heads": heads}
        return cls(**fields)

    def outside(self, prefix: str) -> dict[str, str]:
        """Return the checkpoint's names of the heads' tensors."""
        return {
            f"{layer.linear}.{part}": ("" if not layer.encoder else prefix)
            + f"{layer.linear}.{part}"
            for head in self.heads.values()
            for layer in head.layers
            for part in ("weight", "bias")
        }

    def head_tensors(self, task: str) -> tuple[str, ...]:
        """Return the tensor names (without the encoder's prefix) of a task's head."""
        head = self.heads.get(task)
        layers = head.layers if head else ()
        return tuple(
            f"{layer.linear}.{part}"
            for layer in layers
            if not layer.encoder
            for part in ("weight", "bias")
        )
