"""VeRA: random factors that all sites share, scaled by trained vectors (Kopiczko et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_lra.adapters.kinds.low_rank import LowRank
from edge_lra.adapters.kinds.method import Method, Site, Updates
from edge_lra.adapters.kinds.rules import Rules, positive
from edge_lra.adapters.kinds.update import Array
from edge_lra.errors import EdgeError


def parse(config: Mapping[str, Any], where: str) -> int:
    """Validate a VeraConfig; return its rank."""
    if config.get("save_projection") is False:
        raise EdgeError(
            f"{where}: save_projection: found false, so the shared projections are not in the "
            "file, expected true; save the adapter again with save_projection=True"
        )
    return positive(where, "r", config.get("r", 256))


def read(site: Site, rank: int, shared: Mapping[str, Array]) -> Updates:
    """Return W' = W + (b * B)(d * A), A and B cut to the site's width (VeRA, eq. 2)."""
    down_scale, up_scale = site.take("vera_lambda_d", "vera_lambda_b")
    missing = [name for name in ("vera_A", "vera_B") if name not in shared]
    if missing:
        raise EdgeError(
            f"{site.where}: found no base_model.{missing[0]}, expected the shared projection; "
            "save the adapter again with save_projection=True"
        )
    down, up = shared["vera_A"], shared["vera_B"]
    outputs, inputs = len(up_scale), down.shape[1]
    if site.shape is not None:
        inputs = site.shape[0] if site.transposed else site.shape[1]
        site.fits((outputs,), (site.outputs(),))
    if len(down_scale) != rank or inputs > down.shape[1] or outputs > len(up):
        raise EdgeError(
            f"{site.where}: found rank {len(down_scale)} and projections {down.shape}, "
            f"{up.shape}, expected rank {rank} and at least {inputs} inputs and {outputs} "
            "outputs; is this adapter for another base?"
        )
    scaled_down = down_scale.astype(np.float64)[:, None] * down[:rank, :inputs]
    scaled_up = up_scale.astype(np.float64)[:, None] * up[:outputs, :rank]
    return {"weight": LowRank(scaled_down, scaled_up, 1.0, site.transposed)}


VERA = Method(
    "VERA",
    Rules(
        frozenset({"bias", "fan_in_fan_out", "r", "save_projection"}),
        frozenset({"d_initial", "projection_prng_key", "vera_dropout"}),
    ),
    ("vera_lambda_b", "vera_lambda_d"),
    parse,
    read,
    shared=("vera_A", "vera_B"),
)
