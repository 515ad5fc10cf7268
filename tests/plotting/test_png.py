"""PNG comes from a browser on the machine: at the right size, several at once, and with words for what is missing."""

from __future__ import annotations

import stat
import struct
from pathlib import Path

import plotly.graph_objects as go
import pytest

from persona_interp.errors import InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.plotting.png import BROWSER, find_browser, save_png, save_png_folder


def figure(**layout: object) -> go.Figure:
    hostile = "</script><!--<script> %{x} é ★"
    return go.Figure(go.Bar(x=[hostile], y=[1.0], marker={"color": "#0072B2"}), layout={"title": {"text": hostile}, **layout})


def size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_a_figure_is_drawn_at_its_own_size(tmp_path: Path, browser: str) -> None:
    path = save_png(tmp_path / "new" / "bar.png", figure(width=400, height=300), scale=1.5)
    assert size(path) == (600, 450)
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


def test_many_are_drawn_by_one_browser_each_under_its_name(tmp_path: Path, browser: str) -> None:
    other = figure(height=200).update_traces(marker_color="#D55E00")
    drawn = {"a": figure(height=200), "b": figure(height=400), "c": other, "d": figure(height=200)}
    paths = save_png_folder(tmp_path, drawn, width=500, scale=1)
    assert [path.name for path in paths] == ["a.png", "b.png", "c.png", "d.png"]
    assert [size(path) for path in paths] == [(500, 200), (500, 400), (500, 200), (500, 200)]
    a, _, c, d = (path.read_bytes() for path in paths)
    assert a == d != c  # the bars themselves are drawn, not empty frames
    assert save_png_folder(tmp_path, {}) == ()


def test_without_a_browser_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(BROWSER, raising=False)
    monkeypatch.setattr("persona_interp.plotting.png._ELSEWHERE", ())
    with pytest.raises(UnsupportedError, match="apt-get install chromium"):
        save_png(tmp_path / "a.png", figure())
    monkeypatch.setenv(BROWSER, "no-such-browser")
    with pytest.raises(UnsupportedError, match="'no-such-browser', which is no program"):
        find_browser()
    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_draws_nothing_is_an_error_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho '<html></html>'\necho out of order >&2\n")
    broken.chmod(broken.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv(BROWSER, str(broken))
    with pytest.raises(PersonaInterpError, match="drew 0 of 1 figures.*out of order"):
        save_png(tmp_path / "a.png", figure())
    assert [each.name for each in tmp_path.iterdir()] == ["broken"]


def test_names_that_are_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="name a .png file"):
        save_png(tmp_path / "a.jpg", figure())
    with pytest.raises(InvalidInputError, match="cannot be a file name"):
        save_png_folder(tmp_path, {"a/b": figure()})
