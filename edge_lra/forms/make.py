"""Make a plan: measure error and time of every form, and choose under the user's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_lra.calibration import Encoded, held_out
from edge_lra.errors import EdgeError
from edge_lra.forms.choose import Bounds, Chosen, Cost, Costs, Site, choose
from edge_lra.forms.linears import Linear, find_linears
from edge_lra.forms.plan import LIMITS, FormPlan
from edge_lra.forms.sizes import file_bytes, form_bytes
from edge_lra.forms.times import FormTimes, measure_times, refuse_emulated, rows_of
from edge_lra.forms.trials import FormTrials
from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.graph.plan import Plan
from edge_lra.inputs import ExportRequest, Progress, read_inputs
from edge_lra.planning import make_plan
from edge_lra.quantize.schemes import FORMS, USUAL
from edge_lra.recipe import DecoderRecipe
from edge_lra.task import max_length
from edge_lra.traced.route import needs_trace
from edge_lra.transport import Transport

NEARLY = 1.02  # of the room for changes: more would hardly be another choice
ROUNDS = 8  # of choosing by the sum of changes and holding against a run of them all
NOTHING = 1e-12  # squared error of linears that change less than embeddings vary
MIB = 2**20
TOKENS = 128
TRIED = 24  # texts


@dataclass(frozen=True)
class Found:
    """A plan and what it was chosen by.

    Attributes:
        plan: to be written.
        costs: of all forms.
        chosen: forms and why.
        usual: what int8 throughout has of each of `LIMITS`.
        missing: why a form cannot be had on the device, by form.
    """

    plan: FormPlan
    costs: Costs
    chosen: Chosen
    usual: Mapping[str, float]
    missing: Mapping[str, str]


def plan_forms(
    request: ExportRequest,
    way: Transport,
    limits: Mapping[str, float],
    device: str | None = None,
    tokens: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Found:
    """Choose the forms of an encoder's linears.

    Args:
        request: what would be exported; nothing is written.
        way: to the device whose times count.
        limits: by the names of `LIMITS`.
        device: its name; None for its processor's.
        tokens: of the one text whose products are timed; None for 128, or all that fit.
        threads: that multiply.
        progress: told the stage, and how many of how many are done.

    Raises:
        EdgeError: the model has no plan, the device no times, or a limit cannot be kept.
    """
    check(request, limits)
    device = device or way.probe().cpu  # which may find that it is emulated
    refuse_emulated(way)
    build, held, longest = open_encoder(request)
    linears, plan = find_linears(build), build.plan
    tokens = tokens or min(TOKENS, longest)
    if tokens > longest:
        raise EdgeError(f"tokens: found {tokens}, expected at most the model's {longest}")
    tell = progress or (lambda stage, done, total: None)
    tell("times", 0, 1)
    times = measure_times(linears, plan.remedies.outliers, build.static, way, tokens, threads)
    tell("times", 1, 1)
    tell("errors", 0, 1)
    trials = FormTrials(build, held)
    trials.run(plan.texts, plan.types)
    foreseen = Foreseen(trials, plan, linears)
    costs = join_costs(plan, linears, trials, times, tokens)
    found = solve(costs, foreseen, limits)
    more = foreseen.nbytes(found.forms) - costs.nbytes(found.forms)
    if foreseen.nbytes(found.forms) > limits.get("size_mib", math.inf) * MIB:
        costs = replace(costs, rest_bytes=costs.rest_bytes + more)  # gaps between tensors
        found = solve(costs, foreseen, limits)
    tell("errors", 1, 1)
    forms = {name: form for name, form in found.forms.items() if form != USUAL}
    usual = costs.throughout(USUAL)
    written = FormPlan(
        forms,
        device,
        tokens,
        threads,
        {key: float(limits[key]) for key in LIMITS if key in limits},
        describe(costs, foreseen, found.forms),
        1 + max(linear.layer for linear in linears),
    )
    return Found(written, costs, found, describe(costs, foreseen, usual), times.missing)


def open_encoder(request: ExportRequest) -> tuple[EncoderBuilder, Encoded, int]:
    """Return the builder of an export, texts that do not calibrate it, and its longest text.

    Raises:
        EdgeError: it is no encoder, or has no tokenizer.
    """
    inputs = read_inputs(request)
    if isinstance(inputs.recipe, DecoderRecipe):
        raise EdgeError(
            f"plan: found family {inputs.recipe.family}, expected an encoder; language models have "
            "one scheme throughout"
        )
    plan = make_plan(request, inputs)
    if not plan.texts:
        raise EdgeError(
            f"{inputs.checkpoint.path}: found no tokenizer.json, expected one: errors are measured "
            "on text; add the file"
        )
    longest = max_length(inputs.checkpoint, plan.config, inputs.recipe, inputs.task)
    held = held_out(inputs.checkpoint, request.data, longest, TRIED, inputs.task, inputs.typed)
    return EncoderBuilder(plan), held, longest


def check(request: ExportRequest, limits: Mapping[str, float]) -> None:
    """Refuse what no plan can be made for.

    Raises:
        EdgeError: names it.
    """
    if needs_trace(request):
        raise EdgeError("plan: found a model that is traced, expected an encoder with a recipe")
    for name, value in limits.items():
        if name not in LIMITS:
            raise EdgeError(f"limit: found {name!r}, expected one of {', '.join(LIMITS)}")
        if not 0 < value < math.inf:
            raise EdgeError(f"limit {name}: found {value:g}, expected a number of more than 0")
    if request.scheme != USUAL:
        raise EdgeError(f"plan: found quantize {request.scheme}, expected {USUAL}, which it mixes")
    if request.keep_float:
        raise EdgeError(
            f"plan: found keep float {request.keep_float[0]}, expected none; the plan says which "
            "linears are float32"
        )
    if request.extra_rank:
        raise EdgeError(
            f"plan: found extra rank {request.extra_rank}, expected none: what it takes off the "
            "error and adds in time is not foreseen"
        )


class Foreseen:
    """The error of the last layer's output and the size of the weights' file, each found once."""

    def __init__(self, trials: FormTrials, plan: Plan, linears: Sequence[Linear]) -> None:
        """Take trials that were run."""
        self._trials, self._plan = trials, plan
        self._modules = {linear.name: linear.module for linear in linears}
        self._errors: dict[tuple[str, ...], float] = {}
        self._sizes: dict[tuple[str, ...], int] = {}

    def error(self, forms: Mapping[str, str]) -> float:
        """Return the relative L2 error with the linears in forms, by the checkpoint's names."""
        key = tuple(forms.values())
        if key not in self._errors:
            inside = {self._modules[name]: form for name, form in forms.items()}
            self._errors[key] = self._trials.error(inside)
        return self._errors[key]

    def nbytes(self, forms: Mapping[str, str]) -> int:
        """Return the size of the weights' file with the linears in forms."""
        key = tuple(forms.values())
        if key not in self._sizes:
            self._sizes[key] = file_bytes(self._plan, self._trials.readings, forms)
        return self._sizes[key]


def join_costs(
    plan: Plan, linears: Sequence[Linear], trials: FormTrials, times: FormTimes, tokens: int
) -> Costs:
    """Return error, time and size of every form."""
    sizes, rest = form_bytes(plan, trials.readings, linears)
    sites = []
    for linear in linears:
        shape = rows_of(linear, tokens)
        costs = {}
        for form in FORMS:
            if (shape, form) not in times.products:
                continue
            us = times.products[shape, form]
            if form == USUAL and linear.role == "down":
                us += times.outliers.get(shape, 0.0)
            lost = trials.lost.get((linear.module, form), 0.0)
            costs[form] = Cost(lost, us, sizes[linear.name, form])
        sites.append(Site(linear.name, linear.layer, linear.role, linear.value, costs))
    rounding = {
        linear.value: times.rounding[shape.width, shape.rows]
        for linear in linears
        for shape in [rows_of(linear, tokens)]
    }
    return Costs(tuple(sites), rounding, rest)


def solve(costs: Costs, foreseen: Foreseen, limits: Mapping[str, float]) -> Chosen:
    """Choose by the sum of changes, and hold it against a run of all of them together.

    Raises:
        EdgeError: a limit cannot be kept; says by which figure.
    """
    usual, exact = costs.throughout(USUAL), costs.throughout("float32")
    bounds = Bounds(
        us=limits.get("time", math.inf) * costs.us(usual),
        nbytes=limits.get("size_mib", math.inf) * MIB,
        exactest="error" not in limits and len(limits) > 0,
    )
    if "error" not in limits:
        return kept(costs, foreseen, choose(costs, bounds), limits)
    base, whole, limit = foreseen.error(exact), foreseen.error(usual), limits["error"]
    if min(base, whole) > limit:
        raise EdgeError(
            f"limit error: found {base:.4g} with every linear in float32, expected at most "
            f"{limit:g}; embeddings in int8 leave it: use --quantize none"
        )
    allowed = max(limit**2 - base**2, NOTHING)
    room = allowed * costs.lost(usual) / max(whole**2 - base**2, NOTHING)
    kept_in, beyond = 0.0, math.inf  # rooms that were tried
    best: Chosen | None = None
    for _ in range(ROUNDS):
        chosen = choose(costs, replace(bounds, lost=room))
        found, lost = foreseen.error(chosen.forms), costs.lost(chosen.forms)
        if chosen.binding in ("time", "size_mib") or (chosen.binding and found > limit):
            break
        if found > limit:
            beyond = min(beyond, room)
        else:
            kept_in = max(kept_in, room)
            if best is None or costs.us(chosen.forms) < costs.us(best.forms):
                best = replace(chosen, binding=None)
            if lost == costs.lost(costs.throughout(USUAL)):
                break
        guess = lost * allowed / max(found**2 - base**2, NOTHING)
        if kept_in < guess < beyond:
            room = guess
        else:
            room = 2 * kept_in if beyond == math.inf else (kept_in + beyond) / 2
        if room <= kept_in * NEARLY:
            break
    return best or kept(costs, foreseen, replace(chosen, binding=chosen.binding or "error"), limits)


def kept(costs: Costs, foreseen: Foreseen, chosen: Chosen, limits: Mapping[str, float]) -> Chosen:
    """Return what was chosen if it keeps to the limits.

    Raises:
        EdgeError: it does not; says by which figure.
    """
    if chosen.binding is None:
        return chosen
    found = describe(costs, foreseen, chosen.forms)
    others = " and ".join(f"{name} {found[name]:.4g}" for name in LIMITS if name != chosen.binding)
    remedy = "allow more of one of the limits" if len(limits) > 1 else "allow more"
    raise EdgeError(
        f"limit {chosen.binding}: found {found[chosen.binding]:.4g} at best, with {others}, "
        f"expected at most {limits[chosen.binding]:g}; {remedy}"
    )


def describe(costs: Costs, foreseen: Foreseen, forms: Mapping[str, str]) -> dict[str, float]:
    """Return what forms have of each of `LIMITS`, to four digits."""
    usual = costs.us(costs.throughout(USUAL))
    values = (foreseen.error(forms), costs.us(forms) / usual, foreseen.nbytes(forms) / MIB)
    return {name: float(f"{value:.4g}") for name, value in zip(LIMITS, values, strict=True)}
