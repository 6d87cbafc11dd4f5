"""A kind of adapter as PEFT saves it: its options, its tensors, and what they do to a base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_lra.adapters.kinds.rules import Rules
from edge_lra.adapters.kinds.update import Array, Update
from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class Site:
    """One adapted module: what the file has for it and what the base has.

    Attributes:
        where: file and module, for messages.
        module: its name in the model that was trained.
        parts: the file's tensors by the rest of their name, such as "lora_A.weight".
        shape: of the stored base weight; None while no base is known.
        has_bias: whether the base has a bias there.
        transposed: the base stores (in, out), as GPT-2's Conv1D does.
    """

    where: str
    module: str
    parts: Mapping[str, Array]
    shape: tuple[int, ...] | None
    has_bias: bool
    transposed: bool

    def take(self, *names: str) -> list[Array]:
        """Return parts by name.

        Raises:
            EdgeError: names the part that is missing.
        """
        for name in names:
            if name not in self.parts:
                raise EdgeError(
                    f"{self.where}: found no {name}, expected it; "
                    "the adapter is incomplete, save it again"
                )
        return [self.parts[name] for name in names]

    def fits(self, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        """Refuse an update of another shape than the base weight's.

        Raises:
            EdgeError: names the site and both shapes.
        """
        if found != wanted:
            raise EdgeError(
                f"{self.where}: found an update of {found}, the base weight needs {wanted}; "
                "is this adapter for another base?"
            )

    def outputs(self) -> int:
        """Return the number of outputs of the base weight."""
        assert self.shape is not None
        return self.shape[1] if self.transposed else self.shape[0]

    def refuse_transposed(self, kind: str) -> None:
        """Refuse a weight stored (in, out), where PEFT has no such kind."""
        if self.transposed:
            raise EdgeError(
                f"{self.where}: found {kind} on a weight stored (in, out), expected a linear "
                "layer's; PEFT has none there, is this adapter for another base?"
            )


Updates = dict[str, Update]  # by "weight" and "bias"


Sites = Mapping[str, Mapping[str, Array]]  # parts by module


def check_nothing(_options: Any, _sites: Sites, _where: str) -> None:
    """Accept the sites as they are."""


def weight_of(module: str, _options: Any) -> str:
    """Return the tensor that a module's update is for."""
    return f"{module}.weight"


@dataclass(frozen=True)
class Method:
    """How one `peft_type` is read.

    Attributes:
        parts: the names its tensors end in, as PEFT saves them.
        parse: validates the config; what it returns is handed to `read`.
        read: returns a site's updates of the base.
        shared: names of tensors that all sites use.
        place: returns the tensor that a module's update is for.
        check: holds the options against all sites together.
    """

    peft_type: str
    rules: Rules
    parts: tuple[str, ...]
    parse: Callable[[Mapping[str, Any], str], Any]
    read: Callable[[Site, Any, Mapping[str, Array]], Updates]
    shared: tuple[str, ...] = ()
    place: Callable[[str, Any], str] = weight_of
    check: Callable[[Any, Sites, str], None] = check_nothing
