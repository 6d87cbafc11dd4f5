"""Which texts calibrate, and which verify."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_lra.bundle import load_manifest, sha256_file
from edge_lra.calibration import (
    LONGEST,
    OWN,
    TEXTS,
    TOKENS,
    calibrate_with,
    calibrated_with,
    split_rows,
)
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.golden import read_golden
from edge_lra.inputs import ExportRequest, read_inputs
from edge_lra.pipeline import export
from edge_lra.planning import make_plan
from edge_lra.texts import Row, built_in_texts, read_texts, sentences


@pytest.mark.parametrize("count", [1, 2 * OWN - 1, 2 * OWN, 48, 300, 5000])
def test_no_row_both_calibrates_and_verifies(count: int) -> None:
    rows = [Row(str(i)) for i in range(count)]
    verify, calibrate = split_rows(rows, 256)
    assert not {row.text for row in verify} & {row.text for row in calibrate}
    assert 0 < len(verify) <= 256 and len(calibrate) <= TEXTS
    assert len(calibrate) == 0 or len(calibrate) >= OWN
    assert bool(calibrate) == (count >= 2 * OWN)


def test_the_built_in_texts_verify_or_calibrate() -> None:
    calibrate = sentences("calibration.txt")
    assert len(calibrate) == TEXTS
    assert not {row.text for row in calibrate} & {row.text for row in built_in_texts()}


def texts(folder: Path, count: int, words: int = 3) -> Path:
    file = folder / "t.txt"
    file.write_text("".join(f"{'good film ' * words}{i}\n" for i in range(count)))
    return file


def test_few_texts_are_filled_up_with_built_in_ones(tiny: Path) -> None:
    data = texts(tiny, 48)
    found = calibrate_with(Checkpoint(tiny / "model"), data, 40)
    assert (found.own, found.sha256) == (True, sha256_file(data))
    assert found.source == "t.txt and built-in text"
    assert 24 < len(found.texts) <= TEXTS
    assert found.as_dict()["tokens"] == sum(map(len, found.texts)) <= TOKENS


def test_texts_are_cut_and_counted(tiny: Path) -> None:
    base = Checkpoint(tiny / "model")
    assert max(map(len, calibrate_with(base, texts(tiny, 300, 500), 40).texts)) == 40
    long = calibrate_with(base, texts(tiny, 300, 500), 4000)
    assert max(map(len, long.texts)) == LONGEST and len(long.texts) == TOKENS // LONGEST


def test_too_few_texts_of_the_user_do_not_calibrate(tiny: Path) -> None:
    found = calibrate_with(Checkpoint(tiny / "model"), texts(tiny, 2 * OWN - 1), 40)
    assert (found.own, found.source) == (False, "built-in text")


def test_without_a_tokenizer_ids_are_random(tiny: Path) -> None:
    (tiny / "model" / "tokenizer.json").unlink()
    found = calibrate_with(Checkpoint(tiny / "model"), None, 40)
    assert (found.texts, found.source, found.own) == ((), "random ids", False)


def test_a_file_is_known_again_by_its_content(tiny: Path) -> None:
    data = texts(tiny, 48)
    manifest = {"calibration": calibrate_with(Checkpoint(tiny / "model"), data, 40).as_dict()}
    assert calibrated_with(manifest, data)
    assert not calibrated_with(manifest, None) and not calibrated_with({}, data)
    data.write_text(data.read_text() + "one more\n")
    assert not calibrated_with(manifest, data)


def test_ids_are_the_tokenizers(tiny: Path) -> None:
    from tokenizers import Tokenizer

    data = texts(tiny, 2 * OWN)
    tokenizer = Tokenizer.from_file(str(tiny / "model" / "tokenizer.json"))
    expected = tokenizer.encode(data.read_text().splitlines()[OWN]).ids
    found = calibrate_with(Checkpoint(tiny / "model"), data, 40).texts[0]
    np.testing.assert_array_equal(found, expected)


def pairs(folder: Path, count: int, header: str = "text\ttext_pair\tlabel") -> Path:
    file = folder / "pairs.tsv"
    file.write_text(f"{header}\n" + "".join(f"good film\tbad {i} .\t1\n" for i in range(count)))
    return file


def test_pairs_calibrate_as_pairs(tiny: Path) -> None:
    from tokenizers import Tokenizer

    base, data = Checkpoint(tiny / "model"), pairs(tiny, 2 * OWN)
    found = calibrate_with(base, data, 40)
    tokenizer = Tokenizer.from_file(str(tiny / "model" / "tokenizer.json"))
    expected = tokenizer.encode("good film", f"bad {OWN} .")
    assert found.texts[0].tolist() == expected.ids
    assert found.types[0].tolist() == expected.type_ids and max(expected.type_ids) == 1
    assert all(types.max() == 1 for types in found.types)  # the built-in texts too
    assert not calibrate_with(base, data, 40, typed=False).types


def test_pairs_are_proven_as_pairs(tiny: Path) -> None:
    data = pairs(tiny, 2 * OWN)
    labels = ["bad", "good"]
    request = ExportRequest(
        tiny / "b.edge", model="model", adapters=[("a", "adapter")], labels=labels, data=data
    )
    manifest = load_manifest(export(request))
    cases = read_golden(request.out, manifest)
    assert cases and all(case.inputs["token_type_ids"].max() == 1 for case in cases)
    assert manifest["fidelity"]["reports"][0]["metrics"]["labelled_rows"] == OWN


def test_questions_calibrate_with_their_contexts(tiny: Path) -> None:
    found = calibrate_with(Checkpoint(tiny / "model"), None, 40, "question-answering")
    assert all(types.max() == 1 for types in found.types) and len(found.types) > TEXTS // 4
    assert not calibrate_with(Checkpoint(tiny / "model"), None, 40).types


@pytest.mark.parametrize("scheme", ["int8", "none"])
def test_pairs_are_refused_where_a_bundle_reads_texts_alone(tiny: Path, scheme: str) -> None:
    request = ExportRequest(
        tiny / "b.edge", model="model", scheme=scheme, task="sentence-embedding"
    )
    with pytest.raises(EdgeError, match=r"pairs\.tsv: found text_pair, expected text alone"):
        export(replace(request, data=pairs(tiny, 2 * OWN)))


@pytest.mark.parametrize("scheme", ["int8", "none"])
def test_pairs_of_a_model_that_tells_no_second_text_are_refused(tiny: Path, scheme: str) -> None:
    weights = tiny / "model/model.safetensors"
    tensors = load_file(weights)
    name = "embeddings.token_type_embeddings.weight"
    save_file({**tensors, name: tensors[name][:1].copy()}, weights, {"format": "pt"})
    config = json.loads((tiny / "model/config.json").read_text())
    (tiny / "model/config.json").write_text(json.dumps(config | {"type_vocab_size": 1}))
    request = ExportRequest(tiny / "b.edge", model="model", scheme=scheme)
    export(request)
    with pytest.raises(EdgeError, match=r"found token type 1 for pairs\.tsv.*, expected 0 to 0 as"):
        export(replace(request, data=pairs(tiny, 2 * OWN)))


def test_a_column_of_pairs_with_holes_is_refused(tiny: Path) -> None:
    data = pairs(tiny, 3)
    data.write_text(data.read_text() + "alone\t\t1\n")
    with pytest.raises(EdgeError, match=r"found 1 rows of 4 without text_pair, expected one in"):
        read_texts(data, paired=True)
    with pytest.raises(EdgeError, match="found text_pair, expected text alone"):
        read_texts(data)


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_a_blank_pair_is_none_in_every_kind_of_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    lines = {"t.jsonl": '{"text": "a", "text_pair": "%s"}\n', "t.csv": 'a,"%s"\n'}
    header = "text,text_pair\n" if name == "t.csv" else ""
    for blank in ("", " "):
        file.write_text(header + lines[name] % blank * 2)
        assert read_texts(file) == [Row("a"), Row("a")]
        file.write_text(header + lines[name] % "b" + lines[name] % blank)
        with pytest.raises(EdgeError, match="found 1 rows of 2 without text_pair"):
            read_texts(file, paired=True)


def test_ids_beyond_the_embeddings_rows_are_refused(tiny: Path) -> None:
    file = tiny / "model" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["the"] = 500
    file.write_text(json.dumps(tokenizer))
    request = ExportRequest(tiny / "b.edge", model="model")
    with pytest.raises(EdgeError, match=r"found token id 500 for built-in text, expected 0 to 18"):
        make_plan(request, read_inputs(request))
