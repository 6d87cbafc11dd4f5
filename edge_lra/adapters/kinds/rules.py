"""Every option of a PEFT config: honoured, without effect on a trained adapter, or refused."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_lra.errors import EdgeError

logger = logging.getLogger(__name__)
# They choose what is trained and how; the saved tensors already say what came of it.
INERT_EVERYWHERE = frozenset(
    {
        "auto_mapping",
        "exclude_modules",
        "inference_mode",
        "init_weights",
        "layers_pattern",
        "layers_to_transform",
        "peft_version",
        "revision",
        "runtime_config",
        "target_modules",
    }
)
HONOURED_EVERYWHERE = frozenset(
    {"base_model_name_or_path", "modules_to_save", "peft_type", "task_type"}
)


@dataclass(frozen=True)
class Rules:
    """What is done with each option of one kind's config.

    Attributes:
        honoured: it changes the result, and is followed.
        inert: it has no effect once the adapter is trained.
        refused: it changes the computation in a way that is not followed; the value is the one
            that leaves it alone. None always does.
    """

    honoured: frozenset[str] = frozenset()
    inert: frozenset[str] = frozenset()
    refused: Mapping[str, Any] = field(default_factory=dict)

    def says(self, option: str) -> str | None:
        """Return "honoured", "inert" or "refused", or None for an option it does not know."""
        if option in self.honoured | HONOURED_EVERYWHERE:
            return "honoured"
        if option in self.inert | INERT_EVERYWHERE:
            return "inert"
        return "refused" if option in self.refused else None

    def check(self, config: Mapping[str, Any], where: str) -> None:
        """Refuse options that would change the result and are not followed.

        Raises:
            EdgeError: names the option.
        """
        for key, value in config.items():
            known = self.says(key)
            if known in ("honoured", "inert") or value is None:
                continue
            if known == "refused":
                neutral = self.refused[key]
                # An empty list or dict asks for nothing.
                if value == neutral or (neutral is None and value in (False, [], {})):
                    continue
                raise EdgeError(
                    f"{where}: {key}: found {value!r}, expected {neutral!r}; this option is not "
                    "supported, train without it"
                )
            if value not in (False, "", [], {}):
                raise EdgeError(
                    f"{where}: {key}: found {value!r}, expected only options of peft 0.21; "
                    "it may change what the adapter computes"
                )


@dataclass(frozen=True)
class Scale:
    """Rank and alpha by site (LoRA, LoHa, LoKr)."""

    rank: int
    alpha: float
    rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    def site_rank(self, site: str) -> int:
        """Return the rank at a module, named as in the model that was trained."""
        return self.rank_pattern.get(pattern_key(self.rank_pattern, site), self.rank)

    def site_scale(self, site: str) -> float:
        """Return alpha / rank, or alpha / sqrt(rank) (rsLoRA, Kalajdzievski 2023, eq. 5)."""
        rank = self.site_rank(site)
        alpha = self.alpha_pattern.get(pattern_key(self.alpha_pattern, site), self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def read_scale(config: Mapping[str, Any], where: str, alpha: str) -> Scale:
    """Validate rank and alpha of a config; `alpha` is the option's name.

    Raises:
        EdgeError: one is of the wrong type, or alpha is 0.
    """
    return Scale(
        rank=positive(where, "r", config.get("r", 8)),
        alpha=factor(where, alpha, config.get(alpha, 8)),
        rslora=flag(config, where, "use_rslora"),
        rank_pattern={
            key: positive(where, f"rank_pattern {key}", value)
            for key, value in patterns(config, where, "rank_pattern").items()
        },
        alpha_pattern={
            key: factor(where, f"alpha_pattern {key}", value)
            for key, value in patterns(config, where, "alpha_pattern").items()
        },
    )


def pattern_key(patterns: Mapping[str, Any], site: str) -> str:
    """Return the first pattern that matches the end of a name, as `peft.utils.get_pattern_key`."""
    for key in patterns:
        if re.match(rf"(.*\.)?({key})$", site):
            return key
    return site


def warn_unmatched(scale: Scale, modules: Collection[str], where: str) -> None:
    """Name the patterns that match no module: PEFT passes over them, but they may be typos."""
    for option in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(scale, option):
            if not any(re.match(rf"(.*\.)?({pattern})$", module) for module in modules):
                logger.warning("%s: %s: %r matches no adapted module", where, option, pattern)


def wrong(where: str, key: str, value: object, expected: str) -> EdgeError:
    """Return the error of an option's value."""
    return EdgeError(f"{where}: {key}: found {value!r}, expected {expected}; correct the file")


def positive(where: str, key: str, value: object) -> int:
    """Return a whole number of at least 1."""
    if type(value) is not int or value < 1:
        raise wrong(where, key, value, "a whole number of at least 1")
    return value


def number(where: str, key: str, value: object) -> float:
    """Return a finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise wrong(where, key, value, "a finite number")
    return float(value)  # type: ignore[arg-type]


def factor(where: str, key: str, value: object) -> float:
    """Return a finite number that is not 0."""
    if not (found := number(where, key, value)):
        raise wrong(where, key, value, "another number, for 0 switches the adapter off")
    return found


def flag(config: Mapping[str, Any], where: str, key: str) -> bool:
    """Return a boolean option; absent is false."""
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise wrong(where, key, value, "true or false")
    return bool(value)


def text(config: Mapping[str, Any], where: str, key: str) -> str | None:
    """Return a text option, or None."""
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise wrong(where, key, value, "a name")
    return value or None


def names(config: Mapping[str, Any], where: str, key: str) -> tuple[str, ...]:
    """Return an option that is a list of names."""
    value = config.get(key) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise wrong(where, key, value, "a list of names")
    return tuple(value)


def patterns(config: Mapping[str, Any], where: str, key: str) -> dict[str, Any]:
    """Return an option that gives values to names by regular expressions."""
    found = config.get(key) or {}
    if not isinstance(found, dict):
        raise wrong(where, key, found, "names with values")
    for pattern in found:
        try:
            re.compile(rf"(.*\.)?({pattern})$")
        except re.error:
            raise wrong(where, key, pattern, "a regular expression") from None
    return found
