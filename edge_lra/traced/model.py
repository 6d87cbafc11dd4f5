"""A model that is traced: its module, its tensors, and what it is fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.trace import Subject

if TYPE_CHECKING:
    import torch

CUSTOM = "custom"  # the task of a module that says nothing of its outputs
IMAGES = "image-classification"
TASKS = (IMAGES, CUSTOM)  # beside those that recipes have
# The outputs that a task's answers are read from; `logits` where none are named.
OUTPUTS = {
    "feature-extraction": ("last_hidden_state",),
    "sentence-embedding": ("last_hidden_state",),
    "question-answering": ("start_logits", "end_logits"),
    CUSTOM: (),
}


@dataclass(frozen=True)
class TracedModel:
    """All that is known of a model before its graph.

    Attributes:
        family: the architecture, or the module's class.
        tensors: by the module's names.
        heads: names that a task head has, whose sizes an adapter may change.
        load: returns the float32 module on the CPU, in evaluation mode, new each time.
        max_length: in tokens; None where the inputs are no tokens.
        vocabulary_size: None where the inputs are no token ids.
    """

    family: str
    task: str
    subject: Subject
    tensors: Checkpoint
    load: Callable[[], torch.nn.Module]
    heads: frozenset[str] = field(default_factory=frozenset)
    max_length: int | None = None
    vocabulary_size: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The checkpoint's settings; empty for a module of the user's."""
        return self.tensors.config

    @property
    def reads_tokens(self) -> bool:
        """Whether it is fed token ids and a mask of them."""
        return {"input_ids", "attention_mask"} <= self.subject.examples.keys()
