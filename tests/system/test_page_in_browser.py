"""The page in a real browser: it needs nobody else, and mouse, keyboard, phone and paper all work.

Runs where there is a Chromium (SURVBENCH_CHROMIUM, or on the path) and the extra `e2e`; skipped elsewhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from support.pages import INJECTED, full_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra e2e: pip install -e '.[dev,e2e]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra e2e")

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 390, "height": 844}


def chromium() -> str | None:
    return os.environ.get("SURVBENCH_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium found; install one, or name it in SURVBENCH_CHROMIUM")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def file(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "page.html"
    page.write_text(full_page(folder / "out"), encoding="utf-8")
    return page


@pytest.fixture
def scheme() -> Literal["light", "dark"]:
    """What the reader's system prefers; tests set it by a parameter of this name."""
    return "light"


@pytest.fixture
def page(browser: Browser, file: Path, scheme: Literal["light", "dark"]) -> Iterator[Page]:
    """The page, opened; the test fails if it requests anything else or logs an error."""
    context = browser.new_context(color_scheme=scheme)
    opened = context.new_page()
    requested: list[str] = []
    complaints: list[str] = []
    opened.on("request", lambda request: requested.append(request.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(file.as_uri())
    yield opened
    context.close()
    assert requested == [file.as_uri()]
    assert not complaints


def view(page: Page, name: str = "demo (simulated)") -> Any:
    """The table of models of a kind of data."""
    return page.locator("section.task").filter(has=page.locator("h2", has_text=name)).locator(".models").first


def order(models: Any) -> list[str]:
    return models.locator("tr[data-place]:visible .name").all_inner_texts()


def values(models: Any, column: int) -> list[float]:
    cells = models.locator(f"tr[data-place]:visible td:nth-child({column})")
    return [float(cell.get_attribute("data-value")) for cell in cells.all() if cell.get_attribute("data-value")]


def test_it_sorts_with_the_mouse(page: Page) -> None:
    models = view(page)
    header = models.locator("thead th").nth(1)
    grouped = order(models)
    assert header.get_attribute("aria-sort") == "none"
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert values(models, 2) == sorted(values(models, 2), reverse=True)
    assert len(values(models, 2)) == 5
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert values(models, 2) == sorted(values(models, 2))
    models.get_by_role("button", name="Order by modality").click()
    assert order(models) == grouped
    assert header.get_attribute("aria-sort") == "none"


def test_it_sorts_with_the_keyboard_and_undefined_stays_last(page: Page) -> None:
    models = view(page, "real patients")
    page.locator("body").press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    header = models.locator("thead th").first
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert order(models) == sorted(order(models), key=str.lower)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert models.locator("thead th").nth(1).get_attribute("aria-sort") == "descending"
    assert order(models)[-1] == "MCAT"  # which failed
    page.keyboard.press("Space")
    assert models.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
    assert order(models)[-1] == "MCAT"


def test_it_filters_by_text_and_modality(page: Page) -> None:
    models = view(page)
    search = models.get_by_label("Find a model")
    search.fill("amkd")
    assert order(models) == ["AMKD †"]
    assert models.locator("output").inner_text() == "1 of 5 models"
    search.fill("")
    box = models.get_by_role("group", name="Modality").get_by_label("omics")
    box.focus()
    page.keyboard.press("Space")
    assert "SNN" not in order(models)
    assert len(order(models)) == 4
    assert models.locator("tr.group:visible").count() == 3
    models.locator("thead button").first.click()  # filtering outlives sorting
    assert "SNN" not in order(models)


def test_parts_of_cells_can_be_hidden(page: Page) -> None:
    models = view(page)
    published = models.locator(".published")
    assert published.first.is_visible()
    models.get_by_label("published").uncheck()
    assert not published.first.is_visible()
    assert not models.locator(".detail").first.is_visible()
    models.get_by_label("log-rank p, seeds").check()
    assert models.locator(".detail").first.is_visible()


def test_any_two_models_can_be_compared(page: Page) -> None:
    picker = page.locator("section.task").filter(has=page.locator("h2", has_text="demo")).locator(".picker")
    first, second = picker.locator("select").all()

    def shown() -> list[list[str]]:
        return [row.locator("td").all_inner_texts() for row in picker.locator("tbody tr").all()]

    first.select_option(label="SNN")
    second.select_option(label="Null")
    forward = shown()
    assert picker.locator("tbody th").all_inner_texts() == ["mean over cohorts", "brca", "stad"]
    assert [row[0] for row in forward] == ["+0.500"] * 3
    first.select_option(label="Null")
    second.select_option(label="SNN")
    assert [row[0] for row in shown()] == ["−0.500"] * 3
    second.select_option(label="Null")
    assert [row[0] for row in shown()] == ["the same model"] * 3


def test_injected_markup_is_text(page: Page) -> None:
    page.locator(".everything button").click()
    assert INJECTED in order(view(page))
    assert page.evaluate("window.injected") is None
    assert page.locator("img").count() == 0
    assert page.locator("svg text", has_text="window.injected").count() > 0


def test_every_figure_says_what_it_shows(page: Page) -> None:
    figures = page.locator("svg")
    assert figures.count() >= 12
    names = figures.evaluate_all(
        "all => all.map(f => f.getAttribute('aria-labelledby').split(' ')"
        ".map(id => document.getElementById(id).textContent).join(' '))"
    )
    assert all(len(name) > 40 for name in names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_anybody(page: Page) -> None:
    page.locator(".everything button").click()
    view(page).locator("thead button").nth(1).click()
    violations = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    barring = [v for v in violations if v["impact"] in ("serious", "critical")]
    assert not barring, [(v["id"], [n["html"][:200] for n in v["nodes"]][:3]) for v in barring]


@pytest.mark.parametrize(("scheme", "readable"), [("light", range(90)), ("dark", range(200, 256))])
def test_dark_figures_are_light_on_dark(page: Page, readable: range) -> None:
    ink = "getComputedStyle(document.querySelector('svg text')).fill.match(/\\d+/g).map(Number)"
    assert set(page.evaluate(ink)) <= set(readable)


def test_a_phone_scrolls_inside_the_tables_and_keeps_the_names(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.locator(".everything button").click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    models = view(page)
    name, box = models.locator("tbody th[scope=row]").first, models.locator(".scroll")
    before = name.bounding_box()
    box.evaluate("e => e.scrollLeft = 200")
    assert box.evaluate("e => e.scrollLeft") > 100
    after = name.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["x"] - after["x"]) < 2


def test_paper_shows_tables_without_controls(page: Page) -> None:
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator(".tools").first.is_visible()
    assert view(page).locator(".scroll").evaluate("e => getComputedStyle(e).overflow") == "visible"
    assert page.locator(".banner").is_visible()
