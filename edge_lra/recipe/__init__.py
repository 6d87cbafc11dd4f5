"""Model families as data: which checkpoint tensor plays which role in the graph."""

from edge_lra.recipe import decoder, encoder
from edge_lra.recipe.base import HeadLayer, Recipe, pad_token_id
from edge_lra.recipe.decoder import DecoderRecipe
from edge_lra.recipe.encoder import EncoderRecipe
from edge_lra.recipe.find import find_recipe, recipes

TASKS = (*encoder.TASKS, *decoder.TASKS)

__all__ = [
    "TASKS",
    "DecoderRecipe",
    "EncoderRecipe",
    "HeadLayer",
    "Recipe",
    "find_recipe",
    "pad_token_id",
    "recipes",
]
