"""What a checkpoint calls the tensors of today's module, without reading any."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_lra.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch


def match_names(
    module: torch.nn.Module, checkpoint: Checkpoint
) -> tuple[dict[str, str], str | None]:
    """Return the checkpoint's name by the module's, and a tensor that no name alone can give.

    transformers renames older checkpoints' tensors while it loads them, and may split or join
    some; tensors that share a weight have it under any of their names.

    Returns:
        The names, without those that the checkpoint has not; and one of the module's tensors
        that would have to be computed, or None.
    """
    state = dict(module.state_dict(keep_vars=True))
    rename = _renamer(module, state)
    found: dict[str, str] = {}
    rearranged: str | None = None
    for name in sorted(checkpoint.tensors):
        own, pattern = rename(name)
        fits = own in state and tuple(state[own].shape) == checkpoint.tensors[name].shape
        if fits and pattern is None:
            found[own] = name
        elif pattern is not None and own in state:
            rearranged = own
    shared: dict[int, list[str]] = {}
    for own, tensor in state.items():
        shared.setdefault(id(tensor), []).append(own)
    for group in shared.values():
        known = next((found[own] for own in group if own in found), None)
        if known is not None:
            found |= {own: known for own in group if own not in found}
    return found, rearranged


def _renamer(
    module: Any, state: dict[str, torch.Tensor]
) -> Callable[[str], tuple[str, str | None]]:
    """Return what gives today's name of a tensor, and the pattern of a converter that takes it."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    rules = get_model_conversion_mapping(module)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if not isinstance(rule, WeightRenaming)]
    prefix = module.base_model_prefix

    def rename(name: str) -> tuple[str, str | None]:
        own, pattern = rename_source_key(name, renamings, converters, prefix, state)
        return str(own), pattern

    return rename
