"""The judges that come with the package. Each is loaded when one is made, so that listing them is cheap."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.judges.kinds import register_judge, without_argument
from persona_interp.storage import home
from persona_interp.traits.judging import Judge


def _made(place: str) -> Callable[[Any], Judge]:
    """What makes a judge of a model, told by its module and name."""

    def make(model: Any) -> Judge:
        module, name = place.split(":")
        return getattr(import_module(f"persona_interp.judges.{module}"), name)(model)

    return make


def _of_model(make: Callable[[Any], Judge]) -> Callable[..., Judge]:
    """A judge made of the model that answered, or of the one named, which goes when the judge goes."""

    def factory(model: Any, name: str) -> Judge:
        if not name:
            return make(model)
        from persona_interp.models.registry import load_model

        own = load_model(name)
        try:
            judge = make(own)
        except BaseException:
            own.close()
            raise
        weakref.finalize(judge, own.close)  # at the latest when the program ends; nobody else has this model
        return judge

    return factory


def _endpoint(_model: Any, name: str) -> Judge:
    """Kept on disk at once: these scores cost money or time on somebody's server."""
    from persona_interp.judges.cached import CachedJudge
    from persona_interp.judges.endpoint import EndpointJudge

    if not name:
        raise InvalidInputError("judge 'endpoint' needs the name of a model: write endpoint:MODEL, and set OPENAI_BASE_URL")
    file = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name).lstrip(".") or "unnamed"
    return CachedJudge(EndpointJudge(name), home() / "judgements" / f"{file[:100]}.jsonl")


def _measure(model: Any, names: str) -> Judge:
    from persona_interp.judges.measured import MeasureJudge

    return MeasureJudge(model, [name.strip() for name in names.split("+")] if names else [])


_AUTO = "the exact one on the model organisms, else the model itself where it can tell examples apart"
_CONTRAST = "how much likelier an answer is under the trait's instructions"
register_judge("auto", without_argument("auto", _made("registry:default_judge")), guard=False, help=_AUTO)
register_judge("local", _of_model(_made("logprob:LogprobJudge")), form="local[:MODEL]", help="a model of yours, by the rubric")
register_judge("logprob", _of_model(_made("logprob:LogprobJudge")))
register_judge("endpoint", _endpoint, form="endpoint:MODEL", help="a model behind a server")
register_judge(
    "contrast", _of_model(_made("likelihood_contrast:LikelihoodContrastJudge")), guard=False, form="contrast[:MODEL]",
    help=_CONTRAST,
)  # fmt: skip
register_judge("perplexity", without_argument("perplexity", _made("coherence:PerplexityCoherence")), help="coherence alone")
register_judge(
    "measure", _measure, form="measure[:NAME]",
    help="what can be counted without a language model, such as valence or length; without a name what speaks for the trait",
)  # fmt: skip
