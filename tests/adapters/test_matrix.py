"""Every option of PEFT's configs that changes the result, held against PEFT."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from edge_lra.adapters import Adapter, read_adapter
from edge_lra.adapters.factored import with_factors
from edge_lra.adapters.kinds import METHODS
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.weights import Source
from tests.adapters.document import document
from tests.adapters.matrix import CONFIGS, Case, cases, make
from tests.adapters.values import values

CASES = list(cases())  # some have one id: pytest numbers them
HEADS = ("classifier.weight", "classifier.bias")
Tensors = dict[str, np.ndarray]
DOCUMENT = Path(__file__).parents[2] / "docs" / "adapters.md"


def merged(adapter: Adapter, base: Checkpoint) -> Tensors:
    """Return every tensor of the base with the adapter in it, float64."""
    found = {}
    for name in {**base.tensors, **adapter.replacements, **adapter.updates, **adapter.ties}:
        tensor = adapter.ties.get(name, name)
        shape = base.tensors[tensor].shape
        update, values = adapter.updates.get(name), adapter.replacements.get(name)
        source = Source(base, tensor, shape, update, values)
        found[name] = np.concatenate([rows for _, rows in source.chunks()])
    return found


def expected(model: Any) -> Tensors:
    """Return PEFT's merged tensors by the model's own names.

    PEFT merges into a shared weight in place, which changes the head along with the embedding;
    its unmerged model does not. So the two are parted before the merge.
    """
    for module in model.modules():
        own = module.base_layer if isinstance(module, BaseTunerLayer) else module
        if isinstance(own, torch.nn.Linear | torch.nn.Embedding):
            own.weight = torch.nn.Parameter(own.weight.detach().clone())
    whole = model.merge_and_unload()
    return {name: p.detach().numpy() for name, p in whole.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_merged_weights_equal_those_of_peft(case: Case, tmp_path: Path) -> None:
    model, place = make(case, tmp_path)
    base = Checkpoint(tmp_path / "base")
    adapter = read_adapter(place, "a", base.tensors, HEADS)
    ours, theirs = merged(adapter, base), expected(model)
    changed = 0
    assert ours.keys() >= adapter.updates.keys() and theirs.keys() >= adapter.updates.keys()
    for name in ours.keys() & theirs.keys():  # a vision model names others anew when it is saved
        values = ours[name]
        wanted = theirs[name].astype(np.float64)
        error = np.linalg.norm(values - wanted) / np.linalg.norm(wanted)
        assert error <= case.limit, name
        plain = base.rows(adapter.ties.get(name, name)) if name in base.tensors else None
        changed += plain is None or not np.array_equal(plain, values.astype(np.float32))
    assert changed


FACTORED = [case for case in CASES if case.factored]


@pytest.mark.parametrize("case", FACTORED, ids=lambda case: case.id)
def test_factors_beside_the_base_give_what_peft_computes_unmerged(
    case: Case, tmp_path: Path
) -> None:
    model, place = make(case, tmp_path)
    base = Checkpoint(tmp_path / "base")
    adapter = with_factors(read_adapter(place, "a", base.tensors, HEADS), base)
    modules = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer) and isinstance(module.base_layer, torch.nn.Linear)
    }
    assert set(adapter.factors) == {f"{name}.weight" for name in modules}
    for name, module in modules.items():
        torch.manual_seed(1)
        x = torch.randn(5, module.in_features)
        with torch.no_grad():
            wanted = module(x).numpy()
            own = module.base_layer(x).numpy()
        bias = module.base_layer.bias
        given = None if bias is None else bias.detach().numpy()
        found = adapter.factors[f"{name}.weight"].apply(x.numpy(), own, given)
        assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted), name
        assert np.linalg.norm(found - own) > 1e-3 * np.linalg.norm(wanted), name


TIED = [case for case in CASES if "tied" in case.id or case.family == "qwen2"]
# PEFT's merge leaves the trained rows out of the head, which its unmerged model computes with.
TOKENS = {"target_modules": ["lm_head"], "trainable_token_indices": [1, 5]}
TIED.append(Case("LORA", "llama-tied", {"r": 4, "lora_alpha": 6, **TOKENS}))


@pytest.mark.parametrize("case", TIED, ids=lambda case: case.id)
def test_a_shared_weight_parts_as_in_the_unmerged_model(case: Case, tmp_path: Path) -> None:
    model, place = make(case, tmp_path)
    base = Checkpoint(tmp_path / "base")
    ours = merged(read_adapter(place, "a", base.tensors, HEADS), base)
    embedding = next(name for name in ours if name.endswith(("embed_tokens.weight", "wte.weight")))
    ours = {"lm_head.weight": ours[embedding]} | ours
    whole = type(model.get_base_model()).from_pretrained(
        base.path, tie_word_embeddings=False, dtype=torch.float32
    )
    whole.load_state_dict({name: torch.tensor(v).float() for name, v in ours.items()})
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        found, wanted = whole(ids).logits, model(ids).logits
    assert torch.linalg.norm(found - wanted) <= 1e-5 * torch.linalg.norm(wanted)


def test_dora_on_a_head_that_shares_trained_tokens_is_refused(tmp_path: Path) -> None:
    case = Case("LORA", "llama-tied", {"r": 4, "use_dora": True, **TOKENS})
    _, place = make(case, tmp_path)
    with pytest.raises(EdgeError, match=r"lm_head\.weight: found DoRA on a head"):
        read_adapter(place, "a", Checkpoint(tmp_path / "base").tensors, HEADS)


def test_oft_on_a_kernel_is_refused_since_peft_merges_another_function(tmp_path: Path) -> None:
    case = Case("OFT", "vit", {"target_modules": ["projection"], "oft_block_size": 4})
    _, place = make(case, tmp_path)
    with pytest.raises(EdgeError, match=r"projection: found OFT on a convolution's kernel"):
        read_adapter(place, "a", Checkpoint(tmp_path / "base").tensors, HEADS)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_honoured_value_is_shown_by_a_case(kind: str) -> None:
    found = [v for f in dataclasses.fields(CONFIGS[kind]) for v in values(kind, f.name)]
    shown = {(v.option, v.label): v.shown_by(CASES) for v in found if v.said == "honoured"}
    assert [value for value, count in shown.items() if not count] == []


OTHER_VALUES = [(kind, option) for kind in CONFIGS for option in METHODS[kind].rules.refused]


@pytest.mark.parametrize(("kind", "option"), OTHER_VALUES)
def test_a_refused_option_is_refused_by_its_name(kind: str, option: str) -> None:
    for value in ({"a": 1}, [1], "x", 2):
        with pytest.raises(EdgeError, match=option):
            METHODS[kind].rules.check({option: value}, "config")


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_option_is_honoured_inert_or_refused(kind: str) -> None:
    rules = METHODS[kind].rules
    for field in dataclasses.fields(CONFIGS[kind]):
        assert rules.says(field.name), field.name


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_neutral_value_of_a_refused_option_is_its_default(kind: str) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(CONFIGS[kind])}
    refused = METHODS[kind].rules.refused
    assert {name: defaults[name] for name in refused} == refused


def test_the_table_in_the_documentation_is_the_one_that_is_tested() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document()


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_converted_from_an_initialisation_that_changes_the_base_is_read(
    init: str, tmp_path: Path
) -> None:
    """PEFT writes the difference to the initial adapter, of twice the rank, for the plain base."""
    case = Case("LORA", "bert", {"r": 4, "target_modules": ["query"], "init_lora_weights": init})
    model, place = make(case, tmp_path)
    base = Checkpoint(tmp_path / "base")
    with pytest.raises(EdgeError, match=f"init_lora_weights: found '{init}'"):
        read_adapter(place, "a", base.tensors, HEADS)
    fresh = type(model.get_base_model()).from_pretrained(base.path)
    tuned = peft.get_peft_model(fresh, peft.LoraConfig(**case.options))
    tuned.peft_config["default"].init_lora_weights = True
    tuned.save_pretrained(tmp_path / "initial")
    tuned.peft_config["default"].init_lora_weights = init
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    tuned.save_pretrained(
        tmp_path / "converted", path_initial_model_for_weight_conversion=tmp_path / "initial"
    )
    found = merged(read_adapter(tmp_path / "converted", "a", base.tensors, HEADS), base)
    for name, wanted in expected(tuned).items():
        error = np.linalg.norm(found[name] - wanted)
        assert error <= 2e-6 * np.linalg.norm(wanted), name
