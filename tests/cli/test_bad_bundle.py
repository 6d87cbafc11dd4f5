"""A bundle that is damaged, or arrays and names it does not take: one line, and what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_lra.cli import main

Refused = Callable[..., str]
EXPORT = ("export", "--model", "model", "--adapter", "adapter")
COMMANDS = {"run": ("--text", "x"), "profile": (), "verify": (), "inspect": ()}
IDS = np.array([[2, 5, 3]])


@pytest.fixture(scope="module")
def made(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a verified bundle with every kind of file: graph, data, adapter, golden cases."""
    out = tmp_path_factory.mktemp("bundle") / "f.edge"
    sources = ("--model", str(tiny_made / "model"), "--adapter", str(tiny_made / "adapter"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)
        result = CliRunner().invoke(main, ["export", *sources, "--factored", "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture
def bundle(made: Path, tiny: Path) -> Path:
    """Return the bundle `f.edge` in the current folder."""
    return Path(shutil.copytree(made, tiny / "f.edge")).relative_to(tiny)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("command", ["run", "profile", "verify"])
def test_one_flipped_byte_names_the_file(bundle: Path, refused: Refused, command: str) -> None:
    files = [path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".onnx", ".data", ".pb", ".json", ".safetensors"}
    for file in files:
        size = (bundle / file).stat().st_size
        for place in (0, size // 2, size - 1):
            flip(bundle / file, place)
            line = refused(command, "f.edge", *COMMANDS[command])
            assert line.startswith(f"Error: f.edge/{file}: "), (place, line)
            flip(bundle / file, place)


def test_every_flipped_byte_of_a_manifest_names_it(bundle: Path, refused: Refused) -> None:
    file = bundle / "manifest.json"
    for place in range(0, file.stat().st_size, 37):
        flip(file, place)
        assert refused("inspect", "f.edge").startswith("Error: f.edge/manifest.json: "), place
        flip(file, place)


def test_a_damaged_bundle_is_replaced_without_force(bundle: Path) -> None:
    flip(bundle / "manifest.json", -20)
    result = CliRunner().invoke(main, [*EXPORT, "--no-verify", "--out", "f.edge"])
    assert result.exit_code == 0, result.stderr
    assert CliRunner().invoke(main, ["run", "f.edge", "--text", "x"]).exit_code == 0


@pytest.mark.parametrize("file", ["model.onnx.data", "adapters/adapter.safetensors"])
def test_a_bundle_with_a_missing_or_cut_file_names_it(
    bundle: Path, refused: Refused, file: str
) -> None:
    data = (bundle / file).read_bytes()
    (bundle / file).write_bytes(data[:-1])
    assert f"{file}: found it missing or cut" in refused("run", "f.edge", "--text", "x")
    (bundle / file).unlink()
    for command, options in COMMANDS.items():
        if command != "inspect":  # it reads the manifest alone
            assert f"{file}: found it missing" in refused(command, "f.edge", *options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npz", b"no", "found File is not a zip file, expected an .npz file"),
        ("x.npz", b"", "expected an .npz file"),
        ("x.safetensors", b"no", "expected a safetensors file"),
        ("x.safetensors", b"", "expected a safetensors file"),
        ("x.csv", b"no", "found '.csv', expected .npz or .safetensors"),
    ],
)
def test_wrong_files_of_arrays_are_refused_by_name(
    bundle: Path, refused: Refused, name: str, content: bytes, message: str
) -> None:
    Path(name).write_bytes(content)
    assert f"{name}: found" in refused("run", "f.edge", "--input", name)
    assert message in refused("run", "f.edge", "--input", name)


def test_arrays_that_are_not_there_are_refused_by_name(bundle: Path, refused: Refused) -> None:
    for name in ("none.npz", "none.safetensors"):
        assert f"{name}: found no such file" in refused("run", "f.edge", "--input", name)


def test_damaged_or_pickled_arrays_are_refused_by_name(bundle: Path, refused: Refused) -> None:
    np.save("bare.npy", IDS)
    Path("bare.npy").rename("bare.npz")
    np.savez("pickled.npz", input_ids=np.array([{}], object))
    np.savez_compressed("packed.npz", input_ids=np.tile(IDS, 10))
    data = bytearray(Path("packed.npz").read_bytes())
    data[70:100] = b"\xff" * 30
    Path("packed.npz").write_bytes(data)
    for name in ("bare.npz", "pickled.npz", "packed.npz"):
        line = refused("run", "f.edge", "--input", name)
        assert f"{name}: found" in line and "expected an .npz file" in line


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"foo": IDS}, "found 'foo', expected input_ids"),
        ({}, "found no 'input_ids'"),
        ({"input_ids": IDS * 1.5, "attention_mask": IDS}, "input_ids: found float64"),
        ({"input_ids": IDS, "attention_mask": IDS[:, :2]}, "attention_mask: found shape [1, 2]"),
        ({"input_ids": IDS[0], "attention_mask": IDS}, "input_ids: found 1 axes"),
    ],
)
def test_wrong_arrays_are_refused_by_name(
    bundle: Path, refused: Refused, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez("x.npz", **arrays)
    assert message in refused("run", "f.edge", "--input", "x.npz")


@pytest.mark.parametrize("command", ["run", "profile"])
def test_an_unknown_adapter_lists_the_known_ones(
    bundle: Path, refused: Refused, command: str
) -> None:
    line = refused(command, "f.edge", *COMMANDS[command], "--adapter", "no")
    assert "found 'no', expected one of: adapter" in line


def test_a_bundle_that_was_moved_away_is_named(bundle: Path, refused: Refused) -> None:
    Path(".edge-lra-last").write_text(str(Path("gone.edge").resolve()))
    assert "gone.edge: found no manifest.json" in refused("run", "--text", "x")
    Path(".edge-lra-last").write_bytes(b"\xff")
    assert ".edge-lra-last: found it unreadable" in refused("run", "--text", "x")
