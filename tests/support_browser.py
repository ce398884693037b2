"""A real browser without a network, and what it says of a page."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REQUIRED = os.environ.get("PRDSIM_REQUIRE_BROWSER") == "1"
PATIENCE = 60.0  # seconds until a page is shown
_SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


def missing() -> str:
    """What a test in a browser lacks here; empty if nothing."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    programs = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{programs[0]} is not installed" if programs else ""


def require_browser() -> None:
    """Skip a test where there is no browser; fail it where one is required."""
    if missing():
        (pytest.fail if REQUIRED else pytest.skip)(missing())


def axe() -> str:
    """The program of axe-core, from the package axe-playwright-python, which need not work."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        (pytest.fail if REQUIRED else pytest.skip)("axe-playwright-python is not installed")
    assert found is not None
    assert found.submodule_search_locations
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


class Page:
    """A page that is open in a browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(
        self, address: str, *, width: int = 1440, height: int = 1000, dark: bool = False
    ) -> Page:
        """Show a page in a window of a size, and wait until its program has drawn everything."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.logs()
        self.driver.get(address)
        self.until("return performance.getEntriesByName('shown').length === 1")
        return self

    def until(self, script: str) -> None:
        """Wait until a script returns what counts as true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.02).until(
            lambda driver: driver.execute_script(script)
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script; it may wait for the next frame by ``await frames()``."""
        text = (
            "const done = arguments[arguments.length - 1];"
            "const frame = () => new Promise((go) => requestAnimationFrame(go));"
            "const frames = async () => { await frame(); await frame(); };"
            f"(async () => {{ {script} }})().then(done, (error) => done(String(error)));"
        )
        return self.driver.execute_async_script(text, *arguments)

    def element(self, selector: str) -> Any:
        from selenium.webdriver.common.by import By

        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def pixels(self, number: int) -> np.ndarray:
        """Red, green, blue and opacity of the pixels of a mosaic, (rows, columns, 4)."""
        found = self.run(
            "await frames();"
            "const canvas = document.querySelectorAll('canvas.filters')[arguments[0]];"
            "const { width, height } = canvas;"
            "const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);"
            "return [height, width, Array.from(data)];",
            number,
        )
        return np.array(found[2], dtype=np.uint8).reshape(found[0], found[1], 4)

    def logs(self) -> tuple[list[str], list[str]]:
        """What has been logged, and which addresses were asked for, since the last call."""
        messages = [f"{row['level']}: {row['message']}" for row in self.driver.get_log("browser")]
        asked = []
        for row in self.driver.get_log("performance"):
            event = json.loads(row["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                asked.append(event["params"]["request"]["url"])
        return messages, [url for url in asked if url != "about:blank"]

    def violations(self) -> list[str]:
        """What axe-core finds to be serious or critical."""
        self.driver.execute_script(axe())
        found = self.run("return await axe.run(document, { resultTypes: ['violations'] });")
        return [
            f"{each['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


@contextmanager
def browser() -> Iterator[Page]:
    """Yield a page of a headless Chromium that resolves no name of a host."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for switch in _SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(str(shutil.which("chromedriver")))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_script_timeout(PATIENCE)
        yield Page(driver)
    finally:
        driver.quit()
