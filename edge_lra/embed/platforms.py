"""Which sources of runtime/ an app's platform takes, and where they and the bundle go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from edge_lra.embed.tree import Content
from edge_lra.errors import EdgeError
from edge_lra.resources import data_folder

# What a checkout holds beside sources: none of it travels.
BUILD_OUTPUT = frozenset(
    {"node_modules", "dist", "build", ".build", ".gradle", ".cxx", "DerivedData", "__pycache__"}
)
DEVELOPMENT = frozenset({"fuzz", "test", "tests", "androidTest", "demo", "sample"})
MACHINE_FILES = frozenset({"package-lock.json", ".npmrc", "local.properties", ".DS_Store"})
# What of the runner's npm package an app needs to build it: the rest is for its tests.
NPM_BUILD = frozenset({"typescript", "@types/node"})


@dataclass(frozen=True)
class Sources:
    """Files below a folder of runtime/ and where they go.

    Attributes:
        folder: below runtime/.
        target: below the app's tree.
        patterns: of the files' paths below `folder`; `*` crosses folders.
    """

    folder: str
    target: str
    patterns: tuple[str, ...] = ("*",)

    def files(self, runtime: Path) -> Iterator[tuple[str, Path]]:
        """Yield where each file goes, and where it is."""
        root = runtime / self.folder
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            kept = path.is_file() and any(fnmatch(name.as_posix(), p) for p in self.patterns)
            if kept and not is_output(name):
                yield f"{self.target}/{name.as_posix()}", path


@dataclass(frozen=True)
class Platform:
    """What one platform's app gets.

    Attributes:
        title: its name, for people.
        sources: the runner's.
        bundles: the folder for bundles, below the app's tree.
        build: onnxruntime's own build script, for a small build of it.
    """

    title: str
    sources: tuple[Sources, ...]
    bundles: str
    build: str


CMAKE = ("CMakeLists.txt", "README.md", "cmake/*", "cli/*", "include/*", "src/*")
GRADLE = ("build.gradle.kts", "consumer-rules.pro", "src/main/*")
SWIFT = ("Package.swift", "README.md", "Sources/*", "Tests/*")
TYPESCRIPT = (Sources("js", "edge-lra", ("src/*", "package.json", "tsconfig.json", "README.md")),)
# In this order in the help and in the documentation.
PLATFORMS = {
    "android": Platform(
        "Android",
        (Sources("android/edgelra", "edgelra", GRADLE),),
        "edgelra/src/main/assets",
        "--android --android_abi arm64-v8a --android_api 24 --build_java",
    ),
    "ios": Platform(
        "iOS",
        (Sources("ios", "EdgeLRA", SWIFT), Sources("cpp", "EdgeLRA/cpp", ("include/*", "src/*"))),
        "Resources",
        "--ios --apple_sysroot iphoneos --osx_arch arm64 --apple_deploy_target 15.1",
    ),
    "js": Platform(
        "JavaScript",
        TYPESCRIPT,
        "public",
        "--build_wasm --enable_wasm_simd --enable_wasm_threads",
    ),
    "react-native": Platform(
        "React Native",
        TYPESCRIPT,
        "assets",
        "--android --android_abi arm64-v8a --android_api 24 --build_java",
    ),
    "cpp": Platform(
        "C and C++",
        (Sources("cpp", "third_party/edge-lra", CMAKE),),
        "models",
        "--build_shared_lib",
    ),
}


def is_output(name: Path) -> bool:
    """Say whether a path below a runner's folder is what a build or a test left, or is for them."""
    hidden = BUILD_OUTPUT | DEVELOPMENT
    return any(part in hidden for part in name.parts) or name.name in MACHINE_FILES


def source_paths(platform: Platform) -> list[Path]:
    """Return where a platform's sources are, in this installation."""
    runtime = data_folder("runtime")
    return [path for sources in platform.sources for _, path in sources.files(runtime)]


def runner_files(platform: Platform) -> dict[str, Content]:
    """Return the runner's files by where they go in an app's tree.

    Raises:
        EdgeError: this installation has none of them.
    """
    runtime = data_folder("runtime")
    found: dict[str, Content] = {}
    for sources in platform.sources:
        files = dict(sources.files(runtime))
        if not files:
            raise EdgeError(
                f"{runtime / sources.folder}: found no sources, expected the runner for "
                f"{platform.title}; reinstall edge-lra"
            )
        found |= {target: _for_app(path) for target, path in files.items()}
    return found


def _for_app(path: Path) -> Content:
    """Return a file as an app gets it: npm would install a package's tools for tests with it."""
    if path.name != "package.json":
        return path
    package = json.loads(path.read_text(encoding="utf-8"))
    tools = package.get("devDependencies", {})
    package["devDependencies"] = {n: v for n, v in tools.items() if n in NPM_BUILD}
    return (json.dumps(package, indent=2, ensure_ascii=False) + "\n").encode()
