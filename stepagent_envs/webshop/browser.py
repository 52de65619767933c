"""The shop through a real browser: `gym.make("StepAgent-WebShop-v0", backend="browser")`.

The site runs in this process; Chromium, driven by selenium, types the searches, presses the buttons and
shows the pages that are read.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stepagent_envs.errors import DataError, InfrastructureError
from stepagent_envs.webshop import pages
from stepagent_envs.webshop.engine import Shop, Turn, parse_action
from stepagent_envs.webshop.reward import Goal
from stepagent_envs.webshop.site import Server, Site, Visit
from stepagent_envs.webshop.state import State
from stepagent_envs.webshop.tasksets import ShopTasks

__all__ = ["BrowserSettings", "BrowserShop"]

_NODES = """
return Array.from(document.querySelectorAll('#page [data-node]')).map(
    e => [e.dataset.node, e.textContent, 'clicked' in e.dataset])
"""
_BUTTON = """
return Array.from(document.querySelectorAll('#page button[name=click]')).find(
    e => e.value.split(/\\s+/).join(' ').trim() === arguments[0]) || null
"""
_GO = "return document.querySelector('#page button.go')"
_THERE = """
const page = document.querySelector('#page');
return document.readyState === 'complete' && page !== null && page.dataset.count === arguments[0]
"""
_BINARIES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True, slots=True)
class BrowserSettings:
    """How the browser is started.

    Attributes:
        binary: Chromium's path; None takes `$STEPAGENT_CHROME`, else what is on the PATH.
        driver: chromedriver's path; None takes `$STEPAGENT_CHROMEDRIVER`, else what is on the PATH.
        headless: without a window. timeout: seconds to wait for a page.
    """

    binary: str | None = None
    driver: str | None = None
    headless: bool = True
    timeout: float = 30.0


def _program(given: str | None, variable: str, names: tuple[str, ...], what: str) -> str:
    path = given or os.environ.get(variable)
    found = shutil.which(path) if path else next(filter(None, map(shutil.which, names)), None)
    if found is None:
        told = f"{path!r} is no program" if path else "none is on the PATH"
        raise DataError(f"backend='browser' needs {what}: {told}; install it or set {variable} to its path")
    return found


def start_driver(settings: BrowserSettings) -> Any:
    """A selenium driver of a fresh Chromium that reaches nothing but this machine.

    Raises:
        DataError: selenium, Chromium or its driver are not installed. InfrastructureError: they do not start.
    """
    try:
        from selenium import webdriver
        from selenium.common.exceptions import WebDriverException
    except ImportError:
        raise DataError("backend='browser' needs selenium; run `pip install 'stepagent[browser]'`") from None
    options = webdriver.ChromeOptions()
    options.binary_location = _program(settings.binary, "STEPAGENT_CHROME", _BINARIES, "Chromium")
    driver = _program(settings.driver, "STEPAGENT_CHROMEDRIVER", ("chromedriver",), "chromedriver")
    flags = ["--no-first-run", "--disable-extensions", "--disable-dev-shm-usage", "--disable-background-networking"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--no-proxy-server"]
    flags += ["--headless=new", "--disable-gpu"] if settings.headless else []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium refuses to run as root with its sandbox
    for flag in flags:
        options.add_argument(flag)
    try:
        made = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    except WebDriverException as error:
        raise InfrastructureError(f"Chromium does not start: {str(error.msg).splitlines()[0]}") from None
    made.set_page_load_timeout(settings.timeout)
    return made


class BrowserShop(Shop):
    """A shop whose actions go through the browser and whose pages are read from it.

    Args:
        shop: the rules behind the site. tasks: of the same catalogue. settings: of the browser.
    """

    def __init__(self, shop: Shop, tasks: ShopTasks, settings: BrowserSettings) -> None:
        super().__init__(shop.catalogue, mode=shop.mode, show_attributes=shop.show_attributes)
        self._site = Site(shop, tasks)
        self._server = Server(self._site)
        try:
            self._driver = start_driver(settings)
        except Exception:
            self._server.close()
            raise
        self._timeout = settings.timeout
        self._session: str | None = None

    def close(self) -> None:
        """Quit the browser and close the site."""
        self._driver.quit()
        self._server.close()

    def _show(self, state: State, goal: Goal) -> Visit:
        """Have the browser show a state; loads a page only where it shows another one."""
        if self._session is None or self._site.visit(self._session).goal is not goal:
            if self._session is not None:
                self._site.forget(self._session)
            self._session = self._site.open(goal)
            self._site.visit(self._session).state = state
            self._load()
        visit = self._site.visit(self._session)
        if visit.state != state:
            visit.state, visit.turn = state, None
            self._load()
        return visit

    def _load(self) -> None:
        self._call(self._driver.get, f"{self._server.url}/session/{self._session}")

    def _call(self, call: Any, *arguments: Any) -> Any:
        from selenium.common.exceptions import WebDriverException

        try:
            return call(*arguments)
        except WebDriverException as error:
            raise InfrastructureError(f"the browser failed: {str(error.msg).splitlines()[0]}") from None

    def observe(self, state: State, goal: Goal, session_id: str = "0") -> str:
        """The page as the browser shows it."""
        self._show(state, goal)
        found = self._call(self._driver.execute_script, _NODES)
        nodes = [(kind, text) for kind, text, _ in found]
        if self.mode == "text":
            return pages.plain_text(nodes)
        return pages.rich_text(nodes, [clicked for _, _, clicked in found])

    def act(self, state: State, action: str, goal: Goal) -> Turn:
        """Type or press what the action says; what the page does not offer is refused with the engine's words."""
        visit = self._show(state, goal)
        parsed = parse_action(action)
        if isinstance(parsed, str):
            return Turn(state, parsed)
        verb, argument = parsed
        before = visit.count
        for _ in range(3):
            button = self._call(self._driver.execute_script, _GO if verb == "search" else _BUTTON, argument)
            if button is None or not argument:
                return self._site.shop.act(state, action, goal)
            if verb == "search":
                self._call(self._type, argument)
            if self._pressed(button, visit, before):
                break
        turn = visit.turn
        if turn is None or visit.count != before + 1:
            raise InfrastructureError(f"the browser did not send {action[:80]!r}")
        self._wait_for(visit.count)
        return turn

    def _type(self, words: str) -> None:
        box = self._driver.find_element("id", "search_input")
        # ChromeDriver cannot type characters outside the basic plane (emoji); setting the value can.
        if re.search("[\U00010000-\U0010ffff]", words):
            self._driver.execute_script("arguments[0].value = arguments[1]", box, words)
        else:
            box.clear()
            box.send_keys(words)

    def _pressed(self, button: Any, visit: Visit, before: int) -> bool:
        """Press a button; whether its form arrived. The driver may fail on a page that is already being replaced."""
        from selenium.common.exceptions import WebDriverException

        try:
            self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
        except WebDriverException:
            time.sleep(0.2)
        return visit.count > before or self._poll(lambda: visit.count > before, 2.0)

    def _wait_for(self, count: int) -> None:
        """Wait until the page that follows an action is there."""
        from selenium.common.exceptions import WebDriverException

        def there() -> bool:
            try:
                return bool(self._driver.execute_script(_THERE, str(count)))
            except WebDriverException:
                return False

        if not self._poll(there, self._timeout):
            raise InfrastructureError(f"the browser showed no page within {self._timeout:.0f} s")

    @staticmethod
    def _poll(condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True
