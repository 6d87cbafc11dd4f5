"""Rotary position tables (Su et al. 2021), with the scalings that models ship with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.errors import EdgeError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rope:
    """How fast each pair of a head's channels turns.

    Attributes:
        frequencies: (head_size / 2,) radians a position, float32.
        attention_factor: what cosine and sine are multiplied by.
    """

    frequencies: Array
    attention_factor: float = 1.0

    def tables(self, positions: int) -> tuple[Array, Array]:
        """Return cosines and sines (positions, head_size / 2), float32.

        Angles are rounded to float32 as transformers rounds them: at position 8000 that moves an
        angle by up to 5e-4, which the trained model has seen.
        """
        steps = np.arange(positions, dtype=np.float32)[:, None]
        angles = (steps * self.frequencies).astype(np.float64)
        cosine, sine = np.cos(angles), np.sin(angles)
        factor = self.attention_factor
        return (cosine * factor).astype(np.float32), (sine * factor).astype(np.float32)


def read_rope(parameters: Mapping[str, Any], head_size: int) -> Rope:
    """Return the rotation that a config's `rope_parameters` describe.

    Raises:
        EdgeError: a scaling, or a value in it, that is not supported; the message names it.
    """
    kind = parameters.get("rope_type", "default")
    if kind not in SCALINGS:
        raise EdgeError(
            f"config.json: found rope_type {kind!r}, expected one of {', '.join(SCALINGS)}; "
            "export with the base's unscaled context, or through a module of your own"
        )
    part = parameters.get("partial_rotary_factor", 1.0)
    if part != 1.0:
        raise EdgeError(
            f"config.json: found partial_rotary_factor {part!r}, expected 1.0; "
            "this variant is not supported"
        )
    theta = _number(parameters, "rope_theta")
    exponents = np.arange(0, head_size, 2, dtype=np.float64) / head_size
    frequencies, factor = SCALINGS[kind](1.0 / theta**exponents, parameters)
    return Rope(frequencies.astype(np.float32), factor)


def _number(parameters: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = parameters.get(name)
    value = default if value is None else value
    if not isinstance(value, int | float) or not value > 0:
        raise EdgeError(
            f"config.json: rope_parameters: found {name} {value!r}, expected a number above 0; "
            "fetch the checkpoint again"
        )
    return float(value)


def _plain(frequencies: Array, parameters: Mapping[str, Any]) -> tuple[Array, float]:
    return frequencies, 1.0


def _linear(frequencies: Array, parameters: Mapping[str, Any]) -> tuple[Array, float]:
    """Stretch all wavelengths (kaiokendev 2023)."""
    return frequencies / _number(parameters, "factor"), 1.0


def _llama3(frequencies: Array, parameters: Mapping[str, Any]) -> tuple[Array, float]:
    """Stretch long wavelengths, keep short ones, blend between (Llama 3.1's reference code)."""
    factor = _number(parameters, "factor")
    low, high = (_number(parameters, f"{end}_freq_factor") for end in ("low", "high"))
    context = _number(parameters, "original_max_position_embeddings")
    wavelengths = 2 * math.pi / frequencies
    blend = (context / wavelengths - low) / (high - low)
    mixed = (1 - blend) * frequencies / factor + blend * frequencies
    scaled = np.where(wavelengths > context / low, frequencies / factor, mixed)
    return np.where(wavelengths < context / high, frequencies, scaled), 1.0


def _yarn(frequencies: Array, parameters: Mapping[str, Any]) -> tuple[Array, float]:
    """Blend by the number of turns over the old context (YaRN, Peng et al. 2023, eq. 23)."""
    factor = _number(parameters, "factor")
    context = _number(parameters, "original_max_position_embeddings")
    theta = _number(parameters, "rope_theta")
    pairs = len(frequencies)

    def place(turns: float) -> float:
        return 2 * pairs * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = place(_number(parameters, "beta_fast", 32))
    high = place(_number(parameters, "beta_slow", 1))
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    width = high - low or 0.001
    ramp = np.clip((np.arange(pairs) - low) / width, 0, 1)
    scaled = frequencies / factor * ramp + frequencies * (1 - ramp)
    return scaled, _yarn_attention(factor, parameters)


def _yarn_attention(factor: float, parameters: Mapping[str, Any]) -> float:
    given = parameters.get("attention_factor")
    if given is not None:
        return float(given)

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    own, every = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return scale(own) / scale(every) if own and every else scale(1.0)


SCALINGS: dict[str, Callable[[Array, Mapping[str, Any]], tuple[Array, float]]] = {
    "default": _plain,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
