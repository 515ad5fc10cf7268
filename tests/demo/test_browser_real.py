"""The page with a real model, SmolLM2, in a real browser: from nothing to a steered answer, and on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsing import LATER, PHONE, cards, field, notice, served, sideways, visits

from persona_interp.models.packaged import PACKAGED, local_file

SMOLLM2 = "smollm2-135m-instruct"
SLOW = 900_000
"""Milliseconds that a real model may take on a machine with five other things to do."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if local_file(PACKAGED[SMOLLM2]) is None:
        pytest.skip(f"runs once the weights are here: persona-interp models fetch {SMOLLM2}")
    with served(tmp_path_factory.mktemp("real"), SMOLLM2, "organism-qwen2") as address:
        yield address


@pytest.fixture
def visit(chromium: Any, url: str) -> Iterator[Callable[..., Any]]:
    with visits(chromium, url) as open_page:
        yield open_page


def settings(page: Any, length: str) -> None:
    page.get_by_text("More settings").first.click()
    field(page, "number input for Longest answer, in tokens").fill(length)
    field(page, "number input for Longest answer, in tokens").press("Tab")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.real
def test_smollm2_answers_steered_soon_is_refined_meanwhile_and_a_long_answer_is_cancelled(visit: Callable[..., Any]) -> None:
    page = visit()
    assert page.locator("[data-layer] >> visible=true").count() == 30
    settings(page, "24")
    page.click("#pi-steer")
    page.wait_for_function("document.querySelectorAll('.pi-strip .pi-token').length > 8", timeout=SLOW)
    page.wait_for_selector("#pi-steer-status .pi-done", timeout=SLOW)
    assert cards(page)[0] != cards(page)[1]
    page.wait_for_selector("#pi-steer-refining .pi-working", timeout=LATER)
    page.wait_for_function("/left/.test(document.querySelector('#pi-steer-refining').innerText)", timeout=SLOW)

    # while it is refined, an answer long enough for the slowest browser is stopped
    field(page, "number input for Longest answer, in tokens").fill("512")
    field(page, "number input for Longest answer, in tokens").press("Tab")
    field(page, "number input for Temperature (0: always the likeliest token)").fill("5")  # never ends by itself
    field(page, "number input for Temperature (0: always the likeliest token)").press("Tab")
    before = notice(page, "steer")
    page.click("#pi-steer")
    page.wait_for_function(f"Number(document.querySelector('#pi-steer-status [data-notice]').dataset.notice) > {before}")
    page.wait_for_function(
        "document.querySelector('.pi-cards').innerText.includes('writing')"
        " && document.querySelectorAll('.pi-strip .pi-token').length > 8",
        timeout=SLOW,
    )
    page.click("#pi-steer-stop")
    page.wait_for_function("document.querySelector('#pi-steer-status').innerText.includes('Stopped')", timeout=LATER)
    length = page.locator(".pi-strip .pi-token").count()
    assert length < 1024
    page.wait_for_function("!document.querySelector('.pi-cards').innerText.includes('writing')")
    page.wait_for_timeout(1500)
    assert page.locator(".pi-strip .pi-token").count() == length
    page.click("#pi-steer-stop")  # nothing is answered now: this ends the refining
    page.wait_for_function("document.querySelector('#pi-steer-refining').innerText.includes('stopped')", timeout=SLOW)

    phone = visit(viewport=PHONE, is_mobile=True, has_touch=True)
    assert sideways(phone) == []
