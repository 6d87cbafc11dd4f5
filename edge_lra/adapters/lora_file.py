"""A plain LoRA by itself: factors by module, read one site at a time, without a base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_lra.adapters.kinds import LORA, LowRank, Site
from edge_lra.adapters.kinds.lora import Options
from edge_lra.adapters.names import Sorted, method_of, sort_tensors
from edge_lra.adapters.saved import Array, Saved, read_saved
from edge_lra.adapters.write import read_labels
from edge_lra.errors import EdgeError

FACTORS = {"lora_A.weight", "lora_B.weight"}


class Sites(Mapping[str, LowRank]):
    """Factors by module name, as in the model that was trained; each read when asked for."""

    def __init__(self, saved: Saved, tensors: Sorted, options: Options, kernels: bool) -> None:
        """Take what was read of the file, and whether convolutions are welcome."""
        self._saved, self._tensors, self._options = saved, tensors, options
        self._kernels = kernels

    def __getitem__(self, module: str) -> LowRank:
        """Read a module's factors.

        Raises:
            EdgeError: they are damaged, do not fit the settings, or are an unwelcome
                convolution's.
        """
        where = f"{self._saved.file}: {module}"
        parts = dict(self._tensors.sites[module])
        if not self._kernels and any(values.ndim > 2 for values in parts.values()):
            raise EdgeError(
                f"{where}: found a convolution's factors, expected those of linear layers; this "
                "works on plain low-rank factors"
            )
        site = Site(where, module, parts, None, False, False)
        update = LORA.read(site, self._options, {})["weight"]
        assert isinstance(update, LowRank)
        return update

    def __iter__(self) -> Iterator[str]:
        """Yield the modules."""
        return iter(self._tensors.sites)

    def __len__(self) -> int:
        """Return how many modules there are."""
        return len(self._tensors.sites)


@dataclass(frozen=True)
class LoraFile:
    """A plain LoRA.

    Attributes:
        saved: its files.
        sites: factors by module.
        whole: whole tensors (a head, say) by name.
        labels: names of its outputs, where it brings them.
    """

    saved: Saved
    sites: Mapping[str, LowRank]
    whole: Mapping[str, Array]
    labels: tuple[str, ...] | None


def open_lora(path: str | Path, kernels: bool = False) -> LoraFile:
    """Open a LoRA of linear layers without its base.

    Args:
        path: its folder or file.
        kernels: read those of convolutions too, as matrices (out, in * ..).

    Raises:
        EdgeError: as `read_adapter`, or the adapter is more than low-rank factors.
    """
    saved = read_saved(path)
    where = str(saved.config_file)
    method = method_of(saved.config, where)
    if method is not LORA:
        raise EdgeError(
            f"{where}: peft_type: found {method.peft_type}, expected LORA; this works on plain "
            "low-rank factors"
        )
    LORA.rules.check(saved.config, where)
    options = LORA.parse(saved.config, where)
    tensors = sort_tensors(saved.file, saved.tensors, LORA)
    for module, parts in tensors.sites.items():
        if set(parts) != FACTORS:
            odd = ", ".join(sorted(set(parts) ^ FACTORS))
            raise EdgeError(
                f"{saved.file}: {module}: found {odd} more or less than the two factors of a "
                "linear layer, expected lora_A.weight and lora_B.weight; this works on plain "
                "low-rank factors"
            )
    return LoraFile(
        saved, Sites(saved, tensors, options, kernels), tensors.plain, read_labels(saved.path)
    )
