"""Setting up the emulator: when it is made, what it records, and why it cannot be."""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import edge_lra
from edge_lra.errors import EdgeError
from edge_lra.transport import assemble, mirrors
from edge_lra.transport.apt import explain
from edge_lra.transport.sysroot import RECORD, WHEELS, find_sysroot, set_up

READY = Path(edge_lra.__file__).parent.parent / ".cache" / "arm64"


@pytest.fixture
def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((READY / RECORD).read_text())
    return found


def test_every_fetched_file_is_recorded_with_its_hash(record: dict[str, Any]) -> None:
    entries = [*record["packages"], *record["wheels"]]
    assert {"qemu-user", "python3", "libc6", *WHEELS} <= {entry["name"] for entry in entries}
    assert all(len(entry["sha256"]) == 64 and entry["bytes"] > 0 for entry in entries)


def test_its_wheels_have_this_environments_versions(record: dict[str, Any]) -> None:
    assert record["versions"] == {name: version(name) for name in WHEELS}


def test_its_downloads_stay_below_200_mb(record: dict[str, Any]) -> None:
    assert sum(entry["bytes"] for entry in (*record["packages"], *record["wheels"])) < 200e6


def test_what_is_there_is_returned_without_apt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set_up(folder=READY) == READY


def test_an_interrupted_set_up_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(made: Path, *_: object) -> None:
        shutil.copy(READY / RECORD, made / RECORD)
        raise KeyboardInterrupt

    def give(work: Path, *_: object) -> None:
        (work / "made").mkdir()
        interrupt(work / "made")

    monkeypatch.setattr(assemble, "make", give)
    with pytest.raises(KeyboardInterrupt):
        set_up(folder=tmp_path / "arm64")
    with pytest.raises(EdgeError, match="found nothing set up"):
        find_sysroot(tmp_path / "arm64")


def test_another_version_here_makes_it_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record: dict[str, Any]
) -> None:
    (tmp_path / RECORD).write_text(json.dumps(record | {"wanted": {"onnxruntime": "1.0.0"}}))
    made: list[Path] = []
    monkeypatch.setattr(assemble, "make", lambda work, place, *_: made.append(place))
    set_up(folder=tmp_path)
    assert made == [tmp_path]
    assert find_sysroot(tmp_path).python == record["python"]  # good until the new one is there


def test_a_damaged_record_is_no_set_up(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(EdgeError, match="run edge-lra devices --setup arm64"):
        find_sysroot(tmp_path)


def test_a_system_without_apt_is_told_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgeError, match=r"no apt-get.*expected Debian.*--target ssh://"):
        set_up(folder=tmp_path / "arm64")


def test_without_a_network_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(EdgeError, match=r"the set-up needs a network once") as found:
        set_up(folder=tmp_path / "arm64")
    assert "\n" not in str(found.value)
    assert not (tmp_path / "arm64").exists()


def test_a_full_disk_is_said_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Usage(NamedTuple):
        total: int = 10**9
        used: int = 10**9 - 2**20
        free: int = 2**20

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())
    with pytest.raises(EdgeError, match="found 1 MiB free, expected 450"):
        set_up(folder=tmp_path / "arm64")


def test_on_arm64_nothing_is_emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(EdgeError, match=r"this machine is arm64.*use --device host"):
        set_up(folder=tmp_path / "arm64")


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("E: You don't have enough free space in /x/archives/.", "the disk is full"),
        ("W: x\nE: Failed to fetch http://m/x  Temporary failure resolving 'm'", "network"),
        ("ERROR: No matching distribution found for onnxruntime==9", "--target ssh://"),
    ],
)
def test_a_failed_program_is_explained_in_one_line(output: str, remedy: str) -> None:
    line = explain(output)
    assert remedy in line
    assert "\n" not in line
    assert not line.startswith(("E: ", "W: ", "ERROR: "))


@pytest.mark.parametrize(
    ("name", "text", "entry", "keys"),
    [
        ("a.list", "# mirror\ndeb [arch=amd64 signed-by=/k/a.gpg,/k/b.gpg] http://m s main\n", 2,
         " /k/a.gpg /k/b.gpg"),
        ("b.list", "deb http://m s main\n", 1, ""),
        ("c.sources", "Types: deb\nURIs: http://m\n\nTypes: deb\n# key\nSigned-By: /k/c.gpg\n", 2,
         " /k/c.gpg"),
        ("d.sources", "Types: deb\nSigned-By:\n -----BEGIN-----\n .\n mQ\nSuites: s\n", 1,
         "\n -----BEGIN-----\n .\n mQ"),
    ],
)  # fmt: skip
def test_a_mirrors_keys_are_read_from_its_sources_file(
    tmp_path: Path, name: str, text: str, entry: int, keys: str
) -> None:
    (tmp_path / name).write_text(text)
    assert mirrors.signed_by(f"{tmp_path / name}:{entry}") == keys


def test_backports_come_from_the_releases_own_mirror() -> None:
    found = mirrors.backports(mirrors.machine_sources())
    (release, *_) = mirrors.machine_sources()
    assert [source.suite.partition("-")[2] for source in found] == ["backports"]
    assert (found[0].uri, found[0].signed_by) == (release.uri, release.signed_by)
