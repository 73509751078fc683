"""The live page of a running search in a browser."""

import json
from pathlib import Path
from typing import Any

import evonas
from tests.evonas.browser import (
    DRAWN,
    asked_elsewhere,
    click_on_first,
    eventually,
    needs_chromium,
    opened,
    violations,
)
from tests.evonas.live.serving import serving, waiting_search

pytestmark = needs_chromium


def test_the_page_of_a_running_search_follows_it(browser: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    with waiting_search(tmp_path / "<b>run", tiny, after=8) as go_on, serving(tmp_path) as url:
        page = opened(browser, url, permissions=["clipboard-read", "clipboard-write"])
        assert page.inner_text("tbody td:nth-child(2)") == "<b>run"
        assert page.inner_text("tbody .state") == "running"
        assert violations(page) == []
        page.click("tbody a")
        page.wait_for_selector("html[data-ready] #plot-births .plot-container")

        births = page.inner_text("#count").split()[2]
        before = page.evaluate(DRAWN)
        page.select_option("#filter-proxy", "resnet")
        page.fill("#filter-at_least", "0.4")
        page.keyboard.press("Tab")
        for name in ("plot-births", "plot-ends", "plot-operators"):
            assert eventually(lambda name=name: page.evaluate(DRAWN)[name] != before[name]), name
        filtered = page.inner_text("#count")

        birth = click_on_first(page, "plot-front-0", "front")
        assert page.inner_text("#layer-title").startswith(f"Birth {birth}")
        assert violations(page) == []
        page.click("dialog details summary")
        page.click("text=Copy LaTeX")
        page.wait_for_selector("text=Copied")
        assert page.evaluate("navigator.clipboard.readText()") == page.inner_text("dialog details pre")
        page.click("dialog .star")
        assert len(json.loads(page.evaluate("localStorage.getItem('evonas-stars')"))) == 1
        with page.expect_download() as download:
            page.click("text=Export as a Python module")
        assert "class EvolvedLayer" in Path(download.value.path()).read_text()
        page.keyboard.press("Escape")
        page.wait_for_selector("#tables-starred article")

        go_on.set()
        page.wait_for_function(f"!document.getElementById('count').textContent.includes('of {births} ')")
        assert page.input_value("#filter-at_least") == "0.4"
        page.wait_for_function("document.getElementById('count').textContent.includes('of 40 ')")
        assert page.inner_text("#count") != filtered
        run = evonas.open_run(tmp_path / "<b>run")
        page.click("#filters button[type=reset]")
        drawn = "document.getElementById('plot-front-0').data.find((each) => each.name === 'front').customdata"
        front = {each.birth for each in run.front()}
        assert eventually(lambda: {birth for _, birth in page.evaluate(drawn)} == front)
        page.click("[data-order=nodes]")
        page.wait_for_selector("[data-order=nodes]:has-text('↓')")
        largest = max(each.live_nodes for each in run.candidates(range(1, 41)))
        first = "#tables-layers tbody tr:first-child td:nth-child(6)"
        assert eventually(lambda: page.inner_text(first) == str(largest))
        assert violations(page) == []
        assert asked_elsewhere(page, url) == []
        page.context.close()
