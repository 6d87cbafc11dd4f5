"""Two fully connected layers behind or beside a frozen linear, put into a model and taken out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edge_lra.adapters.kinds.layers import KINDS
from edge_lra.errors import EdgeError

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "linear": lambda x: x,
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}
# Houlsby et al. 2019 adapt both, Pfeiffer et al. 2020 the feed-forward output alone.
ATTENTION = r"attention\.output\.dense|attention\.out_lin|self_attn\.o_proj|attn\.c_proj"
FEED_FORWARD = r"(?<!attention\.)output\.dense|ffn\.lin2|mlp\.down_proj|mlp\.c_proj"
SITES = {
    "attention-output": ATTENTION,
    "ffn-output": FEED_FORWARD,
    "both": f"{ATTENTION}|{FEED_FORWARD}",
}
ALL_LINEAR = "all-linear"


class LowRankAdapter(nn.Module):
    """A linear with an adapter of two layers (Houlsby et al. 2019; He et al. 2022 for parallel).

        serial            s (U a(D y + c) + u)
        serial-residual   y + s (U a(D y + c) + u)
        parallel          y + s (U a(D x + c) + u)

    x (.., in) is what the linear reads and y (.., out) what it returns. The forms that keep y
    begin as the linear itself, for U and u begin at 0; `serial` begins as a random projection to
    `rank` dimensions and back.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        rank: int,
        kind: str = "serial-residual",
        activation: str = "linear",
        scale: float = 1.0,
    ) -> None:
        """Wrap a linear.

        Args:
            base_layer: an nn.Linear, or a Conv1D of transformers with its weight as (in, out).
            rank: width between the two layers.
            kind: one of `KINDS`.
            activation: between the layers, one of `ACTIVATIONS`.
            scale: s.

        Raises:
            EdgeError: the kind or activation is unknown, or the module is no linear.
        """
        super().__init__()
        if kind not in KINDS or activation not in ACTIVATIONS or rank < 1:
            raise EdgeError(
                f"adapter: found {kind}, {activation}, rank {rank}, expected one of "
                f"{', '.join(KINDS)}, one of {', '.join(ACTIVATIONS)}, and a rank of at least 1"
            )
        inputs, outputs = linear_size(base_layer)
        weight: Any = base_layer.weight
        options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        self.base_layer = base_layer
        self.kind, self.activation, self.scale = kind, activation, scale
        self.enabled = True
        self.adapter_down = nn.Linear(inputs if kind == "parallel" else outputs, rank, **options)
        self.adapter_up = nn.Linear(rank, outputs, **options)
        nn.init.zeros_(self.adapter_down.bias)
        nn.init.zeros_(self.adapter_up.bias)
        if kind == "serial":
            nn.init.orthogonal_(self.adapter_down.weight)
            with torch.no_grad():
                self.adapter_up.weight.copy_(self.adapter_down.weight.T)
        else:
            nn.init.zeros_(self.adapter_up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the adapted output (.., out) for x (.., in)."""
        y: torch.Tensor = self.base_layer(x)
        if not self.enabled:
            return y
        inner = ACTIVATIONS[self.activation](self.adapter_down(x if self.kind == "parallel" else y))
        change: torch.Tensor = self.scale * self.adapter_up(inner)
        return change if self.kind == "serial" else y + change


def linear_size(module: nn.Module) -> tuple[int, int]:
    """Return inputs and outputs of a linear.

    Raises:
        EdgeError: the module is none.
    """
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":
        inputs, outputs = module.weight.shape  # type: ignore[misc]
        return int(inputs), int(outputs)
    raise EdgeError(
        f"adapter: found a {type(module).__name__}, expected a linear layer; choose other sites"
    )


@dataclass
class Inserted:
    """What `insert` put into a model.

    Attributes:
        model: the model.
        sites: names of the modules that are adapted.
        trainable: number of parameters that will be trained.
        total: number of all parameters, the adapters' included.
    """

    model: nn.Module
    sites: list[str]
    trainable: int
    total: int
    _required: dict[str, bool]

    def remove(self) -> None:
        """Put the model's own modules back, as they were."""
        for name in self.sites:
            parent, child = _parent(self.model, name)
            setattr(parent, child, getattr(parent, child).base_layer)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = self._required[name]


def insert(
    model: nn.Module,
    sites: str | Sequence[str],
    kind: str,
    rank: int,
    activation: str = "linear",
    scale: float = 1.0,
    train: Sequence[str] = (),
) -> Inserted:
    """Replace linears in their parents by adapted ones; freeze everything but the adapters.

    Args:
        model: changed in place; `Inserted.remove` undoes it.
        sites: what `find_sites` takes.
        kind: one of `KINDS`.
        rank: width between the two layers.
        activation: between them.
        scale: of what they add.
        train: modules trained beside the adapters, such as a head.

    Raises:
        EdgeError: a name matches no linear.
    """
    found = find_sites(model, sites, train)
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    adapters = {
        name: LowRankAdapter(model.get_submodule(name), rank, kind, activation, scale)
        for name in found
    }
    for parameter in model.parameters():
        parameter.requires_grad = False
    for name in train:
        for parameter in model.get_submodule(name).parameters():
            parameter.requires_grad = True
    for name, adapter in adapters.items():
        parent, child = _parent(model, name)
        setattr(parent, child, adapter)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return Inserted(model, found, trainable, total, required)


def find_sites(
    model: nn.Module, sites: str | Sequence[str], apart: Sequence[str] = ()
) -> list[str]:
    """Return the names of the linears that `sites` means.

    Args:
        model: where they are looked for.
        sites: keys of `SITES`, `ALL_LINEAR`, or ends of modules' names; one or several.
        apart: modules trained whole, which `ALL_LINEAR` leaves alone, as it does a language
            model's head.

    Raises:
        EdgeError: one of them matches none.
    """
    names = [name for name, module in model.named_modules() if _is_linear(module)]
    wanted = [sites] if isinstance(sites, str) else list(sites)
    found = {site: _matches(model, names, site, apart) for site in wanted}
    if missing := [site for site, matches in found.items() if not matches]:
        raise EdgeError(
            f"sites: found no linear for {', '.join(missing)}, expected {', '.join(SITES)}, "
            f"{ALL_LINEAR} or the end of a name such as {names[0] if names else 'none'}"
        )
    return [name for name in names if any(name in matches for matches in found.values())]


def _matches(model: Any, names: Sequence[str], site: str, apart: Sequence[str]) -> list[str]:
    if site in SITES:
        return [name for name in names if re.search(rf"(?:{SITES[site]})$", name)]
    if site != ALL_LINEAR:
        return [name for name in names if name == site or name.endswith(f".{site}")]
    outputs = getattr(model, "get_output_embeddings", lambda: None)()
    return [
        name
        for name in names
        if not any(f"{name}.".startswith(f"{module}.") for module in apart)
        and (outputs is None or model.get_submodule(name) is not outputs)
    ]


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _parent(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, child = name.rpartition(".")
    return model.get_submodule(path), child
