"""The JavaScript runner, embedded: it and the code that is written for it keep to their types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_lra.embed import EmbedRequest, embed
from tests.embed.trees import ROOT, done

pytestmark = pytest.mark.usefixtures("real_sources")
MODULES = ROOT / "runtime/js/node_modules"
# Of an app with a bundler.
TYPESCRIPT = {
    "compilerOptions": {
        **{"target": "ES2022", "module": "ES2022", "moduleResolution": "bundler"},
        **{"strict": True, "noEmit": True, "skipLibCheck": True, "types": []},
        **{"lib": ["ES2022", "DOM", "DOM.Iterable", "DOM.AsyncIterable"]},
    },
    "include": ["app.ts"],
}


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("platform", ["js", "react-native"])
def test_typescript_keeps_to_its_types(bundle: Path, app: Path, platform: str, split: bool) -> None:
    found = embed(EmbedRequest(bundle, platform, app, split))
    (app / "node_modules").mkdir()  # as npm links the package, and what both need
    for module in [*MODULES.iterdir(), app / "edge-lra"]:
        (app / "node_modules" / module.name).symlink_to(module)
    (app / "app.ts").write_text(found.call.code)
    (app / "tsconfig.json").write_text(json.dumps(TYPESCRIPT))
    done("node_modules/.bin/tsc", "-p", "edge-lra", cwd=app)  # its "prepare"
    done("node_modules/.bin/tsc", "-p", ".", cwd=app)


def test_what_npm_installs_of_the_package_is_pinned_there(bundle: Path, app: Path) -> None:
    embed(EmbedRequest(bundle, "js", app))
    package = json.loads((app / "edge-lra/package.json").read_text())
    assert set(package["devDependencies"]) == {"typescript", "@types/node"}
    assert package["scripts"]["prepare"] == "npm run build"
