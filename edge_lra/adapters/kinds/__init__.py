"""Adapter kinds: how each is saved, and what it does to a base. One file a kind or its family."""

from edge_lra.adapters.kinds.ia3 import IA3
from edge_lra.adapters.kinds.layers import LAYERS
from edge_lra.adapters.kinds.lora import LORA
from edge_lra.adapters.kinds.low_rank import LowRank
from edge_lra.adapters.kinds.lycoris import LOHA, LOKR
from edge_lra.adapters.kinds.method import Method, Site
from edge_lra.adapters.kinds.oft import BOFT, OFT
from edge_lra.adapters.kinds.update import Update
from edge_lra.adapters.kinds.vera import VERA

METHODS: dict[str, Method] = {
    method.peft_type: method for method in (LORA, LOHA, LOKR, IA3, VERA, OFT, BOFT, LAYERS)
}

__all__ = ["LORA", "METHODS", "LowRank", "Method", "Site", "Update"]
