"""Finding the browser and its driver, and saying what to install where one is missing."""

from pathlib import Path

import pytest
from browsers import find_browser, find_driver, what_is_missing


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("browsers.FOLDERS", (str(tmp_path / "usual"),))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))


@pytest.mark.parametrize(
    "place",
    ["lib/chromium/chromedriver", "lib/chromium/chromium.chromedriver", "usual/chromedriver",
     "path/chromedriver"],
)  # fmt: skip
def test_a_driver_is_found_wherever_distributions_put_it(place: str, tmp_path: Path) -> None:
    real = program(tmp_path / "lib" / "chromium" / "chromium")
    browser = tmp_path / "usual" / "chromium"
    browser.parent.mkdir()
    browser.symlink_to(real)
    assert find_browser() == browser
    assert find_driver(browser) is None
    program(tmp_path / place)
    driver = find_driver(browser)
    assert driver is not None and driver.samefile(tmp_path / place)


def test_a_skip_names_the_package_that_is_missing(tmp_path: Path) -> None:
    assert find_browser() is None
    assert "apt-get install chromium chromium-driver" in what_is_missing(None)
    alone = program(tmp_path / "path" / "chromium")
    assert find_browser() == alone
    assert "apt-get install chromium-driver" in what_is_missing(alone)
