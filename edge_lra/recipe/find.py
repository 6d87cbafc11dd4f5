"""The families' recipes, and the one for a checkpoint."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.recipe.base import Recipe
from edge_lra.recipe.decoder import DecoderRecipe
from edge_lra.recipe.encoder import EncoderRecipe
from edge_lra.resources import data_folder

KINDS: dict[str, type[EncoderRecipe] | type[DecoderRecipe]] = {
    "encoder": EncoderRecipe,
    "decoder": DecoderRecipe,
}


def recipes() -> Iterator[Recipe]:
    """Yield every family's recipe, by file name."""
    for path in sorted(data_folder("export").glob("*.toml")):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        kind = KINDS[document.pop("kind")]
        yield kind.parse(
            {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
        )


def find_recipe(config: Mapping[str, Any]) -> Recipe:
    """Return the recipe for a checkpoint's `model_type`.

    Raises:
        EdgeError: no family has this model type; the message names the known ones.
    """
    known = list(recipes())
    found = config.get("model_type")
    for recipe in known:
        if found in recipe.model_types:
            return recipe
    names = ", ".join(sorted(name for recipe in known for name in recipe.model_types))
    raise EdgeError(
        f"config.json: found model_type {found!r}, expected one of {names}; "
        "export a model of one of these families"
    )
