"""Back and Forward: one press for each step of the reader, and never the same screen again."""

from __future__ import annotations

from chromium import settled


def test_back_and_forward_go_from_screen_to_screen(page, runs):
    page.open("results", run=runs[0].id, tab="Weights")
    page.follow("Download its files")
    page.follow("Compare")

    press(page, page.driver.back, "Downloads", run=runs[0].id)
    press(page, page.driver.back, "Results", run=runs[0].id, tab="Weights")
    page.until(lambda: open_tab(page) == "Weights", "the tab")
    press(page, page.driver.forward, "Downloads", run=runs[0].id)
    page.shows("Everything in one ZIP archive")


def test_back_leads_to_the_tab_before_and_its_search(page, runs):
    page.open("results", run=runs[0].id)
    page.tab("Targets")
    page.fill("q", "people")
    page.choose("sort", "name")
    page.until(lambda: {"q", "sort"} <= set(page.query), "an address with both")
    page.tab("Weights")

    press(page, page.driver.back, "Results", tab="Targets", q="people", sort="name")
    page.shows("2 targets of 3.")
    page.until(lambda: page.value("q") == "people", "the search")
    # Neither search nor order is a step of its own.
    press(page, page.driver.back, "Results", run=runs[0].id)
    page.until(lambda: open_tab(page) == "Summary", "the tab")


def test_a_tab_of_one_screen_is_not_opened_on_another(page, runs):
    page.open("results", run=runs[0].id, tab="Targets")
    page.follow("Compare")

    page.until(lambda: open_tab(page) == "Side by side", "the first tab")
    assert "tab" not in page.query


def test_back_from_a_run_that_was_started_leads_to_its_form(page, jobs, dataset, make):
    page.open("data", dataset=dataset.id)
    page.follow("Settings")
    known = {run.id for run in jobs.runs()}
    page.find("start_calibration", "button").click()
    page.until(lambda: page.title == "Run", "the run")
    (run,) = (run for run in jobs.runs() if run.id not in known)
    make.finished(run)
    page.shows("See what it found")
    assert page.query["run"] == run.id

    press(page, page.driver.back, "Settings", dataset=dataset.id)
    assert page.query.get("run") != run.id
    press(page, page.driver.back, "Data", dataset=dataset.id)
    press(page, page.driver.forward, "Settings", dataset=dataset.id)


def press(page, step, title, **asked):
    """Go one step through the history, to a screen and what it was asked for."""
    address = page.driver.current_url
    step()
    page.until(lambda: page.driver.current_url != address, "another address")
    page.until(lambda: page.title == title, title)
    settled(page.driver)
    page.until(lambda: asked.items() <= page.query.items(), f"an address with {asked}")


def open_tab(page) -> str:
    """Title of the tab that is open."""
    return str(page.find("tab", "[aria-selected=true]").text)
