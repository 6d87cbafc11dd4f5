"""tune and adapter rank as commands, and what they train exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from edge_lra.cli import main
from edge_lra.runner import Runner
from tests.cli.documents import document

TUNE = ("tune", "--model", "model", "--data", "rows.tsv", "--out", "new")
QUICK = ("--epochs", "12", "--patience", "12", "--batch-size", "8", "--learning-rate", "0.03")
Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("lora", "--merge"),
        ("serial", "--merge"),
        ("serial", "--factored"),
        ("parallel", "--merge"),
        ("bottleneck", "--factored"),
    ],
)
def test_what_is_tuned_exports_and_answers_with_its_labels(
    tiny: Path,
    data: Path,
    kind: str,
    mode: str,
) -> None:
    sites = ("--sites", "query", "--sites", "value") if kind == "lora" else ()
    found = document(*TUNE, *QUICK, "--kind", kind, "--rank", "4", *sites)
    assert found["labels"] == ["down", "up"] and found["kind"] == kind
    export = ("export", "--model", "model", "--adapter", "new", mode, "--out", "b.edge")
    manifest = document(*export)["manifest"]
    assert manifest["labels"] == ["down", "up"]
    metrics = manifest["fidelity"]["reports"][0]["metrics"]
    assert metrics["adapter_survival"] == pytest.approx(1, abs=0.1)
    answers = Runner.load("b.edge").classify(["a good film", "a bad film"])
    assert [answer.label for answer in answers] == ["up", "down"]


@pytest.mark.parametrize("kind", ["lora", "serial"])
@pytest.mark.parametrize(
    ("sites", "count"), [(["ffn-output"], 2), (["both", "query"], 6), (["all-linear"], 13)]
)
def test_sites_are_named_by_role_for_every_kind(
    tiny: Path, data: Path, kind: str, sites: list[str], count: int
) -> None:
    options = [word for site in sites for word in ("--sites", site)]
    document(*TUNE, "--epochs", "1", "--kind", kind, *options)
    keys = load_file("new/adapter_model.safetensors")
    assert sum(key.endswith(("lora_A.weight", "adapter_down.weight")) for key in keys) == count


def test_a_bottleneck_is_not_merged_and_it_is_said_why(
    tiny: Path,
    data: Path,
    refused: Refused,
) -> None:
    document(*TUNE, "--epochs", "1", "--kind", "bottleneck")
    line = refused("export", "--model", "model", "--adapter", "new", "--merge", "--out", "b.edge")
    assert "found an adapter with gelu between its layers" in line and "use --factored" in line


def test_a_rank_can_be_chosen_by_the_data(tiny: Path, data: Path) -> None:
    found = document(*TUNE, "--epochs", "1", "--rank", "auto", "--sites", "query")
    assert found["rank"] in (1, 2, 4, 8, 16)


def test_ranks_are_tabled_and_drawn(tiny: Path, data: Path) -> None:
    rank = ("adapter", "rank", *TUNE[1:5], "--ranks", "1,2", "--folds", "2", "--epochs", "1")
    found = document(*rank, "--sites", "query", "--plot", "r.svg")
    assert [c["rank"] for c in found["candidates"]] == [1, 2] and found["plot"] == "r.svg"
    assert "<svg" in Path("r.svg").read_text()
    printed = CliRunner().invoke(main, [*rank, "--sites", "query", "--plot", "r.png"]).stdout
    assert "chosen" in printed and "By the spectrum alone" in printed
    assert Path("r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TUNE, "--sites", "nothing"), "sites: found nothing"),
        ((*TUNE, "--sites", "query", "--sites", "nothing"), "found nothing, which no module's"),
        ((*TUNE, "--kind", "serial", "--sites", "nothing"), "no linear for nothing"),
        ((*TUNE, "--activation", "relu"), "LoRA has no activation"),
        ((*TUNE[:3], "--data", "none.tsv", "--out", "new"), "none.tsv: found no such file"),
        (("tune", "--model", "none/at/all", *TUNE[3:]), "found no such folder"),
        (("tune", "--data", "rows.tsv", "--out", "new"), "--model: found none"),
        ((*TUNE[:-1], "model"), "model: found it there"),
        (("adapter", "rank", *TUNE[1:5], "--folds", "30"), "found 24 rows of a class"),
        (("adapter", "rank", *TUNE[1:5], "--plot", "x.bmp"), "x.bmp: found '.bmp'"),
        (("adapter", "rank", *TUNE[1:5], "--plot", "no/x.png"), "found no folder no"),
    ],
)
def test_a_request_that_cannot_be_is_one_line(
    data: Path,
    refused: Refused,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert message in refused(*arguments)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_learning_rate_that_is_none_is_a_usage_error(refused: Refused, value: str) -> None:
    refused(*TUNE, "--learning-rate", value, code=2)


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_rank_that_is_none_is_a_usage_error(refused: Refused, value: str) -> None:
    refused(*TUNE, "--rank", value, code=2)


def test_a_further_bottleneck_is_added_and_another_form_is_not(
    tiny: Path, data: Path, refused: Refused
) -> None:
    for kind, out, *more in (
        ("bottleneck", "one"),
        ("bottleneck", "two", "--rank", "2"),
        ("bottleneck", "other", "--activation", "relu"),
        ("lora", "lora", "--sites", "output.dense"),
    ):
        document(*TUNE[:-1], out, *QUICK, "--kind", kind, *more)
    export = ("export", "--model", "model", "--adapter", "one", "--factored", "--out", "b.edge")
    document(*export)
    added = document("adapter", "add", "b.edge", "two")
    assert added["manifest"]["adapters"]["two"]["rank"] == 2
    line = refused("adapter", "add", "b.edge", "other")
    assert "found an adapter with serial-residual layers with relu there" in line
    assert "found an adapter with down there" in refused("adapter", "add", "b.edge", "lora")
    runner = Runner.load("b.edge")
    one, two = (runner.classify(["a good film"], adapter=name)[0] for name in ("one", "two"))
    assert one.score != two.score
