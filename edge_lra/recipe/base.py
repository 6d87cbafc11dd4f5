"""What every family's recipe says: its tensors' names and the config keys of its sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class HeadLayer:
    """One linear of a task head; `encoder` says that it lives under the encoder's prefix."""

    linear: str
    activation: str | None = None
    encoder: bool = False


@dataclass(frozen=True)
class Head:
    """The layers after a model; `first_token` heads read token 0 only."""

    layers: tuple[HeadLayer, ...]
    first_token: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """The roles of a family's tensors and the config keys of its sizes.

    Attributes:
        heads: what comes after the model, by task, where an adapter may bring it.
        tasks: what models of this kind can be exported for.
    """

    family: str
    model_types: tuple[str, ...]
    prefix: str
    inputs: tuple[str, ...]
    config: Mapping[str, str]
    embeddings: Mapping[str, str]
    layer: Mapping[str, str]
    heads: Mapping[str, Head] = field(default_factory=dict)

    tasks: ClassVar[tuple[str, ...]] = ()

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

    def small(self, config: Mapping[str, Any], name: str, default: float) -> float:
        """Return a number in [0, 1) of the config, such as a norm's epsilon.

        Args:
            config: the checkpoint's.
            name: of the config's entry.
            default: where it has none.
        """
        value = config.get(name, default)
        if not isinstance(value, float | int) or not 0 <= value < 1:
            raise EdgeError(
                f"config.json: found {name} {value!r}, expected a small number; "
                "fetch the checkpoint again"
            )
        return float(value)

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
        plain = {
            name.removeprefix(prefixes[0]): name for name in tensors if name.startswith(prefixes[0])
        }
        outside = self.outside(prefixes[0])
        return plain | {name: tensor for name, tensor in outside.items() if tensor in tensors}

    @abstractmethod
    def outside(self, prefix: str) -> dict[str, str]:
        """Return the checkpoint's names of tensors that may stand without the prefix.

        Args:
            prefix: what all others begin with in this checkpoint.
        """

    @abstractmethod
    def head_tensors(self, task: str) -> tuple[str, ...]:
        """Return the tensor names (without the prefix) of a task's head."""


def pad_token_id(config: Mapping[str, Any], default: int) -> int:
    """Return the config's padding token, or the default where it names none.

    Raises:
        EdgeError: it is no whole number.
    """
    value = config.get("pad_token_id")
    if value is not None and type(value) is not int:
        raise EdgeError(f"config.json: found pad_token_id {value!r}, expected a whole number")
    return default if value is None else value
