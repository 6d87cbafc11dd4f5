"""The page as a browser shows it: wide and narrow, light and dark, and what it asks for."""

from __future__ import annotations

import http.server
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_lra.profile.report import write_html
from tests.profile import profiles
from tests.profile.browser import POLICY, load, probe, screenshot

HOSTILE = "<img src=x onerror=alert(1)></title><script>alert(1)</script>&\"'.edge"
LONG = "a_bundle_whose_name_is_longer_than_a_phone_is_wide_" * 3 + ".edge"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of all ways on several devices, two of its names made to break it."""
    file = tmp_path_factory.mktemp("page") / "profile.html"
    known = profiles.everything()
    hostile = profiles.entry(HOSTILE, measured=profiles.measured(warnings=(HOSTILE,)))
    long = profiles.entry(LONG, device="pi5", estimated=profiles.estimated(assumptions=(HOSTILE,)))
    write_html(
        profiles.profile(*known.entries, hostile, long, ratios=profiles.against().ratios), file
    )
    return file


def test_names_are_shown_as_they_are(page: Path) -> None:
    found = probe(
        page,
        """return {titles: all("h2").map((e) => e.textContent), title: document.title,
        alien: all("img, body script:not(:last-child), [onerror]").length,
        warning: document.querySelectorAll(".warning")[1].textContent,
        assumed: all("ul.plain li").at(-1).textContent}""",
    )
    assert found["titles"][1] == "sentiment.edge on this machine"
    assert f"{HOSTILE} on this machine" in found["titles"]
    assert HOSTILE in found["title"]
    assert found["alien"] == 0
    assert found["warning"].strip() == f"Warning: {HOSTILE}"
    assert found["assumed"] == HOSTILE


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of two language models that ran in turns."""
    file = tmp_path_factory.mktemp("tokens") / "profile.html"
    write_html(profiles.tokens(), file)
    return file


def test_a_language_model_is_shown_by_tokens_and_where_their_time_goes(tokens: Path) -> None:
    found = probe(
        tokens,
        """const side = all("#side caption").at(-1).textContent;
        const figure = all("dl.figures div").find((d) => d.textContent.startsWith("token after"));
        const kept = all("caption").filter((c) => c.textContent.startsWith("Keys and values"));
        return {side, figure: figure.textContent, caches: kept.length,
          titles: all("h3").map((e) => e.textContent)}""",
    )
    assert found["side"] == "Milliseconds a run of a token after 128, under the profiler"
    rate = profiles.generating().decoding[0].tokens_per_s
    assert f"{rate:.1f} tokens/s" in " ".join(found["figure"].split())
    titles = {f"Where the time of a {of} goes" for of in ("token", "prompt")}
    assert titles <= {*found["titles"]}
    assert found["caches"] == 2


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("name", ["page", "tokens"])
def test_nothing_is_wider_than_the_page(
    request: pytest.FixtureRequest, name: str, width: int
) -> None:
    found = probe(
        request.getfixturevalue(name),
        """all("details").forEach((e) => { e.open = true });
        const free = (e) => !e.closest(".scroll, .pattern");
        return {inner: innerWidth, scroll: document.documentElement.scrollWidth,
        out: all("body *").filter((e) => free(e)
          && (box(e).right > innerWidth + 1 || box(e).left < -1))
          .map((e) => e.outerHTML.slice(0, 200))}""",
        width,
    )
    assert found["inner"] == width
    assert found["scroll"] <= width
    assert found["out"] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_letters_of_a_chart_meet_no_others(page: Path, width: int) -> None:
    found = probe(
        page,
        """const meet = (a, b) => a.left < b.right && b.left < a.right
          && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
        return all("svg.chart").map((chart) => {
          const texts = all("text", chart);
          return {texts: texts.length, size: getComputedStyle(texts[0]).fontSize,
            meeting: texts.flatMap((one, i) => texts.slice(i + 1)
              .filter((two) => meet(box(one), box(two)))
              .map((two) => one.textContent + " | " + two.textContent))};
        })""",
        width,
    )
    assert len(found) == 12  # three shapes and a timeline of three entries
    assert all(chart["texts"] >= 5 and chart["size"] == "11.5px" for chart in found)
    assert [chart["meeting"] for chart in found] == [[]] * 12


def test_bars_have_the_widths_of_their_numbers(page: Path) -> None:
    found = probe(
        page,
        """const table = all("table").find((t) => t.caption.textContent === "Operators");
        const side = document.querySelector("#side table");
        const width = (row) => box(row.querySelector("rect")).width;
        return {operators: all("tbody tr", table)
            .map((r) => [Number(r.cells[2].textContent), width(r)]),
          side: all("tbody tr", side).map((r) => [r.querySelector(".badge").textContent, width(r),
            r.querySelector("rect").getAttribute("class"), r.cells[1].textContent])}""",
    )
    values, widths = zip(*found["operators"], strict=True)
    assert len(values) == 8 and min(widths) > 0
    for value, width in found["operators"][:6]:
        assert width / widths[0] == pytest.approx(value / values[0], abs=0.01)
    kinds = {badge: kind for badge, _, kind, _ in found["side"]}
    assert kinds == {"measured": "fill", "estimate": "hatched"}
    assert [text for badge, *_, text in found["side"] if badge == "estimate"] == ["3.1 to 6.0"] * 2


def test_a_way_is_told_by_word_and_by_looks(page: Path) -> None:
    found = probe(
        page,
        """return all("article").map((e) => ({badge: e.querySelector(".badge").textContent,
        head: e.querySelector("h3").textContent, border: getComputedStyle(e).borderLeftStyle,
        text: e.textContent}))""",
    )
    looks = {way["badge"]: way["border"] for way in found}
    assert looks == {"measured": "solid", "executed": "solid", "estimate": "dashed"}
    starts = {
        "measured": "Measured on",
        "executed": "Executed on an emulated",
        "estimate": "Estimated for",
    }
    assert all(way["head"].startswith(starts[way["badge"]]) for way in found)
    executed = next(way["text"] for way in found if way["badge"] == "executed")
    assert "no times" in executed and " ms" not in executed


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(page: Path, scheme: str) -> None:
    found = probe(
        page,
        """const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        const shown = all("body *").filter((e) => own(e) && box(e).width > 1
          && !e.closest("style, title, defs"));
        const pairs = shown.map((e) => {
          const style = getComputedStyle(e);
          return [contrast(channels(e.closest("svg") ? style.fill : style.color), behind(e)),
                  e.outerHTML.slice(0, 120)];
        });
        return {paper: channels(getComputedStyle(document.body).backgroundColor),
          texts: pairs.length, weak: pairs.filter(([ratio]) => ratio < 4.5)}""",
        scheme=scheme,
    )
    assert found["texts"] > 300
    assert found["weak"] == []  # WCAG 2.2, 1.4.3
    assert (sum(found["paper"]) > 3 * 128) == (scheme == "light")


def test_the_colours_can_be_chosen(page: Path) -> None:
    found = probe(
        page,
        """const paper = () => channels(getComputedStyle(document.body).backgroundColor)[0];
        const chosen = (name) => { document.getElementById(name).click(); return paper(); };
        const first = document.getElementById("auto");
        first.focus();
        return {auto: paper(), dark: chosen("dark"), light: chosen("light"), again: chosen("auto"),
          focus: document.activeElement === first,
          names: all(".theme label").map((e) => e.textContent)}""",
    )
    assert found["dark"] < 64 < 192 < found["light"]
    assert found["auto"] == found["again"] == found["light"]
    assert found["focus"] and found["names"] == ["Auto", "Light", "Dark"]


def test_tables_and_charts_have_names(page: Path) -> None:
    found = probe(
        page,
        """return {tables: all("table").filter((t) => !t.caption?.textContent.trim()).length,
        heads: all("thead th:not([scope=col]), tbody th:not([scope=row])").length,
        charts: all("svg[role=img]").filter((e) => !e.getAttribute("aria-label")).length,
        mute: all("svg:not([role=img]):not([aria-hidden])")
          .filter((e) => !e.closest("[role=img]")).length,
        regions: all(".scroll").filter((e) => e.tabIndex !== 0 || !e.ariaLabel).length,
        links: all("nav a").filter((a) => !document.querySelector(a.getAttribute("href"))).length,
        levels: all("h1, h2, h3, h4").map((e) => Number(e.tagName[1]))}""",
    )
    levels = found.pop("levels")
    assert set(found.values()) == {0}
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_the_page_lets_nothing_ask_the_network(
    page: Path, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = listener
    aliens = f'<img src="{address}/image"><script src="{address}/script"></script></body>'
    text = page.read_text().replace("</body>", aliens)
    copy = tmp_path / "page.html"
    copy.write_text(text.replace(POLICY, "default-src *"))
    load(copy)
    assert sorted(asked) == ["/image", "/script"]
    asked.clear()
    copy.write_text(text)
    load(copy)
    assert asked == []


def test_the_page_loads_nothing_by_itself(page: Path) -> None:
    found = probe(page, "return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in found if not name.startswith("data:")] == []


COLOURS = {  # paper, measured, estimate
    "light": ((0xF7, 0xF6, 0xF3), (0x1F, 0x5F, 0x8B), (0x87, 0x56, 0x00)),
    "dark": ((0x13, 0x15, 0x18), (0x68, 0xAE, 0xDD), (0xDC, 0xAA, 0x4C)),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_screenshot_shows_bars_in_the_colours_of_the_theme(
    tmp_path: Path, width: int, scheme: str
) -> None:
    page, file = tmp_path / "page.html", tmp_path / "page.png"
    write_html(profiles.everything(), page)
    screenshot(page, file, width, 700, scheme)
    shown = np.asarray(Image.open(file).convert("RGB")).astype(int)  # (height, width, 3)
    assert shown.shape == (700, width, 3)
    paper, measured, estimate = (
        int((abs(shown - colour).max(axis=2) <= 4).sum()) for colour in COLOURS[scheme]
    )
    assert paper > 0.1 * 700 * width
    assert measured > 1000  # bars and badges
    assert estimate > 50  # the strokes of hatched bars
