"""Names of bundles, and links in an app's tree, that could lead to files of somebody else's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_lra.embed import EmbedRequest, embed
from edge_lra.runner import Runner
from tests.embed.test_embed import INPUTS, listing, refused


def test_what_is_needed_no_more_stays_where_a_link_leads_to_it(
    bundle: Path, app: Path, tmp_path: Path
) -> None:
    embed(EmbedRequest(bundle, "cpp", app, split=True))
    elsewhere = tmp_path / "elsewhere"
    adapters = app / f"models/{bundle.stem}-adapters"
    shutil.move(adapters, elsewhere)
    adapters.symlink_to(elsewhere)
    before = listing(elsewhere)
    found = embed(EmbedRequest(bundle, "cpp", app))
    assert listing(elsewhere) == before
    assert set(found.kept) == {
        f"models/{adapters.name}/{name}" for name, content in before.items() if content is not None
    }


@pytest.mark.parametrize(("first", "second"), [("a.edge", "a"), ("a", "a.edge"), ("a.x", "a.y")])
def test_two_bundles_whose_adapters_would_share_a_folder_are_refused(
    bundle: Path, app: Path, tmp_path: Path, first: str, second: str
) -> None:
    one, other = (shutil.copytree(bundle, tmp_path / name) for name in (first, second))
    embed(EmbedRequest(one, "cpp", app, split=True))
    refused(EmbedRequest(other, "cpp", app, split=True), f"found files of the bundle {first}")


def test_a_bundle_named_as_another_s_adapters_is_refused(
    bundle: Path, app: Path, tmp_path: Path
) -> None:
    embed(EmbedRequest(bundle, "cpp", app, split=True))
    other = shutil.copytree(bundle, tmp_path / f"{bundle.stem}-adapters")
    refused(EmbedRequest(other, "cpp", app), f"found files of the bundle {bundle.name}")


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "a'b", "a:b", "a#b", "a?b", "a%20b", "a\nb", "a`b"]
)
def test_a_name_that_code_or_an_address_would_misread_is_refused(
    bundle: Path, app: Path, tmp_path: Path, name: str
) -> None:
    refused(EmbedRequest(shutil.copytree(bundle, tmp_path / name), "js", app), "rename the folder")


def test_spaces_and_letters_of_any_language_are_fine(bundle: Path, tmp_path: Path) -> None:
    app = tmp_path / "une appli où"
    found = embed(EmbedRequest(shutil.copytree(bundle, tmp_path / "ein Bündel 2.edge"), "cpp", app))
    assert Runner.load(app / found.bundle).run(INPUTS)
    embed(EmbedRequest(tmp_path / "ein Bündel 2.edge", "cpp", app))
