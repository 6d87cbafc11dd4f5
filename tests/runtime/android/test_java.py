"""The parts of the Android runner without onnxruntime, under JUnit; and how it is compiled."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.runtime.android.toolchain import LIBRARIES, class_path

# What Android of API 24 has of Java 8: no java.nio.file, no java.time, no ProcessHandle.
PACKAGES = {
    "ai.onnxruntime",
    "android.content",
    "android.content.res",
    "com.google.gson.stream",
    "java.io",
    "java.lang",
    "java.lang.invoke",
    "java.nio",
    "java.nio.channels",
    "java.nio.charset",
    "java.security",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
    "java.util.function",
}


def test_junit_passes(java: list[str], merged: Path) -> None:
    console = ["org.junit.platform.console.ConsoleLauncher", "--scan-class-path", "--details=tree"]
    command = [*java[:-2], f"-Dedge-lra.bundle={merged}", *java[-2:], *console]
    done = subprocess.run(
        [*command, "--disable-banner", "--disable-ansi-colors"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.search(r"(\d+) tests successful", done.stdout)
    assert count is not None and int(count[1]) >= 100, done.stdout
    assert "0 tests skipped" in done.stdout and "0 tests aborted" in done.stdout


def test_only_what_every_android_of_api_24_has_is_used(classes: Path) -> None:
    libraries = class_path(classes / "stubs", *LIBRARIES)
    done = subprocess.run(
        [
            "jdeps",
            "--multi-release",
            "base",
            "-verbose:package",
            "-cp",
            libraries,
            str(classes / "library"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    used = set(re.findall(r"^ +org\.edgelra +-> ([\w.]+)", done.stdout, re.M))
    assert used == PACKAGES
