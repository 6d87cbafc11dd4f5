"""Every mistake is one line that names the place, exit code 1, and leaves nothing behind."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from edge_lra.cli import main

MODEL = Path("model/model.safetensors")
ADAPTER = Path("adapter/adapter_model.safetensors")
EXPORT = ("export", "--model", "model", "--adapter", "adapter", "--no-verify")


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def refused(*arguments: str, code: int = 1) -> str:
    """Run a command that must fail; return its one line."""
    before = listing(Path.cwd())
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    if code == 1:
        assert len(lines) == 1
    assert "Traceback" not in result.stderr and "unexpected" not in result.stderr
    assert listing(Path.cwd()) == before
    return lines[-1]


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


def set_rank(rank: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path.with_name("adapter_config.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | {"r": rank}))

    return change


DAMAGES: dict[str, tuple[Path, Callable[[Path], object], str]] = {
    "model weights missing": (MODEL, Path.unlink, "model: found no weights"),
    "model config missing": (MODEL.with_name("config.json"), Path.unlink, "config.json: found no"),
    "model truncated": (MODEL, truncate, "truncated"),
    "model corrupt": (MODEL, corrupt, "corrupt header"),
    "model claims more data": (MODEL, overclaim, "inside the file"),
    "model holds NaN": (MODEL, lambda p: poison(p, "output.dense.weight", np.nan), "NaN or Inf"),
    "model holds Inf": (MODEL, lambda p: poison(p, "LayerNorm.bias", np.inf), "NaN or Inf"),
    "model pickles code": (MODEL, lambda p: pickled(p, "pytorch_model.bin"), "runs code"),
    "adapter weights missing": (ADAPTER, Path.unlink, "adapter: found no weights"),
    "adapter config missing": (
        ADAPTER.with_name("adapter_config.json"),
        Path.unlink,
        "expected an adapter folder",
    ),
    "adapter truncated": (ADAPTER, truncate, "truncated"),
    "adapter corrupt": (ADAPTER, corrupt, "corrupt header"),
    "adapter claims more data": (ADAPTER, overclaim, "inside the file"),
    "adapter holds NaN": (ADAPTER, lambda p: poison(p, "lora_A", np.nan), "NaN or Inf"),
    "adapter pickles code": (ADAPTER, lambda p: pickled(p, "adapter_model.bin"), "runs code"),
    "adapter of another base": (ADAPTER, widen, "is this adapter for another base?"),
    "no site matched": (ADAPTER, rename_sites, "found no weight of this name in the base"),
    "rank 0": (ADAPTER, set_rank(0), "adapter_config.json: r: found 0"),
    "other rank": (ADAPTER, set_rank(2), "found rank 4, expected 2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_input_is_refused_by_name(
    tiny: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, change, message = DAMAGES[damage]
    change(path)
    line = refused(*EXPORT)
    assert message in line
    assert path.parent.name in line
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
        ((*EXPORT, "--adapter", "adapter"), "expected one; use --factored"),
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
    tiny: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("option", "known"),
    [
        (("--quantize", "int3"), "int8, none"),
        (("--task", "chat"), "sequence-classification"),
        (("--sites", "some"), "adapter, all-linear"),
        (("--log-level", "loud"), "'info'"),
    ],
)
def test_an_unknown_value_lists_the_known_ones(
    tiny: Path, option: tuple[str, str], known: str
) -> None:
    line = refused(*EXPORT, *option, code=2)
    assert known in line and option[1] in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ", "edge-lra.toml: found"),
        ("nam = 'x'", "found key 'nam', expected one of name, model"),
        ("model = 3", "model: found 3, expected a text"),
        ("quantize = 'int3'", "quantize: found 'int3', expected one of int8, none"),
        ("task = 'chat'", "task: found 'chat', expected one of"),
        ("[gates]\nkl = 1", "found key 'kl', expected one of kl_mean"),
        ("[limits]\nspeed = 1", "found key 'speed', expected one of p50_ms"),
        ("[[adapter]]\nname = 'x'", "adapter: found no path"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tiny: Path, content: str, message: str) -> None:
    Path("edge-lra.toml").write_text(content)
    assert message in refused(*EXPORT)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", b"words\tlabel\nx\ty\n", "without 'text'"),
        ("t.txt", b"\n\n", "found no text"),
        ("t.txt", b"\xff\xfe\xfa", "UTF-8"),
        ("t.jsonl", b"{\n", "expected rows of UTF-8 text"),
        ("t.jsonl", b"[1]\n", "without 'text'"),
        ("t.pdf", b"x", "expected one of .txt, .tsv, .csv, .jsonl"),
    ],
)
def test_wrong_text_data_is_refused_by_name(
    tiny: Path, name: str, content: bytes, message: str
) -> None:
    Path(name).write_bytes(content)
    line = refused(*EXPORT[:-1], "--data", name)
    assert message in line and name in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npz", b"no", "expected an .npz file"),
        ("x.safetensors", b"no", "expected a safetensors file"),
        ("x.csv", b"no", "expected .npz or .safetensors"),
    ],
)
def test_wrong_arrays_are_refused_by_name(
    tiny: Path, name: str, content: bytes, message: str
) -> None:
    assert CliRunner().invoke(main, [*EXPORT, "--out", "b.edge"]).exit_code == 0
    Path(name).write_bytes(content)
    assert message in refused("run", "b.edge", "--input", name)
    assert "missing.npz" in refused("run", "b.edge", "--input", "missing.npz")


def test_a_folder_that_is_no_bundle_is_replaced_by_force_only(tiny: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    assert "--force" in refused(*EXPORT, "--out", "mine")
    assert Path("mine/thesis.txt").read_text() == "years of work"
    assert CliRunner().invoke(main, [*EXPORT, "--out", "mine", "--force"]).exit_code == 0
    assert Path("mine/manifest.json").is_file() and not Path("mine/thesis.txt").exists()


def test_an_adapter_name_at_run_lists_the_known_ones(tiny: Path) -> None:
    CliRunner().invoke(main, [*EXPORT, "--factored", "--out", "f.edge"])
    assert "expected one of: adapter" in refused("run", "f.edge", "--text", "x", "--adapter", "no")


@pytest.mark.parametrize("command", ["run", "profile", "verify"])
@pytest.mark.parametrize("file", ["model.onnx.data", "model.onnx", "tokenizer.json"])
def test_one_flipped_byte_names_the_file(tiny: Path, command: str, file: str) -> None:
    CliRunner().invoke(main, [*EXPORT, "--out", "b.edge"])
    path = Path("b.edge", file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    text = ["--text", "x"] if command == "run" else []
    assert f"{file}: is damaged" in refused(command, "b.edge", *text)


def test_a_bundle_with_a_missing_file_names_it(tiny: Path) -> None:
    CliRunner().invoke(main, [*EXPORT, "--out", "b.edge"])
    shutil.move("b.edge/model.onnx.data", "elsewhere")
    assert "model.onnx.data: found it missing" in refused("run", "b.edge", "--text", "x")
