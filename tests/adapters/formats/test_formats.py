"""Which format is found: by content, one only, and every one that was looked for is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from edge_lra.adapters.formats import FORMATS, writers
from edge_lra.adapters.formats.convert import convert
from edge_lra.adapters.saved import read_saved
from edge_lra.errors import EdgeError
from tests.adapters.formats import test_adapterhub, test_mlx
from tests.adapters.formats.lora import (
    FakeBase,
    K,
    Q,
    assert_same,
    random_factors,
    refused,
    write_peft,
)


def test_names_and_titles_are_each_ones_own() -> None:
    assert len({known.name for known in FORMATS}) == len(FORMATS)
    assert len({known.title for known in FORMATS}) == len(FORMATS)
    assert list(writers()) == ["peft", "layers", "mlx", "gguf", "onnx_adapter"]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_where_nothing_is_found_every_format_is_named(tmp_path: Path, what: str) -> None:
    place = tmp_path / "nothing"
    if what == "folder":
        place.mkdir()
        (place / "notes.txt").write_text("x")
    else:
        place = tmp_path / "nothing.safetensors"
        save_file({"x": np.ones(2, "f4")}, place)
    refused(place, *(known.title for known in FORMATS))


def test_a_place_that_is_not_there_is_said(tmp_path: Path) -> None:
    refused(tmp_path / "none", "no such folder or file")


@pytest.mark.parametrize("name", ["checkpoint-{}", "epoch_{}"])
def test_of_training_checkpoints_the_newest_is_proposed(tmp_path: Path, name: str) -> None:
    for step in (9, 10):
        (tmp_path / name.format(step)).mkdir()
    refused(tmp_path, "2 training checkpoints", name.format(10))


def test_a_settings_file_without_a_mark_is_said(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", random_factors())
    (folder / "adapter_config.json").write_text('{"r": 3}')
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    refused(folder, "neither peft_type")
    save_file(tensors, folder / "adapter_model.safetensors")
    assert read_saved(folder).format == "PEFT"  # its tensors say so; its kind is asked for later


def test_two_formats_in_one_folder_are_both_named(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", random_factors())
    source = test_mlx.write(tmp_path / "b", random_factors())
    (source / "adapters.safetensors").rename(folder / "adapters.safetensors")
    refused(folder, "PEFT and MLX-LM")


def test_two_formats_in_one_file_are_both_named(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", random_factors())
    tensors = load_file(folder / "adapter_model.safetensors")
    name = "lora_unet_x.lora_down.weight"
    save_file(tensors | {name: np.ones((2, 2), "f4")}, folder / "adapter_model.safetensors")
    refused(folder, "PEFT and kohya")
    save_file(
        {name: np.ones((2, 2), "f4"), "y.lora_a": np.ones((2, 2), "f4")}, tmp_path / "c.safetensors"
    )
    refused(tmp_path / "c.safetensors", "MLX-LM and kohya")


def test_two_files_of_one_format_are_both_named(tmp_path: Path) -> None:
    for name in "ab":
        save_file(
            {"lora_unet_x.lora_down.weight": np.ones((2, 2), "f4")},
            tmp_path / f"{name}.safetensors",
        )
    refused(tmp_path, "a.safetensors, b.safetensors", base=FakeBase())


def test_a_name_that_occurs_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f'{{"x.lora_a":{entry},"x.lora_a":{entry}}}'.encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    refused(file, "corrupt header")


def test_a_trainers_other_pickles_are_not_opened(tmp_path: Path) -> None:
    factors = random_factors()
    folder = write_peft(tmp_path / "a", factors)
    for name in ("optimizer.pt", "training_args.bin", "model.ckpt"):
        torch.save({"lora_unet_x.lora_down.weight": torch.ones(2, 2)}, folder / name)
    assert_same(read_saved(folder), factors)


def test_an_adapter_in_the_folder_of_its_base_is_found(tmp_path: Path) -> None:
    factors = random_factors()
    folder = write_peft(tmp_path / "a", factors)
    (folder / "config.json").write_text("{}")
    save_file({f"{Q}.weight": np.ones((2, 2), "f4")}, folder / "model.safetensors")
    assert_same(read_saved(folder), factors)


# ---- PEFT's and the project's own, written ---------------------------------------------------


def test_an_adapter_in_pefts_format_stays_what_it_was(tmp_path: Path) -> None:
    factors = random_factors({Q: 3, K: 2})
    source = write_peft(tmp_path / "a", factors)
    convert(source, "peft", tmp_path / "b")
    config = [json.loads((tmp_path / n / "adapter_config.json").read_text()) for n in "ab"]
    assert config[0] == config[1]
    before, after = (load_file(tmp_path / n / "adapter_model.safetensors") for n in "ab")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_adapters_of_two_layers_are_written_in_the_projects_format_only(tmp_path: Path) -> None:
    source = test_adapterhub.write(
        tmp_path / "a", test_adapterhub.HOULSBY, test_adapterhub.layers((2, 3))
    )
    with pytest.raises(EdgeError, match=r"low-rank-layers.*--to layers"):
        convert(source, "peft", tmp_path / "b")
    for target in ("mlx", "onnx_adapter"):
        with pytest.raises(EdgeError, match="low-rank-layers, which"):
            convert(source, target, tmp_path / "b.onnx_adapter")
    convert(source, "layers", tmp_path / "b")
    one, other = read_saved(source), read_saved(tmp_path / "b")
    assert other.format == "edge-lra layers" and dict(one.config) == dict(other.config)
    assert one.tensors.keys() == other.tensors.keys()
    assert all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    with pytest.raises(EdgeError, match=r"LORA.*--to peft"):
        convert(write_peft(tmp_path / "c", random_factors()), "layers", tmp_path / "d")


@pytest.mark.parametrize("target", ["mlx", "gguf", "onnx_adapter"])
def test_what_only_peft_can_say_is_refused_by_name(tmp_path: Path, target: str) -> None:
    out = tmp_path / {"mlx": "o"}.get(target, f"o.{target}")
    factors = random_factors()
    for option, value in (("lora_bias", True), ("trainable_token_indices", [1])):
        source = write_peft(tmp_path / option, factors, **{option: value})
        with pytest.raises(EdgeError, match=option):
            convert(source, target, out, FakeBase())
    source = write_peft(tmp_path / "head", factors)
    file = source / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"base_model.model.score.weight": np.ones((2, 2), "f4")}, file)
    with pytest.raises(EdgeError, match=r"score\.weight"):
        convert(source, target, out, FakeBase())
    name = f"base_model.model.{Q}.lora_A.weight"
    save_file(tensors | {name: np.ones((3, 10, 3, 3), "f4")}, file)
    with pytest.raises(EdgeError, match=f"{Q}, a convolution"):
        convert(source, target, out, FakeBase())
    assert not out.exists()


def test_a_saved_embedding_that_is_the_bases_own_is_no_change(tmp_path: Path) -> None:
    factors = random_factors()
    source = write_peft(tmp_path / "a", factors)
    file = source / "adapter_model.safetensors"
    table = np.random.default_rng(0).standard_normal((13, 10)).astype("f4")
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    save_file(load_file(file) | {name: table}, file)
    base = FakeBase(values={"model.embed_tokens.weight": table})
    convert(source, "onnx_adapter", tmp_path / "b.onnx_adapter", base)
    assert_same(read_saved(tmp_path / "b.onnx_adapter"), factors)
    base.values["model.embed_tokens.weight"] = table + 1
    with pytest.raises(EdgeError, match=r"model\.embed_tokens\.weight"):
        convert(source, "onnx_adapter", tmp_path / "c.onnx_adapter", base)
