"""Ways to a device: one class each, all with the same few verbs."""

from edge_lra.transport.base import Host, Transport

__all__ = ["Host", "Transport"]
