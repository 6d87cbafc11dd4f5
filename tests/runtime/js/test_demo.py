"""The demo page works from a static server alone, on a phone's width and a desktop's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge_lra import Runner
from tests.profile.browser import HELPERS
from tests.runtime.js.chromium import Chromium, Page
from tests.runtime.js.hosts import PACKAGE, Server

WIDTHS = {"phone": 390, "desktop": 1280}
READY = "document.querySelector('.scores')"
SCORES = (
    "Object.fromEntries([...document.querySelectorAll('.scores li')]"
    ".map((row) => [...row.children].map((part) => part.textContent)))"
)


@contextmanager
def served_by_python(folder: Path, bundles: list[Path]) -> Iterator[str]:
    """Serve the package's files and a list of bundles as `python -m http.server` does."""
    for name in ("dist", "node_modules"):
        (folder / name).symlink_to(PACKAGE / name)
    (folder / "demo").mkdir()
    for file in (PACKAGE / "demo").iterdir():
        (folder / "demo" / file.name).symlink_to(file)
    for bundle in bundles:
        (folder / "demo" / bundle.name).symlink_to(bundle)
    (folder / "demo/bundles.json").write_text(json.dumps([bundle.name for bundle in bundles]))
    server = Server(folder)
    yield f"{server.address}/demo/"
    server.close()


@contextmanager
def served_by_node(folder: Path, bundles: list[Path]) -> Iterator[str]:
    """Serve them with the demo's own server."""
    command = ["node", PACKAGE / "demo/serve.mjs", "--port", "0", *bundles]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.kill()


SERVERS = {"python": served_by_python, "node": served_by_node}


@pytest.fixture(params=SERVERS)
def address(
    request: pytest.FixtureRequest, built: None, factored: Path, hidden: Path, tmp_path: Path
) -> Iterator[str]:
    with SERVERS[request.param](tmp_path, [factored, hidden]) as address:
        yield address


@pytest.fixture
def page(address: str, browser: Chromium) -> Iterator[Page]:
    page = browser.page(WIDTHS["phone"])
    page.open(f"{address}?seconds=0.5")
    page.wait(READY)
    yield page
    page.close()


def type_text(page: Page, text: str) -> None:
    page.evaluate(
        "(() => { const field = document.getElementById('text');"
        f" field.value = {json.dumps(text)};"
        " field.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def choose(page: Page, adapter: str | None) -> None:
    value = json.dumps(json.dumps(adapter))
    page.evaluate(
        f"[...document.querySelectorAll('input[name=adapter]')].find((b) => b.value === {value})"
        ".click()"
    )


def test_labels_follow_the_text_and_the_adapter(page: Page, factored: Path) -> None:
    runner = Runner.load(factored, threads=1)
    text = "Dull, slow and far too long."
    type_text(page, text)
    for adapter in ("sentiment", "mirrored"):
        choose(page, adapter)
        (expected,) = runner.classify([text], adapter=adapter)
        page.wait(f"document.querySelector('.best span')?.textContent === '{expected.label}'")
        shown = {name: float(value.split()[0]) for name, value in page.evaluate(SCORES).items()}
        assert shown == pytest.approx({n: 100 * v for n, v in expected.scores.items()}, abs=2)
    assert page.evaluate("document.getElementById('took').textContent").startswith("Answered in ")


def test_it_measures_and_draws(page: Page) -> None:
    page.evaluate("document.getElementById('run').click()")
    page.wait("document.getElementById('numbers').children.length > 0", seconds=60)
    numbers = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#numbers > div')]"
        ".map((entry) => [...entry.children].map((part) => part.textContent)))"
    )
    runs = int(numbers["Runs"])
    assert runs >= 5 and float(numbers["p50"].split()[0]) > 1
    assert float(numbers["WebAssembly"].split()[0]) > 20
    for name, lines in (("latency", 1), ("memory", 2)):
        points = page.evaluate(
            f"[...document.querySelectorAll('#{name} polyline')]"
            ".map((line) => line.getAttribute('points').split(' ').length)"
        )
        assert points == [runs] * lines
        label = page.evaluate(f"document.querySelector('#{name} svg').getAttribute('aria-label')")
        assert f"{runs} runs from" in label


def test_another_bundle_is_opened_and_lines_are_compared(page: Page) -> None:
    page.evaluate(
        "(() => { const list = document.getElementById('bundle'); list.selectedIndex = 1;"
        " list.dispatchEvent(new Event('change', { bubbles: true })); })()"
    )
    page.wait("document.getElementById('status').textContent.startsWith('hidden is ready')")
    page.wait(READY)
    shown = page.evaluate(SCORES)
    assert float(shown["What a wonderful movie!"]) > float(shown["The train was late again."])
    choose(page, None)
    page.wait(f"JSON.stringify({SCORES}) !== {json.dumps(json.dumps(shown))}")


def test_it_asks_nobody_but_its_own_server(page: Page, address: str) -> None:
    page.evaluate("document.getElementById('run').click()")
    page.wait("document.getElementById('numbers').children.length > 0", seconds=60)
    own = urlsplit(address).netloc
    others = [one for one in page.requests if urlsplit(one).netloc != own and one[:5] != "data:"]
    assert others == [] and any("model.onnx.data" in one for one in page.requests)
    assert page.errors == []


def test_a_damaged_bundle_is_said_in_one_line(
    factored: Path, browser: Chromium, built: None, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.edge"
    bad.mkdir()
    (bad / "manifest.json").write_bytes((factored / "manifest.json").read_bytes()[:-10])
    (tmp_path / "root").mkdir()
    with served_by_python(tmp_path / "root", [bad]) as address:
        page = browser.page()
        page.open(address)
        page.wait("!document.getElementById('error').hidden")
        shown = page.evaluate("document.getElementById('error').textContent")
        page.close()
    assert "found a corrupt file, expected JSON" in shown and shown.endswith("(damaged)")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_it_fits_the_screen_and_can_be_read(
    width: int, dark: bool, factored: Path, browser: Chromium, built: None, tmp_path: Path
) -> None:
    with served_by_python(tmp_path, [factored]) as address:
        page = browser.page(width, dark=dark)
        page.open(f"{address}?seconds=0.5")
        page.wait(READY)
        page.evaluate("document.getElementById('run').click()")
        page.wait("document.getElementById('numbers').children.length > 0", seconds=60)
        page.screenshot(tmp_path / "page.png")
        found = page.evaluate(
            f"""(() => {{ {HELPERS}
            const shown = all('body *').filter((e) => box(e).width > 1 && box(e).height > 1);
            const texts = shown.filter((e) => !e.closest('svg')
              && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
            const targets = all('select, textarea, button, .button, .choices label')
              .filter((e) => box(e).width > 1);
            return {{
              overflow: document.documentElement.scrollWidth - window.innerWidth,
              outside: shown.filter((e) => box(e).right > window.innerWidth + 1).length,
              contrast: Math.min(...texts.map((e) =>
                contrast(channels(getComputedStyle(e).color), behind(e)))),
              height: Math.min(...targets.map((e) => box(e).height)),
              unlabelled: all('input, select, textarea').filter((e) => !e.labels?.length).length,
              lang: document.documentElement.lang,
            }}; }})()"""
        )
        page.close()
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert found["overflow"] <= 0 and found["outside"] == 0
    assert found["contrast"] >= 4.5 and found["height"] >= 44
    assert found["unlabelled"] == 0 and found["lang"] == "en"
