"""Pages open without a network: one file that holds everything, or a folder whose pages share one script."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import pytest

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.plotting.html import SCRIPT, save_html, save_html_folder
from persona_interp.plotting.projections import projection_figure
from persona_interp.vectors.pair_projections import PairProjections


def figure(title: str) -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2], y=[3, 4]), layout={"title": {"text": title}})


def sources(text: str) -> list[str]:
    """What scripts and styles a page loads from outside itself."""
    return re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=[\"']([^\"']*)", text)


def test_a_single_page_loads_nothing(tmp_path: Path) -> None:
    text = save_html(tmp_path / "page.html", [figure("one"), figure("two")], title="both").read_text(encoding="utf-8")
    assert sources(text) == []
    assert text.count('id="figure-0"') == text.count('id="figure-1"') == 1


def test_the_pages_of_a_folder_share_one_script(tmp_path: Path) -> None:
    pages = {"a": figure("first"), "b": [figure("second"), figure("third")]}
    index = save_html_folder(tmp_path / "figures", pages, title="x < y", note="measured on <tiny>")
    assert sorted(path.name for path in index.parent.iterdir()) == ["a.html", "b.html", "index.html", SCRIPT]
    assert (index.parent / SCRIPT).stat().st_size > 1e6
    for name, number in (("a", 1), ("b", 2)):
        text = (index.parent / f"{name}.html").read_text(encoding="utf-8")
        assert sources(text) == [SCRIPT]
        assert len(text) < 50_000
        assert len(re.findall(r'id="figure-\d"', text)) == number
    listed = index.read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]*)"', listed) == ["a.html", "b.html"]
    assert "x &lt; y" in listed
    assert "measured on &lt;tiny&gt;" in listed


def test_a_folder_written_again_replaces_its_pages_and_leaves_others(tmp_path: Path) -> None:
    save_html_folder(tmp_path, {"a": figure("old"), "b": figure("kept")}, title="t")
    save_html_folder(tmp_path, {"a": figure("new")}, title="t")
    assert "new" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "kept" in (tmp_path / "b.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("pages", [{}, {"index": figure("i")}, {"a/b": figure("x")}, {"ok": figure("x"), "": figure("y")}])
def test_names_that_cannot_be_pages_are_refused_before_anything_is_written(tmp_path: Path, pages: dict[str, go.Figure]) -> None:
    with pytest.raises(InvalidInputError):
        save_html_folder(tmp_path / "figures", pages, title="t")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PersonaInterpError, match="cannot write"):
        save_html_folder(tmp_path / "file", {"a": figure("x")}, title="t")


def test_both_kinds_of_page_draw_in_a_browser_without_a_network(tmp_path: Path, opened: Callable[[Path], str]) -> None:
    single = save_html(tmp_path / "single.html", figure("drawn alone"), title="t")
    folder = save_html_folder(tmp_path / "figures", {"a": figure("drawn from a folder")}, title="t").parent
    for path, title in ((single, "drawn alone"), (folder / "a.html", "drawn from a folder")):
        assert re.search(rf'<text class="gtitle"[^>]*>(?:<tspan[^>]*>)?{title}', opened(path)), path


def test_the_slider_of_the_histograms_moves_to_another_layer_in_a_browser(tmp_path: Path, opened: Callable[[Path], str]) -> None:
    found = PairProjections("silly", "tiny", "response_avg", (0, 7), ((1.0,), (2.0, 3.0)), ((0.0,), (-1.0, 0.0)), True)
    path = save_html(tmp_path / "page.html", projection_figure(found, layer=0), title="t")
    move = """<script>const shown = document.getElementById("figure-0");
    Plotly.update(shown, ...shown.layout.sliders[0].steps[1].args)</script></body>"""
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", move), encoding="utf-8")
    text = opened(path)
    assert re.search(r'<text class="gtitle"[^>]*>.*?layer 7', text)
    legend = re.findall(r'class="legendtext"[^>]*>([^<]*)', text)
    assert sorted(legend) == ["2 negative answers", "2 positive answers"]
