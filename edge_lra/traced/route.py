"""Whether a model is traced or has a recipe."""

from __future__ import annotations

from edge_lra.inputs import ExportRequest, base_model
from edge_lra.places import resolve_model
from edge_lra.recipe import recipes
from edge_lra.tensor_files import read_config
from edge_lra.traced.factory import is_factory


def needs_trace(request: ExportRequest) -> bool:
    """Say whether the request's model goes through torch.export: the user's own, or no recipe's."""
    model = base_model(request)
    if is_factory(model):
        return True
    file = resolve_model(model) / "config.json"
    if not file.is_file():
        return False  # what is missing or another format is for whoever reads the checkpoint
    found = read_config(file).get("model_type")
    known = {name for recipe in recipes() for name in recipe.model_types}
    return isinstance(found, str) and found not in known
