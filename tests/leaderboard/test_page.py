"""The page in a real browser, straight from the disk: sort, filter, watch an episode, compare two rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_benchmark import make_benchmark

from leaderboard.agents import AgentSpec
from leaderboard.report import write_report
from leaderboard.runner import RunOptions, run_benchmark

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (pip install 'stepagent[browser]')")
support = pytest.importorskip("selenium.webdriver.support.ui")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    benchmark = make_benchmark(folder / "benchmarks")
    for name in ("Random", "Expert", "Crashes"):
        out = folder / "runs" / name.lower()
        run_benchmark(benchmark, AgentSpec(f"toy_agents:{name}"), out, RunOptions(name=name.lower()))
    toml = folder / "benchmarks" / "toy-v1.toml"
    return write_report([folder / "runs"], folder / "site", expert=True, benchmark=toml)[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(3)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, site: Path) -> Any:
    browser.get("about:blank")
    browser.get(site.as_uri())
    return browser


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def watch(page: Any, button: Any) -> None:
    """Click, and wait until the episode is there (it is loaded from a file beside the page)."""
    before = page.find_element("css selector", "#v-title").text
    button.click()
    support.WebDriverWait(page, 10).until(lambda p: find(p, "#v-title").text != before and find(p, "#v-outcome").text)


def names(page: Any) -> list[str]:
    rows = page.find_elements("css selector", '.panel[data-world="toy"] > .scroll tr[data-row]')
    return [row.get_attribute("data-row") for row in rows if row.is_displayed()]


def press(page: Any, key: str) -> None:
    page.switch_to.active_element.send_keys(getattr(webdriver.Keys, key))


def test_sorting(page):
    assert names(page) == ["expert", "random", "crashes"]
    for button in page.find_elements("css selector", ".panel[data-world=toy] thead [data-sort]"):
        if button.text == "agent":
            button.click()
            assert names(page) == ["crashes", "expert", "random"]
            press(page, "ENTER")  # the heading has the focus: the keyboard does the same
            assert names(page) == ["random", "expert", "crashes"]
            assert button.find_element("xpath", "..").get_attribute("aria-sort") == "descending"


def test_filters(page):
    search = find(page, "[data-filter=name]")
    search.send_keys("RAND")
    assert names(page) == ["random"]
    search.clear()
    search.send_keys(" ")
    assert len(names(page)) == 3
    support.Select(find(page, "[data-filter=size]")).select_by_value("1-1e7")
    assert names(page) == ["expert"], "the only one with parameters"


def test_watching_an_episode(page):
    watch(page, find(page, '[data-watch="random"]'))
    assert find(page, "#viewer").get_attribute("open") is not None
    assert "room 0" in find(page, "#v-observation").text and "</script>" in find(page, "#v-observation").text
    assert find(page, "#v-count").text.startswith("0 / ")
    press(page, "ARROW_RIGHT")
    assert find(page, "#v-count").text.startswith("1 / ")
    assert find(page, "#v-expert").text.startswith("go on"), "found by replay"
    assert "ring" in find(page, "#v-options").text and "chosen" in find(page, "#viewer").get_attribute("innerHTML")
    first = find(page, "#v-episode").get_attribute("value")
    press(page, "END")
    assert "the episode has ended" in find(page, "#v-action").text
    press(page, "PAGE_DOWN")
    assert find(page, "#v-episode").get_attribute("value") == str(int(first) + 1)
    assert page.current_url.endswith("#episode/0/random/toy/1/0")
    press(page, "ESCAPE")
    assert find(page, "#viewer").get_attribute("open") is None


def test_a_link_opens_its_step(browser, site):
    browser.get("about:blank")
    browser.get(site.as_uri() + "#episode/0/expert/toy/2/1")
    assert find(browser, "#v-count").text.startswith("1 / ")
    assert "expert" in find(browser, "#v-title").text


def test_an_episode_that_the_agent_broke(page):
    watch(page, find(page, '[data-watch="crashes"]'))
    options = page.find_elements("css selector", "#v-episode option")
    next(option for option in options if option.text.startswith("!")).click()
    assert "the agent failed after 2 steps: ValueError: I cannot think" in find(page, "#v-outcome").text
    assert "room 0" in find(page, "#v-observation").text, "what it saw and did before"
    find(page, "#v-step").send_keys(webdriver.Keys.END)
    assert find(page, "#v-count").text == "2 / 2" and "the agent failed here" in find(page, "#v-action").text
    assert find(page, "#v-observation").text, "what it failed on"


def test_comparing_two_rows(page):
    find(page, ".compare summary").click()
    text = find(page, ".compare .verdict").text
    assert text.startswith("expert † − random on toy: ") and "a significant difference" in text
    lines = page.find_elements("css selector", ".compare tbody tr")
    assert len(lines) == 12
    watch(page, lines[0].find_elements("css selector", "button")[1])
    assert find(page, "#v-title").text == "random · toy"
    task = lines[0].find_element("css selector", "th").text.split(":", 2)[2]
    assert find(page, "#v-episode option:checked").text.endswith(task)


def test_theme_and_width(page):
    find(page, "#theme").click()
    chosen = page.execute_script("return document.documentElement.dataset.theme")
    assert chosen in ("dark", "light")
    page.set_window_size(400, 900)
    try:
        wider = page.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wider <= 0, "the page itself does not scroll sideways on a phone"
    finally:
        page.set_window_size(1280, 1000)


def test_nothing_is_hacked_fetched_or_logged(page):
    watch(page, find(page, '[data-watch="random"]'))
    assert find(page, "#v-goal").text
    assert page.execute_script("return window.hacked") is None
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = [
        line["message"] for line in page.get_log("performance") if '"Network.requestWillBeSent"' in line["message"]
    ]
    assert asked and not any('"url":"http' in message for message in asked)
