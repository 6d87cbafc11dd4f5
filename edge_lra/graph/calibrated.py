"""Norms, residuals and what their readers know: an encoder treated by what calibration found."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edge_lra.graph.factors import Slot
from edge_lra.graph.modules import ModuleWriter, Smoothed
from edge_lra.graph.plan import SHIFT, Plan, write_shift
from edge_lra.quantize.calibrate import EncoderRun, random_tokens
from edge_lra.quantize.mixed import READS, TrialRun, finer_sites
from edge_lra.quantize.readings import Couplings, Extra, Known, MomentFile, Reading
from edge_lra.quantize.smooth import COMPENSATED, STRENGTH, norm_divisor, norm_shift
from edge_lra.recipe import EncoderRecipe, pad_token_id
from edge_lra.weights import Array, Folded


class CalibratedWriter(ModuleWriter):
    """Writes an encoder's norms for readers that round what they read."""

    def __init__(self, plan: Plan) -> None:
        """Prepare an empty graph."""
        super().__init__(plan)
        recipe = plan.recipe
        if not isinstance(recipe, EncoderRecipe):
            raise TypeError(f"{recipe.family} is no encoder")
        self.recipe = recipe
        self.readings: Mapping[str, Reading] = {}
        self.couplings = Couplings()
        self.metadata: dict[str, str] = {}  # of the model
        # A gain scales a product before its bias, which could not take in what x was centred by.
        gains = any(slot.gain for slot in plan.slots.values())
        self.centres = plan.remedies.centring and not gains
        self.epsilon = recipe.small(plan.config, "layer_norm_eps", 1e-12)

    def norm(self, x: ir.Value, module: str, last: bool = False) -> ir.Value:
        """Normalize the last axis; a quantized reader gets the output centred and divided.

        Args:
            x: (.., hidden).
            module: the norm's name.
            last: no linear of a layer reads it.
        """
        gamma, beta = f"{module}.weight", f"{module}.bias"
        reading = self.readings.get(module)
        if reading is None or last or not self.treats:
            parts = [x, self.vector(gamma), self.vector(beta)]
            whole = self.graph.op("LayerNormalization", parts, axis=-1, epsilon=self.epsilon)
            return whole if reading is None or last else self.learn(whole, reading)
        shift, divisor = self.treatment(reading)
        scale = 1 / divisor
        centred = Folded(beta, self.source(beta), added=-shift, scale=scale)
        parts = [x, self.vector(gamma, column_scale=scale), self.graph.stored(centred)[0]]
        value = self.graph.op("LayerNormalization", parts, axis=-1, epsilon=self.epsilon)
        self.learn(value, reading.shifted(shift, scale))
        whole = self.graph.op("Mul", [value, self.graph.constant(divisor.astype(np.float32))])
        moved = shift if self.centres else None
        self.smoothed[str(whole.name)] = Smoothed(value, divisor, moved)
        return whole

    @property
    def treats(self) -> bool:
        """Whether norms are centred or divided for what reads them."""
        return self.plan.scheme.smooths and (self.plan.remedies.smoothing or self.centres)

    def treatment(self, reading: Reading) -> tuple[Array, Array]:
        """Return what a norm's channels are shifted by and divided by, (hidden,) each."""
        remedies, width = self.plan.remedies, len(reading.low)
        shift, divisor = np.zeros(width), np.ones(width)
        if self.centres:
            shift = norm_shift(reading.low, reading.high)
        if remedies.smoothing:
            compensated = remedies.gptq and reading.moment is not None
            extreme = reading.shifted(shift, divisor).extreme
            divisor = norm_divisor(extreme, COMPENSATED if compensated else STRENGTH)
        return shift, divisor

    @property
    def static(self) -> bool:
        """Whether activations are rounded by calibrated ranges.

        Built-in text reaches wider than what a model is used for: ranges of it are too coarse.
        Adapters that come as inputs move ranges, and which will come is not known.
        """
        calibration = self.plan.calibration
        own = calibration is not None and calibration.own and not self.plan.slots
        return self.plan.remedies.static_scales and own

    def learn(self, x: ir.Value, reading: Reading) -> ir.Value:
        """Let the products that read x know what calibration found of it; return x."""
        remedies, span = self.plan.remedies, None
        if self.static:
            span = float(reading.low.min()), float(reading.high.max())
        coupling = None
        if remedies.gptq and reading.moment is not None:
            coupling = self.couplings.later(reading.moment)
        extra = None
        if self.plan.extra_rank and reading.moment is not None:
            extra = Extra(self.plan.extra_rank, reading.moment)
        self.known[str(x.name)] = Known(span, coupling, extra)
        return x

    def residual_norm(self, x: ir.Value, y: ir.Value, module: str, last: bool = False) -> ir.Value:
        """Add and normalize. Sum, not Add: ORT fuses Add + LayerNorm into a scalar loop."""
        return self.norm(self.graph.op("Sum", [x, y]), module, last)

    def carried(self, x: ir.Value, module: str) -> tuple[ir.Value, Array | None]:
        """Return what a residual adds of x to a linear's output, and what its bias adds for it.

        Where x was centred its bias takes the shift in, unless an adapter of two layers stands
        between the two.
        """
        smooth = self.smoothed.get(str(x.name))
        slot = self.factors.slots.get(self.source(f"{module}.weight").tensor, Slot())
        if smooth is None or smooth.shift is None or slot.layers is not None:
            return self.exact(x), None
        return x, smooth.shift

    def rename(self, x: ir.Value, name: str) -> None:
        """Give a layer's output its name, and say what is to be added to it to be that."""
        smooth = self.smoothed.pop(str(x.name), None)
        known = self.known.pop(str(x.name), None)
        x.name = name
        if known is not None:
            self.known[name] = known
        if smooth is None:
            return
        self.smoothed[name] = smooth
        if smooth.shift is not None:
            self.metadata[SHIFT + name] = write_shift(smooth.shift)

    def calibrate(self) -> dict[str, Reading]:
        """Return what calibration finds of the values that linears read."""
        plan = self.plan
        if plan.texts:
            parts = self.recipe, plan.config, self.epsilon, self.source, MomentFile()
            sites = self.mixed_sites()
            if not sites:
                return EncoderRun(*parts).run(plan.texts, plan.types)
            trials = TrialRun(*parts, sites, plan.remedies.gptq)
            readings = trials.run(plan.texts, plan.types)
            self.finer = finer_sites(trials.changes)
            return readings
        vocabulary = self.source(self.recipe.embeddings["word"]).shape[0]
        positions = self.source(self.recipe.embeddings["position"]).shape[0]
        after = self.recipe.position_ids == "after_padding"
        pad_id = pad_token_id(plan.config, 1 if after else 0)
        if after:
            positions -= pad_id + 1
        ids = random_tokens(vocabulary, positions, pad_id)
        return EncoderRun(self.recipe, plan.config, self.epsilon, self.source).run(list(ids))

    def mixed_sites(self) -> list[str]:
        """Return the modules whose bits are to be chosen."""
        if not self.plan.remedies.mixed_bits:
            return []
        layers = range(self.recipe.count(self.plan.config, "layers"))
        names = [self.recipe.layer[role].format(i=i) for i in layers for role in READS]
        chooses = self.plan.scheme.chooses_bits
        return [name for name in names if chooses(self.source(f"{name}.weight"))]
