"""The report in a browser: no error, no request, every picture decoded, sorting, zoom, keyboard, narrow and dark.

The same file is parsed without a browser in test_page.py; these tests need Chromium and chromedriver.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, DRIVER, Browser
from made_runs import sweep

from ssimgen.report import Verdict, write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium with chromedriver here")

TAB, ENTER, ESCAPE, LEFT, RIGHT = "\ue004", "\ue007", "\ue00c", "\ue012", "\ue014"
FITS = "const d = document.querySelector('dialog'); return d.scrollHeight <= d.clientHeight + 1"
ORDER = "return [...document.querySelectorAll('#reconstruction tbody tr th')].map(c => c.firstChild.textContent.trim())"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browsed")
    return write_report(sweep(folder / "runs"), folder / "report", verdict=Verdict("Conclusion", ("It depends.",)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    browser.appear(1200)
    browser.open(report)
    return browser


def test_no_message_and_no_request(page: Browser, report: Path) -> None:
    page.requests()
    page.console()
    page.open(report)
    outside = [address for address in page.requests() if not address.startswith("data:")]
    assert outside == [report.resolve().as_uri()]
    assert page.console() == []


def test_every_picture_is_decoded(page: Browser) -> None:
    found = page.run("return [...document.images].map(i => [i.complete, i.naturalWidth])")
    assert len(found) == 10
    assert all(complete and width > 0 for complete, width in found)


def test_a_heading_sorts(page: Browser) -> None:
    assert page.run(ORDER) == ["ssim tau=40", "ssim tau=20", "l2 tau=30", "l2 tau=10"]
    press = "document.querySelectorAll('#reconstruction thead button')[1].click(); "  # KL
    assert page.run(press + ORDER) == ["l2 tau=10", "ssim tau=20", "l2 tau=30", "ssim tau=40"]
    assert page.run(press + ORDER) == ["ssim tau=40", "l2 tau=30", "ssim tau=20", "l2 tau=10"]
    sorts = "return [...document.querySelectorAll('#reconstruction thead th')].map(h => h.getAttribute('aria-sort'))"
    assert page.run(sorts)[:2] == [None, "descending"]
    names = "document.querySelectorAll('#reconstruction thead button')[0].click(); "
    assert page.run(names + ORDER) == ["l2 tau=10", "l2 tau=30", "ssim tau=20", "ssim tau=40"]


def test_pictures_are_enlarged_and_closed_by_keyboard(page: Browser) -> None:
    page.run("document.querySelector('.zoom').focus()")
    page.press(ENTER)
    assert page.run("return document.querySelector('dialog').open") is True
    assert page.run("return document.querySelector('dialog p').textContent") == "real held-out images"
    page.press(ESCAPE)
    assert page.run("return document.querySelector('dialog').open") is False
    assert page.run("return document.activeElement.className") == "zoom"


def test_arrow_keys_go_through_the_pictures(page: Browser) -> None:
    page.run("document.querySelector('.zoom').focus()")
    page.press(ENTER)
    name = "return document.querySelector('dialog p').textContent"
    page.press(RIGHT)
    assert page.run(name).startswith("samples of l2")
    assert page.run("const i = document.querySelector('dialog img'); return i.alt") == page.run(name)
    page.press(LEFT)
    page.press(LEFT)  # the last comes before the first
    assert page.run(name).startswith("samples and nearest training images of ssim")
    assert page.run(FITS) is True
    page.press(ENTER)  # the focus is on the button that closes
    assert page.run("return document.querySelector('dialog').open") is False
    last = "const all = document.querySelectorAll('.zoom'); return document.activeElement === all[all.length - 1]"
    assert page.comes_true(last)  # when the dialog tells that it was closed


def test_the_focus_is_seen(page: Browser) -> None:
    for _ in range(3):
        page.press(TAB)
        outline = page.run(
            "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]"
        )
        assert outline == ["solid", "3px"]


def test_comparisons_sort_too(page: Browser) -> None:
    press = (
        "const t = document.querySelector('#matched details[open] table'); t.querySelectorAll('button')[0].click(); "
    )
    order = "return [...t.tBodies[0].rows].map(r => r.cells[0].firstChild.textContent.trim())"
    assert page.run(press + order) == ["l2", "ssim"]
    assert page.run(press + order) == ["ssim", "l2"]


def test_everything_that_acts_is_reached_by_tab(page: Browser) -> None:
    wanted = page.run(
        "return [...document.querySelectorAll('main button, main summary, main .scroll, nav a, .skip')]"
        ".filter((e) => e.checkVisibility()).length"
    )
    page.run("document.body.focus()")
    reached = set()
    for _ in range(wanted + 5):
        page.press(TAB)
        reached.add(
            page.run("const e = document.activeElement; e.seen = e.seen || String(Math.random()); return e.seen")
        )
    assert len(reached) >= wanted > 30


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(page: Browser, dark: bool) -> None:
    """Contrast of 4.5 to 1 or more (WCAG 2, level AA) of every text."""
    page.appear(1200, dark=dark)
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.run(CONTRAST) == []


@pytest.mark.parametrize("width", [400, 1200], ids=["400 px", "1200 px"])
def test_the_page_is_no_wider_than_the_screen(page: Browser, width: int) -> None:
    page.appear(width)
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.run("return document.documentElement.scrollWidth") <= width
    sizes = page.run("return [...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)")
    assert min(size for size in sizes if size) > 8  # letters of charts stay readable


CONTRAST = """
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const light = (c) => c.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
const poor = [];
for (const e of document.querySelectorAll("main *, header *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.getClientRects().length || ["STYLE", "SCRIPT", "TITLE", "title"].includes(e.tagName)) continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(parse(e.tagName === "text" ? style.fill : style.color)), light(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.push(e.tagName + " " + e.textContent.trim().slice(0, 30) + " " + ratio.toFixed(2));
}
return poor;
"""
