"""The page in Chromium, from a file, without a network: what it shows is what the files say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from support_browser import Page, browser, require_browser
from support_runs import make_diverged, make_pair, make_run, opened

from prdsim.analysis.comparison import compare
from prdsim.explorer import content_of, html_page, read_attached
from prdsim.explorer.server import PageServer, Served
from prdsim.trajectory import open_trajectory

pytestmark = pytest.mark.browser
SIDES = (0, 1)  # without diffusion is first
HOSTILE = "</script><script>document.title = 'broken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    return make_pair(tmp_path_factory.mktemp("runs"), step_size=0.01, width=7)


@pytest.fixture(scope="module")
def file(paths, tmp_path_factory) -> Path:
    """The page of both runs, with a table whose texts would break it."""
    folder = tmp_path_factory.mktemp("page")
    table = folder / "table.json"
    rows = [{"time": float(k), "value": 0.5 * k * k, HOSTILE: HOSTILE} for k in range(3)]
    table.write_text(json.dumps({HOSTILE: rows, "run": HOSTILE}))
    with opened(paths) as runs:
        text = html_page(content_of(runs, read_attached(table)))
    target = folder / "report <b>&.html"
    target.write_text(text, encoding="utf-8")
    return target


@pytest.fixture(scope="module")
def opened_browser() -> Iterator[Page]:
    require_browser()
    with browser() as page:
        yield page


@pytest.fixture
def shown(opened_browser, file) -> Page:
    found: Page = opened_browser.open(file.as_uri())
    return found


def expected_tile(path: Path, snapshot: int, neuron: int, view: str, limit: float) -> np.ndarray:
    """The colors of a filter of the file on a scale, by matplotlib, (8, 8, 3)."""
    with open_trajectory(path) as run:
        values = run.U[snapshot][neuron] - (run.U[0][neuron] if view == "changes" else 0.0)
    level = np.floor(127 * np.clip(values / limit, -1.0, 1.0) + 0.5)
    colors = mpl.colormaps["RdBu_r"]((level + 127) / 254, bytes=True)
    return np.asarray(colors)[:, :3].reshape(8, 8, 3)


def tile(pixels: np.ndarray, place: int, columns: int) -> np.ndarray:
    top, left = 9 * (place // columns) + 1, 9 * (place % columns) + 1
    return pixels[top : top + 8, left : left + 8, :3]


def check_pixels(shown: Page, paths: list[Path], snapshot: int, view: str) -> None:
    """Every tile has the colors of the file, up to the half steps in which numbers are kept."""
    data = data_of(shown)
    scales, columns = data["scales"], data["tiles"][1]
    limit = scales[f"{view}_limit"]
    kept = scales["change_step"] + (scales["start_step"] if view == "weights" else 0.0)
    levels = np.ceil(127 * 0.5 * kept / limit)
    table = np.asarray(mpl.colormaps["RdBu_r"](np.linspace(0, 1, 255), bytes=True))[:, :3]
    steepest = max(
        np.abs(np.diff(table.astype(int), axis=0)).max() * (levels + 1), 1
    )  # of a color's part, over so many levels
    assert steepest < 60, "else the comparison would say little"
    for side in SIDES:
        pixels = shown.pixels(side)
        for place, neuron in enumerate(data["neurons"]):
            wanted = expected_tile(paths[side], snapshot, neuron, view, limit)
            found = tile(pixels, place, columns)
            assert np.abs(found.astype(int) - wanted.astype(int)).max() <= steepest


def data_of(shown: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        shown.run("return document.getElementById('data').textContent")
    )
    return found


def move_to(shown: Page, snapshot: int) -> None:
    shown.run(
        "const at = document.getElementById('at'); at.value = arguments[0];"
        "at.dispatchEvent(new Event('input', { bubbles: true })); await frames();",
        snapshot,
    )


def value(shown: Page, selector: str) -> str:
    return str(
        shown.run("await frames(); return document.querySelector(arguments[0]).value", selector)
    )


# -- what is shown ---------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["weights", "changes"])
def test_the_slider_shows_the_filters_of_each_snapshot(shown, paths, view):
    shown.element(f"input[value={view}]").click()
    seen = []
    for snapshot in range(5):
        move_to(shown, snapshot)
        check_pixels(shown, paths, snapshot, view)
        seen.append(shown.pixels(1))
        assert f"({snapshot + 1} of 5)" in shown.element("#time").text
    assert all(not np.array_equal(seen[k], seen[k + 1]) for k in range(4))


def test_the_slider_moves_by_keys_and_the_address_remembers(shown, paths):
    from selenium.webdriver.common.keys import Keys

    slider = shown.element("#at")
    slider.send_keys(Keys.HOME)
    assert value(shown, "#at") == "0"
    check_pixels(shown, paths, 0, "weights")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert value(shown, "#at") == "2"
    check_pixels(shown, paths, 2, "weights")
    address = shown.driver.current_url
    assert "#at=2" in address
    shown.open(address)
    assert value(shown, "#at") == "2"


def test_neurons_are_picked_by_mouse_and_by_keys(shown):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    canvas = shown.element("canvas.filters")
    width, height = (canvas.size[name] for name in ("width", "height"))
    rows, columns = data_of(shown)["tiles"]
    right, down = 1.5 / columns - 0.5, 1.5 / rows - 0.5  # of the second in the second row
    shown.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    chain = ActionChains(shown.driver)
    chain.move_to_element_with_offset(
        canvas, int(right * width), int(down * height)
    ).click().perform()
    picked = columns + 1
    assert value(shown, "#neuron") == str(picked)
    assert shown.element("#chosen").text == str(picked)
    label = shown.element("#details canvas").get_attribute("aria-label")
    assert label.startswith(f"Neuron {picked}, ")
    number = shown.element("#neuron")
    number.send_keys(Keys.ARROW_UP)
    assert shown.run("await frames(); return document.getElementById('chosen').textContent") == str(
        picked + 1
    )
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("999", Keys.TAB)
    assert value(shown, "#neuron") == "6", "the last one"


def test_a_number_that_is_undefined_is_said_to_be(shown):
    move_to(shown, 0)  # nothing has changed yet
    words = shown.run(
        "return [...document.querySelectorAll('#curves .chart')].find((chart) => "
        "chart.querySelector('select')?.value === 'morans_i_change').textContent"
    )
    assert "with diffusion: undefined" in words


def test_a_neurons_distance_is_that_of_the_file(shown, paths):
    with open_trajectory(paths[1]) as run:
        moved = np.linalg.norm(run.U[-1] - run.U[0], axis=1).max()
    text = shown.element("#neuron-curves .chart").text
    assert f"with diffusion: {moved:.4g}" in text


def test_numbers_of_tables_and_curves_are_the_files(shown, paths):
    with opened(paths) as runs:
        columns = compare(runs).table().columns
    rows = shown.run(
        "return [...document.querySelectorAll('#measures tbody tr')].map((row) => "
        "[row.firstChild.title, ...[...row.querySelectorAll('td')].map((td) => td.textContent)])"
    )
    assert [row[0] for row in rows] == list(columns["measure"])
    for side, label in enumerate(("without diffusion: mean", "with diffusion: mean")):
        for row, number in zip(rows, columns[label], strict=True):
            assert row[1 + side] == (f"{number:.5g}" if np.isfinite(number) else "-")
    at = list(columns["measure"]).index("distance_U_mean")
    text = shown.element("#curves .chart").text
    assert f"with diffusion: {columns['with diffusion: mean'][at]:.4g}" in text


def test_another_measure_can_be_chosen(shown):
    before = shown.element("#curves canvas").screenshot_as_png
    shown.run(
        "const select = document.querySelector('#curves select'); select.value = 'loss_critic';"
        "select.dispatchEvent(new Event('change')); await frames();"
    )
    assert "critic" in shown.element("#curves [role=img]").get_attribute("aria-label")
    assert shown.element("#curves canvas").screenshot_as_png != before


def test_columns_of_a_files_table_can_be_chosen(shown):
    before = shown.element(".attached canvas").screenshot_as_png
    chart = shown.element(".attached [role=img]")
    assert chart.get_attribute("aria-label") == "Curves over time: value"
    shown.element(".attached input").click()
    assert chart.get_attribute("aria-label") == "Curves over time: "
    assert shown.element(".attached canvas").screenshot_as_png != before


def test_a_run_that_has_ended_says_nothing_later(opened_browser, paths, tmp_path):
    longer = make_run(tmp_path / "longer.h5", step_size=0.01, steps=40, seed=1, diffusion=True)
    with opened([*paths, longer]) as runs:
        (tmp_path / "page.html").write_text(html_page(content_of(runs)), encoding="utf-8")
    shown = opened_browser.open((tmp_path / "page.html").as_uri())
    times = data_of(shown)["runs"]
    assert f"t = {times[-1]['time'][-1]} " in shown.element("#time").text
    words = shown.element("#curves .chart").text
    assert "without diffusion: ended before" in words
    assert "(mean of 1 of 2 runs)" in words
    move_to(shown, 0)
    assert "(mean of 2 of 2 runs)" in shown.element("#curves .chart").text


def test_the_page_begins_with_the_neuron_that_moved_most(opened_browser, file, paths):
    shown = opened_browser.open(file.as_uri())
    with open_trajectory(paths[1]) as run:
        farthest = int(np.argmax(np.linalg.norm(run.U[-1] - run.U[0], axis=1)))
    assert value(shown, "#neuron") == str(farthest)


def test_playing_moves_on_and_pauses(shown):
    move_to(shown, 0)
    shown.element("#play").click()
    shown.until("return document.getElementById('at').value === '2'")
    shown.element("#play").click()
    assert shown.element("#play").text == "Play"


# -- what it leaves alone --------------------------------------------------------------------------


def test_nothing_is_logged_requested_or_run_that_is_not_ours(shown, file):
    from selenium.webdriver.common.keys import Keys

    move_to(shown, 1)
    shown.element("#neuron").send_keys(Keys.ARROW_UP)
    shown.element("input[value=changes]").click()
    messages, asked = shown.logs()
    assert messages == []
    assert [address for address in asked if not address.startswith("data:")] == [file.as_uri()]
    assert shown.driver.title.startswith("digits")
    assert shown.run("return document.querySelectorAll('img').length") == 1
    assert HOSTILE in shown.element("body").text


def test_without_javascript_picture_and_table_stand_there(opened_browser, file):
    driver = opened_browser.driver
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(file.as_uri())
        assert opened_browser.element(".still img").is_displayed()
        assert opened_browser.element("#measures").is_displayed()
        assert not opened_browser.element("#controls").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_diverged_run_is_shown_as_far_as_it_went(opened_browser, tmp_path):
    with opened([make_diverged(tmp_path / "run.h5")]) as runs:
        (tmp_path / "page.html").write_text(html_page(content_of(runs)), encoding="utf-8")
    shown = opened_browser.open((tmp_path / "page.html").as_uri())
    assert "diverged at step" in shown.element("header").text
    assert shown.logs()[0] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_everyone_can_use_it(opened_browser, file, width, dark):
    shown = opened_browser.open(file.as_uri(), width=width, dark=dark)
    shown.run("document.querySelector('details').open = true;")
    assert shown.violations() == []
    assert shown.run("return document.documentElement.scrollWidth") <= width
    assert shown.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(22, 24, 26)" if dark else "rgb(255, 255, 255)"
    )


def test_a_violation_would_be_found(shown):
    shown.run("document.querySelector('main').append(document.createElement('img'));")
    assert [text.split(":")[0] for text in shown.violations()] == ["image-alt"]


# -- a live run ------------------------------------------------------------------------------------


def test_a_live_page_follows_and_stays_at_the_end(opened_browser, paths):
    served = Served()

    def replace(version: str, snapshots: int) -> None:
        with opened(paths) as runs:
            content = content_of(runs, snapshots=snapshots)
        served.replace(html_page(content, version=version), version)

    replace("1", 2)
    with PageServer(served) as server:
        shown = opened_browser.open(server.address)
        assert "(2 of 2)" in shown.element("#time").text
        replace("2", 5)
        shown.until("return document.getElementById('time').textContent.includes('(5 of 5)')")
        messages, asked = shown.logs()
        assert messages == []
        assert all(address.startswith((server.address, "data:")) for address in asked)
    shown.until("return !document.getElementById('trouble').hidden")
    assert "has ended" in shown.element("#trouble").text
