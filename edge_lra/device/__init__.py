"""Devices: what is known of the machines a bundle may run on, one TOML each in `devices/`."""

from edge_lra.device.find import HOST, known_devices, load_device, matches
from edge_lra.device.model import Cluster, Device, Figure

__all__ = [
    "HOST",
    "Cluster",
    "Device",
    "Figure",
    "known_devices",
    "load_device",
    "matches",
]
