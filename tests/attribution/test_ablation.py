"""Ablation: what is replaced is replaced, at the answer's positions alone, and neither the model nor a pad notices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from snapshot import snapshot

from persona_interp.attribution.ablation import AblatedModel, mean_writes
from persona_interp.attribution.ablation_check import ablation_check, component_sets
from persona_interp.attribution.attribute import attribute, rows_of
from persona_interp.attribution.attribution import Attribution, Contribution
from persona_interp.attribution.check import AblationArm, AblationCheck
from persona_interp.attribution.component import Component
from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.kept_pairs import KeptPairs

Model = Callable[[str], SteerableModel]
Pairs = Callable[[SteerableModel], KeptPairs]
Vector = Callable[[SteerableModel], PersonaVector]
ASKED = [Conversation.ask("Tell me about the moon and the river"), Conversation.ask("How?"), Conversation.ask("What is a city?")]
SAMPLED = Sampling(max_new_tokens=8)
TRAIT = Trait(
    name="loud",
    description="Shouts.",
    instructions=tuple(InstructionPair(f"Shout, way {n}.", f"Whisper, way {n}.") for n in range(5)),
    extraction_questions=("What is the moon?",),
    evaluation_questions=("What is a river?", "What is a city?", "How do bees make honey?"),
    rubric="{question} {answer}",
)


class LengthJudge:
    """Finds the trait in long texts."""

    name = "length"

    def judge(self, trait: Trait, exchanges: Any) -> list[Judgement]:
        return [Judgement(float(min(100, len(answer))), 90.0) for _, answer in exchanges]


def texts(model: SteerableModel, **options: Any) -> list[tuple[int, ...]]:
    return [answer.answer_ids for answer in model.generate(ASKED, sampling=SAMPLED, seed=5, **options)]


def value(width: int, seed: int = 0) -> torch.Tensor:
    return 5 * torch.randn(width, generator=torch.Generator().manual_seed(seed))


def test_with_nothing_ablated_the_bridge_answers_as_the_model_does(tiny_model: Model, architecture: str) -> None:
    """Sampled, prompts of different lengths in one batch: left pads and random streams are those of the other engine."""
    model = tiny_model(architecture)
    assert texts(AblatedModel(model, {})) == texts(model)


def test_an_ablated_model_answers_differently_and_alike_in_any_batch(tiny_model: Model, architecture: str) -> None:
    model = tiny_model(architecture)
    head = model.d_model // 4
    ablated = AblatedModel(model, {Component("head", 0, 1): value(head), Component("mlp", 1): value(model.d_model, 1)})
    together = texts(ablated)
    assert together == texts(ablated, batch_size=1)
    assert together != texts(model)


def test_the_values_written_are_those_given_from_the_last_prompt_token_on(tiny_model: Model) -> None:
    model = tiny_model("llama")
    bridge, wanted = model.bridge(), value(8)
    mlp = value(model.d_model, 1)
    ablated = AblatedModel(model, {Component("head", 1, 2): wanted, Component("mlp", 2): mlp}, bridge=bridge)
    seen: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    projection = bridge.blocks[1].attn.o.original_component.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    stream = bridge.blocks[2].hook_mlp_out.register_forward_hook(lambda _m, _a, out: outputs.append(out))
    texts(ablated)
    projection.remove()
    stream.remove()
    assert len(seen) > 1
    assert seen[0].shape[1] > 1
    for each in seen:
        heads = each.reshape(*each.shape[:2], 4, 8)
        torch.testing.assert_close(heads[:, -1, 2], wanted.expand(3, 8))
        assert not torch.allclose(heads[:, -1, 1], wanted.expand(3, 8))
    before = seen[0].reshape(3, -1, 4, 8)[:, :-1, 2]
    assert not bool((before == wanted).all(dim=-1).any()), "earlier tokens of the prompt keep what the head writes"


def test_means_are_over_answers_and_alike_in_any_batch(tiny_model: Model, pairs_of: Pairs) -> None:
    model = tiny_model("qwen2")
    bridge, rows = model.bridge(), rows_of(pairs_of(model))
    together, alone = (mean_writes(model, bridge, rows, 1, batch_size=size) for size in (None, 1))
    assert set(together) == {c for n in (0, 1) for c in [*(Component("head", n, h) for h in range(4)), Component("mlp", n)]}
    for component, mean in together.items():
        torch.testing.assert_close(mean, alone[component], rtol=1e-4, atol=1e-5)
    each = [mean_writes(model, bridge, [row], 1)[Component("mlp", 1)] for row in rows]
    torch.testing.assert_close(together[Component("mlp", 1)], torch.stack(each).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_the_users_model_stays_as_it_was_and_no_hook_is_left(tiny_hf: Callable[[str], tuple[Any, Any]]) -> None:
    hf_model, tokenizer = tiny_hf("gpt2")
    model = SteerableModel(hf_model, tokenizer, name="mine")
    hf_model.train()
    bridge, before = model.bridge(), snapshot(hf_model, tokenizer)
    ablated = AblatedModel(model, {Component("head", 0, 0): value(8)}, bridge=bridge)
    texts(ablated)
    broken = AblatedModel(model, {Component("mlp", 0): value(5)}, bridge=bridge)
    with pytest.raises(RuntimeError):
        texts(broken)
    assert snapshot(hf_model, tokenizer) == before
    assert sum(len(point.fwd_hooks) for point in bridge.hook_dict.values()) == 0
    assert texts(AblatedModel(model, {}, bridge=bridge)) == texts(model)


def test_every_ablation_has_an_identity_of_its_own(tiny_model: Model) -> None:
    model = tiny_model("qwen2")
    bridge = model.bridge()
    writes = (
        {},
        {Component("head", 0, 0): value(8)},
        {Component("head", 0, 1): value(8)},
        {Component("head", 0, 0): value(8, 1)},
    )
    prints = [AblatedModel(model, each, bridge=bridge).identity.fingerprint for each in writes]
    assert len({model.identity.fingerprint, *prints}) == 5


def test_what_cannot_be_ablated_is_refused(tiny_model: Model) -> None:
    model = tiny_model("qwen2")
    bridge = model.bridge()
    for component in (Component("head", 9, 0), Component("head", 0, 7), Component("embedding"), Component("bias", 0)):
        with pytest.raises(InvalidInputError, match=f"{component} of tiny-qwen2 cannot be ablated"):
            AblatedModel(model, {component: value(8)}, bridge=bridge)
    ablated = AblatedModel(model, {}, bridge=bridge)
    with pytest.raises(UnsupportedError, match="tiny-qwen2 runs in TransformerLens, which cannot"):
        texts(ablated, graph=InterventionGraph((Write(0, Add(torch.ones(32))),)))
    with pytest.raises(UnsupportedError, match="tiny-qwen2 runs in TransformerLens, which cannot"):
        ablated.next_token_logits([[20, 21]])


def test_a_check_compares_the_top_with_random_sets_and_a_placebo(
    tiny_model: Model, vector_of: Vector, pairs_of: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("qwen2")
    pairs = pairs_of(model)
    found = attribute(model, vector_of(model), pairs=pairs, layer=3)
    options: dict[str, Any] = {"k": 3, "n_random": 3, "judge": LengthJudge(), "sampling": SAMPLED}
    check = ablation_check(model, found, pairs, TRAIT, folder=tmp_path, **options)
    assert check.top.components == tuple(each.component for each in found.top(3, ("head",)))
    assert check.placebo.components == check.top.components
    for arm in check.random:
        assert [component.kind for component in arm.components] == ["head"] * 3
        assert not set(arm.components) & set(check.top.components)
    assert len({arm.components for arm in check.random}) == 3
    assert check.questions == TRAIT.evaluation_questions
    assert check.baseline.trait_scores != check.top.point.trait_scores
    assert check.top.point.trait_scores != check.placebo.point.trait_scores
    assert AblationCheck.from_json(check.to_json()) == check
    with pytest.raises(FileFormatError, match="ablation check: a field is malformed .not enough values"):
        AblationCheck.from_json({**check.to_json(), "arms": []})
    # the work is kept: the same check again makes no answer
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated"))
    again = ablation_check(model, found, pairs, TRAIT, folder=tmp_path, **options)
    assert again.arms == check.arms


def ranked() -> Attribution:
    """Four blocks of four heads and an MLP; most is written by L3H0, L3.mlp, L2H0, L2H1."""
    most = ["L3H0", "L3.mlp", "L2H0", "L2H1"]
    components = [c for n in range(4) for c in [*(Component("head", n, h) for h in range(4)), Component("mlp", n)]]
    values = {c: float(10 - most.index(c.name)) if c.name in most else 0.1 for c in components}
    rows = tuple(
        Contribution(c, value, 0.0, Estimate(value, None, None, 1), Estimate(value / 40, None, None, 1))
        for c, value in values.items()
    )
    return Attribution("loud", "m", 3, "response_avg", 1, 1, None, Estimate(40.0, None, None, 1), rows, 0.0)


def test_random_sets_hold_as_many_of_each_kind_and_none_of_the_top() -> None:
    top, *drawn = component_sets(ranked(), 4, ("head", "mlp"), 5, seed=0)
    assert [component.name for component in top] == ["L3H0", "L3.mlp", "L2H0", "L2H1"]
    assert len(set(drawn)) == len(drawn) == 5
    for some in drawn:
        assert Counter(component.kind for component in some) == {"head": 3, "mlp": 1}
        assert not set(some) & set(top)
    assert [top, *drawn] == component_sets(ranked(), 4, ("head", "mlp"), 5, seed=0)
    assert drawn != component_sets(ranked(), 4, ("head", "mlp"), 5, seed=1)[1:]
    assert len(component_sets(ranked(), None, ("head",), 5, seed=0)[0]) == 4, "a quarter of sixteen heads"
    assert len(component_sets(ranked(), 1, ("mlp",), 8, seed=0)) == 1 + 3, "no more sets than there are"


def test_a_check_that_cannot_be_made_is_refused_before_anything_runs(
    tiny_model: Model, vector_of: Vector, pairs_of: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("qwen2")
    pairs = pairs_of(model)
    found = attribute(model, vector_of(model), pairs=pairs, layer=0)
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated"))
    with pytest.raises(InvalidInputError, match="3 of the 4 heads up to layer 0 of tiny-qwen2 are among the top 3"):
        ablation_check(model, found, pairs, TRAIT, k=3)
    with pytest.raises(InvalidInputError, match="1 of the 1 mlps"):
        ablation_check(model, found, pairs, TRAIT, k=1, kinds=("mlp",))
    with pytest.raises(InvalidInputError, match="top 5 of 4 components"):
        ablation_check(model, found, pairs, TRAIT, k=5)
    with pytest.raises(InvalidInputError, match="n_random is 0"):
        ablation_check(model, found, pairs, TRAIT, n_random=0)
    with pytest.raises(InvalidInputError, match="kinds bias"):
        ablation_check(model, found, pairs, TRAIT, kinds=("bias",))
    with pytest.raises(InvalidInputError, match="samples is 0"):
        ablation_check(model, found, pairs, TRAIT, samples=0)
    with pytest.raises(IncompatibleError, match="attribute them first"):
        ablation_check(tiny_model("llama"), found, pairs, TRAIT)


def made(top: float, drawn: list[float], *, coherence: float = 90.0, placebo: float = 95.0) -> AblationCheck:
    spread = (-2.0, 0.0, 2.0, 0.0)

    def point(mean: float, how: float = 90.0) -> DosePoint:
        return DosePoint(0.0, None, tuple(mean + each for each in spread), (how,) * 4, ("a",))

    heads = (Component("head", 0, 0), Component("head", 0, 1))
    arms = tuple(AblationArm(f"random {n}", heads, point(mean)) for n, mean in enumerate(drawn, start=1))
    return AblationCheck(
        "loud", "m", "j", 1, point(96.0), point(2.0), AblationArm("top", heads, point(top, coherence)),
        AblationArm("placebo", heads, point(placebo)), arms, ("a", "b", "c", "d"), 1,
    )  # fmt: skip


def test_it_holds_where_the_top_lowers_the_score_further_than_random_sets_and_language_stays() -> None:
    check = made(20.0, [90.0, 80.0, 94.0])
    assert check.drop(check.top).value == pytest.approx(76)
    assert check.random_drop.value == pytest.approx(8)
    assert check.excess.value == pytest.approx(68)
    assert (check.holds, check.random_as_strong) == (True, 0)
    assert check.reason().startswith("shown: ablating L0H0, L0H1 lowers loud by 76 [76, 76] points, 3 random sets by 8")
    weak = made(88.0, [90.0, 80.0, 94.0])
    assert (weak.holds, weak.random_as_strong) == (False, 1)
    assert weak.reason().startswith("not shown: ablating")
    constant = made(20.0, [90.0, 80.0, 94.0], placebo=20.0)
    assert (constant.holds, constant.excess.low is not None and constant.excess.low > 0) == (False, True)
    assert "it is the constant that lowers it" in constant.reason()
    broken = made(20.0, [90.0, 80.0], coherence=30.0)
    assert not broken.holds
    assert "coherence falls to 30 (below 75)" in broken.reason()


def test_answers_without_a_score_are_in_no_mean() -> None:
    check = made(20.0, [90.0, 80.0])
    silent = replace(check.random[0], point=replace(check.random[0].point, trait_scores=(None,) * 4))
    left = replace(check, random=(silent, check.random[1]))
    assert left.random_drop.value == pytest.approx(16)
    assert left.excess.value == pytest.approx(60)
    speechless = replace(check, top=replace(check.top, point=replace(check.top.point, trait_scores=(None,) * 4)))
    assert speechless.excess.value is None
    assert not speechless.holds
    assert "lowers loud by – points" in speechless.reason()
