"""Java's tools: where their jars are, and one compiler call for all."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

import edge_lra

ROOT = Path(edge_lra.__file__).parent.parent
HERE = Path(__file__).parent
SOURCES = ROOT / "runtime/android/edgelra/src/main/java"
AAR = ROOT / ".cache/onnxruntime-aar"  # Makefile: unpacked
DEBIAN = Path("/usr/share/java")
ONNXRUNTIME_LIB = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
LIBRARIES = (
    AAR / "classes.jar",
    DEBIAN / "gson.jar",
    DEBIAN / "org.jetbrains.annotations-java8.jar",
)
JUNIT = tuple(
    DEBIAN / f"{name}.jar"
    for name in (
        "junit-jupiter-api",
        "junit-jupiter-engine",
        "junit-jupiter-params",
        "junit-platform-commons",
        "junit-platform-console",
        "junit-platform-engine",
        "junit-platform-launcher",
        "junit-platform-reporting",
        "opentest4j",
        "opentest4j-reporting-events",
        "opentest4j-reporting-schema",
        "apiguardian-api",
        "picocli",
        "univocity-parsers",
    )
)
# Strict, and only what Java 8 has, as Android of API 24 does with desugaring. Not "path": Debian's
# jars name others that are not there.
JAVAC = ("javac", "--release", "8", "-encoding", "UTF-8", "-Xlint:all,-path", "-Werror")
CC = ("cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-fno-builtin")


def class_path(*entries: Path) -> str:
    """Return entries as Java takes them."""
    return ":".join(map(str, entries))


def java_files(folder: Path) -> list[Path]:
    """Return the sources below a folder."""
    found = sorted(folder.rglob("*.java"))
    assert found, f"{folder}: found no Java"
    return found


def compile_java(sources: Sequence[Path], out: Path, *libraries: Path) -> Path:
    """Compile with every warning an error; return the folder of the classes."""
    arguments = [*JAVAC, "-cp", class_path(*libraries), "-d", str(out), *map(str, sources)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def build_natives(out: Path) -> Path:
    """Put the AAR's own JNI library where a desktop's Java can load it; see native/."""
    out.mkdir()
    jni = (AAR / "jni/x86_64/libonnxruntime4j_jni.so").read_bytes()
    (out / "libonnxruntime4j_jni.so").write_bytes(jni)
    version = re.search(rb"\0(VERS_[\d.]+)\0", jni)
    assert version is not None
    (out / "onnxruntime.map").write_text(version[1].decode() + " { global: *; };\n")
    (out / "bionic.map").write_text("LIBC { global: *; };\n")
    for source, names in (("bionic", ("c", "dl", "m")), ("onnxruntime", ("onnxruntime",))):
        for name in names:
            library = f"lib{name}.so"
            linked = [f"-Wl,-soname,{library}", f"-Wl,--version-script={out / source}.map"]
            files = [str(HERE / f"native/{source}.c"), "-o", str(out / library)]
            subprocess.run([*CC, "-shared", "-fPIC", *files, *linked], check=True)
    return out
