"""Open what a traced export names: the model, and adapters matched to it."""

from __future__ import annotations

from edge_lra.adapters import Adapter
from edge_lra.checkpoint import open_checkpoint
from edge_lra.inputs import ExportRequest, base_model, read_adapters
from edge_lra.places import ADAPTER_CONFIG, resolve_adapter
from edge_lra.tensor_files import read_config
from edge_lra.traced.architecture import open_architecture
from edge_lra.traced.factory import is_factory, open_factory
from edge_lra.traced.model import TracedModel


def open_model(request: ExportRequest) -> tuple[TracedModel, tuple[Adapter, ...]]:
    """Return the model and its adapters; an adapter's head decides how many outputs it has.

    Raises:
        EdgeError: the model or an adapter cannot be used.
    """
    model = base_model(request)
    if is_factory(model):
        traced = open_factory(model, request.task)
        return traced, read_adapters(request, traced.tensors, traced.heads)
    checkpoint = open_checkpoint(model)
    types = [_task_type(path) for _, path in request.adapters]
    traced = open_architecture(checkpoint, request.task, types, None)
    adapters = read_adapters(request, traced.tensors, traced.heads)
    own = dict(traced.subject.module.named_parameters())
    for adapter in adapters:
        for name, values in adapter.replacements.items():
            if name in traced.heads and tuple(own[name].shape) != values.shape:
                return open_architecture(checkpoint, request.task, types, len(values)), adapters
    return traced, adapters


def _task_type(adapter: str | object) -> str | None:
    """Return what PEFT's config says an adapter is for: its head may be in no checkpoint."""
    file = resolve_adapter(str(adapter)) / ADAPTER_CONFIG
    found = read_config(file).get("task_type") if file.is_file() else None
    return str(found) if found else None
