"""The runner on bundles small enough to compute by hand: one-hot embeddings and one linear."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from edge_lra.bundle import load_manifest, seal, sha256_file
from edge_lra.errors import EdgeError
from edge_lra.runner import Runner

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "ann", "##a", "lives", "paris"]
SIZE = len(VOCAB)
IDS = {word: index for index, word in enumerate(VOCAB)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def head(columns: Sequence[Mapping[str, float]]) -> np.ndarray:
    weight = np.zeros((SIZE, len(columns)), np.float32)
    for column, words in enumerate(columns):
        for word, value in words.items():
            weight[IDS[word], column] = value
    return weight


def write_model(folder: Path, task: str, weight: np.ndarray, factored: bool) -> list[str]:
    """Sum one-hot tokens (plus the adapter's factors) into logits, or give them a token each."""
    node = helper.make_node
    nodes = [
        node("Gather", ["embedding", "input_ids"], ["onehot"]),
        node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["mask3"]),
        node("Unsqueeze", ["types", "last"], ["types3"]),
        node("Mul", ["types3", "zero"], ["nothing"]),
        node("Add", ["onehot", "nothing"], ["x"]),
    ]
    hidden = "x"
    if factored:
        nodes += [
            node("MatMul", ["x", "down"], ["low"]),
            node("MatMul", ["low", "up"], ["delta"]),
            node("Add", ["x", "delta"], ["y"]),
        ]
        hidden = "y"
    float_ = TensorProto.FLOAT
    if task == "sentence-embedding":
        nodes.append(node("Identity", [hidden], ["last_hidden_state"]))
        outputs = ["last_hidden_state"]
    elif task == "sequence-classification":
        nodes += [
            node("Mul", [hidden, "mask3"], ["real"]),
            node("ReduceSum", ["real", "axis"], ["sum"], keepdims=0),
            node("MatMul", ["sum", "weight"], ["logits"]),
        ]
        outputs = ["logits"]
    elif task == "token-classification":
        nodes.append(node("MatMul", [hidden, "weight"], ["logits"]))
        outputs = ["logits"]
    else:
        nodes += [
            node("MatMul", [hidden, "weight"], ["both"]),
            node("Split", ["both"], ["s", "e"], axis=2, num_outputs=2),
            node("Squeeze", ["s", "last"], ["start_logits"]),
            node("Squeeze", ["e", "last"], ["end_logits"]),
        ]
        outputs = ["start_logits", "end_logits"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    if factored:
        inputs.append(helper.make_tensor_value_info("down", float_, [SIZE, "rank"]))
        inputs.append(helper.make_tensor_value_info("up", float_, ["rank", SIZE]))
    constants = {
        "embedding": np.eye(SIZE, dtype=np.float32),
        "weight": weight,
        "last": np.array([2], np.int64),
        "axis": np.array([1], np.int64),
        "zero": np.array(0, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [helper.make_tensor_value_info(name, float_, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    onnx.save_model(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        size_threshold=64,
        location="model.onnx.data",
    )
    return outputs


def write_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece(vocab=IDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", IDS["[CLS]"]), ("[SEP]", IDS["[SEP]"])],
    )
    tokenizer.save(str(path))


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_file(path),
            "size": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    (folder / "manifest.json").write_bytes(seal(manifest))


def make_bundle(
    folder: Path, task: str, weight: np.ndarray, factored: bool = False, **fields: Any
) -> Path:
    folder.mkdir()
    outputs = write_model(folder, task, weight, factored)
    write_tokenizer(folder / "tokenizer.json")
    base = sha256_file(folder / "model.onnx.data")
    manifest: dict[str, Any] = {
        "format_version": 1,
        "name": "tiny",
        "family": "bert",
        "task": task,
        "problem_type": None,
        "labels": None,
        "mode": "base",
        "max_length": 8,
        "vocabulary_size": SIZE,
        "pooling": None,
        "inputs": [
            {"name": name, "dtype": "int64", "shape": ["batch", "sequence"]}
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        "outputs": [{"name": n, "dtype": "float32", "shape": ["batch", SIZE]} for n in outputs],
        "adapter_inputs": [],
        "adapters": {},
        "default_adapter": None,
        "head": "trained",
        "base_fingerprint": base,
        "min_onnxruntime": "1.20.0",
        "session_options": {"session.intra_op.allow_spinning": "0"},
        "tokenizer": {"file": "tokenizer.json", "pad_id": 0, "pad_token": "[PAD]"},
    }
    if factored:
        manifest |= {
            "mode": "factored",
            "adapter_inputs": [
                {
                    "name": "down",
                    "dtype": "float32",
                    "shape": [SIZE, "rank"],
                    "off_shape": [SIZE, 0],
                },
                {"name": "up", "dtype": "float32", "shape": ["rank", SIZE], "off_shape": [0, SIZE]},
            ],
        }
        (folder / "adapters").mkdir()
        for name, (source, target, scale) in {
            "praise": ("film", "good", 3.0),
            "scorn": ("film", "bad", 5.0),
        }.items():
            down, up = np.zeros((SIZE, 1), "f4"), np.zeros((1, SIZE), "f4")
            down[IDS[source], 0], up[0, IDS[target]] = 1, scale
            save_file({"down": down, "up": up}, folder / "adapters" / f"{name}.safetensors")
            manifest["adapters"][name] = {
                "file": f"adapters/{name}.safetensors",
                "rank": 1,
                "base": base,
                "labels": ["meh", "wow"] if name == "praise" else None,
            }
    write_manifest(folder, manifest | fields)
    return folder


SENTIMENT = head([{"bad": 1.0}, {"good": 1.0}])


@pytest.fixture
def factored(tmp_path: Path) -> Path:
    return make_bundle(
        tmp_path / "f.edge", "sequence-classification", SENTIMENT, True, labels=["neg", "pos"]
    )


FILM = {"input_ids": [[IDS["film"]]], "attention_mask": [[1]]}


def logits(runner: Runner, **options: Any) -> list[float]:
    values: list[float] = runner.run(FILM, **options)["logits"][0].tolist()
    return values


def edit_manifest(folder: Path, **fields: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_bytes(seal(manifest | fields))


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_importing_the_runner_loads_no_heavy_package() -> None:
    heavy = {"click", "rich", "tokenizers", "torch", "onnx", "transformers"}
    code = f"import sys, edge_lra.runner; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_adapter_gives_its_own_output_and_none_the_base(factored: Path) -> None:
    runner = Runner.load(factored, threads=1)
    assert runner.adapters == ("praise", "scorn")
    assert logits(runner, adapter="praise") == [0, 3]
    assert logits(runner, adapter="scorn") == [5, 0]
    assert logits(runner, adapter=None) == [0, 0]


def test_use_sets_the_default_only(factored: Path) -> None:
    edit_manifest(factored, default_adapter="praise")
    runner = Runner.load(factored)
    assert logits(runner) == [0, 3]
    runner.use("scorn")
    assert logits(runner) == [5, 0]
    assert logits(runner, adapter="praise") == [0, 3]
    assert logits(runner) == [5, 0]
    runner.use(None)
    assert logits(runner) == [0, 0]


def test_an_unknown_adapter_lists_the_known_ones(factored: Path) -> None:
    runner = Runner.load(factored)
    with pytest.raises(EdgeError, match="'x', expected one of: praise, scorn"):
        runner.use("x")
    with pytest.raises(EdgeError, match="praise, scorn"):
        runner.run(FILM, adapter="x")
    with pytest.raises(EdgeError, match="praise, scorn"):
        runner.classify([], adapter="x")


def test_a_headless_base_asks_for_an_adapter(factored: Path) -> None:
    edit_manifest(factored, head="adapter")
    with pytest.raises(EdgeError, match="praise, scorn; the base has no trained head"):
        Runner.load(factored).run(FILM)


def test_a_foreign_adapter_is_refused(factored: Path) -> None:
    manifest = load_manifest(factored)
    manifest["adapters"]["scorn"]["base"] = "0" * 64
    edit_manifest(factored, **manifest)
    runner = Runner.load(factored)
    assert logits(runner, adapter="praise") == [0, 3]
    with pytest.raises(EdgeError, match="adapter scorn: is foreign"):
        runner.run(FILM, adapter="scorn")


def test_an_adapter_replaced_after_load_is_refused(factored: Path) -> None:
    runner = Runner.load(factored)
    flip_byte(factored / "adapters" / "praise.safetensors")
    with pytest.raises(EdgeError, match="changed since export"):
        runner.run(FILM, adapter="praise")


@pytest.mark.parametrize("name", ["model.onnx.data", "adapters/scorn.safetensors"])
@pytest.mark.parametrize("verify", ["once", "always"])
def test_a_flipped_byte_is_found(factored: Path, name: str, verify: str) -> None:
    Runner.load(factored)
    flip_byte(factored / name)
    with pytest.raises(EdgeError, match=f"{name}: is damaged"):
        Runner.load(factored, verify=verify)


def test_once_hashes_a_path_once(factored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def count(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    monkeypatch.setattr("edge_lra.bundle.sha256_file", count)
    files = len(load_manifest(factored)["files"])
    Runner.load(factored)
    assert len(hashed) == files
    Runner.load(factored)
    assert len(hashed) == files
    Runner.load(factored, verify="always")
    assert len(hashed) == 2 * files


def test_an_unwritable_cache_is_no_error(factored: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    Runner.load(factored)


def test_threads_with_different_adapters_do_not_mix(factored: Path) -> None:
    runner = Runner.load(factored, threads=1)
    expected: dict[str | None, list[float]] = {"praise": [0, 3], "scorn": [5, 0], None: [0, 0]}
    names = list(expected) * 200
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: logits(runner, adapter=name), names))
    assert found == [expected[name] for name in names]


def test_threads_share_the_tokenizer(factored: Path) -> None:
    runner = Runner.load(factored, threads=1)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: runner.classify(["good film"])[0], range(100)))
    assert {result.label for result in found} == {"pos"}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": [[4]]}, "found no 'attention_mask'"),
        ({"input_ids": [[4]], "attention_mask": [[1]], "ids": [[1]]}, "found 'ids', expected"),
        ({"input_ids": [[4.5]], "attention_mask": [[1]]}, "found float64, expected int64"),
        ({"input_ids": [4], "attention_mask": [[1]]}, "found 1 axes"),
        ({"input_ids": [[4, 5]], "attention_mask": [[1]]}, "expected sequence=2"),
        ({"input_ids": [[4], [4, 5]], "attention_mask": [[1]]}, "is not an array"),
        ({"input_ids": [[]] * 2, "attention_mask": [[]] * 2}, "found float64"),
        ({"input_ids": [[4] * 9], "attention_mask": [[1] * 9]}, "at most 8"),
        ({"input_ids": [[99]], "attention_mask": [[1]]}, "found 99, expected ids of 0 to 10"),
        ({"input_ids": [[-1]], "attention_mask": [[1]]}, "found -1, expected ids of 0 to 10"),
    ],
)
def test_a_bad_input_is_one_line(factored: Path, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeError, match=message) as caught:
        Runner.load(factored).run(inputs)
    assert "\n" not in str(caught.value)


def test_int32_ids_are_cast(factored: Path) -> None:
    inputs = {name: np.array(value, np.int32) for name, value in FILM.items()}
    assert Runner.load(factored).run(inputs, adapter="praise")["logits"].tolist() == [[0, 3]]


def test_a_newer_onnxruntime_is_asked_for(factored: Path) -> None:
    edit_manifest(factored, min_onnxruntime="99.1")
    with pytest.raises(EdgeError, match=r'pip install "onnxruntime>=99.1"'):
        Runner.load(factored)


def test_classify_keeps_order_and_takes_the_adapters_labels(factored: Path) -> None:
    runner = Runner.load(factored)
    texts = ["good", "bad bad bad film film", "good good good"] * 20
    results = runner.classify(texts)
    assert [result.label for result in results] == ["pos", "neg", "pos"] * 20
    assert results[0].score == pytest.approx(1 / (1 + np.exp(-1)))
    assert results[0].scores["neg"] == pytest.approx(1 - results[0].score)
    assert runner.classify(["film"], adapter="praise")[0].label == "wow"
    assert runner.classify([]) == []


def test_text_runs_without_padding(factored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner.load(factored)
    masks = []
    run = runner.run

    def watch(inputs: Mapping[str, Any], adapter: Any) -> dict[str, np.ndarray]:
        masks.append(inputs["attention_mask"])
        return run(inputs, adapter)

    monkeypatch.setattr(runner, "run", watch)
    runner.classify(["good", "bad film", "film", "good good good", "bad"] * 10)
    assert all(mask.all() for mask in masks)
    assert [len(mask) for mask in masks] == [16, 14, 10, 10]


def test_multi_label_scores_are_sigmoids(tmp_path: Path) -> None:
    kind = "multi_label_classification"
    bundle = make_bundle(
        tmp_path / "m.edge", "sequence-classification", SENTIMENT, problem_type=kind
    )
    result = Runner.load(bundle).classify(["good"])[0]
    assert result.scores == pytest.approx({"LABEL_0": 0.5, "LABEL_1": 1 / (1 + np.exp(-1))})


def test_regression_gives_the_value(tmp_path: Path) -> None:
    bundle = make_bundle(
        tmp_path / "r.edge",
        "sequence-classification",
        head([{"good": 2.5}]),
        problem_type="regression",
        labels=["stars"],
    )
    result = Runner.load(bundle).classify(["good good"])[0]
    assert (result.label, result.score) == ("stars", 5.0)


def test_wrong_text_arguments_are_errors(factored: Path) -> None:
    runner = Runner.load(factored)
    with pytest.raises(EdgeError, match="expected a list"):
        runner.classify("good")
    with pytest.raises(EdgeError, match="pairs: found 1"):
        runner.classify(["good", "bad"], pairs=["film"])
    with pytest.raises(EdgeError, match="task is sequence-classification"):
        runner.embed(["good"])


def test_tokenize_pads_pairs_and_counts_truncated(factored: Path) -> None:
    runner = Runner.load(factored)
    inputs, truncated = runner.tokenize(["good", "film " * 20], pairs=["bad", "bad"])
    assert truncated == 1
    assert inputs["input_ids"].shape == (2, 8)
    assert inputs["attention_mask"][0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert inputs["token_type_ids"][0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


def test_missing_tokenizers_names_the_extra(
    factored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EdgeError, match=r'pip install "edge-lra\[text\]"'):
        Runner.load(factored).classify(["good"])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (None, {"[CLS]": 1 / 3, "good": 1 / 3, "[SEP]": 1 / 3}),
        ({"mode": "mean", "normalize": True}, dict.fromkeys(["[CLS]", "good", "[SEP]"], 3**-0.5)),
        ({"mode": "cls", "normalize": False}, {"[CLS]": 1}),
        ({"mode": "max", "normalize": False}, {"[CLS]": 1, "good": 1, "[SEP]": 1}),
    ],
)
def test_embed_pools_real_tokens_only(
    tmp_path: Path, pooling: Any, expected: dict[str, float]
) -> None:
    bundle = make_bundle(tmp_path / "e.edge", "sentence-embedding", SENTIMENT, pooling=pooling)
    vectors = Runner.load(bundle).embed(["film bad film bad", "good"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[1], head([expected])[:, 0], rtol=1e-6)
    assert Runner.load(bundle).embed([]).shape == (0, SIZE)


def test_tag_merges_tokens_to_entities(tmp_path: Path) -> None:
    weight = head([{"lives": 9, "good": 9}, {"ann": 9}, {"##a": 9}, {"paris": 9}])
    labels = ["O", "B-PER", "I-PER", "B-LOC"]
    bundle = make_bundle(tmp_path / "t.edge", "token-classification", weight, labels=labels)
    runner = Runner.load(bundle)
    short, long = runner.tag(["good", "anna  lives paris paris"])
    assert short == []
    assert [(e.label, e.text, e.start, e.end) for e in long] == [
        ("PER", "anna", 0, 4),
        ("LOC", "paris", 12, 17),
        ("LOC", "paris", 18, 23),
    ]


def test_first_aggregation_gives_a_word_its_first_tokens_label(tmp_path: Path) -> None:
    weight = head([{"##a": 9}, {"ann": 9}])
    bundle = make_bundle(tmp_path / "t.edge", "token-classification", weight, labels=["O", "B-PER"])
    runner = Runner.load(bundle)
    assert [e.text for e in runner.tag(["anna"])[0]] == ["ann"]
    assert [e.text for e in runner.tag(["anna"], aggregation="first")[0]] == ["anna"]


@pytest.mark.parametrize("filler", [0, 20])
def test_answer_finds_the_span_in_any_window(tmp_path: Path, filler: int) -> None:
    bundle = make_bundle(
        tmp_path / "q.edge", "question-answering", head([{"ann": 9}, {"paris": 9}])
    )
    context = "film " * filler + "ann lives paris film"
    answer = Runner.load(bundle).answer("paris ann", context)
    assert answer.text == "ann lives paris"
    assert context[answer.start : answer.end] == answer.text
    short = Runner.load(bundle).answer("paris", context, max_answer_tokens=1)
    assert " " not in short.text


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="expected a bundle"):
        Runner.load(tmp_path)
    with pytest.raises(EdgeError, match="expected a bundle"):
        Runner.load(tmp_path / "absent")


def test_another_format_version_is_refused(factored: Path) -> None:
    edit_manifest(factored, format_version=2)
    with pytest.raises(EdgeError, match="2, expected 1"):
        Runner.load(factored)
