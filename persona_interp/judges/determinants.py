"""What the scores of a judge depend on, besides the question and the answer, as JSON values: the key of whatever is kept."""

from __future__ import annotations

from typing import Any

from persona_interp.traits.judging import Judge
from persona_interp.traits.trait import Trait


def determinants(judge: Judge, trait: Trait) -> Any:
    """A judge's own account, if it has a method of this name; else its name, its model's weights and the whole trait."""
    own = getattr(judge, "determinants", None)
    if callable(own):
        return own(trait)
    identity = getattr(getattr(judge, "model", None), "identity", None)
    return [judge.name, getattr(identity, "fingerprint", None), trait.to_json()]


def rubric_settings(trait: Trait, coherence_rubric: str | None, min_mass: float) -> dict[str, Any]:
    """What every judge that is given a rubric depends on."""
    return {"rubric": trait.rubric, "coherence_rubric": coherence_rubric, "min_mass": min_mass}
