"""A model family as data: which checkpoint tensor plays which role in the encoder graph."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.resources import data_folder

# The tasks an encoder can be exported for; "embedding" tasks output hidden states.
TASKS = (
    "feature-extraction",
    "sentence-embedding",
    "sequence-classification",
    "token-classification",
    "question-answering",
)


@dataclass(frozen=True)
class HeadLayer:
    """One linear of a task head; `encoder` says that it lives under the encoder's prefix."""

    linear: str
    activation: str | None = None
    encoder: bool = False


@dataclass(frozen=True)
class Head:
    """The layers after the encoder; `first_token` heads read token 0 only."""

    layers: tuple[HeadLayer, ...]
    first_token: bool = False


@dataclass(frozen=True)
class Recipe:
    """The roles of a family's tensors and the config keys of its sizes."""

    family: str
    model_types: tuple[str, ...]
    prefix: str
    inputs: tuple[str, ...]
    position_ids: str
    config: Mapping[str, str]
    embeddings: Mapping[str, str]
    layer: Mapping[str, str]
    heads: Mapping[str, Head]

    def size(self, config: Mapping[str, Any], key: str) -> Any:
        """Return the checkpoint config's value for a recipe key such as "layers"."""
        name = self.config[key]
        if name not in config:
            raise EdgeError(
                f"config.json: found no {name!r}, expected it for family {self.family}; "
                "is the checkpoint complete?"
            )
        return config[name]

    def count(self, config: Mapping[str, Any], key: str) -> int:
        """Return a size that has to be a whole number of at least 1."""
        value = self.size(config, key)
        if type(value) is not int or value < 1:
            raise EdgeError(
                f"config.json: found {self.config[key]} {value!r}, expected a whole number of at "
                "least 1; fetch the checkpoint again"
            )
        return value

    def head_count(self, config: Mapping[str, Any], width: int) -> int:
        """Return the number of attention heads, which must divide the width of the queries."""
        heads = self.count(config, "heads")
        if width % heads:
            raise EdgeError(
                f"config.json: found {heads} attention heads, expected a divisor of the {width} "
                "outputs of the query weights; does the config belong to these weights?"
            )
        return heads

    def resolve(self, tensors: Collection[str]) -> dict[str, str]:
        """Return the checkpoint's tensor name by recipe name, with or without the prefix.

        Raises:
            EdgeError: the word embeddings stand under both names or under neither.
        """
        word = self.embeddings["word"]
        prefixes = [prefix for prefix in ("", self.prefix) if prefix + word in tensors]
        if len(prefixes) != 1:
            found = "both" if prefixes else "neither"
            raise EdgeError(
                f"checkpoint: found {found} of {word!r} and {self.prefix + word!r}, expected one; "
                f"is this a {self.family} checkpoint?"
            )
        heads = {
            f"{layer.linear}.{part}": ("" if not layer.encoder else prefixes[0])
            + f"{layer.linear}.{part}"
            for head in self.heads.values()
            for layer in head.layers
            for part in ("weight", "bias")
        }
        plain = {
            name.removeprefix(prefixes[0]): name for name in tensors if name.startswith(prefixes[0])
        }
        return plain | {name: tensor for name, tensor in heads.items() if tensor in tensors}

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


def _parse(document: Mapping[str, Any]) -> Recipe:
    heads = {
        task: Head(
            tuple(HeadLayer(**layer) for layer in head["layers"]), head.get("first_token", False)
        )
        for task, head in document["heads"].items()
    }
    if document["position_ids"] not in ("range", "after_padding"):
        raise ValueError(f"{document['family']}: position_ids {document['position_ids']!r}")
    fields = {
        key: value
        for key, value in document.items()
        if key not in ("heads", "model_types", "inputs")
    }
    return Recipe(
        **fields,
        heads=heads,
        model_types=tuple(document["model_types"]),
        inputs=tuple(document["inputs"]),
    )


def recipes() -> Iterator[Recipe]:
    """Yield every family's recipe, by file name."""
    for path in sorted(data_folder("export").glob("*.toml")):
        yield _parse(tomllib.loads(path.read_text(encoding="utf-8")))


def pad_token_id(config: Mapping[str, Any], default: int) -> int:
    """Return the config's padding token, or the default where it names none.

    Raises:
        EdgeError: it is no whole number.
    """
    value = config.get("pad_token_id")
    if value is not None and type(value) is not int:
        raise EdgeError(f"config.json: found pad_token_id {value!r}, expected a whole number")
    return default if value is None else value


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
