"""The Python of a target: found with what the agent needs, or given an environment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.transport.host import PACKAGES, normal_arch
from edge_lra.transport.package import PYTHON, REQUIREMENTS
from edge_lra.transport.session import MIB, Session
from edge_lra.transport.shell import Shell

NAMES = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
CHECK_S = 180.0  # an emulated Python takes half a minute
INSTALL_S = 1800.0
VENV_BYTES = 350 * MIB  # onnxruntime and numpy on the disk, and their wheels while they unpack
# In the words of every Python since 2.7, to be able to say that one is too old.
CHECK = """
import json, platform, struct, sys
def find(name):
    try:
        from importlib import metadata, util
        if util.find_spec(name) is None:
            return None
    except Exception:
        return None
    try:
        return metadata.version(name)
    except Exception:
        return getattr(__import__(name), "__version__", None)
def has(name):
    try:
        __import__(name)
        return True
    except Exception:
        return False
print(json.dumps({
    "version": platform.python_version(), "machine": platform.machine(),
    "bits": struct.calcsize("P") * 8, "base": getattr(sys, "base_prefix", sys.prefix),
    "packages": {name: find(name) for name in NAMES}, "venv": has("venv") and has("ensurepip"),
}))
""".replace("NAMES", repr(PACKAGES))
# $1: CHECK, then names or paths: prints each that is there, and what CHECK says of it.
FIND = r"""
cd "$HOME" 2>/dev/null
code=$1; shift
ORT_DISABLE_TELEMETRY=1; export ORT_DISABLE_TELEMETRY
for python in "$@"; do
  path=$(command -v "$python") || continue
  case $path in ./*) path=$PWD/${path#./};; esac
  printf "%s\n" "$path"
  said=$("$path" -c "$code" </dev/null 2>/dev/null) || said=
  printf "%s\n" "$said"
done
"""


@dataclass(frozen=True)
class RemotePython:
    """A Python there.

    Attributes:
        base: the prefix of the Python that an environment was made from.
        packages: versions of what is installed of what the agent needs.
        makes_venv: whether it has the modules for an environment with pip.
    """

    path: str
    version: str
    arch: str
    base: str
    packages: Mapping[str, str]
    makes_venv: bool

    @property
    def is_new(self) -> bool:
        """Whether the runner's code runs there."""
        return numbers(self.version)[:2] >= PYTHON

    @property
    def missing(self) -> list[str]:
        """The packages that the agent needs and that are not there, or too old."""
        return [
            f"{name}>={least}"
            for name, least in REQUIREMENTS.items()
            if numbers(self.packages.get(name) or "0") < numbers(least)
        ]


def numbers(text: str) -> tuple[int, ...]:
    """Return a version's leading numbers, comparable."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def find_pythons(shell: Shell, names: Sequence[str]) -> list[RemotePython]:
    """Return those of the names or paths that are there and run, in this order."""
    lines = shell.call(FIND, CHECK, *names, timeout_s=CHECK_S).text.splitlines()
    found = []
    for path, said in zip(lines[::2], lines[1::2], strict=False):
        try:
            facts: dict[str, Any] = json.loads(said)
        except ValueError:  # it does not run: of another architecture, or broken
            continue
        packages = {name: str(v) for name, v in facts["packages"].items() if v}
        arch = _arch(facts["machine"], facts["bits"])
        found.append(
            RemotePython(path, facts["version"], arch, facts["base"], packages, facts["venv"])
        )
    return found


def _arch(machine: str, bits: int) -> str:
    arch = normal_arch(machine)
    return {"aarch64": "armv7l", "x86_64": "i686"}.get(arch, arch) if bits == 32 else arch


def choose_python(shell: Shell, store: str, wanted: str | None) -> RemotePython | None:
    """Return the best Python there, changing nothing; None if there is none.

    One with all packages is best: a kept environment's before the system's, but after the one
    that was asked for, and only if it was made from that. Then one that is new enough; then
    whatever there is, for an error to name.
    """
    kept = f"{store}/venv/bin/python"
    system = find_pythons(shell, [wanted or NAMES[0]])
    venv = find_pythons(shell, [kept])
    if wanted:
        venv = [python for python in venv if system and python.base == system[0].base]
    for python in [*system, *venv] if wanted else [*venv, *system]:
        if python.is_new and not python.missing:
            return python
    if not wanted:
        system += find_pythons(shell, NAMES[1:])
    complete = [python for python in system if python.is_new and not python.missing]
    new = [python for python in system if python.is_new]
    return next(iter(complete or new or system), None)


def require_python(target: str, python: RemotePython | None, wanted: str | None) -> RemotePython:
    """Return the Python if the runner's code runs there.

    Raises:
        EdgeError: there is none, or it is too old; with the remedy.
    """
    least = ".".join(map(str, PYTHON))
    if python is None:
        what = f"no Python that runs at {wanted}" if wanted else "no python3 that runs"
        raise EdgeError(
            f"{target}: found {what} there, expected Python {least} or newer; install it there "
            "(`sudo apt install python3 python3-venv`), or name one with ?python=/path"
        )
    if not python.is_new:
        raise EdgeError(
            f"{target}: found Python {python.version} at {python.path}, expected {least} or "
            "newer; install one there, and name it with ?python=/path"
        )
    return python


def make_venv(session: Session, target: str, python: RemotePython, keep: bool) -> str:
    """Make an environment with what the agent needs; return its Python's path.

    The versions are this machine's; where the target can have none of them, those its index has.

    Raises:
        EdgeError: a module, the network or room is missing there, with the commands to help.
    """
    needs = ", ".join(python.missing)
    by_hand = f"`{python.path} -m pip install onnxruntime numpy safetensors`"
    if not python.makes_venv:
        raise EdgeError(
            f"{target}: Python at {python.path} lacks {needs}, and its modules venv and ensurepip "
            f"to make an environment; run `sudo apt install python3-venv` there, or {by_hand}"
        )
    session.require_disk(VENV_BYTES)
    folder = f"{session.folder}/venv"
    quiet = ["env", f"TMPDIR={session.folder}/tmp"]
    made = session.run([*quiet, python.path, "-m", "venv", folder], timeout_s=INSTALL_S)
    if made.code != 0:
        raise session.refused(f"{python.path} -m venv failed", made)
    pip = [*quiet, f"{folder}/bin/python", "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-input", "--only-binary=:all:"]
    pip += [] if keep else ["--no-cache-dir"]
    reply = session.run([*pip, *(f"{n}=={version(n)}" for n in PACKAGES)], timeout_s=INSTALL_S)
    if reply.code != 0 and "No space left" not in reply.err:
        lower = [f"{name}>={least}" for name, least in REQUIREMENTS.items()]
        reply = session.run([*pip, *lower], timeout_s=INSTALL_S)
    if reply.code != 0:
        if "No space left" in reply.err:
            raise session.refused("the packages cannot be installed", reply)
        raise EdgeError(
            f"{target}: Python at {python.path} lacks {needs}, and pip could not get them there "
            f"({_pip_reason(reply.err)}); connect it to a package index and run {by_hand}, or "
            "name a Python that has them with ?python=/path"
        )
    if not keep:
        return f"{folder}/bin/python"
    return session.keep_venv(folder)


def _pip_reason(errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.startswith("ERROR:")]
    return (lines[0] if lines else errors.strip()).removeprefix("ERROR:").strip()[:120]
