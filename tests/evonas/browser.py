"""Pages in the system's Chromium, and what axe says of them."""

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def opened(browser: Any, url: str, *, offline: bool = False, **options: Any) -> Any:
    """A page of 1200 by 900. `heard` holds the errors of its console and the URLs that it asked for."""
    context = browser.new_context(offline=offline, viewport={"width": 1200, "height": 900}, **options)
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda request: page.heard.append(request.url))
    page.goto(url)
    page.wait_for_selector("html[data-ready]")
    return page


def asked_elsewhere(page: Any, own: str) -> list[str]:
    """Errors, and URLs of other places."""
    return [each for each in page.heard if not each.startswith(("data:", "blob:", own))]


def violations(page: Any) -> list[str]:
    """The rules of axe that the page breaks, each with its first element."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether something comes to hold: the page draws when its data are there."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def click_on_first(page: Any, plot: str, trace: str) -> int:
    """Click on the first mark of a plot's trace; return its birth."""
    page.wait_for_function(
        "([id, name]) => document.getElementById(id).data?.find((each) => each.name === name)?.customdata?.length",
        arg=[plot, trace],
    )
    page.locator(f"#{plot}").scroll_into_view_if_needed()
    x, y, birth = page.evaluate(
        """([id, name]) => {
        const plot = document.getElementById(id), trace = plot.data.find((each) => each.name === name);
        const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
        const at = [box.x + xaxis._offset + xaxis.d2p(trace.x[0]), box.y + yaxis._offset + yaxis.d2p(trace.y[0])];
        return [...at, trace.customdata[0][1]];
    }""",
        [plot, trace],
    )
    page.mouse.click(x, y)
    page.wait_for_selector("dialog[open]")
    return int(birth)


DRAWN = """() => Object.fromEntries([...document.querySelectorAll(".plot")].filter((each) => each.data).map((each) =>
    [each.id, each.data.map((trace) => [trace.name, [...(trace.x ?? [])], [...(trace.y ?? [])], trace.z ?? null])]))"""
