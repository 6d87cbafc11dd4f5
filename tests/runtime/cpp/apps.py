"""Install the library and build an app against it, with and without sanitizers."""

from __future__ import annotations

from pathlib import Path

from tests.runtime.cpp.places import BUILD, run_program

APP = Path(__file__).parent / "app"
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"


def build_app(preset: str, folder: Path) -> Path:
    """Install what a preset built below a folder; return where the app's programs are."""
    prefix, build = folder / "prefix", folder / "app"
    flags = SANITIZERS if preset == "sanitize" else ""
    compilers = ("clang-14", "clang++-14") if preset == "sanitize" else ("gcc", "g++")
    steps = [
        ["cmake", "--install", BUILD / preset, "--prefix", prefix],
        [
            "cmake",
            "-G",
            "Ninja",
            "-S",
            APP,
            "-B",
            build,
            f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_C_COMPILER={compilers[0]}",
            f"-DCMAKE_CXX_COMPILER={compilers[1]}",
            f"-DCMAKE_C_FLAGS={flags}",
            f"-DCMAKE_CXX_FLAGS={flags}",
        ],
        ["cmake", "--build", build],
    ]
    for step in steps:
        done = run_program(*step)
        assert done.returncode == 0, done.stdout + done.stderr
    return build
