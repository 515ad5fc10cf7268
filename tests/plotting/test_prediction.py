"""The scatter of predicted against actual expression draws every scored prompt once, in its condition's colour."""

from __future__ import annotations

from persona_interp.models.identity import ModelIdentity
from persona_interp.monitoring.prediction import Prediction, PromptOutcome
from persona_interp.plotting.palette import colour_and_symbol
from persona_interp.plotting.prediction import prediction_figure


def test_every_scored_prompt_is_a_point_of_its_condition() -> None:
    prompts = (
        PromptOutcome("against", "<i>?", 1.0, (10.0, 20.0), (90.0, 90.0), None),
        PromptOutcome("for", "B?", 2.0, (80.0, None), (90.0, None), 3.0),
        PromptOutcome("for", "C?", 3.0, (None, None), (None, None), 3.0),
        PromptOutcome("for", "D?", 4.0, (90.0, 90.0), (90.0, 90.0), 3.0),
    )
    found = Prediction("silly", "clown", ModelIdentity("tiny", None, "f", 4, 8), "grammar", 2, prompts)
    figure = prediction_figure(found)
    against, favour = figure.data
    assert (list(against.x), list(against.y)) == ([1.0], [15.0])
    assert (list(favour.x), list(favour.y)) == ([2.0, 4.0], [80.0, 90.0])
    assert against.customdata[0] == "&lt;i&gt;?"
    assert len({colour_and_symbol(number) for number in range(49)}) == 49
    assert against.marker.symbol != favour.marker.symbol
    assert "clown" in figure.layout.xaxis.title.text
    assert f"{found.across} across" in figure.layout.title.text
