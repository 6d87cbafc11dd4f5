"""Profiles over a real sshd on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edge_lra
from edge_lra.bundle import describe_files, load_manifest, seal
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.forms.graphs import product_graph
from edge_lra.profile import measure
from edge_lra.quantize.schemes import Float
from edge_lra.transport import Ssh, TargetLost, require_arch
from edge_lra.weights import Source
from tests.transport.conftest import REQUESTS, Server, endless, wait_until


@pytest.fixture
def ssh(server: Server) -> Iterator[Ssh]:
    found = Ssh(server.target)
    yield found
    found.clean_up()


def profile(ssh: Ssh, bundle: Path) -> dict[str, Any]:
    """Ask for one measurement, from the first contact to the last."""
    try:
        ssh.probe()
        return ssh.run({**REQUESTS[0], "bundles": [ssh.push(bundle)]})
    finally:
        ssh.clean_up()


def test_small_graphs_are_timed_there(ssh: Ssh, tiny: Path) -> None:
    source = Source(Checkpoint(tiny / "model"), "any", (32, 32))
    graph = product_graph(Float(), source, 4, static=False).request()
    ssh.probe()
    found = ssh.run({"what": "graphs", "threads": 1, "budget_s": 0.01, "graphs": [graph]})
    assert found["graphs"][0]["us"] > 0


def error_of(ssh: Ssh, bundle: Path) -> str:
    with pytest.raises(EdgeError) as raised:
        profile(ssh, bundle)
    message = str(raised.value)
    assert "\n" not in message and message.startswith(ssh.target), message
    return message


def test_a_whole_profile_runs_there_and_leaves_nothing(
    server: Server, small_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="own-"))  # no other program's, and a socket's path fits
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    ssh = Ssh(server.target)
    try:
        found = measure(small_bundle, [(1, 8)], runs=20, transport=ssh, sweep=(1, 2))
    finally:
        ssh.clean_up()
    (entry,) = found.entries
    measured = entry.measured
    assert measured is not None and measured.complete, measured
    assert measured.transport == "ssh" and measured.start.cold_s
    assert len(measured.timings[0].latencies_ms) == 20
    assert measured.operators and measured.layers and len(measured.sweep) == 2
    assert server.left() == []
    assert not server.agents()
    scratch.rmdir()  # it is empty


def test_a_profile_shakes_hands_once(server: Server, small_bundle: Path) -> None:
    profile(Ssh(server.target), small_bundle)
    assert server.handshakes() == 1


def test_the_probe_tells_what_is_there_and_writes_nothing(server: Server, ssh: Ssh) -> None:
    host = ssh.probe()
    assert host.arch == os.uname().machine and host.cores == os.cpu_count()
    assert host.ram_mib and host.free_mib and host.free_disk_mib
    assert {"python", "onnxruntime", "numpy", "safetensors"} == set(host.versions)
    assert ssh.keeps_time
    assert server.left() == []


def test_the_second_profile_of_a_kept_bundle_pushes_nothing(
    server: Server, small_bundle: Path
) -> None:
    first, second, third = (Ssh(server.target, keep=keep) for keep in (True, True, False))
    profile(first, small_bundle)
    size = sum(file.stat().st_size for file in small_bundle.rglob("*") if file.is_file())
    assert first.pushed_bytes > size
    kept = server.left()
    for again in (second, third):
        profile(again, small_bundle)
        assert again.pushed_bytes == 0
        assert server.left() == kept
    assert not [name for name in kept if "once" in name]


def test_weights_that_another_bundle_brought_are_not_sent(
    server: Server, small_bundle: Path, tmp_path: Path
) -> None:
    first = Ssh(server.target, keep=True)
    profile(first, small_bundle)
    other = shutil.copytree(small_bundle, tmp_path / "other.edge")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    manifest = load_manifest(other)
    (other / "manifest.json").write_bytes(seal({**manifest, "files": describe_files(other)}))
    second = Ssh(server.target, keep=True)
    profile(second, other)
    changed = ("config.json", "manifest.json")
    assert second.pushed_bytes == sum((other / name).stat().st_size for name in changed)


def test_a_kept_file_that_was_damaged_is_sent_again(server: Server, small_bundle: Path) -> None:
    profile(Ssh(server.target, keep=True), small_bundle)
    digest = load_manifest(small_bundle)["files"]["model.onnx.data"]["sha256"]
    kept = server.home / ".cache/edge-lra/files" / digest
    good = kept.read_bytes()
    kept.write_bytes(bytes(len(good)))
    again = Ssh(server.target, keep=True)
    profile(again, small_bundle)
    assert again.pushed_bytes == len(good)
    assert kept.read_bytes() == good


def test_a_store_is_found_by_its_path_whatever_it_holds(server: Server, small_bundle: Path) -> None:
    Ssh(f"{server.target}?store=~/it's%20%24(here)").clean_up()
    ssh = Ssh(f"{server.target}?store=~/it's%20%24(here)", keep=True)
    profile(ssh, small_bundle)
    assert (server.home / "it's $(here)/files").is_dir()


def test_what_was_there_stays(server: Server, small_bundle: Path) -> None:
    (server.home / ".cache/edge-lra").mkdir(parents=True)
    profile(Ssh(server.target), small_bundle)
    assert server.left() == [".cache", ".cache/edge-lra"]


def test_a_killed_sessions_folder_goes_with_the_next(server: Server, small_bundle: Path) -> None:
    store = server.home / ".cache/edge-lra"
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid in (ended.pid, os.getpid()):
        (store / f"once-{pid}").mkdir(parents=True)
    profile(Ssh(server.target), small_bundle)
    assert [path.name for path in store.iterdir()] == [f"once-{os.getpid()}"]


def test_a_file_is_pulled_byte_for_byte(server: Server, ssh: Ssh, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (server.home / "it's $x").write_bytes(data)
    ssh.pull(f"{server.home}/it's $x", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == data
    with pytest.raises(EdgeError, match="No such file"):
        ssh.pull("/no/such file", tmp_path / "none")


def test_a_mistake_is_the_agents_own_line(ssh: Ssh, small_bundle: Path) -> None:
    place = ssh.push(small_bundle)
    request = {**REQUESTS[0], "bundles": [place], "context": 8}
    with pytest.raises(EdgeError, match="generates no text"):
        ssh.run(request)


def test_an_agent_that_is_killed_is_named(server: Server, ssh: Ssh, small_bundle: Path) -> None:
    place = ssh.push(small_bundle)
    threading.Thread(target=kill_agents, args=(server,)).start()
    with pytest.raises(EdgeError, match="ended by SIGKILL; free memory, or give a smaller"):
        ssh.run(endless(place))


def kill_agents(server: Server) -> None:
    wait_until(server.agents)
    for agent in server.agents():
        agent.kill()


def test_a_run_that_takes_too_long_is_ended_there(server: Server, small_bundle: Path) -> None:
    ssh = Ssh(server.target, run_timeout_s=4)
    place = ssh.push(small_bundle)
    with pytest.raises(EdgeError, match="no answer after 4 s"):
        ssh.run(endless(place))
    wait_until(lambda: not server.agents(), 5)
    ssh.clean_up()
    assert server.left() == []


def test_a_dropped_connection_leaves_nothing(server: Server, small_bundle: Path) -> None:
    ssh = Ssh(server.target)
    place = ssh.push(small_bundle)

    def drop() -> None:
        wait_until(server.agents)
        server.kill_connections()

    threading.Thread(target=drop).start()
    with pytest.raises(TargetLost, match=r"the connection was lost.*run it again"):
        ssh.run(endless(place))
    ssh.clean_up()
    wait_until(lambda: not server.agents() and not server.left(), 10)


INTERRUPTED = """
import json, sys
from pathlib import Path
from edge_lra.transport import Ssh
ssh = Ssh(sys.argv[1])
try:
    place = ssh.push(Path(sys.argv[2]))
    ssh.run(json.loads(sys.argv[3]) | {"bundles": [place]})
except KeyboardInterrupt:
    pass
finally:
    ssh.clean_up()
print("cleaned up")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_who_is_stopped_leaves_nothing(
    server: Server, small_bundle: Path, how: signal.Signals
) -> None:
    arguments = (server.target, str(small_bundle), json.dumps(endless("")))
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(edge_lra.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_until(server.agents)
    os.killpg(process.pid, how)  # as a terminal does: the whole group
    said, _ = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert said == "cleaned up\n"
        assert not server.agents() and server.left() == []
    wait_until(lambda: not server.agents() and not server.left(), 10)
    wait_until(lambda: not server.connections(), 10)


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    """Return a folder on a disk of 512 KiB."""
    folder = server.folder / "small disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_before_anything_is_sent(
    server: Server, small_bundle: Path, small_disk: Path
) -> None:
    (small_disk / "other").write_bytes(bytes(480 << 10))
    ssh = Ssh(f"{server.target}?store={small_disk}")
    message = error_of(ssh, small_bundle)
    assert "MiB free at" in message and "?store=/path" in message
    assert ssh.pushed_bytes == 0
    assert [path.name for path in small_disk.iterdir()] == ["other"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_disk_that_fills_up_is_named_and_left_clean(
    server: Server, small_bundle: Path, small_disk: Path, keep: bool
) -> None:
    def fill(name: str, sent: int, total: int) -> None:
        if name == "model.onnx.data":
            with (small_disk / "other").open("wb", buffering=0) as other:
                try:
                    while other.write(bytes(4096)):
                        pass
                except OSError:
                    pass

    ssh = Ssh(f"{server.target}?store={small_disk}", keep, fill)
    message = error_of(ssh, small_bundle)
    assert "No space left on device; free space, or choose another folder" in message
    left = {path.name for path in small_disk.iterdir()}
    assert left == ({"other", "files"} if keep else {"other"})
    assert not list(small_disk.rglob("*incoming"))


def test_a_target_that_refuses_is_one_line(server: Server, small_bundle: Path) -> None:
    server.stop()
    assert "Connection refused; is sshd running there?" in error_of(
        Ssh(server.target), small_bundle
    )


def test_an_unknown_key_is_told_how_to_be_known(server: Server, small_bundle: Path) -> None:
    (server.folder / "key.pub").write_text("")
    assert f"ssh-copy-id -p {server.port}" in error_of(Ssh(server.target), small_bundle)


def test_an_unknown_host_key_is_not_taken(server: Server, small_bundle: Path) -> None:
    (server.folder / "known_hosts").write_text("")
    assert "host key is not known" in error_of(Ssh(server.target), small_bundle)


def test_an_unknown_host_is_one_line(server: Server, small_bundle: Path) -> None:
    assert "check the name" in error_of(Ssh("ssh://no-such-host.invalid"), small_bundle)


def test_a_missing_ssh_is_one_line(
    server: Server, small_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_LRA_SSH_COMMAND", "no-such-ssh -v")
    assert "install openssh-client" in error_of(Ssh(server.target), small_bundle)


def test_another_architecture_is_refused(ssh: Ssh) -> None:
    host = ssh.probe()
    require_arch(host, host.arch, ssh.target, "host")
    with pytest.raises(EdgeError, match="expected riscv64 for board; check the target"):
        require_arch(host, "riscv64", ssh.target, "board")
