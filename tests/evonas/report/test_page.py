"""The report in a browser: offline, quiet, filtered, and safe from what a record says."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import evonas
from tests.evonas.browser import DRAWN, asked_elsewhere, click_on_first, needs_chromium, opened, violations
from tests.evonas.report.test_survey import OLD

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
NAMED = "<img src=x onerror=document.title='taken'>.db"  # of a file, which has no slash

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of which has a hostile file name, version, host and machine. A hostile name of the run itself is
    refused when it is opened."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("one.db", NAMED):
        shutil.copy(OLD, folder / name)
        evonas.open_run(folder / name)  # upgrades it
    with closing(sqlite3.connect(folder / NAMED)) as database:
        database.execute("UPDATE run SET versions = json_set(versions, '$.evonas', ?)", (HOSTILE,))
        database.execute("UPDATE evaluation SET host = ?, conditions = ?", (HOSTILE, HOSTILE))
        database.commit()
    return evonas.write_report([folder / "one.db", folder / NAMED], folder / "report.html")


@pytest.fixture(scope="module")
def page(browser: Any, report: Path) -> Iterator[Any]:
    shown = opened(browser, report.as_uri(), offline=True)
    yield shown
    shown.context.close()


def test_it_asks_for_nothing_but_itself_and_reports_no_error(page: Any, report: Path) -> None:
    assert page.heard.count(report.as_uri()) == 1
    assert asked_elsewhere(page, report.as_uri()) == []


def test_axe_finds_nothing_to_mend(page: Any) -> None:
    assert violations(page) == []


def test_a_hostile_name_is_text(page: Any) -> None:
    assert NAMED in page.inner_text("#summary")
    page.select_option("#filter-run", "1")
    assert page.inner_text("#setting").count(HOSTILE) == 3
    page.select_option("#filter-run", "0")
    assert page.title().endswith("- evonas")
    assert page.locator("img[src=x]").count() == 0


def test_the_front_without_filters_is_that_of_the_run(page: Any, report: Path) -> None:
    front = {each.birth for each in evonas.open_run(report.parent / "one.db").front()}
    drawn = page.evaluate(
        "document.getElementById('plot-front-0').data.find((each) => each.name === 'front').customdata"
    )
    assert {birth for _, birth in drawn} == front


def test_a_click_on_the_front_opens_its_layer_and_escape_closes_it(page: Any) -> None:
    birth = click_on_first(page, "plot-front-0", "front")
    assert page.inner_text("#layer-title").startswith(f"Birth {birth}")
    assert page.locator("dialog math").count() == 1
    assert page.locator("dialog img").evaluate("(each) => each.decode().then(() => each.naturalWidth)") > 100
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")


def test_a_filter_holds_in_every_plot_and_its_reset_shows_all_again(page: Any) -> None:
    before = page.evaluate(DRAWN)
    page.select_option("#filter-operator", "random")
    chosen, _, total = page.inner_text("#count").split()[:3]
    assert 0 < int(chosen) < int(total)
    after = page.evaluate(DRAWN)
    assert set(before) == set(after)
    assert [name for name in before if before[name] == after[name]] == []
    page.click("#filters button[type=reset]")
    page.wait_for_function("(all) => document.getElementById('count').textContent.startsWith(all)", arg=f"{total} of")
    assert page.evaluate(DRAWN) == before
