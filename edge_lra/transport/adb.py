"""An Android device over adb: the native runner answers there. Not verified on a phone.

What is tested is this side, against a program that behaves as adb does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_lra.bundle import sha256_file
from edge_lra.errors import EdgeError
from edge_lra.transport.address import parse_adb
from edge_lra.transport.android import MEASURED, STATE, compare_states, read_memory, read_state
from edge_lra.transport.base import Host
from edge_lra.transport.host import PROBE, parse_probe
from edge_lra.transport.process import (
    NO_TELEMETRY,
    NotAnswered,
    TargetLost,
    failure,
    read_answer,
)
from edge_lra.transport.session import Content, Progress, Session
from edge_lra.transport.shell import READ, Reply, Shell, own_group

RUNNER_FOLDER = "EDGE_LRA_ANDROID_RUNNER"
RUNNER, LIBRARY = "edge-lra-run", "libonnxruntime.so"
STORE = "/data/local/tmp/edge-lra"
ADB_S = 30.0  # adb may start its server first
RUN_S = 3600.0
SIGNAL = 128
# The runner's command line: `edge-lra-run VERB [--ort LIB] [--adapter NAME] [--json] [OPTIONS]
# BUNDLE`. Its JSON is the agent's answer to the same request. A request's None is left out.
VERBS = {"measure": "profile"}
OPTIONS: dict[str, Callable[[Any], list[str]]] = {
    "adapter": lambda value: ["--adapter", str(value)],
    "shape": lambda value: ["--shape", "x".join(map(str, value))],
    "threads": lambda value: ["--threads", str(value)],
    "runs": lambda value: ["--runs", str(value)],
    "warmup": lambda value: ["--warmup", str(value)],
    "budget_s": lambda value: ["--budget-s", str(value)],
    "context": lambda value: ["--context", str(value)],
    "switch": lambda value: ["--switch"] if value else [],
}
STATES = {
    "unauthorized": "is not authorized; unlock it and accept this computer's key on its screen",
    "offline": "is offline; plug it in again, or run `adb reconnect`",
    "no permissions": "may not be opened by this user; see `adb devices -l` for udev rules",
    "recovery": "is in recovery; start its system",
    "bootloader": "is in its bootloader; start its system",
}


class Adb:
    """An Android device with USB debugging, by its serial; without one, the only device.

    Args:
        target: adb:SERIAL, or adb: alone.
        keep: whether bundles and the runner stay in /data/local/tmp/edge-lra.
        progress: told of every piece that was sent.
        runner: the folder with edge-lra-run and libonnxruntime.so for the device; the environment
            variable EDGE_LRA_ANDROID_RUNNER otherwise.

    Raises:
        EdgeError: the target has another form.
    """

    name = "adb"
    keeps_time = True

    def __init__(
        self,
        target: str,
        keep: bool = False,
        progress: Progress | None = None,
        runner: Path | None = None,
    ) -> None:
        self.target = target
        self._serial = parse_adb(target)
        self._keep = keep
        self._progress = progress
        self._runner = runner
        self._shell: AdbShell | None = None
        self._session: Session | None = None
        self._pushed_bytes = 0  # by sessions that have ended

    @property
    def pushed_bytes(self) -> int:
        """Bytes of files that were sent so far."""
        return self._pushed_bytes + (self._session.pushed_bytes if self._session else 0)

    def probe(self) -> Host:
        """Return what is there; nothing is written."""
        return parse_probe(self._open().call(PROBE, STORE).text)

    def push(self, bundle: Path) -> str:
        """Bring the runner and a bundle's files there, but those that are there already."""
        return self._prepare().bring_bundle(bundle)

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let the native runner answer a request there.

        The answer also holds process_mib, the process's memory as Android sees it, and warnings
        when the device's heat or its clocks' limits changed meanwhile.

        Raises:
            NotAnswered: the runner has no answer to such a request.
            TargetLost: the device went away.
            EdgeError: the runner reports a mistake or failed.
        """
        words = runner_options(request)
        session, shell = self._prepare(), self._open()
        before = read_state(shell.call(STATE).text)
        command = ["env", *(f"{name}={value}" for name, value in NO_TELEMETRY.items())]
        command += [f"{session.folder}/{RUNNER}", words[0]]
        command += ["--ort", f"{session.folder}/{LIBRARY}", "--json", *words[1:]]
        reply = shell.call(MEASURED, session.folder, *command, line="", timeout_s=RUN_S)
        answer, process_mib = read_memory(reply.text)
        if reply.code != 0:
            code = SIGNAL - reply.code if reply.code > SIGNAL else reply.code
            raise EdgeError(f"{self.target}: {failure(code, reply.err)}")
        found = read_answer(self.target, answer)
        changes = compare_states(before, read_state(shell.call(STATE).text))
        warnings = [*found.get("warnings", ()), *changes]
        return {**found, "process_mib": process_mib, "warnings": warnings}

    def pull(self, place: str, target: Path) -> None:
        """Copy a file from there.

        Raises:
            EdgeError: it is not there.
        """
        reply = self._open().call(READ, place)
        if reply.code != 0:
            raise EdgeError(f"{self.target}: {place} cannot be read: {reply.reason}; check it")
        target.write_bytes(reply.out)

    def clean_up(self) -> None:
        """End what runs there and remove what was brought."""
        if self._session is not None:
            self._session.end()
            self._pushed_bytes += self._session.pushed_bytes
        self._session = self._shell = None

    def _open(self) -> AdbShell:
        if self._shell is None:
            serial = find_device(self.target, self._serial)
            self._shell = AdbShell(["adb", "-s", serial, "shell"], self.target)
        return self._shell

    def _prepare(self) -> Session:
        if self._session is None:
            folder = self._runner_folder()
            shell = self._open()
            self._session = Session(shell, STORE, self._keep, self._progress)
            contents = [
                Content(name, sha256_file(file), file.stat().st_size, file)
                for name, file in ((n, folder / n) for n in (RUNNER, LIBRARY))
            ]
            there = self._session.bring(contents)
            self._session.place(
                {f"{self._session.folder}/{item.name}": there[item.sha256] for item in contents}
            )
            shell.call('chmod 700 "$1"', f"{self._session.folder}/{RUNNER}")
        return self._session

    def _runner_folder(self) -> Path:
        """Return the folder of the native runner.

        Raises:
            EdgeError: none was named, or it lacks a file.
        """
        given = self._runner or os.environ.get(RUNNER_FOLDER)
        missing = [n for n in (RUNNER, LIBRARY) if not given or not (Path(given) / n).is_file()]
        if given is None or missing:
            found = f"no {' and no '.join(missing)} in {given}" if given else "none"
            raise EdgeError(
                f"{self.target}: needs a runner built with the Android NDK, found {found}; name "
                f"the folder with {RUNNER} and {LIBRARY} in {RUNNER_FOLDER}"
            )
        return Path(given)


class AdbShell(Shell):
    """A device's shell."""

    def call(self, script: str, *arguments: str, **options: Any) -> Reply:
        """Run a script to its end, as Shell does.

        Raises:
            TargetLost: the device went away.
            EdgeError: the time is over.
        """
        reply = super().call(script, *arguments, **options)
        gone = ("device offline", "no devices", "not found", "closed")
        last = reply.reason
        if reply.code != 0 and last.startswith(("error:", "adb:")) and last.endswith(gone):
            raise TargetLost(
                f"{self.target}: the device went away ({last}); check the cable, then run it again"
            )
        return reply


def runner_options(request: Mapping[str, Any]) -> list[str]:
    """Return the native runner's verb and arguments for a request of the agent.

    Raises:
        NotAnswered: the runner has no such verb.
        EdgeError: the request holds what the runner has no option for.
    """
    what = str(request.get("what"))
    if what not in VERBS:
        raise NotAnswered(
            f"adb: the native runner does not answer {what!r}, it answers {', '.join(VERBS)}"
        )
    places = [str(place) for place in request.get("bundles") or ()]
    if len(places) != 1:
        raise EdgeError(f"adb: found {len(places)} bundles, expected 1; profile them one by one")
    options = []
    for name, value in request.items():
        if name in ("what", "bundles") or value is None:
            continue
        if name not in OPTIONS:
            raise EdgeError(f"adb: the native runner has no option for {name}; leave it out")
        options += OPTIONS[name](value)
    return [VERBS[what], *options, places[0]]


def find_device(target: str, serial: str | None) -> str:
    """Return the serial of the device that is meant.

    Raises:
        EdgeError: adb is missing, or there is no such device, or it is not ready.
    """
    if shutil.which("adb") is None:
        raise EdgeError(
            f"{target}: found no program adb, expected Android's platform tools; install them "
            "(`sudo apt install adb`)"
        )
    try:
        done = subprocess.run(
            ["adb", "devices"],
            capture_output=True,
            text=True,
            check=False,
            timeout=ADB_S,
            stdin=subprocess.DEVNULL,
            **own_group(),
        )
    except subprocess.TimeoutExpired:
        raise EdgeError(
            f"{target}: adb did not answer in {ADB_S:g} s; run `adb kill-server`"
        ) from None
    rows = [line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line]
    devices = {row[0]: row[1].strip() for row in rows}
    if serial is None and len(devices) > 1:
        raise EdgeError(f"{target}: found {', '.join(devices)}; choose one as adb:SERIAL")
    serial = serial or next(iter(devices), None)
    if serial is None or serial not in devices:
        others = f"found {', '.join(devices)}" if devices else "found none"
        raise EdgeError(f"{target}: no such device, {others}; connect it and turn on USB debugging")
    state = devices[serial]
    if state != "device":
        known = next((text for name, text in STATES.items() if state.startswith(name)), None)
        raise EdgeError(f"{target}: {serial} {known or f'is in state {state!r}; start its system'}")
    return serial
