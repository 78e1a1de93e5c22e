"""The report in a real browser: the viewer works, and hostile text stays text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import find_browser, find_driver, what_is_missing
from make_run import Extras, make_recipe, make_run, make_tokenizer
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import alert_is_present
from test_report import HOSTILE

from warmup_distill.stages.report import make_report

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

BROWSER = find_browser()
DRIVER = BROWSER and find_driver(BROWSER)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not DRIVER, reason=what_is_missing(BROWSER)),
]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a run whose prompts, completions, models and name carry payloads."""
    folder = tmp_path_factory.mktemp("run")
    extras = Extras(in_prompt=HOSTILE, in_completion=HOSTILE, in_name=HOSTILE)
    tokenizer = make_tokenizer()
    make_run(folder, tokenizer, prompts=8, samples=4, extras=extras)
    make_report(folder, make_recipe(extras), tokenizer)
    return folder / "report" / "index.html"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def browser(opened: webdriver.Chrome, page_path: Path) -> webdriver.Chrome:
    """The page, freshly opened, with nothing in the browser's log yet."""
    opened.get_log("browser")
    opened.get(page_path.as_uri())
    return opened


def cards(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.TAG_NAME, "article")


def buttons(browser: webdriver.Chrome, place: str) -> dict[str, WebElement]:
    found = browser.find_elements(By.CSS_SELECTOR, f"#{place} button")
    return {button.text.rpartition(" ")[0] or button.text: button for button in found}


def requested(browser: webdriver.Chrome) -> set[str]:
    """What was asked for by pages other than the browser's own first tab."""
    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        and not message["params"]["documentURL"].startswith("chrome:")
    }


def test_payloads_raise_no_alert_load_nothing_and_become_no_element(
    browser: webdriver.Chrome, page_path: Path
) -> None:
    assert not alert_is_present()(browser)
    assert "<img src=x onerror=alert(1)>" in cards(browser)[0].text
    assert "<img src=x onerror=alert(1)>" in browser.find_element(By.TAG_NAME, "h1").text
    assert not browser.find_elements(By.CSS_SELECTOR, "img, iframe, object, a[href^='javascript']")
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 2
    assert requested(browser) == {page_path.as_uri()}
    assert browser.get_log("browser") == []  # a blocked script or style would be named here


def test_policy_stops_a_script_that_got_in(browser: webdriver.Chrome) -> None:
    browser.execute_script(
        "const planted = document.createElement('div');"
        "planted.innerHTML = '<img src=x onerror=\"document.title = 1\">';"
        "document.body.append(planted);"
    )
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert messages and all("Content Security Policy" in message for message in messages)
    assert browser.title != "1"


def test_figures_are_drawn_in_the_colours_of_the_page_light_and_dark(
    browser: webdriver.Chrome,
) -> None:
    looks = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        looks.append(browser.execute_script(
            "const look = (all, key) => [...document.querySelectorAll(all)]"
            ".map((one) => getComputedStyle(one)[key]);"
            "return [look('figure svg text', 'fill'), look('figure svg .told > path', 'fill'),"
            " look('figure svg path[stroke^=\"var(--series\"]', 'stroke')];"
        ))  # fmt: skip
    for light, dark in zip(*looks, strict=True):
        assert light and len(light) == len(dark)
        assert all(a.startswith("rgb") and a != b for a, b in zip(light, dark, strict=True))
    assert browser.get_log("browser") == []


def test_text_of_figures_can_be_selected(browser: webdriver.Chrome) -> None:
    selected = browser.execute_script(
        "const range = document.createRange();"
        "range.selectNodeContents(document.querySelector('#mismatches figure svg'));"
        "getSelection().addRange(range);"
        "return getSelection().toString();"
    )
    assert "mismatch index (tokens)" in selected


def test_verdict_buttons_filter_the_cards(browser: webdriver.Chrome) -> None:
    assert len(cards(browser)) == 10
    choice = "wrong \N{RIGHTWARDS ARROW} right"
    assert set(buttons(browser, "verdicts")) >= {"all", choice}
    buttons(browser, "verdicts")[choice].click()
    shown = browser.find_elements(By.CSS_SELECTOR, "article .verdict")
    assert {verdict.text for verdict in shown} == {choice}
    assert buttons(browser, "verdicts")[choice].get_attribute("aria-pressed") == "true"


def test_pages_turn_and_stop_at_the_ends(browser: webdriver.Chrome) -> None:
    assert not buttons(browser, "pager")["Previous"].is_enabled()
    first = cards(browser)[0].text
    buttons(browser, "pager")["Next"].click()
    assert cards(browser)[0].text != first
    while buttons(browser, "pager")["Next"].is_enabled():
        buttons(browser, "pager")["Next"].click()
    assert 1 <= len(cards(browser)) <= 10


def test_search_finds_text_and_says_how_many(browser: webdriver.Chrome) -> None:
    field = browser.find_element(By.ID, "search")
    field.send_keys("TRAIN-0-000002")
    headings = browser.find_elements(By.CSS_SELECTOR, "article h3")
    assert {heading.text for heading in headings} == {"train-0-000002"}
    field.send_keys("no such text")
    assert cards(browser) == []
    assert browser.find_element(By.ID, "status").text.startswith("0 pairs")


def test_tokens_tell_their_margin_and_the_cut_has_the_strongest_colour(
    browser: webdriver.Chrome,
) -> None:
    cut = cards(browser)[0].find_element(By.CSS_SELECTOR, ".student .token")
    assert "level-5" in (cut.get_attribute("class") or "")
    assert "nats" in (cut.get_attribute("title") or "")


def test_models_stand_side_by_side_in_a_narrow_window(browser: webdriver.Chrome) -> None:
    metrics = {"width": 420, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    table = browser.find_element(By.CSS_SELECTOR, "table.scores")
    rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
    places = [[cell.location["x"] for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
    assert len(rows) == 4 and all(one == places[0] == sorted(set(one)) for one in places)
    assert table.size["width"] <= 420


def test_headings_break_between_words_that_belong_apart(browser: webdriver.Chrome) -> None:
    metrics = {"width": 1300, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    headings = browser.find_elements(By.CSS_SELECTOR, "table.scores thead .wide")
    divergences = [one for one in headings if one.text.startswith("KL")]
    assert [one.text.count("\n") for one in divergences] == [0, 0]
    assert {one.size["height"] for one in divergences} == {headings[0].size["height"]}


@pytest.mark.parametrize("width", [380, 420, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_window(browser: webdriver.Chrome, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ink, paper = browser.execute_script(
        "const style = getComputedStyle(document.body);"
        "return [style.color, style.backgroundColor].map((c) => Number(c.match(/\\d+/)[0]));"
    )
    assert (ink < paper) == (scheme == "light")
