"""Profiles over a program that behaves as adb does; no phone is there to verify them on."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import edge_lra
from edge_lra.errors import EdgeError
from edge_lra.transport import Adb, NotAnswered, TargetLost
from edge_lra.transport.adb import runner_options
from edge_lra.transport.android import State, compare_states, read_memory
from tests.transport.conftest import REQUESTS, wait_until

FAKE = Path(__file__).with_name("fake_adb.py")
# Parses the runner's command line and lets the agent answer.
RUNNER = """#!{python}
import argparse, json, sys, time
sys.path.insert(0, {root!r})
parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["run", "verify", "profile", "generate"])
for name in ("--ort", "--adapter", "--shape"):
    parser.add_argument(name)
for name in ("--threads", "--runs", "--warmup"):
    parser.add_argument(name, type=int)
parser.add_argument("--budget-s", type=float)
parser.add_argument("--switch", action="store_true")
parser.add_argument("--json", action="store_true", required=True)
parser.add_argument("bundle")
given = parser.parse_args()
assert open(given.ort).read() == "a library"
from edge_lra.agent.__main__ import answer
request = vars(given) | {{"what": "measure", "bundles": [given.bundle]}}
request["shape"] = [int(n) for n in given.shape.split("x")]
found = answer(request)
time.sleep(1.2)
print(json.dumps(found))
"""


class Phone:
    """A device as adb shows it: its files, and its state."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cpu = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq"
        for made in (self.store.parent, root / "system/bin", self.cpu.parent):
            made.mkdir(parents=True)
        self.cpu.write_text("2400000\n")
        self.offer("getprop", 'case $1 in *release) echo 14;; *) echo "Pixel 8";; esac')
        self.set_heat(0)

    @property
    def store(self) -> Path:
        return self.root / "data/local/tmp/edge-lra"

    def offer(self, name: str, command: str) -> None:
        program = self.root / "system/bin" / name
        program.write_text(f"#!/bin/sh\n{command}\n")
        program.chmod(0o755)

    def set_heat(self, status: int) -> None:
        meminfo = 'echo "        TOTAL PSS:    20480    TOTAL RSS:    40960"'
        heat = f'echo "Thermal Status: {status}"'
        self.offer("dumpsys", f"case $1 in thermalservice) {heat};; meminfo) {meminfo};; esac")

    def left(self) -> list[str]:
        return [path.name for path in self.store.parent.iterdir()]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    phone = Phone(tmp_path / "phone")
    programs, runner = tmp_path / "programs", tmp_path / "runner"
    programs.mkdir()
    runner.mkdir()
    adb = programs / "adb"
    adb.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))} "$@"\n')
    adb.chmod(0o755)
    root = str(Path(edge_lra.__file__).parent.parent)
    (runner / "edge-lra-run").write_text(RUNNER.format(python=sys.executable, root=root))
    (runner / "libonnxruntime.so").write_text("a library")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_ADB_ROOT", str(phone.root))
    monkeypatch.setenv("FAKE_ADB_DEVICES", "SER1AL\tdevice")
    monkeypatch.setenv("EDGE_LRA_ANDROID_RUNNER", str(runner))
    return phone


def test_the_probe_tells_what_it_is(phone: Phone) -> None:
    host = Adb("adb:SER1AL").probe()
    assert host.system == "Android 14" and host.cores >= 1 and host.ram_mib
    assert not phone.store.exists()


def test_the_native_runner_answers_a_measurement(phone: Phone, small_bundle: Path) -> None:
    adb = Adb("adb:")
    try:
        answer = adb.run({**REQUESTS[0], "bundles": [adb.push(small_bundle)]})
    finally:
        adb.clean_up()
    assert len(answer["latencies_ms"][0]) == 3
    memory = answer["process_mib"]
    assert memory["peak_rss"] >= memory["peak_pss"] > 1
    assert memory["meminfo_pss"] == 20
    assert answer["warnings"] == []
    assert phone.left() == []


def test_the_second_push_of_a_kept_bundle_sends_nothing(phone: Phone, small_bundle: Path) -> None:
    pushed = []
    for _ in range(2):
        adb = Adb("adb:SER1AL", keep=True)
        adb.push(small_bundle)
        adb.clean_up()
        pushed.append(adb.pushed_bytes)
    assert pushed[0] > 0 and pushed[1] == 0


def test_heat_and_slower_clocks_are_warned_of(phone: Phone, small_bundle: Path) -> None:
    adb = Adb("adb:SER1AL")
    place = adb.push(small_bundle)

    def warm_up() -> None:
        wait_until(lambda: list(phone.store.glob("once-*/*.pid")))
        phone.set_heat(2)
        phone.cpu.write_text("1200000\n")

    thread = threading.Thread(target=warm_up)
    thread.start()
    answer = adb.run({**REQUESTS[0], "bundles": [place]})
    adb.clean_up()
    assert answer["warnings"] == [
        "the device was warm: thermal status none before, moderate after",
        "cpu0's clock limit went from 2400 to 1200 MHz",
    ]


@pytest.mark.parametrize(
    ("devices", "target", "said"),
    [
        ("", "adb:", "no such device, found none; connect it and turn on USB debugging"),
        ("", "adb:X", "no such device, found none"),
        ("A\tdevice", "adb:B", "no such device, found A"),
        ("A\tdevice\nB\tdevice", "adb:", "found A, B; choose one as adb:SERIAL"),
        ("A\tunauthorized", "adb:A", "accept this computer's key on its screen"),
        ("A\toffline", "adb:", "is offline; plug it in again"),
        ("A\tno permissions (user not in plugdev)", "adb:", "udev rules"),
        ("A\tsideload", "adb:", "is in state 'sideload'"),
    ],
)
def test_a_device_that_is_not_ready_is_one_line(
    phone: Phone, monkeypatch: pytest.MonkeyPatch, devices: str, target: str, said: str
) -> None:
    monkeypatch.setenv("FAKE_ADB_DEVICES", devices)
    with pytest.raises(EdgeError) as raised:
        Adb(target).probe()
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_adb_is_one_line(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/programs")
    with pytest.raises(EdgeError, match=r"found no program adb.*sudo apt install adb"):
        Adb("adb:").probe()


def test_a_missing_runner_is_told_before_anything_is_sent(
    phone: Phone, small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, found in ((None, "found none"), (tmp_path, "found no edge-lra-run and no lib")):
        monkeypatch.delenv("EDGE_LRA_ANDROID_RUNNER", raising=False)
        with pytest.raises(EdgeError, match=f"built with the Android NDK, {found}"):
            Adb("adb:", runner=folder).push(small_bundle)
    assert phone.left() == []


def test_a_device_that_goes_away_is_lost(phone: Phone, small_bundle: Path) -> None:
    adb = Adb("adb:SER1AL")
    place = adb.push(small_bundle)
    (phone.root / "gone").touch()
    with pytest.raises(TargetLost, match="the device went away"):
        adb.run({**REQUESTS[0], "bundles": [place]})
    adb.clean_up()
    assert phone.left() == []


def test_a_runner_that_fails_is_one_line(phone: Phone, small_bundle: Path) -> None:
    adb = Adb("adb:")
    place = adb.push(small_bundle)
    with pytest.raises(EdgeError, match=r"adb:: the measuring process failed: .*invalid int"):
        adb.run({**REQUESTS[0], "bundles": [place], "runs": "many"})
    adb.clean_up()


def test_what_the_runner_has_no_option_for_is_refused() -> None:
    with pytest.raises(NotAnswered, match="does not answer 'cold', it answers measure"):
        runner_options({"what": "cold", "bundles": ["x"]})
    with pytest.raises(EdgeError, match="no option for depth"):
        runner_options({"what": "measure", "bundles": ["x"], "depth": 1})
    with pytest.raises(EdgeError, match="found 2 bundles, expected 1"):
        runner_options({"what": "measure", "bundles": ["x", "y"]})


def test_memory_is_read_from_outside() -> None:
    text = "an answer\n=memory=\nRss:   2048 kB\nPss: 1024 kB\nRss: 1024 kB\nPss: 512 kB\n"
    output, memory = read_memory(text)
    assert output == "an answer"
    assert memory["peak_rss"] == 2 and memory["steady_rss"] == 1
    assert memory["peak_pss"] == 1 and memory["steady_pss"] == 0.5
    assert memory["meminfo_pss"] is None


def test_a_device_that_stays_cool_has_no_warnings() -> None:
    state = State(0, {"cpu0": 1800.0})
    assert compare_states(state, state) == []
    assert compare_states(State(None, {}), state) == []


def test_the_fake_is_strict() -> None:
    done = subprocess.run([sys.executable, FAKE, "push"], env={"FAKE_ADB_ROOT": "/"}, check=False)
    assert done.returncode != 0
