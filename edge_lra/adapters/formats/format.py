"""What an adapter file format is: told by its content, read into PEFT's terms, perhaps written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edge_lra.adapters.formats.place import Place
from edge_lra.adapters.saved import Array, Saved
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import TensorInfo


class Base(Protocol):
    """What a format may ask of the base model; `edge_lra.checkpoint.Checkpoint` has it."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return rows of a tensor as float32."""


class Format(Protocol):
    """One adapter file format.

    Attributes:
        name: the word for it on the command line.
        title: what people call it.
        looks_like: how it is told, in few words, for the error when nothing is found.
    """

    name: str
    title: str
    looks_like: str

    def detect(self, place: Place) -> bool:
        """Say whether the content is of this format; nothing is believed of the user."""

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return the adapter in PEFT's terms.

        Raises:
            EdgeError: it is damaged, incomplete, or says what PEFT's terms cannot.
        """


@runtime_checkable
class Writer(Protocol):
    """A format that adapters are converted to.

    Attributes:
        name: the word for it on the command line.
        title: what people call it.
        suffix: the ending of the one file it is, or None where it is a folder.
    """

    name: str
    title: str
    suffix: str | None

    def write(self, folder: Path, saved: Saved, base: Base | None) -> Path:
        """Write an adapter into an existing, empty folder; return the file or the folder.

        Raises:
            EdgeError: names what this format cannot say.
        """


def need_base(base: Base | None, where: Path | str, title: str, why: str) -> Base:
    """Return the base.

    Raises:
        EdgeError: none was given.
    """
    if base is None:
        raise EdgeError(
            f"{where}: found {title} and no base model, expected one, for it {why}; give --model"
        )
    return base


def heads(base: Base, where: Path | str) -> tuple[int, int]:
    """Return the numbers of query heads and of key and value heads.

    Raises:
        EdgeError: the config does not say.
    """
    config: Mapping[str, Any] = base.config
    count = config.get("num_attention_heads")
    shared = config.get("num_key_value_heads") or count
    if type(count) is not int or type(shared) is not int or min(count, shared) < 1:
        raise EdgeError(
            f"{where}: found num_attention_heads {count!r} in {base.path / 'config.json'}, "
            "expected a whole number, for the rows of queries and keys are reordered by head; "
            "use a complete config"
        )
    return count, shared
