"""An emulated arm64 core on this machine: the real wheels under qemu-user.

It tells what a bundle computes there and which kernels compute it. Time and memory in an emulator
say nothing about a device, and nobody may ask for them here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edge_lra
from edge_lra.errors import EdgeError
from edge_lra.transport.base import Host
from edge_lra.transport.process import AGENT, read_answer
from edge_lra.transport.sysroot import EMULATOR, Sysroot, find_sysroot
from edge_lra.transport.translated import read_instructions

# What the agent may be asked: everything else there would be a time or a size in memory.
ANSWERED = ("probe", "check", "prepack")
TIMEOUT_S = 3600.0


class Qemu:
    """One core that the emulator knows, such as cortex-a76.

    Args:
        cpu: what `qemu-aarch64 -cpu help` lists, with properties behind a comma if need be.
        sysroot: the emulator and its Python; None for those that were set up.

    Raises:
        EdgeError: nothing was set up, or the emulator does not know the core.
    """

    name = "qemu"
    keeps_time = False

    def __init__(self, cpu: str, sysroot: Sysroot | None = None) -> None:
        self._sysroot = sysroot or find_sysroot()
        known = known_cpus(self._sysroot)
        if cpu.partition(",")[0] not in known:
            raise EdgeError(f"emulator: found core {cpu!r}, expected one of {', '.join(known)}")
        self.cpu = cpu
        self.target = f"emulated {cpu}"
        self._modules: Path | None = None

    @property
    def emulator(self) -> str:
        """The emulator's name and version."""
        return self._sysroot.emulator

    def probe(self) -> Host:
        """Return what a program finds inside the emulation; its memory is this machine's."""
        return host_of(self.run({"what": "probe"}))

    def push(self, bundle: Path) -> str:
        """Return where the bundle is: the emulated program sees this machine's files."""
        return str(bundle.resolve())

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let the agent answer a request inside the emulation.

        Raises:
            EdgeError: it was asked for a time, reports a mistake, or failed.
        """
        return self._ask(request)

    def run_traced(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Let the agent answer; return also the multiplying instructions that it ran.

        They are those of the code whose place the answer gives as `code`.

        Raises:
            EdgeError: as `run`.
        """
        with tempfile.TemporaryDirectory() as scratch:
            log = Path(scratch) / "translated"
            answer = self._ask(request, "-d", "in_asm", "-D", str(log))
            return answer, read_instructions(log, answer.get("code") or ())

    def pull(self, place: str, target: Path) -> None:
        """Copy a file."""
        try:
            shutil.copyfile(place, target)
        except OSError as error:
            raise EdgeError(f"{place}: cannot be copied: {error.strerror}; check it") from error

    def clean_up(self) -> None:
        """Remove the folder of links that the emulated Python imports from."""
        if self._modules is not None:
            shutil.rmtree(self._modules, ignore_errors=True)
            self._modules = None

    def _ask(self, request: Mapping[str, Any], *options: str) -> dict[str, Any]:
        what = str(request.get("what"))
        if what not in ANSWERED:
            raise EdgeError(
                f"{self.target}: was asked for {what!r}, expected one of {', '.join(ANSWERED)}; "
                "time and memory in an emulator are not a device's: use --target"
            )
        if self._modules is None:
            # This package alone: beside it may lie packages built for this machine's processor.
            self._modules = Path(tempfile.mkdtemp(prefix="edge-lra-"))
            (self._modules / "edge_lra").symlink_to(Path(edge_lra.__file__).parent)
        environment = self._sysroot.environment(self._modules)
        try:
            done = subprocess.run(
                [*self._sysroot.command(self.cpu, *options), "-P", "-m", AGENT],
                env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
                input=json.dumps(dict(request)),
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise EdgeError(
                f"{self.target}: found no answer after {TIMEOUT_S:g} s; try a smaller bundle"
            ) from None
        return self._read(done)

    def _read(self, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise EdgeError(
                f"{self.target}: the program ended with {done.returncode}: {last}; this says "
                "nothing about the device"
            )
        return read_answer(self.target, done.stdout)


def known_cpus(sysroot: Sysroot) -> list[str]:
    """Return the cores that the emulator knows."""
    told = subprocess.run(
        [sysroot.folder / EMULATOR, "-cpu", "help"], capture_output=True, text=True, check=False
    )
    return re.findall(r"^\s+(\S+)$", told.stdout, re.MULTILINE)


def host_of(answer: Mapping[str, Any]) -> Host:
    """Return the host that an agent's probe described."""
    return Host(**{**answer, "features": tuple(answer["features"])})
