"""What a bundle would cost on a device: a roofline a node, never shown as measured."""

from edge_lra.profile.estimate.calibration import Calibration, calibrate, default_calibration
from edge_lra.profile.estimate.compare import estimate_error
from edge_lra.profile.estimate.estimate import estimate

__all__ = ["Calibration", "calibrate", "default_calibration", "estimate", "estimate_error"]
