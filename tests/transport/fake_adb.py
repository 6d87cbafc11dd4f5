"""Behave as `adb` does for one device whose root folder is a scratch folder.

Run as `fake_adb.py ARGUMENTS`, with FAKE_ADB_ROOT (the device's files) and FAKE_ADB_DEVICES (what
`adb devices` lists) in the environment. A shell's line has its device paths moved below the root.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = os.environ["FAKE_ADB_ROOT"]


def main(arguments: list[str]) -> None:
    if arguments == ["devices"]:
        print(f"List of devices attached\n{os.environ['FAKE_ADB_DEVICES']}\n")
        return
    option, serial, verb, *words = arguments
    assert (option, verb) == ("-s", "shell"), arguments
    if f"{serial}\tdevice" not in os.environ["FAKE_ADB_DEVICES"] or (Path(ROOT) / "gone").exists():
        print(f"error: device '{serial}' not found", file=sys.stderr)
        sys.exit(1)
    line = " ".join(words)  # as adb: joined, then parsed by the device's shell
    for folder in ("/data/local/tmp", "/sys/devices/system/cpu"):
        line = line.replace(ROOT + folder, folder).replace(folder, ROOT + folder)
    path = f"{ROOT}/system/bin:{os.environ['PATH']}"
    os.execve("/bin/sh", ["sh", "-c", line], {"PATH": path, "HOME": "/", "LC_ALL": "C"})


main(sys.argv[1:])
