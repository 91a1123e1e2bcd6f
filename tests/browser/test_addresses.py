"""Every address answers: the start under its own name, and what does not exist with a way on."""

from __future__ import annotations

from chromium import settled


def test_the_start_answers_under_its_own_name(page):
    page.driver.get(f"{page.served.url}/start")
    page.until(lambda: page.title == "Start", "the start")
    settled(page.driver)

    assert "not found" not in page.driver.page_source.lower()


def test_an_address_without_a_screen_says_so_and_leads_on(page):
    page.driver.get(f"{page.served.url}/nowhere?run=1")
    page.until(lambda: page.title == "Nothing here", "a word about it")
    settled(page.driver)

    assert page.driver.find_elements("css selector", "[role=dialog]") == []
    page.follow("Go to the start")
    assert page.title == "Start"
    page.driver.back()
    page.until(lambda: page.title == "Nothing here", "the same again")
