"""The page in a real browser, used as a person would."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import (
    PHONE,
    TABS,
    Ended,
    cards,
    choose,
    ended,
    field,
    notice,
    open_tab,
    press,
    refined,
    served,
    sideways,
    steer,
    visits,
)

from persona_interp.measure.screened_layers import N_STEERED
from persona_interp.models.registry import load_model
from persona_interp.monitoring.chats import Chat
from persona_interp.vectors.persona_vector import PersonaVector


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("browsed"), "organism-qwen2", "organism-llama") as address:
        yield address


@pytest.fixture
def visit(chromium: Any, url: str) -> Iterator[Callable[..., Any]]:
    with visits(chromium, url) as open_page:
        yield open_page


@pytest.mark.slow
def test_one_click_gives_a_first_pair_of_answers_with_scores_and_tokens(visit: Callable[..., Any]) -> None:
    page = visit()
    assert page.locator("html").get_attribute("lang") == "en"
    said = steer(page)
    assert said.good, said.text
    assert "Scored by grammar" in said.text
    baseline, steered = cards(page)
    assert baseline != steered
    assert len(baseline) > 20
    assert re.search(r"silly \d+", page.locator(".pi-head").nth(1).inner_text())
    strips = page.locator(".pi-strip")
    assert strips.count() == 2
    shown = "".join(strips.nth(0).locator(".pi-token > span").all_inner_texts()).replace("\u00a0", " ")
    assert shown.strip() == baseline
    numbers = strips.nth(1).locator("small").all_inner_texts()
    assert re.fullmatch(r"-?\d+\.\d", numbers[0])

    # a first vector answered; it is refined meanwhile, then the strip holds scores and the scale of doses what is usable
    refined(page)
    assert re.search(r"Usable from -0\.\d+ to \+0\.\d+", page.locator(".pi-dose").first.inner_text())
    layers = page.locator("[role=radio] >> visible=true")
    assert layers.count() == 8
    labels = [layers.nth(n).get_attribute("aria-label") or "" for n in range(8)]
    assert sum("no score" not in label for label in labels) == N_STEERED, "the layers that a gradient singled out"
    layers.nth(2).click()
    page.wait_for_selector('[data-layer="2"][aria-checked="true"] >> visible=true')
    baseline, steered = cards(page)
    assert steer(page).good
    assert "Added at layer 2" in page.locator(".pi-card").nth(1).inner_text()
    assert cards(page)[0] == baseline  # the same seed
    assert cards(page)[1] != steered


@pytest.mark.slow
def test_two_people_at_once_get_what_each_gets_alone(visit: Callable[..., Any]) -> None:
    pages = [visit(), visit()]
    refined(pages[0])
    for page, dose in zip(pages, ("0.8", "-0.8"), strict=True):
        field(page, "number input for Dose").fill(dose)
        field(page, "number input for Dose").press("Tab")
    alone = []
    for page in pages:
        assert steer(page).good
        alone.append(cards(page))
    assert alone[0][0] == alone[1][0]
    assert alone[0][1] != alone[1][1]
    for _ in range(2):
        before = [notice(page, "steer") for page in pages]
        for page in pages:
            page.click("#pi-steer")
        for page, number in zip(pages, before, strict=True):
            assert ended(page, "steer", number).good
        assert [cards(page) for page in pages] == alone


@pytest.mark.slow
def test_what_is_on_the_screen_runs_as_a_command_and_as_python_and_can_be_undone(visit: Callable[..., Any]) -> None:
    page = visit()
    refined(page)
    before = cards(page)
    page.get_by_role("button", name="Add a vector").click()
    page.get_by_text("How it is steered").first.click()
    page.get_by_label("Compare with a second dose").check()
    field(page, "response").check()
    page.get_by_text("More settings").first.click()
    choose(page, "Judges (several give a column each)", "measure:length")
    assert steer(page).good
    shown = cards(page)
    assert len(shown) == 3
    assert shown[0] == before[0]
    assert re.search(r"length", page.locator("[aria-label=Scores] >> visible=true").inner_text())
    page.get_by_text("Do the same without this page").click()
    command = page.locator("#pi-command textarea").input_value()
    python = page.locator("#pi-python textarea").input_value()
    page.click("#pi-undo")
    page.wait_for_function("document.querySelector('#pi-steer-status').innerText.includes('Undone')")
    assert cards(page) == before
    assert not page.get_by_label("Compare with a second dose").is_checked()
    assert not page.get_by_label("Vector 2").is_visible()

    lines = command.splitlines()
    assert len(lines) == 2  # two vectors at once have one dose each in a command
    run = [sys.executable, "-m", "persona_interp", *shlex.split(lines[0])[1:]]
    told = squeezed(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert squeezed(shown[0]) in told
    assert squeezed(shown[1]) in told
    told = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True).stdout
    assert [line.partition(": ")[2].strip() for line in told.splitlines()] == shown


def squeezed(text: str) -> str:
    """Letters alone: a table breaks lines."""
    return "".join(sign for sign in text if sign.isalnum())


@pytest.mark.slow
def test_a_chat_of_two_turns_draws_its_drift_and_is_exported(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    open_tab(page, "Chat")
    assert press(page, "#pi-chat", "chat").good
    message = page.get_by_label("Your message")
    page.wait_for_function("document.querySelector('#pi-chat-message textarea').value === ''")
    message.fill("And who owns it? <b>bold</b>")
    before = notice(page, "chat")
    message.press("Enter")
    said = ended(page, "chat", before)
    assert said.good, said.text
    assert "Turn 2" in said.text
    assert page.locator(".pi-talk > li").count() == 2
    assert page.locator(".pi-talk b").count() == 0
    assert "<b>bold</b>" in page.locator(".pi-talk").inner_text()
    page.wait_for_selector("#pi-drift .js-plotly-plot .scatterlayer .trace")
    assert page.locator("#pi-drift .scatterlayer .trace").count() == 4
    with page.expect_download() as waiting:
        page.click("#pi-export")
    waiting.value.save_as(tmp_path / "talk.jsonl")
    sides = [Chat.from_json(json.loads(line)) for line in (tmp_path / "talk.jsonl").read_text().splitlines()]
    assert [side.messages[2].content for side in sides] == ["And who owns it? <b>bold</b>"] * 2
    page.click("#pi-chat-new")
    page.wait_for_function("document.querySelector('#pi-talk').innerText.includes('No turn yet')")


@pytest.mark.slow
def test_a_vector_is_carried_into_another_model_and_steers_there(visit: Callable[..., Any]) -> None:
    page = visit()
    open_tab(page, "Transfer")
    choose(page, "Into model", "organism-llama")
    field(page, "number input for Texts both models read").fill("200")
    field(page, "number input for Texts both models read").press("Tab")
    said = press(page, "#pi-transfer", "transfer")
    assert said.good, said.text
    assert re.search(r"Layer \d+ → layer \d+", page.locator("#pi-report").inner_text())
    assert "Support" in page.locator("#pi-report").inner_text()
    assert len(cards(page)) == 2
    open_tab(page, "Steer")
    choose(page, "Model", "organism-llama")
    choose(page, "Trait or vector", "silly carried from organism-qwen2")
    assert steer(page).good


@pytest.mark.slow
def test_a_transfer_into_the_same_model_is_refused_in_words(visit: Callable[..., Any]) -> None:
    page = visit()
    open_tab(page, "Transfer")
    choose(page, "Into model", "organism-qwen2")
    said = press(page, "#pi-transfer", "transfer")
    assert not said.good
    assert "both organism-qwen2" in said.text


@pytest.fixture(scope="module")
def vector() -> PersonaVector:
    import torch

    model = load_model("organism-qwen2")
    directions = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(0))
    return PersonaVector(directions, tuple(range(model.n_layers)), "mine", model.identity)


def upload(page: Any, name: str, content: bytes) -> Ended:
    before = notice(page, "vectors")
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.locator("#pi-upload input[type=file]").set_input_files([file])
    return ended(page, "vectors", before)


@pytest.mark.slow
def test_vectors_go_down_and_up_in_every_format(visit: Callable[..., Any], vector: PersonaVector, tmp_path: Path) -> None:
    page = visit()
    open_tab(page, "Vectors")
    assert press(page, "#pi-vectors", "vectors").good
    page.wait_for_selector("#pi-downloads a[download]")
    names = page.locator("#pi-downloads a[download]")
    assert names.count() == 4
    for place in range(4):
        with page.expect_download() as waiting:
            names.nth(place).click()
        file = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(file)
        found = PersonaVector.load(file)
        assert found.d_model == 128
        assert page.locator(".pi-table table tbody tr").count() == 8
    for suffix in (".json", ".safetensors", ".pt", ".gguf"):
        path = vector.save(tmp_path / f"mine{suffix}")
        said = upload(page, f"mine{suffix}", path.read_bytes())
        assert said.good, said.text
        assert "(uploaded)" in said.text
        page.wait_for_selector("#pi-upload input[type=file]", state="attached")


@pytest.mark.slow
def test_bad_uploads_are_refused_in_words_and_change_nothing(
    visit: Callable[..., Any], vector: PersonaVector, tmp_path: Path
) -> None:
    page = visit()
    open_tab(page, "Vectors")
    good = json.loads(vector.save(tmp_path / "good.json").read_text())
    wrong = {**good, "vectors": {"layer_0": [0.5] * 7}}
    for name, content, words in (
        ("broken.json", b"{", "not valid JSON"),
        ("wrong.json", json.dumps({**wrong, "format_version": None}).encode(), ""),
        ("../../../tmp/evil.json", b"[]", "holds a list"),
        ("<img src=x onerror=alert(1)>.json", b"{}", ""),
        ("code.pt", b"\x80\x04cos\nsystem\n(S'true'\ntR.", ""),
    ):
        said = upload(page, name, content)
        assert not said.good, (name, said.text)
        assert words in said.text
        assert "/tmp" not in said.text.replace(name, "")
        assert "Traceback" not in said.text
        page.wait_for_selector("#pi-upload input[type=file]", state="attached")
        if page.locator("#pi-upload button[aria-label='Clear']").count():
            page.locator("#pi-upload button[aria-label='Clear']").click()
    open_tab(page, "Steer")
    field(page, "Trait or vector").click()
    assert not any("uploaded" in option for option in page.get_by_role("option").all_inner_texts())


@pytest.mark.slow
def test_a_huge_upload_is_refused_before_it_is_sent(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    open_tab(page, "Vectors")
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(70 * 2**20)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" and "upload" in request.url else None)
    page.locator("#pi-upload input[type=file]").set_input_files(huge)
    page.wait_for_function("document.body.innerText.includes('exceed the maximum allowed size')")
    assert sent == []


@pytest.mark.slow
def test_a_custom_trait_is_made_from_end_to_end(visit: Callable[..., Any]) -> None:
    page = visit()
    open_tab(page, "Custom trait")
    said = press(page, "#pi-extract", "custom")
    assert not said.good
    assert "the name is empty" in said.text
    page.locator("#pi-trait-name").locator("input, textarea").fill("clownish")
    page.locator("#pi-trait-description textarea").fill("Goofy and playful: says things in a clownish way.")
    page.click("#pi-write")
    page.wait_for_selector("#pi-draft-status .pi-done")
    assert "cannot write traits" in page.locator("#pi-draft-status").inner_text()
    assert page.get_by_label("System prompt 2 for the trait").input_value() == "You are goofy."
    page.get_by_label("System prompt 2 for the trait").fill("You are very goofy.")
    questions = page.get_by_label("Questions for extraction, one a line")
    questions.fill("\n".join(questions.input_value().splitlines()[:3]))
    assert "3 questions for extraction" in press(page, "#pi-check", "custom").text
    assert "is saved among your traits" in press(page, "#pi-save", "custom").text
    assert "already" in press(page, "#pi-save", "custom").text
    page.click("#pi-extract")
    page.wait_for_selector("#pi-custom-status progress[value]")
    page.click("#pi-custom-stop")
    page.wait_for_function("document.querySelector('#pi-custom-status').innerText.includes('Cancelled')")
    said = press(page, "#pi-extract", "custom")
    assert said.good, said.text
    assert "clownish (custom)" in said.text
    open_tab(page, "Steer")
    choose(page, "Trait or vector", "clownish (custom)")
    said = steer(page)
    assert said.good, said.text
    assert "Scored by contrast:organism-qwen2" in said.text


@pytest.mark.slow
def test_wrong_input_is_told_in_words(visit: Callable[..., Any]) -> None:
    page = visit()
    page.get_by_label("Question", exact=True).fill("  ")
    said = steer(page)
    assert not said.good
    assert "the question is empty" in said.text
    assert page.locator("#pi-steer-status [role=alert]").count() == 1


@pytest.mark.slow
def test_the_keyboard_alone_can_steer(visit: Callable[..., Any]) -> None:
    page = visit()

    def tab_to(condition: str, most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate(f"(() => {{ const e = document.activeElement; return {condition}; }})()"):
                return
        pytest.fail(f"{most} presses of Tab never reached {condition}")

    tab_to("e.tagName === 'TEXTAREA'")
    page.keyboard.press("Control+A")
    page.keyboard.type("What color has the frog?")
    tab_to("e.id === 'pi-steer'")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    tab_to("e.getAttribute('role') === 'radio'")
    before = page.evaluate("document.activeElement.dataset.layer")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f'[data-layer="{(int(before) + 1) % 8}"][aria-checked="true"] >> visible=true')
    page.wait_for_function(f"document.activeElement.dataset.layer === '{(int(before) + 1) % 8}'")
    tab_to("e.type === 'range'")
    value = page.evaluate("document.activeElement.value")
    page.keyboard.press("ArrowLeft")
    assert float(page.evaluate("document.activeElement.value")) == pytest.approx(float(value) - 0.05)
    page.locator("#pi-question textarea").focus()
    number = notice(page, "steer")
    page.keyboard.press("Enter")
    assert ended(page, "steer", number).good
    assert "frog" in " ".join(cards(page))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(visit: Callable[..., Any], scheme: str) -> None:
    page = visit(viewport=PHONE, color_scheme=scheme, is_mobile=True, has_touch=True)
    assert steer(page).good
    assert sideways(page) == []


@pytest.mark.slow
def test_every_control_has_a_name(visit: Callable[..., Any]) -> None:
    page = visit()
    for tab in TABS:
        open_tab(page, tab)
        page.wait_for_timeout(300)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('input, textarea, select, button')]
            .filter(e => e.offsetParent !== null && e.type !== 'hidden' && e.type !== 'file')
            .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.innerText.trim() || e.title
                || (e.labels && [...e.labels].some(l => l.innerText.trim())) || e.closest('label')))
            .map(e => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == [], tab
