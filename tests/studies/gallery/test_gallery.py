"""Every figure of the gallery lies in the repository as image, page and data, and its page is what the data draw."""

from __future__ import annotations

import html
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persona_interp.cli import build_parser
from persona_interp.errors import FileFormatError, UnknownNameError
from persona_interp.measure.evaluation import COHERENT, Evaluation
from persona_interp.measure.layer_scan import LayerScan
from persona_interp.plotting.html import SCRIPT
from persona_interp.storage import read_json
from persona_interp.studies.attribution import AttributionCase
from persona_interp.studies.gallery import FIGURES, GalleryFigure, figure_named
from persona_interp.studies.transfers import TransferCase, support

FOLDER = Path(__file__).parents[3] / "figures"
DOCUMENTS = [FOLDER.parent / "README.md", *sorted((FOLDER.parent / "docs").rglob("*.md"))]
PAGES = [page.read_text(encoding="utf-8") for page in DOCUMENTS]
LIMIT = 5 * 1024 * 1024

each_figure = pytest.mark.parametrize("figure", FIGURES, ids=[each.name for each in FIGURES])


def page_of(figure: GalleryFigure) -> str:
    return (FOLDER / f"{figure.name}.html").read_text(encoding="utf-8")


def drawn_in(page: str) -> dict[str, Any]:
    """Data and layout that a page hands to plotly."""
    start = page.index("[", page.index('"figure-0",', page.index("Plotly.newPlot(")))
    decoder = json.JSONDecoder()
    data, end = decoder.raw_decode(page, start)
    layout, _ = decoder.raw_decode(page, page.index("{", end))
    return {"data": data, "layout": layout}


def differences(left: Any, right: Any, place: str = "") -> Iterator[str]:
    """Where two JSON values differ by more than rounding."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():
            if key != "template":  # plotly's own, which differs between its versions
                yield from differences(left.get(key), right.get(key), f"{place}.{key}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from differences(one, other, f"{place}[{number}]")
    elif isinstance(left, int | float) and isinstance(right, int | float):
        if not math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9):
            yield f"{place}: {left} is not {right}"
    elif left != right:
        yield f"{place}: {left!r} is not {right!r}"


def test_no_two_figures_share_a_name_and_the_index_is_none() -> None:
    assert Counter(each.name for each in FIGURES).most_common(1)[0][1] == 1
    assert "index" not in {each.name for each in FIGURES}


def test_an_unknown_figure_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="doses"):
        figure_named("dosis")


@each_figure
def test_image_page_and_data_are_there_and_no_file_is_too_large(figure: GalleryFigure) -> None:
    image, files = FOLDER / f"{figure.name}.png", figure.files(FOLDER)
    assert image.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert image.stat().st_size < 200_000
    assert all(0 < path.stat().st_size < LIMIT for path in (image, FOLDER / f"{figure.name}.html", *files))
    assert 0 < (FOLDER / SCRIPT).stat().st_size < LIMIT


@each_figure
def test_a_page_loads_the_shared_script_and_nothing_from_a_network(figure: GalleryFigure) -> None:
    page = page_of(figure)
    assert re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=[\"']([^\"']*)", page) == [SCRIPT]
    assert re.findall(r"https?://", page) == []


@each_figure
def test_a_page_is_what_the_data_beside_it_draw(figure: GalleryFigure) -> None:
    drawn = json.loads(str(figure.draw(FOLDER).to_json()))
    assert list(differences(drawn_in(page_of(figure)), drawn)) == []


@each_figure
def test_a_page_has_its_caption_its_commands_and_links_that_lead_somewhere(figure: GalleryFigure) -> None:
    page = page_of(figure)
    for paragraph in figure.caption.split("\n\n"):
        assert html.escape(paragraph) in page
    for step in figure.steps:
        assert html.escape(step.command) in page
    for link in re.findall(r'<a href="([^"]*)"', page):
        assert (FOLDER / link).exists()


@each_figure
def test_the_commands_of_a_figure_exist_and_take_measured_time(figure: GalleryFigure) -> None:
    assert figure.steps
    for step in figure.steps:
        program, *words = shlex.split(step.command)
        assert program == "persona-interp"
        assert callable(build_parser().parse_args(words).run)
        assert step.minutes > 0


@each_figure
def test_data_say_nothing_of_the_machine_they_were_made_on(figure: GalleryFigure) -> None:
    for path in figure.files(FOLDER):
        assert re.findall(r'"(?:/|[A-Z]:\\\\)[^"]*', path.read_text(encoding="utf-8")) == []


def test_the_index_lists_every_figure() -> None:
    index = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<h2><a href="([^"]*)\.html"', index) == [each.name for each in FIGURES]
    assert re.findall(r'<img src="([^"]*)\.png"', index) == [each.name for each in FIGURES]


def test_images_in_the_documentation_are_figures_with_links_to_page_and_data() -> None:
    shown = [(name, text) for text in PAGES for name in re.findall(r"!\[[^\]]+\]\((?:\.\./)*figures/([a-z-]+)\.png\)", text)]
    assert len({name for name, _ in shown}) >= 6
    assert len(re.findall(r"!\[", PAGES[0])) == 1, "one figure on the front page"
    for name, text in shown:
        figure = figure_named(name)
        assert f"figures/{name}.html)" in text
        few = len(figure.data) <= 2 and "*" not in figure.data[0]
        data = figure.data[0] if few else figure.data[0].rpartition("/")[0]
        assert f"figures/{data})" in text


def test_data_that_are_missing_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"doses/silly\.json.*--only doses"):
        figure_named("doses").files(tmp_path)


def test_what_captions_say_of_numbers_is_in_the_data() -> None:
    benches = [read_json(path, "layer bench") for path in figure_named("layer-choices").files(FOLDER)]
    most = max(each["token_share"] for bench in benches for each in bench["choices"] if each["method"] == "likelihood")
    assert f"at most {most:.1%}".replace("%", " %") in " ".join(figure_named("layer-choices").caption.split())
    drawn = json.loads(str(figure_named("separation").draw(FOLDER).to_json()))
    areas = {each["text"] for each in drawn["layout"]["annotations"]} - {"AUROC"}
    assert areas == {"1.00"}
    scan = LayerScan.from_json(read_json(FOLDER / "scans" / "silly.json", "layer scan"))
    reached = {
        layer: next(p.trait or 0.0 for p in points if p.coefficient > 0 and round(p.perturbation_ratio or 0.0, 3) == 0.4)
        for layer, points in scan.by_layer.items()
    }
    said = f"silly reaches {reached[4]:.0f} at layer 4 and {reached[7]:.0f} at layer 7"
    assert said in " ".join(figure_named("separation").caption.split())
    assert "no massive dimension" in str(figure_named("norms").draw(FOLDER).layout.title.text)


def test_what_the_caption_of_support_says_is_in_its_data() -> None:
    caption = " ".join(figure_named("support").caption.split())
    cases = [TransferCase.from_json(read_json(path, "transfer case")) for path in figure_named("support").files(FOLDER)]
    known = {
        trait: [
            support(case, "effects", left_out=False) or 0.0
            for case in cases
            if case.trait == trait and case.recoveries["effects"].value
        ]
        for trait in ("verbose", "polite")
    }
    assert f"supports of {min(known['verbose']):.2f} to {max(known['verbose']):.2f}" in caption
    assert f"supports down to {min(known['polite']):.2f}" in caption


def test_what_the_caption_of_doses_says_of_random_directions_is_in_their_data() -> None:
    caption = " ".join(figure_named("doses").caption.split())
    found = Evaluation.from_json(read_json(FOLDER / "doses" / "honest.json", "evaluation"))
    assert f"takes honest down to {min(found.random_scores(-1.0)):.0f} at -1" in caption
    assert f"the vector takes it to {found.trait_score(found.at(-1.0)).value:.0f}" in caption
    assert sum(score < 50 for score in found.random_scores(-1.0)) == 1
    assert all((curve.at(-1.0) or found.controls.baseline).coherence >= COHERENT for curve in found.controls.random)


def test_what_the_caption_of_ablations_says_is_in_its_data() -> None:
    caption = " ".join(figure_named("ablations").caption.split())
    heads = [AttributionCase.from_json(case).heads for case in read_json(FOLDER / "attribution.json", "attributions")["cases"]]
    assert f"in {sum(check.holds for check in heads)} of {len(heads)} cases" in caption
    assert {len(check.random) for check in heads} == {8}
    assert "eight sets" in caption
