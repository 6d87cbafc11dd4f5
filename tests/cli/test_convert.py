"""`edge-lra adapter convert`: an adapter in one library's files, then in another's."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
import transformers
from click.testing import CliRunner

from edge_lra.adapters.formats import writers
from edge_lra.cli import main
from tests.cli.documents import document

CONVERT = ("adapter", "convert")
TARGETS = {"peft": "p", "mlx": "m", "gguf": "g.gguf", "onnx_adapter": "o.onnx_adapter"}


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with `model`, a Llama, and `adapter`, a LoRA that PEFT made for it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
        vocab_size=20,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained("model")
    lora = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=6,
        target_modules=["q_proj", "k_proj", "down_proj"],
        rank_pattern={"down_proj": 2},
    )
    adapted = peft.get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained("adapter")
    return tmp_path


def merged(adapter: str) -> dict[str, torch.Tensor]:
    """Return the weights that PEFT makes of the base and an adapter."""
    model = transformers.LlamaForCausalLM.from_pretrained("model")
    whole = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return dict(whole.state_dict())


def test_through_every_format_and_back_peft_merges_the_same(llama: Path) -> None:
    last, expected = "adapter", merged("adapter")
    assert set(TARGETS) == set(writers()) - {"layers"}
    for step, (target, out) in enumerate(TARGETS.items()):
        found = document(*CONVERT, last, "--to", target, "--out", out, "--model", "model")
        assert found["format"] == writers()[target].title
        # MLX-LM has one rank: what comes back from it is filled with zeros.
        assert [site["rank"] for site in found["sites"]].count(2) == (0 if step > 1 else 2)
        last = out
    assert found["found"] == "GGUF"
    document(*CONVERT, last, "--to", "peft", "--out", "back")
    for name, weight in merged("back").items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-5)


def listing() -> dict[str, bytes | None]:
    files = sorted(Path().rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in files}


def refused(*arguments: str, code: int = 1) -> str:
    """Run a conversion that must fail and change nothing; return its one line."""
    before = listing()
    result = CliRunner().invoke(main, [*CONVERT, *arguments])
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ") and "unexpected" not in lines[-1], lines
    assert len(lines) == 1 or code == 2
    assert listing() == before
    return lines[-1]


def test_it_says_what_was_found_and_what_was_written(llama: Path) -> None:
    arguments = ("adapter", "--to", "mlx", "--out", "m")
    result = CliRunner().invoke(main, [*CONVERT, *arguments])
    assert result.exit_code == 0, result.stderr
    first, *table, last = result.stdout.splitlines()
    assert first == "adapter: found PEFT" and last.startswith("m: MLX-LM, 0.0")
    rows = [line for line in table if "model.layers." in line]
    assert len(rows) == 6 and all(row.split()[-2] in "24" for row in rows)


def test_the_formats_are_those_of_the_table(llama: Path) -> None:
    line = refused("adapter", "--to", "ggml", "--out", "x", code=2)
    assert all(name in line for name in writers())
    assert "Missing option '--to'" in refused("adapter", "--out", "x", code=2)


@pytest.mark.parametrize(("target", "out"), list(TARGETS.items()))
def test_what_is_there_is_replaced_by_force_only(llama: Path, target: str, out: str) -> None:
    arguments = ("adapter", "--to", target, "--out", out, "--model", "model")
    Path(out).write_text("years of work")
    assert "--force" in refused(*arguments)
    document(*CONVERT, *arguments, "--force")
    names = {path.name for path in llama.iterdir()}
    assert names == {"adapter", "model", out}
    assert Path(out).is_dir() or Path(out).read_bytes() != b"years of work"


def test_no_force_replaces_what_is_read(llama: Path) -> None:
    for out in ("adapter", "model", "."):
        options = ("--to", "mlx", "--out", out, "--model", "model", "--force")
        assert "expected another" in refused("adapter", *options)
    document(*CONVERT, "adapter", "--to", "onnx_adapter", "--out", "a.onnx_adapter")
    options = ("--to", "onnx_adapter", "--out", "./a.onnx_adapter", "--force")
    assert "the adapter that is read" in refused("a.onnx_adapter", *options)
    Path("d.gguf").mkdir()
    options = ("--to", "gguf", "--out", "d.gguf", "--model", "model", "--force")
    assert "found a folder" in refused("adapter", *options)


def test_a_file_has_its_formats_ending(llama: Path) -> None:
    assert ".gguf" in refused("adapter", "--to", "gguf", "--out", "x", "--model", "model")


def test_what_fails_halfway_leaves_nothing(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensors_to_file", full)
    options = ("--to", "gguf", "--out", "new/deep/x.gguf", "--model", "model")
    assert "No space left on device" in refused("adapter", *options)
    Path("file").write_text("")
    line = refused("adapter", "--to", "onnx_adapter", "--out", "file/x.onnx_adapter")
    assert "file/x.onnx_adapter cannot be written" in line


def test_what_a_format_needs_or_lacks_is_said(llama: Path) -> None:
    assert "--model" in refused("adapter", "--to", "gguf", "--out", "x.gguf")
    assert "no such folder" in refused("none", "--to", "mlx", "--out", "x")
    Path("empty").mkdir()
    assert "MLX-LM" in refused("empty", "--to", "mlx", "--out", "x")
    assert "./no: found no such" in refused(
        "adapter", "--to", "mlx", "--out", "x", "--model", "./no"
    )
