"""Every mistake is one line that names the place, exit code 1, and leaves nothing behind."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_lra.texts import read_texts

Refused = Callable[..., str]
MODEL = Path("model/model.safetensors")
CONFIG = MODEL.with_name("config.json")
TOKENIZER = MODEL.with_name("tokenizer.json")
ADAPTER = Path("adapter/adapter_model.safetensors")
ADAPTER_CONFIG = ADAPTER.with_name("adapter_config.json")
EXPORT = ("export", "--model", "model", "--adapter", "adapter", "--no-verify")


def edit(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = load_file(path)
    save_file(tensors | dict(change(tensors) or {}), path)


def poison(path: Path, part: str, value: float) -> None:
    tensors = load_file(path)
    name = next(name for name in tensors if part in name)
    tensors[name] = tensors[name].copy()
    tensors[name].flat[3] = value
    save_file(tensors, path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def overclaim(path: Path) -> None:
    """Let the header promise more data than the file holds."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    last = max(
        (v for k, v in header.items() if k != "__metadata__"), key=lambda v: v["data_offsets"]
    )
    last["shape"], last["data_offsets"][1] = [10**6], last["data_offsets"][0] + 4 * 10**6
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def corrupt(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:8] + b"\0" * 64 + path.read_bytes()[72:])


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("the pickle ran",))


def pickled(path: Path, name: str) -> None:
    path.unlink()
    path.with_name(name).write_bytes(pickle.dumps({"x": Bomb()}))


def widen(path: Path) -> None:
    """Make the adapter one for a wider base."""
    edit(path, lambda t: {n: np.pad(v, ((0, 0), (0, 8))) for n, v in t.items() if "lora_A" in n})


def rename_sites(path: Path) -> None:
    tensors = load_file(path)
    save_file({name.replace("query", "other"): v for name, v in tensors.items()}, path)


def empty_factors(path: Path) -> None:
    """Leave every site its factors, of no rank."""
    edit(path, lambda t: {n: v[:0] for n, v in t.items() if "lora_A" in n})
    edit(path, lambda t: {n: v[:, :0].copy() for n, v in t.items() if "lora_B" in n})


def drop_factors(path: Path) -> None:
    save_file({n: v for n, v in load_file(path).items() if "lora" not in n}, path)


def setting(**values: object) -> Callable[[Path], None]:
    """Return a change of a JSON file's keys."""

    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


DAMAGES: dict[str, tuple[Path, Callable[[Path], object], str]] = {
    "model weights missing": (MODEL, Path.unlink, "model: found no weights"),
    "model config missing": (CONFIG, Path.unlink, "model/config.json: found no"),
    "model config corrupt": (CONFIG, text(b"{"), "model/config.json: found Expecting"),
    "model config no text": (CONFIG, text(b"\xff"), "model/config.json: found 'utf-8'"),
    "no layers": (CONFIG, setting(num_hidden_layers=0), "num_hidden_layers 0, expected a whole"),
    "no number": (CONFIG, setting(max_position_embeddings="x"), "max_position_embeddings 'x'"),
    "no epsilon": (CONFIG, setting(layer_norm_eps="x"), "layer_norm_eps 'x'"),
    "more layers": (CONFIG, setting(num_hidden_layers=3), "no tensor 'encoder.layer.2."),
    "odd heads": (CONFIG, setting(num_attention_heads=5), "5 attention heads, expected a divisor"),
    "odd positions": (CONFIG, setting(max_position_embeddings=4000), "4000 positions, expected at"),
    "odd padding": (CONFIG, setting(pad_token_id="x"), "pad_token_id 'x'"),
    "odd labels": (CONFIG, setting(id2label=["a"]), "id2label ['a'], expected names by number"),
    "unknown family": (
        CONFIG,
        setting(model_type="gpt9"),
        "'gpt9', expected one that has a recipe",
    ),
    "tokenizer corrupt": (TOKENIZER, text(b"{"), "model/tokenizer.json: found"),
    "tokenizer empty": (TOKENIZER, text(b"{}"), "model/tokenizer.json: found Model missing"),
    "tokenizer config corrupt": (
        TOKENIZER.with_name("tokenizer_config.json"),
        text(b"{"),
        "model/tokenizer_config.json: found Expecting",
    ),
    "tokenizer limit": (
        TOKENIZER.with_name("tokenizer_config.json"),
        setting(model_max_length="x"),
        "model/tokenizer_config.json: model_max_length: found 'x'",
    ),
    "model empty": (MODEL, text(b""), "found 0 bytes"),
    "model truncated": (MODEL, truncate, "truncated"),
    "model corrupt": (MODEL, corrupt, "corrupt header"),
    "model claims more data": (MODEL, overclaim, "inside the file"),
    "model holds NaN": (
        MODEL,
        lambda p: poison(p, "output.dense.weight", np.nan),
        "output.dense.weight: found NaN",
    ),
    "model holds Inf": (
        MODEL,
        lambda p: poison(p, "LayerNorm.bias", np.inf),
        "LayerNorm.bias: found NaN",
    ),
    "model pickles code": (MODEL, lambda p: pickled(p, "pytorch_model.bin"), "runs code"),
    "adapter weights missing": (ADAPTER, Path.unlink, "adapter: found no weights"),
    "adapter config missing": (ADAPTER_CONFIG, Path.unlink, "expected an adapter folder"),
    "adapter config corrupt": (ADAPTER_CONFIG, text(b"{"), "adapter_config.json: found Expecting"),
    "adapter empty": (ADAPTER, text(b""), "found 0 bytes"),
    "adapter truncated": (ADAPTER, truncate, "truncated"),
    "adapter corrupt": (ADAPTER, corrupt, "corrupt header"),
    "adapter claims more data": (ADAPTER, overclaim, "inside the file"),
    "adapter holds NaN": (
        ADAPTER,
        lambda p: poison(p, "lora_A", np.nan),
        "lora_A.weight: found NaN",
    ),
    "adapter holds Inf": (
        ADAPTER,
        lambda p: poison(p, "lora_B", -np.inf),
        "lora_B.weight: found NaN",
    ),
    "adapter pickles code": (ADAPTER, lambda p: pickled(p, "adapter_model.bin"), "runs code"),
    "adapter of another base": (ADAPTER, widen, "is this adapter for another base?"),
    "no site matched": (ADAPTER, rename_sites, "found no weight of this name in the base"),
    "no site at all": (ADAPTER, drop_factors, "found no tensors of LORA"),
    "rank 0": (ADAPTER_CONFIG, setting(r=0), "adapter_config.json: r: found 0"),
    "rank 0 of a site": (
        ADAPTER_CONFIG,
        setting(rank_pattern={"query": 0}),
        "adapter_config.json: rank_pattern query: found 0",
    ),
    "rank 0 in the weights": (ADAPTER, empty_factors, "query: found rank 0, expected 4"),
    "other rank": (ADAPTER_CONFIG, setting(r=2), "found rank 4, expected 2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_input_is_refused_by_name(
    refused: Refused, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, change, message = DAMAGES[damage]
    change(path)
    line = refused(*EXPORT)
    assert message in line
    assert path.parent.name in line or line.startswith(f"Error: {path.name}: ")
    assert "the pickle ran" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "--model", "no/such/folder"), "no/such/folder: found no such folder"),
        (("export", "--model", "model", "--adapter", "./none"), "none: found no such folder"),
        (("export",), "model: found none"),
        (("export", "--model", "adapter"), "adapter/config.json: found no such file"),
        ((*EXPORT, "--labels", "a,b,c"), "labels: found 3, expected 2"),
        ((*EXPORT[:-1], "--data", "none.txt"), "none.txt: found no such file"),
        ((*EXPORT, "--adapter", "adapter"), "'adapter' twice"),
        ((*EXPORT, "--adapter", "b=adapter:0"), "weights: found [1.0, 0.0]"),
        ((*EXPORT, "--adapter", "b=adapter:2", "--factored"), "with --factored, expected none"),
        ((*EXPORT, "--adapter", "adapter", "--factored"), "'adapter' twice"),
        ((*EXPORT, "--adapter", "a/b=adapter", "--factored"), "found name 'a/b'"),
        (("run", "none.edge", "--text", "x"), "none.edge: found no manifest.json"),
        (("run", "model", "--text", "x"), "model: found no manifest.json"),
        (("run", "--text", "x"), "found no bundle written here"),
        (("verify", "none.edge"), "none.edge: found no manifest.json"),
        (("profile", "none.edge"), "none.edge: found no manifest.json"),
        (("inspect", "none"), "none: found no such"),
        (("adapter", "add", "none.edge", "adapter"), "none.edge: found no manifest.json"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(
    refused: Refused, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("option", "known"),
    [
        (("--quantize", "int3"), "int8, int8-weight-only, int4, none"),
        (("--task", "chat"), "sequence-classification"),
        (("--sites", "some"), "adapter, all-linear"),
        (("--log-level", "loud"), "'info'"),
    ],
)
def test_an_unknown_value_lists_the_known_ones(
    refused: Refused, option: tuple[str, str], known: str
) -> None:
    line = refused(*EXPORT, *option, code=2)
    assert known in line and option[1] in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ", "edge-lra.toml: found"),
        ("nam = 'x'", "found key 'nam', expected one of name, model"),
        ("model = 3", "model: found 3, expected a text"),
        ("quantize = 'int3'", "quantize: found 'int3', expected one of int8, int8-weight-only, "),
        ("task = 'chat'", "task: found 'chat', expected one of"),
        ("[gates]\nkl = 1", "found key 'kl', expected one of kl_mean"),
        ("[limits]\nspeed = 1", "found key 'speed', expected one of p50_ms"),
        ("[[adapter]]\nname = 'x'", "adapter: found no path"),
        ("[[adapter]]\npath = 'adapter'\nrank = 3", "found key 'rank', expected one of name, path"),
        ("name = 'a/b'", "name: found 'a/b', expected a name, no path"),
        ('name = "a\\u0000b"', "name: found"),
        ("labels = 'a,b'", "labels: found 'a,b', expected a list"),
        ("labels = ['a']", "labels: found 1, expected 2"),
        ("[gates]\nkl_mean = nan", "gates.kl_mean: found nan, expected a number"),
        ("gates = 3", "gates: found 3, expected a table"),
        ("a = " + "[" * 5000, "edge-lra.toml: found"),
        (b"name = '\xff'", "edge-lra.toml: found 'utf-8'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    refused: Refused, content: str | bytes, message: str
) -> None:
    Path("edge-lra.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(*EXPORT)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", b"words\tlabel\nx\ty\n", "without 'text'"),
        ("t.csv", b"words,label\nx,y\n", "without 'text'"),
        ("t.txt", b"", "found no text"),
        ("t.txt", b"\n\n", "found no text"),
        ("t.tsv", b"", "found no text"),
        ("t.tsv", b"text\tlabel\n", "found no text"),
        ("t.jsonl", b"", "found no text"),
        ("t.jsonl", b'{"text": null}\n', "found no text"),
        ("t.txt", b"\xff\xfe\xfa", "UTF-8"),
        ("t.tsv", b"text\n\xff\n", "UTF-8"),
        ("t.jsonl", b'{"text": "\xff"}\n', "UTF-8"),
        ("t.jsonl", b'{"text": "\\ud800"}\n', "UTF-8"),
        ("t.jsonl", b"[" * 100_000, "expected rows of UTF-8 text"),
        ("t.jsonl", b"{\n", "expected rows of UTF-8 text"),
        ("t.jsonl", b"[1]\n", "without 'text'"),
        ("t.pdf", b"x", "expected one of .txt, .tsv, .csv, .jsonl"),
    ],
)
def test_wrong_text_data_is_refused_by_name(
    refused: Refused, name: str, content: bytes, message: str
) -> None:
    Path(name).write_bytes(content)
    line = refused(*EXPORT[:-1], "--data", name)
    assert message in line and name in line


def test_text_data_that_is_not_there_is_refused_by_name(refused: Refused) -> None:
    Path("edge-lra.toml").write_text("data = 'none.tsv'")
    assert "none.tsv: found no such file" in refused(*EXPORT[:-1])
    Path("t.tsv").mkdir()
    assert "t.tsv: found Is a directory" in refused(*EXPORT[:-1], "--data", "t.tsv")


@pytest.mark.parametrize("content", [b"[3]", b"{", b'[{"type": 1}]'])
def test_a_wrong_list_of_modules_is_refused_by_name(refused: Refused, content: bytes) -> None:
    Path("model/modules.json").write_bytes(content)
    assert "model/modules.json: found" in refused(
        "export", "--model", "model", "--task", "sentence-embedding", "--no-verify"
    )


def test_a_byte_order_mark_is_no_part_of_the_header(tiny: Path) -> None:
    for name, content in (("t.tsv", b"text\na film\n"), ("t.jsonl", b'{"text": "a film"}\n')):
        Path(name).write_bytes(b"\xef\xbb\xbf" + content)
        assert [row.text for row in read_texts(Path(name))] == ["a film"]


def test_a_line_separator_is_part_of_a_text(tiny: Path) -> None:
    for name, content in (("t.txt", "a\u2028b\r\nc\n"), ("t.jsonl", '{"text": "a\u2028b"}\n')):
        Path(name).write_bytes(content.encode())
        assert read_texts(Path(name))[0].text == "a\u2028b"


WRONG = ['{"text": "b"', '{"text": "b", "label": ["good"]}', '{"text": "b", "text_pair": {}}']


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_of_json_is_numbered(refused: Refused, line: str) -> None:
    Path("t.jsonl").write_text('\n{"text": "a", "label": 1}\n' + line)
    assert "t.jsonl: found line 3: " in refused(*EXPORT[:-1], "--data", "t.jsonl")


def test_a_setting_that_is_given_twice_is_refused(refused: Refused) -> None:
    file = Path("adapter/adapter_config.json")
    file.write_text(file.read_text().rstrip().removesuffix("}") + ', "lora_alpha": 99}')
    assert "adapter_config.json: found a key occurs twice" in refused(*EXPORT)
