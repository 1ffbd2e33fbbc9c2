"""A person at a browser: the noVNC page opens, keys reach the guest, its screen is read; bad tokens are refused."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from tests.real import cloud_rig
from tests.real.cloud_rig import Cloud

T = TypeVar("T")
LACKING = [
    f"{name} (apt-get install {package})"
    for name, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver"), ("tesseract", "tesseract-ocr"))
    if shutil.which(name) is None
]
pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.full,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
    pytest.mark.skipif(bool(LACKING), reason=f"needs a browser: {', '.join(LACKING)}"),
]
TOKEN_SECONDS = 30
PASSWORD = "gocubsgo"  # the guest's own, as its screen says


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with cloud_rig.real_cloud(environment={"KILONOVA_COMPUTE_CONSOLE_SECONDS": str(TOKEN_SECONDS)}) as made:
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic", "dev-shm-usage")
    for argument in ("headless=new", "no-sandbox", "no-first-run", "window-size=1100,800"):
        options.add_argument(f"--{argument}")
    for name in quiet:
        options.add_argument(f"--disable-{name}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def until(read: Callable[[], T | None], seconds: float, what: Callable[[], str]) -> T:
    """What `read` answers once it answers something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := read():
            return found
        time.sleep(0.5)
    raise AssertionError(what())


def status(browser: webdriver.Chrome) -> str:
    """The noVNC page's own status line."""
    return browser.find_element(By.ID, "status").text


def screen(browser: webdriver.Chrome, directory: Path) -> str:
    """The text on the guest's screen, read from the pixels that the page drew."""
    drawn = "return document.querySelector('#screen canvas').toDataURL('image/png')"
    picture = directory / "screen.png"
    picture.write_bytes(base64.b64decode(browser.execute_script(drawn).partition(",")[2]))
    command = ["tesseract", str(picture), "-", "--psm", "6", "--dpi", "70"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def keys(browser: webdriver.Chrome, text: str) -> None:
    """Press keys on the guest's screen, none that needs Shift: the driver sends none."""
    canvas = browser.find_element(By.CSS_SELECTOR, "#screen canvas")
    pressed = ActionChains(browser).click(canvas)
    for one in text:
        pressed = pressed.send_keys(one).pause(0.05)
    pressed.perform()


def url_of(sdk: Any, server_id: str) -> str:
    return str(sdk.compute.create_console(server_id, console_type="novnc")["url"])


def refused(browser: webdriver.Chrome, url: str) -> None:
    """The page opens, and never connects."""
    browser.get("about:blank")
    browser.get(url)
    said = until(lambda: (text := status(browser)) != "Loading" and "onnecting" not in text and text, 20, lambda: url)
    assert "Connected" not in said, said


def test_type_into_the_guest_and_read_its_screen(cloud: Cloud, browser: webdriver.Chrome, tmp_path: Path) -> None:
    sdk = cloud.sdk("kilonova-admin")
    image = sdk.image.find_image("cirros")
    server = sdk.compute.create_server(name="screen", flavor_id="1", image_id=image.id, networks="none")
    sdk.compute.wait_for_server(server, wait=180)

    def reads(words: str, seconds: float = 60) -> str:
        found = lambda: text if words in (text := screen(browser, tmp_path)) else None  # noqa: E731
        return until(found, seconds, lambda: f"no {words!r} on the screen:\n{screen(browser, tmp_path)}")

    used = url_of(sdk, server.id)
    browser.get(used)
    until(lambda: "Connected" in status(browser), 30, lambda: status(browser))
    reads("login:", 120)
    keys(browser, "cirros\n")
    reads("assword:")
    keys(browser, f"{PASSWORD}\n")
    time.sleep(2)
    keys(browser, "clear; expr 6000 - 789\n")
    reads("5211")  # what the guest answered, not what was typed

    refused(browser, used)
    fresh = url_of(sdk, server.id)
    refused(browser, fresh[:-4] + "0000")
    time.sleep(TOKEN_SECONDS + 1)
    refused(browser, fresh)
    browser.get("about:blank")
    browser.get(url_of(sdk, server.id))
    until(lambda: "Connected" in status(browser), 30, lambda: status(browser))
