"""Which Python of a target runs the agent, and what is said when none can."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from edge_lra.bundle import load_manifest, seal
from edge_lra.errors import EdgeError
from edge_lra.transport import Ssh
from tests.transport.conftest import REQUESTS, Server

BARE = shlex.quote(str(Path(sys.base_prefix) / "bin/python3"))  # without the packages
HERE = shlex.quote(sys.executable)


def altered(*changes: tuple[str, str]) -> str:
    """Return a command that is this Python, but tells other facts of itself."""
    edits = " ".join(f"-e {shlex.quote(f's/{old}/{new}/')}" for old, new in changes)
    return f'if [ "$1" = -c ]; then {HERE} "$@" | sed {edits}; else exec {HERE} "$@"; fi'


def push_error(server: Server, bundle: Path, query: str = "") -> str:
    ssh = Ssh(f"{server.target}{query}")
    try:
        ssh.probe()
        with pytest.raises(EdgeError) as raised:
            ssh.push(bundle)
    finally:
        ssh.clean_up()
    assert ssh.pushed_bytes == 0 and server.left() == []
    message = str(raised.value)
    assert "\n" not in message and message.startswith(server.target)
    return message


def test_a_missing_python_is_named_with_the_command(server: Server, small_bundle: Path) -> None:
    (server.programs / "python3").unlink()
    message = push_error(server, small_bundle)
    assert "found no python3 that runs there, expected Python 3.11 or newer" in message
    assert "sudo apt install python3 python3-venv" in message


def test_an_old_python_is_named(server: Server, small_bundle: Path) -> None:
    server.offer("python3", altered((f'"{sys.version.split()[0]}"', '"3.9.2"')))
    assert "found Python 3.9.2 at" in push_error(server, small_bundle)


def test_a_newer_python_beside_an_old_one_is_found(server: Server) -> None:
    server.offer("python3", altered((f'"{sys.version.split()[0]}"', '"3.9.2"')))
    server.offer("python3.12", f'exec {HERE} "$@"')
    ssh = Ssh(server.target)
    assert ssh.probe().versions["python"] == sys.version.split()[0]
    ssh.clean_up()


def test_the_python_is_the_one_that_is_asked_for(server: Server, small_bundle: Path) -> None:
    server.offer("python3", "exit 1")
    server.offer("my python", f'exec {HERE} "$@"')
    place = server.programs / "my python"
    ssh = Ssh(f"{server.target}/?python={str(place).replace(' ', '%20')}")
    try:
        answer = ssh.run({**REQUESTS[1], "bundles": [ssh.push(small_bundle)]})
    finally:
        ssh.clean_up()
    assert answer["cold_s"]
    message = push_error(server, small_bundle, "?python=/no/python")
    assert "found no Python that runs at /no/python there" in message


def test_without_venv_the_commands_are_named(server: Server, small_bundle: Path) -> None:
    change = ('"venv": true', '"venv": false'), ('"onnxruntime": "[^"]*"', '"onnxruntime": null')
    server.offer("python3", altered(*change))
    message = push_error(server, small_bundle)
    assert "lacks onnxruntime>=1.20, and its modules venv and ensurepip" in message
    assert "sudo apt install python3-venv" in message
    assert "-m pip install onnxruntime numpy safetensors" in message


def test_an_onnxruntime_too_old_for_the_bundle_is_named(
    server: Server, small_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(small_bundle, tmp_path / "new.edge")
    manifest = load_manifest(bundle) | {"min_onnxruntime": "99.0"}
    (bundle / "manifest.json").write_bytes(seal(manifest))
    message = push_error(server, bundle)
    assert "expected 99.0 or newer for" in message
    assert "-m pip install --upgrade onnxruntime` there" in message


def test_an_emulated_python_keeps_no_time(server: Server) -> None:
    machine = os.uname().machine
    server.offer("python3", altered((f'"{machine}"', '"riscv64"')))
    ssh = Ssh(server.target)
    host = ssh.probe()
    ssh.clean_up()
    assert not ssh.keeps_time
    assert host.arch == "riscv64" and "emulated" in host.cpu and host.features == ()


def test_without_a_network_the_missing_packages_are_named(
    server: Server, small_bundle: Path
) -> None:
    nowhere = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    server.write_shell(nowhere)
    server.offer("python3", f'exec {BARE} "$@"')
    message = push_error(server, small_bundle)
    assert "lacks onnxruntime>=1.20, " in message and "safetensors>=0.4.5" in message
    assert "pip could not get them there" in message
    assert "-m pip install onnxruntime numpy safetensors" in message


def test_a_kept_environment_is_made_once(server: Server, small_bundle: Path) -> None:
    server.offer("python3", f'exec {BARE} "$@"')
    kept: list[str] = []
    for keep in (True, False):
        ssh = Ssh(server.target, keep=keep)
        try:
            place = ssh.push(small_bundle)
            answer = ssh.run({**REQUESTS[0], "bundles": [place]})
            versions = ssh.probe().versions
        finally:
            ssh.clean_up()
        assert len(answer["latencies_ms"][0]) == 3
        assert {"onnxruntime", "numpy", "safetensors"} < versions.keys()
        now = [name for name in server.left() if "__pycache__" not in name]
        assert not kept or now == kept
        kept = now
    assert ".cache/edge-lra/venv/bin/python" in kept
