"""Decoder language models as data: which checkpoint tensor plays which role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from edge_lra.errors import EdgeError
from edge_lra.recipe.base import Recipe

TASKS = ("text-generation",)
NORMS = ("rms", "layer")


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(Recipe):
    """A pre-norm decoder's tensors and what its graph is made of.

    Attributes:
        final_norm: the norm before the head.
        head: the linear after it, where the checkpoint has one of its own.
        norm: "rms", or "layer" for one with a mean and a bias.
        norm_offset: added to the norms' stored weights.
        conv1d: linear weights are stored as (in, out).
        embedding_scale: "sqrt_width" where the embedding's rows are multiplied by it.
        plain: config entries that change what the model computes, with the values that do not.
    """

    final_norm: str
    head: str
    norm: str = "rms"
    norm_offset: float = 0.0
    conv1d: bool = False
    embedding_scale: str | None = None
    plain: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    tasks: ClassVar[tuple[str, ...]] = TASKS

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Return the recipe that a TOML document holds."""
        if document.get("norm", "rms") not in NORMS:
            raise ValueError(f"{document['family']}: norm {document['norm']!r}")
        plain = {name: tuple(values) for name, values in document.get("plain", {}).items()}
        fields = dict(document) | {"plain": plain, "inputs": ("input_ids", "attention_mask")}
        return cls(**fields)

    def outside(self, prefix: str) -> dict[str, str]:
        """Return the checkpoint's names of the head's tensors."""
        return {f"{self.head}.{part}": f"{self.head}.{part}" for part in ("weight", "bias")}

    def head_tensors(self, task: str) -> tuple[str, ...]:
        """Return nothing: the language model's head belongs to the base."""
        return ()

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse a config that asks for something the family's graph does not do.

        Raises:
            EdgeError: names the option.
        """
        for name, values in self.plain.items():
            found = config.get(name)
            if found is not None and found not in values:
                raise EdgeError(
                    f"config.json: found {name} {found!r}, expected "
                    f"{' or '.join(map(repr, values))} for family {self.family}; "
                    "this variant is not supported"
                )
