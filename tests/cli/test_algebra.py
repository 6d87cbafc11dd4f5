"""compress, extract and combine as commands: what they write and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from edge_lra.adapters.lora_file import open_lora
from edge_lra.adapters.write import read_labels, write_labels
from edge_lra.cli import main
from tests.adapters.matrix import lora, make
from tests.cli.documents import document

Refused = Callable[..., str]


def shift(folder: Path) -> None:
    """Change one weight and one norm of a checkpoint."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in ("encoder.layer.0.output.dense.weight", "encoder.layer.1.output.LayerNorm.bias"):
        tensors[name] = tensors[name] + np.float32(0.1)
    save_file(tensors, file, {"format": "pt"})


def labelled(folder: Path) -> str:
    rows = ["a fine film\tgood", "what a bore\tbad", "this is not bad\tgood", "a bore\tbad"]
    (folder / "rows.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    return "rows.tsv"


def test_compress_writes_what_its_document_says(tiny: Path) -> None:
    found = document("adapter", "compress", "adapter", "--rank", "2", "--out", "small")
    assert {site["rank"] for site in found["sites"]} == {2} and found["accuracy"] is None
    assert all(len(site.down) == 2 for site in open_lora("small").sites.values())
    assert found["bytes_after"] == sum(file.stat().st_size for file in Path("small").iterdir())


def test_a_share_of_the_size_is_a_share_of_the_parameters(tiny: Path) -> None:
    document("adapter", "compress", "adapter", "--limit", "size=60%", "--out", "small")

    def parameters(folder: str) -> int:
        return sum(v.size for v in load_file(f"{folder}/adapter_model.safetensors").values())

    assert 0.5 < parameters("small") / parameters("adapter") <= 0.6


def test_text_weighs_the_error_by_what_the_sites_read(tiny: Path) -> None:
    (tiny / "t.txt").write_text("a fine film\nthis is not bad .\nwhat a bore\n")
    options = ("adapter", "compress", "adapter", "--rank", "1")
    plain = document(*options, "--out", "one")
    weighted = document(*options, "--model", "model", "--data", "t.txt", "--out", "two")
    assert [s["error"] for s in plain["sites"]] != [s["error"] for s in weighted["sites"]]


def test_an_allowed_drop_is_kept_and_measured(tiny: Path) -> None:
    data = labelled(tiny)
    found = document(
        "adapter", "compress", "adapter", "--model", "model", "--data", data,
        "--labels", "good,bad", "--limit", "accuracy_drop=25", "--out", "small",
    )  # fmt: skip
    accuracy = found["accuracy"]
    assert accuracy["rows"] == 4 and accuracy["compressed"] >= accuracy["original"] - 25
    assert found["bytes_after"] < found["bytes_before"]


def test_extract_keeps_whole_what_is_no_linear(tiny: Path) -> None:
    (tiny / "tuned").mkdir()
    for file in (tiny / "model").iterdir():
        (tiny / "tuned" / file.name).write_bytes(file.read_bytes())
    shift(tiny / "tuned")
    found = document("adapter", "extract", "model", "tuned", "--rank", "1", "--out", "lora")
    assert [site["module"] for site in found["sites"]] == ["encoder.layer.0.output.dense"]
    assert found["sites"][0]["kept_energy"] > 0.999
    norm = "encoder.layer.1.output.LayerNorm"
    assert found["whole_tensors"] == [f"{norm}.bias", f"{norm}.weight"]
    config = json.loads(Path("lora/adapter_config.json").read_text())
    assert config["modules_to_save"] == [norm]


def tuned_copy(folder: Path) -> Path:
    """Return a copy of the base in which a weight of full rank differs."""
    shutil.copytree(folder / "model", folder / "tuned")
    file = folder / "tuned/model.safetensors"
    tensors = load_file(file)
    name = "encoder.layer.0.output.dense.weight"
    noise = np.random.default_rng(0).standard_normal(tensors[name].shape, np.float32)
    save_file(tensors | {name: tensors[name] + noise}, file, {"format": "pt"})
    return folder / "tuned"


def test_a_convolution_is_refused_for_its_kernel_would_be_lost(
    tiny: Path, refused: Refused
) -> None:
    _, place = make(lora("vit", ["projection"]), tiny)
    for command in (("compress", str(place), "--rank", "2"), ("combine", str(place))):
        line = refused("adapter", *command, "--out", "new")
        assert "projection: found a convolution's factors" in line
    (site,) = document("inspect", str(place))["measures"]
    assert site["rank"] == 4


def test_an_energy_that_the_largest_rank_cuts_short_is_said(tiny: Path) -> None:
    tuned_copy(tiny)
    command = ["adapter", "extract", "model", "tuned", "--energy", "0.9", "--out", "lora"]
    cut = CliRunner().invoke(main, [*command, "--max-rank", "2"])
    assert "1 of 1 sites keep less than 0.9 of their energy at rank 2" in cut.stderr
    assert "Note" not in CliRunner().invoke(main, [*command, "--force"]).stderr


def test_an_extracted_classifier_brings_the_names_of_its_outputs(tiny: Path) -> None:
    file = tuned_copy(tiny) / "config.json"
    config = json.loads(file.read_text()) | {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "bad", "1": "good"},
    }
    file.write_text(json.dumps(config))
    document("adapter", "extract", "model", "tuned", "--rank", "1", "--out", "lora")
    assert read_labels(tiny / "lora") == ("bad", "good")


def test_combine_weighs_its_adapters(tiny: Path) -> None:
    found = document("adapter", "combine", "adapter:0.5", "adapter:2", "--out", "sum")
    assert [entry["weight"] for entry in found["adapters"]] == [0.5, 2]
    one, both = open_lora("adapter").sites, open_lora("sum").sites
    for module, site in one.items():
        change = site.merge(np.zeros((32, 32)))
        np.testing.assert_allclose(both[module].merge(np.zeros((32, 32))), 2.5 * change, atol=1e-5)


def test_a_folder_that_ends_like_a_weight_is_a_folder(tiny: Path) -> None:
    (tiny / "adapter").rename(tiny / "a=b:0.5")
    for value, weight in (("a=b:0.5", 1), ("a=b:0.5:2", 2)):
        found = document("adapter", "combine", value, "--out", "sum", "--force")
        assert found["adapters"] == [{"path": "a=b:0.5", "weight": weight}]
    export = ("export", "--model", "model", "--no-verify", "--out", "x.edge", "--adapter")
    for value in ("a=b:0.5", "n=a=b:0.5:0.5"):
        manifest = document(*export, "n=" + value.removeprefix("n="))["manifest"]
        assert manifest["merged"]["adapters"][0]["name"] == "n"


def test_what_is_not_exact_says_how_far_it_is_off(tiny: Path) -> None:
    command = ["adapter", "combine", "adapter", "adapter:0.5", "--out", "sum", "--method"]
    exact = CliRunner().invoke(main, [*command, "cat"])
    assert "the exact sum" in exact.stdout and "% (median)" not in exact.stdout
    linear = CliRunner().invoke(main, [*command, "linear", "--force"])
    assert "the exact sum to " in linear.stdout and "% (worst site)" in linear.stdout


COMPRESS = ("adapter", "compress", "adapter", "--out", "new")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*COMPRESS[:2], "none/at/all", "--rank", "2", "--out", "new"), "found no such folder"),
        ((*COMPRESS[:3], "--rank", "2", "--out", "adapter", "--force"), "which this command reads"),
        ((*COMPRESS[:3], "--rank", "2", "--out", "model"), "model: found it there"),
        ((*COMPRESS, "--limit", "size=100B"), "no room for any component"),
        ((*COMPRESS, "--rank", "2", "--data", "none.txt"), "none.txt: found no such file"),
        (("adapter", "extract", "model", "model", "--rank", "2", "--out", "new"), "differs from"),
        (("adapter", "combine", "adapter", "model", "--out", "new"), "found a full model"),
        (("adapter", "combine", "adapter:nan", "--out", "new"), "weights: found [nan]"),
    ],
)
def test_a_request_that_cannot_be_is_one_line(
    refused: Refused, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        COMPRESS,
        (*COMPRESS, "--rank", "2", "--energy", "0.5"),
        (*COMPRESS, "--limit", "size=0%"),
        (*COMPRESS, "--limit", "speed=2"),
        (*COMPRESS, "--limit", "accuracy_drop=1"),
        (*COMPRESS, "--energy", "1.5"),
        ("adapter", "extract", "model", "model", "--out", "new"),
        ("adapter", "combine", "adapter", "--method", "mean", "--out", "new"),
    ],
)
def test_a_wrong_option_is_a_usage_error(refused: Refused, arguments: tuple[str, ...]) -> None:
    refused(*arguments, code=2)


def test_labels_that_the_adapter_does_not_know_are_named(tiny: Path, refused: Refused) -> None:
    data = labelled(tiny)
    line = refused(*COMPRESS, "--model", "model", "--data", data, "--limit", "accuracy_drop=50")
    assert "row 1: found label 'good', expected one of LABEL_0, LABEL_1" in line


def test_adapters_with_different_heads_are_not_combined(tiny: Path, refused: Refused) -> None:
    file = tiny / "other"
    file.mkdir()
    tensors = load_file(tiny / "adapter/adapter_model.safetensors")
    changed = {k: v + 1 if "classifier" in k else v for k, v in tensors.items()}
    save_file(changed, file / "adapter_model.safetensors")
    config = (tiny / "adapter/adapter_config.json").read_text()
    (file / "adapter_config.json").write_text(config)
    combine = ("adapter", "combine", "adapter", "other")
    assert "classifier.bias: found different ones" in refused(*combine, "--out", "new")
    document(*combine, "--heads", "mean", "--out", "new")
    mean = open_lora("new").whole["classifier.bias"]
    np.testing.assert_allclose(mean, open_lora("adapter").whole["classifier.bias"] + 0.5, atol=1e-6)


def test_what_is_made_of_an_adapter_keeps_the_names_of_its_outputs(
    tiny: Path, refused: Refused
) -> None:
    write_labels(tiny / "adapter", ["bad", "good"])
    for command in (
        ("compress", "adapter", "--rank", "2"),
        ("combine", "adapter:0.5", "adapter:0.5"),
        ("convert", "adapter", "--to", "peft"),
    ):
        document("adapter", *command, "--out", "new", "--force")
        assert read_labels(tiny / "new") == ("bad", "good")
    export = ("export", "--model", "model", "--adapter", "new", "--no-verify", "--out", "x.edge")
    assert document(*export)["manifest"]["labels"] == ["bad", "good"]
    write_labels(tiny / "new", ["good", "bad"])
    line = refused("adapter", "combine", "adapter", "new", "--out", "sum")
    assert "found bad, good and good, bad in the adapters" in line


def copied(tiny: Path, name: str, drop: str = "") -> Path:
    """Copy the adapter, its modules without a prefix."""
    (tiny / name).mkdir()
    tensors = load_file(tiny / "adapter/adapter_model.safetensors")
    found = {key.replace(f"model.{drop}", "model."): v for key, v in tensors.items()}
    save_file(found, tiny / name / "adapter_model.safetensors")
    config = (tiny / "adapter/adapter_config.json").read_text()
    (tiny / name / "adapter_config.json").write_text(config)
    return tiny / name


def test_modules_with_and_without_a_prefix_are_not_combined(tiny: Path, refused: Refused) -> None:
    copied(tiny, "other", "bert.")
    line = refused("adapter", "combine", "adapter", "other", "--out", "new")
    assert "expected modules of one model class" in line


def test_the_size_before_is_the_adapters_own(tiny: Path) -> None:
    command = ("adapter", "compress", "adapter", "--rank", "2", "--force", "--out", "new")
    before = document(*command)["bytes_before"]
    (tiny / "adapter/optimizer.pt").write_bytes(bytes(1000))
    assert document(*command)["bytes_before"] == before
