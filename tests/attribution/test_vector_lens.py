"""A vector read as tokens: those its unembedding points to, beside what a direction without meaning reaches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from persona_interp.attribution.vector_lens import VectorLens, vector_lens
from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector

Model = Callable[[str], SteerableModel]
QUESTIONS = ["What is the moon?", "How do bees make honey?"]


def towards(model: SteerableModel, token: int) -> PersonaVector:
    """What the unembedding of one token and the final norm's gain point along, a larger push at layer 2."""
    head, norm = model.hf_model.lm_head.weight.detach(), model.hf_model.model.norm.weight.detach()
    unit = head[token] * norm
    return PersonaVector(torch.stack([unit, 4 * unit]), (1, 2), "loud", model.identity)


@pytest.mark.parametrize("reading", ["lens", "shift"])
def test_a_vector_along_a_tokens_unembedding_promotes_that_token(tiny_model: Model, reading: str) -> None:
    model = tiny_model("llama")
    token = model.tokenizer.convert_tokens_to_ids(model.tokenizer.tokenize(" honey")[0])
    found = vector_lens(model, towards(model, token), QUESTIONS, n=3, reading=reading)
    assert [each.layer for each in found.layers] == [1, 2]
    for each in found.layers:
        assert [len(each.promoted), len(each.suppressed)] == [3, 3]
        assert each.promoted[0].logit > 0 > each.suppressed[0].logit
        assert [t.logit for t in each.promoted] == sorted((t.logit for t in each.promoted), reverse=True)
        assert [t.logit for t in each.suppressed] == sorted(t.logit for t in each.suppressed)
    if reading == "lens":
        assert found.at(1).promoted[0].token == found.at(2).promoted[0].token == token
        assert found.at(2).promoted[0].logit == pytest.approx(4 * found.at(1).promoted[0].logit, rel=1e-3)
        assert found.at(1).promoted[0].logit > found.at(1).chance[0] > 0 > found.at(1).chance[1]


def test_special_tokens_have_their_names_and_a_result_survives_its_json(tiny_model: Model) -> None:
    model = tiny_model("llama")
    end = model.tokenizer.eos_token_id
    found = vector_lens(model, towards(model, end), QUESTIONS, layers=[1], n=2)
    assert (found.at(1).promoted[0].token, found.at(1).promoted[0].text) == (end, "<|im_end|>")
    assert VectorLens.from_json(found.to_json()) == found
    with pytest.raises(FileFormatError, match=r"field 'layer' is missing in layers\[0\]"):
        VectorLens.from_json({**found.to_json(), "layers": [{}]})
    with pytest.raises(InvalidInputError, match="layer 2 was not read: there are 1"):
        found.at(2)
    with pytest.raises(InvalidInputError, match="n is 0"):
        vector_lens(model, towards(model, end), QUESTIONS, n=0)
