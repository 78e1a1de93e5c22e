"""Where Chromium and its driver are, by the names that distributions give them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FOLDERS = ("/usr/bin", "/usr/lib/chromium", "/usr/lib/chromium-browser", "/snap/bin")
DRIVERS = ("chromedriver", "chromium.chromedriver", "chromium-driver")


def find_browser() -> Path | None:
    """A Chromium on the path or in one of the usual folders."""
    return next(_found(NAMES, FOLDERS), None)


def find_driver(browser: Path) -> Path | None:
    """Its driver: beside it, beside what it is a link to, on the path, or in a usual folder."""
    beside = str(browser.parent), str(browser.resolve().parent)
    return next(_found(DRIVERS, [*beside, *FOLDERS]), None)


def _found(names: tuple[str, ...], folders: "list[str] | tuple[str, ...]") -> Iterator[Path]:
    where = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    for name in names:
        if path := shutil.which(name, path=where):
            yield Path(path)


def what_is_missing(browser: Path | None) -> str:
    """Which package to install, as the reason of a skipped test."""
    if browser is None:
        return "no Chromium found: apt-get install chromium chromium-driver"
    return (
        f"{browser} has no chromedriver: apt-get install chromium-driver "
        "(on Ubuntu chromium-chromedriver)"
    )
