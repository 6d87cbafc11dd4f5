"""An app's folder gets a runner and a bundle, whole, and keeps every file of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_lra.bundle import check_files, load_manifest, seal, sha256_file
from edge_lra.embed import EmbedRequest, embed
from edge_lra.embed.page import PAGE
from edge_lra.embed.platforms import PLATFORMS
from edge_lra.embed.record import RECORD
from edge_lra.errors import EdgeError
from edge_lra.runner import Runner

ROOT = Path(__file__).parents[2]
INPUTS = {"input_ids": [[2, 9, 3]], "attention_mask": [[1, 1, 1]]}
# Kill the process right before the replacement that has this number.
KILLED = """
import os, pathlib, signal, sys
from pathlib import Path
from edge_lra.embed import EmbedRequest, embed, platforms
platforms.data_folder = lambda kind: Path(sys.argv[1]) / kind
replace, left = pathlib.Path.replace, [int(sys.argv[4])]
def last(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(*arguments)
pathlib.Path.replace = last
embed(EmbedRequest(Path(sys.argv[2]), "cpp", Path(sys.argv[3])))
"""


def listing(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(request: EmbedRequest, match: str) -> None:
    """Hold that a request fails and leaves everything as it was."""
    before = listing(request.out)
    with pytest.raises(EdgeError, match=match) as caught:
        embed(request)
    assert "\n" not in str(caught.value)
    assert listing(request.out) == before


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_gets_the_whole_bundle_and_the_app_keeps_its_files(
    bundle: Path, app: Path, platform: str
) -> None:
    before = listing(app)
    found = embed(EmbedRequest(bundle, platform, app))
    after = listing(app)
    assert {name: after[name] for name in before} == before
    embedded = app / found.bundle
    assert listing(embedded) == listing(bundle)
    check_files(embedded, load_manifest(embedded))
    files = {name for name, content in after.items() if content is not None}
    assert files - before.keys() == set(found.written)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_only_sources_travel(bundle: Path, app: Path, platform: str) -> None:
    texts = [text for text in listing(_embedded(bundle, platform, app)).values() if text]
    for foreign in (b"output", b"not ours", b"class Test {}", b"int y;"):
        assert foreign not in texts


def _embedded(bundle: Path, platform: str, app: Path) -> Path:
    embed(EmbedRequest(bundle, platform, app))
    return app


def test_npm_installs_none_of_the_runner_s_own_test_tools(bundle: Path, app: Path) -> None:
    _embedded(bundle, "js", app)
    package = json.loads((app / "edge-lra/package.json").read_text())
    assert package["devDependencies"] == {"typescript": "7"}


def test_a_second_run_changes_nothing(bundle: Path, app: Path) -> None:
    before = listing(_embedded(bundle, "cpp", app))
    assert listing(_embedded(bundle, "cpp", app)) == before


@pytest.mark.parametrize("name", ["models/mood.edge/config.json", PAGE, RECORD])
def test_a_file_of_the_user_s_is_refused_by_name(bundle: Path, app: Path, name: str) -> None:
    (app / name).parent.mkdir(parents=True, exist_ok=True)
    (app / name).write_text("{}")
    refused(EmbedRequest(bundle, "cpp", app), name)


def test_the_first_of_many_files_in_the_way_are_named(bundle: Path, app: Path) -> None:
    shutil.copytree(bundle, app / "models/mood.edge")
    for path in (app / "models/mood.edge").rglob("*.json"):
        path.write_text("mine")
    refused(EmbedRequest(bundle, "cpp", app), r"config\.json, .*, .* and 1 more, changed or not")


def test_a_changed_source_is_refused_and_an_unchanged_one_updated(
    bundle: Path, app: Path, sources: Path
) -> None:
    source = _embedded(bundle, "cpp", app) / "third_party/edge-lra/src/runner.cpp"
    (sources / "cpp/src/runner.cpp").write_text("int newer;")
    embed(EmbedRequest(bundle, "cpp", app))
    assert source.read_text() == "int newer;"
    source.write_text("int patched;")
    refused(EmbedRequest(bundle, "cpp", app), r"edge-lra/src/runner\.cpp, changed")


def test_what_is_needed_no_more_goes_unless_it_was_changed(
    bundle: Path, app: Path, sources: Path
) -> None:
    for name in ("old/a.cpp", "b.cpp"):
        (sources / "cpp/src" / name).parent.mkdir(exist_ok=True)
        (sources / "cpp/src" / name).write_text("int old;")
    target = _embedded(bundle, "cpp", app) / "third_party/edge-lra/src"
    (target / "b.cpp").write_text("int mine;")
    shutil.rmtree(sources / "cpp/src/old")
    (sources / "cpp/src/b.cpp").unlink()
    found = embed(EmbedRequest(bundle, "cpp", app))
    assert found.deleted == ("third_party/edge-lra/src/old/a.cpp",)
    assert found.kept == ("third_party/edge-lra/src/b.cpp",)
    assert not (target / "old").exists() and (target / "b.cpp").read_text() == "int mine;"


def test_bundles_share_a_runner_and_platforms_an_app(
    bundle: Path, app: Path, sources: Path
) -> None:
    other = Path(shutil.copytree(bundle, bundle.with_name("other.edge")))
    for one in (bundle, other):
        embed(EmbedRequest(one, "cpp", app))
        embed(EmbedRequest(one, "js", app))
    (sources / "cpp/src/runner.cpp").rename(sources / "cpp/src/renamed.cpp")
    runner = app / "third_party/edge-lra/src"
    embed(EmbedRequest(bundle, "cpp", app))
    assert (runner / "runner.cpp").exists()  # the other bundle's run wrote it too
    embed(EmbedRequest(other, "cpp", app))
    assert [path.name for path in runner.iterdir()] == ["renamed.cpp"]
    for name in ("models/mood.edge", "models/other.edge", "public/mood.edge"):
        check_files(app / name, load_manifest(app / name))


def test_a_link_is_not_written_through(bundle: Path, app: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (app / "models").symlink_to(tmp_path / "elsewhere")
    refused(EmbedRequest(bundle, "cpp", app), "models/mood.edge")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_record_that_leads_out_of_the_app_is_damaged(bundle: Path, app: Path) -> None:
    secret = app.parent / "secret"
    secret.write_text("mine")
    name = "../secret"
    document = {
        "schema_version": 1,
        "files": {name: sha256_file(secret)},
        "embedded": [
            {"platform": "cpp", "bundle": "mood.edge", "converted_from": None, "files": [name]}
        ],
    }
    (app / RECORD).write_text(json.dumps(document))
    refused(EmbedRequest(bundle, "cpp", app), f"{RECORD}: found it damaged")
    assert secret.read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1}', "[" * 2000])
def test_a_record_of_another_kind_is_damaged(bundle: Path, app: Path, text: str) -> None:
    (app / RECORD).write_text(text)
    refused(EmbedRequest(bundle, "cpp", app), f"{RECORD}: found it damaged")


def test_a_record_of_a_newer_version_is_refused(bundle: Path, app: Path) -> None:
    (app / RECORD).write_text('{"schema_version": 2}')
    refused(EmbedRequest(bundle, "cpp", app), "found version 2, expected 1; update edge-lra")


def test_a_damaged_bundle_is_refused(bundle: Path, app: Path) -> None:
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[-1] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    refused(EmbedRequest(bundle, "cpp", app), r"model\.onnx: is damaged")


def test_a_bundle_at_its_place_in_the_app_is_refused(bundle: Path, app: Path) -> None:
    _embedded(bundle, "cpp", app)
    refused(EmbedRequest(app / "models/mood.edge", "cpp", app), "found it at its place")


def test_an_installation_without_sources_says_so(bundle: Path, app: Path, sources: Path) -> None:
    shutil.rmtree(sources / "cpp")
    refused(EmbedRequest(bundle, "cpp", app), "found no sources, expected the runner for C and C")


def test_a_place_that_cannot_be_written_is_one_line(bundle: Path, app: Path) -> None:
    refused(EmbedRequest(bundle, "cpp", app / "README.md"), "README.md cannot be written: ")
    with pytest.raises(EdgeError, match=r"cannot be written: .*; choose another --out"):
        embed(EmbedRequest(bundle, "cpp", Path("/proc/none")))


def test_a_failure_takes_new_folders_with_it(bundle: Path, app: Path, sources: Path) -> None:
    shutil.rmtree(sources / "cpp")
    with pytest.raises(EdgeError):
        embed(EmbedRequest(bundle, "cpp", app / "new/deep"))
    assert not (app / "new").exists()


def test_a_disk_that_fills_up_leaves_the_app_as_it_was(bundle: Path, app: Path) -> None:
    _embedded(bundle, "cpp", app)
    before = listing(app)
    limit = (bundle / "model.onnx.data").stat().st_size - 1
    code = (
        "import sys, resource, signal\nfrom edge_lra.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
        "from edge_lra.embed import platforms\nfrom pathlib import Path\n"
        "data = Path(sys.argv.pop(1))\nplatforms.data_folder = lambda kind: data / kind\nmain()\n"
    )
    given = (str(app.parent), "embed", str(bundle), "--platform", "js", "--out", str(app))
    done = run(code, *given)
    assert done.returncode == 1
    assert done.stderr == f"Error: {app} cannot be written: File too large; choose another --out\n"
    assert listing(app) == before


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_refused_move_undoes_those_before(
    bundle: Path, app: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _embedded(bundle, "cpp", app)
    (sources / "cpp/src/runner.cpp").write_text("int newer;")
    (sources / "cpp/src/more").mkdir()
    (sources / "cpp/src/more/extra.cpp").write_text("int extra;")
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.name == RECORD:
            raise OSError(30, "Read-only file system")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    refused(EmbedRequest(bundle, "cpp", app), "cannot be written: Read-only file system")


@pytest.mark.parametrize("number", [1, 4, 12])
def test_a_killed_run_is_finished_by_the_next(
    bundle: Path, app: Path, sources: Path, number: int
) -> None:
    _embedded(bundle, "cpp", app)
    (sources / "cpp/CMakeLists.txt").write_text("project(newer)")
    done = run(KILLED, str(sources.parent), str(bundle), str(app), str(number))
    assert done.returncode == -signal.SIGKILL, done.stderr
    for name in ("third_party/edge-lra/CMakeLists.txt", "models/mood.edge/model.onnx", PAGE):
        assert (app / name).is_file()  # the old or the new one
    embed(EmbedRequest(bundle, "cpp", app))
    assert (app / "third_party/edge-lra/CMakeLists.txt").read_text() == "project(newer)"
    assert not [path for path in app.iterdir() if path.name.startswith(".")]


# ---- split: adapters apart, to be updated over the air ------------------------------------


def laid_over(app: Path, folders: tuple[str, str | None], out: Path) -> Path:
    """Lay what an update brings over the base, as an app does."""
    for folder in folders:
        shutil.copytree(app / str(folder), out, dirs_exist_ok=True)
    return out


def test_a_split_bundle_laid_together_is_the_bundle(
    bundle: Path, app: Path, tmp_path: Path
) -> None:
    found = embed(EmbedRequest(bundle, "android", app, split=True))
    assert (found.base, found.adapters) == ("new", "edgelra/src/main/assets/mood-adapters")
    whole = laid_over(app, (found.bundle, found.adapters), tmp_path / "laid")
    assert listing(whole) == listing(bundle)
    with pytest.raises(EdgeError, match=r"found no manifest\.json"):
        Runner.load(app / found.bundle)


def test_another_adapter_is_an_update_of_the_second_folder_alone(
    bundle: Path, app: Path, tmp_path: Path
) -> None:
    first = embed(EmbedRequest(bundle, "cpp", app, split=True))
    shutil.copytree(app / first.bundle, tmp_path / "installed")
    rename_adapter(bundle, "other", "newer")
    second = embed(EmbedRequest(bundle, "cpp", app, split=True))
    assert second.base == "same"
    assert second.deleted == (f"{first.adapters}/adapters/other.safetensors",)
    shutil.copytree(app / str(second.adapters), tmp_path / "installed", dirs_exist_ok=True)
    runner = Runner.load(tmp_path / "installed", verify="always")
    assert runner.adapters == ("mood", "newer")
    runner.run(INPUTS, adapter="newer")


def rename_adapter(bundle: Path, old: str, new: str) -> None:
    """Change a bundle's adapters: the manifest and the folder beside it."""
    manifest = load_manifest(bundle)
    file = f"adapters/{new}.safetensors"
    (bundle / f"adapters/{old}.safetensors").rename(bundle / file)
    manifest["adapters"][new] = manifest["adapters"].pop(old) | {"file": file}
    manifest["files"][file] = manifest["files"].pop(f"adapters/{old}.safetensors")
    (bundle / "manifest.json").write_bytes(seal(manifest))


def test_another_base_is_no_update(bundle: Path, app: Path) -> None:
    embed(EmbedRequest(bundle, "cpp", app, split=True))
    (bundle / "config.json").write_text("{}")
    manifest = load_manifest(bundle)
    digest = sha256_file(bundle / "config.json")
    manifest["files"]["config.json"] = {"size": 2, "sha256": digest}
    (bundle / "manifest.json").write_bytes(seal(manifest))
    assert embed(EmbedRequest(bundle, "cpp", app, split=True)).base == "changed"


def test_a_merged_bundle_has_nothing_to_split(made_merged: Path, app: Path) -> None:
    refused(EmbedRequest(made_merged, "cpp", app, split=True), "expected adapters to split off")
