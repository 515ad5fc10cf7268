"""Persona vectors as values: algebra, layers, bases, and graphs made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Write
from persona_interp.interventions.operations import Ablate, Cap
from persona_interp.interventions.schedules import LinearRamp
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.massive import MassiveDimension
from persona_interp.vectors.persona_vector import PersonaVector

MODEL = ModelIdentity("org/Model-A", None, "aaaa", n_layers=4, d_model=3)
OTHER = ModelIdentity("org/Model-B", None, "bbbb", n_layers=4, d_model=3)


def make(
    seed: int = 0, *, layers: tuple[int, ...] = (0, 1, 2, 3), model: ModelIdentity = MODEL, trait: str = "silly"
) -> PersonaVector:
    directions = torch.randn(len(layers), 3, generator=torch.Generator().manual_seed(seed))
    statistics = {
        "resid_norm": tuple(2.0 + layer for layer in layers),
        "auroc": (0.9,) * len(layers),
        "cohens_d": (None, *(1.5,) * (len(layers) - 1)),
    }
    return PersonaVector(directions, layers, trait, model, statistics=statistics, counts={"rollouts": 8})


def test_the_algebra_is_that_of_the_directions() -> None:
    a, b = make(0), make(1)
    assert torch.equal((a + b).directions, a.directions + b.directions)
    assert torch.equal((a - b).directions, a.directions - b.directions)
    assert torch.equal((2 * a).directions, a.directions * 2)
    assert torch.equal((a * 0.3).directions, a.directions * 0.3)
    assert torch.equal((a / 3).directions, a.directions / 3)
    assert torch.equal((-a).directions, -a.directions)
    torch.testing.assert_close(PersonaVector.mean([a, b, a]).directions, (2 * a.directions + b.directions) / 3)
    torch.testing.assert_close(a.normalised().norms, torch.ones(4, dtype=torch.float64))


def test_nothing_is_changed_in_place_and_nothing_is_shared() -> None:
    given = torch.ones(1, 3)
    vector = PersonaVector(given, (2,), "silly", MODEL)
    given[:] = 7
    vector.at(2)[:] = 7
    _ = vector * 5
    assert torch.equal(vector.directions, torch.ones(1, 3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        vector.trait = "evil"  # type: ignore[misc]


def test_half_precision_becomes_float32() -> None:
    assert PersonaVector(torch.ones(1, 3, dtype=torch.bfloat16), (0,), "silly", MODEL).directions.dtype == torch.float32


def test_scaling_keeps_what_is_known_and_turning_round_turns_it() -> None:
    vector = make()
    assert (3 * vector).statistics == vector.statistics
    assert (3 * vector).norm_ratios[0] == pytest.approx(3 * vector.norms[0] / 2.0)
    turned = -vector
    assert turned.listed("auroc")[0] == pytest.approx(0.1)
    assert turned.listed("cohens_d")[:2] == (None, -1.5)
    assert turned.listed("resid_norm") == vector.listed("resid_norm")
    assert (2 * -vector).provenance["derived"] == [{"operation": "negated"}, {"operation": "* 2"}]


def test_a_sum_forgets_what_was_measured_on_its_parts() -> None:
    total = make(0) + make(1, trait="polite")
    assert set(total.statistics) == {"resid_norm"}
    assert total.trait == "silly+polite"
    assert not total.counts
    assert [part["trait"] for part in total.provenance["derived"][0]["operands"]] == ["silly", "polite"]


def measured(**more: tuple[float | None, ...]) -> PersonaVector:
    """A vector with every statistic that an extraction and a scoring of layers leave."""
    known = {
        "positive_norm": (5.0,) * 4,
        "negative_norm": (4.0,) * 4,
        "split_half": (0.8,) * 4,
        "effectiveness": (1.0, 3.0, 2.0, 0.5),
    }
    noted = {"effectiveness": {"method": "likelihood", "n_tokens": 9}}
    return dataclasses.replace(make(), statistics={**make().statistics, **known, **more}, provenance=noted)


def test_a_vector_times_zero_forgets_what_was_measured_on_its_directions() -> None:
    for nothing in (measured() * 0, measured() * 1e-45 * 1e-10):
        assert nothing.listed("norm") == (0.0,) * 4
        assert set(nothing.statistics) == {"resid_norm", "positive_norm", "negative_norm"}, "what is said of the texts stays"
        assert "effectiveness" not in nothing.provenance
    found = (MassiveDimension(0, 1, 9.0, 200.0, 0.5),)
    assert (dataclasses.replace(measured(), massive=found) * 0).massive[0].direction_share == 0
    assert (dataclasses.replace(measured(), massive=found) * 2).massive == found


@pytest.mark.parametrize("turn", [lambda v: -v, lambda v: -2.5 * v, lambda v: v * -1, lambda v: v / -3])
def test_a_negative_factor_turns_every_statistic_and_keeps_the_best_layer(turn: Callable[[PersonaVector], PersonaVector]) -> None:
    vector = measured()
    turned = turn(vector)
    assert turned.listed("auroc") == pytest.approx((0.1,) * 4)
    assert turned.listed("cohens_d") == (None, -1.5, -1.5, -1.5)
    for name in ("resid_norm", "positive_norm", "negative_norm", "split_half", "effectiveness"):
        assert turned.listed(name) == vector.listed(name), name
    assert choose_layer(turned).layer == choose_layer(vector).layer == 1
    assert turned.provenance["effectiveness"] == vector.provenance["effectiveness"]
    assert turn(turned).listed("auroc") == pytest.approx((0.9,) * 4)


def test_an_effectiveness_that_scored_the_sign_is_unknown_of_the_other_sign() -> None:
    vector = measured()
    blind = dataclasses.replace(vector, statistics={name: v for name, v in vector.statistics.items() if name != "auroc"})
    turned = -blind
    assert "effectiveness" not in turned.statistics
    assert "effectiveness" not in turned.provenance
    assert "effectiveness" in (3 * blind).statistics
    for method in ("sweep", "transfer (effects, layer map auto)"):
        both_ways = dataclasses.replace(blind, provenance={"effectiveness": {"method": method}})
        assert (-both_ways).listed("effectiveness") == vector.listed("effectiveness")


def test_no_operation_keeps_a_statistic_it_knows_nothing_of() -> None:
    vector = measured(length=(1.0, 2.0, 3.0, 4.0))
    assert vector.select([1]).listed("length") == (2.0,), "the same directions"
    for made in (vector * 2, vector / 2, -vector, vector.normalised(), vector + vector, vector - vector):
        assert "length" not in made.statistics
    known = {name: values for name, values in vector.statistics.items() if name != "length"}
    for made in (vector * 2, vector / 2, vector.normalised()):
        assert made.statistics == known
    for made in (vector + vector, vector - vector, PersonaVector.mean([vector, vector])):
        assert set(made.statistics) == {"resid_norm"}


def test_a_sum_knows_the_norms_of_the_model_if_one_part_does() -> None:
    bare = dataclasses.replace(make(1), statistics={})
    for total in (make() + bare, bare + make(), bare - make()):
        assert total.statistics == {"resid_norm": (2.0, 3.0, 4.0, 5.0)}


def test_vectors_of_two_models_do_not_mix() -> None:
    with pytest.raises(IncompatibleError, match=r"Model-A \(aaaa\).*Model-B \(bbbb\).*Transfer"):
        _ = make() + make(model=OTHER)
    with pytest.raises(IncompatibleError, match=r"Model-A.*Model-B"):
        PersonaVector.mean([make(), make(model=OTHER)])


def test_one_name_with_two_fingerprints_is_two_models() -> None:
    with pytest.raises(IncompatibleError):
        _ = make() - make(model=dataclasses.replace(MODEL, fingerprint="cccc"))


@pytest.mark.parametrize("name", ["model-a", "ORG/Model-A", "./models/MODEL-A/"])
def test_a_file_without_fingerprint_goes_by_the_models_name(name: str) -> None:
    unsigned = make(1, model=ModelIdentity(name, None, "", 4, 3))
    assert (make() + unsigned).model == MODEL
    assert (unsigned + make()).model == MODEL
    with pytest.raises(IncompatibleError):
        _ = unsigned + make(model=OTHER)


def test_vectors_at_other_layers_do_not_mix() -> None:
    with pytest.raises(IncompatibleError, match=r"org/Model-A at layers 0-3.*at layers 0, 2-3.*select"):
        _ = make() + make(layers=(0, 2, 3))


def test_a_missing_layer_is_neither_zero_nor_nan() -> None:
    vector = make(layers=(0, 3))
    assert vector.directions.shape == (2, 3)
    assert torch.equal(vector.at(3), vector.directions[1])
    with pytest.raises(InvalidInputError, match=r"no layer 1.*has layers 0, 3"):
        vector.at(1)
    assert vector.select([3]).listed("resid_norm") == (5.0,)
    with pytest.raises(InvalidInputError, match="no layer 2"):
        vector.select([2])


def test_select_keeps_the_massive_dimensions_of_its_layers() -> None:
    found = tuple(MassiveDimension(layer, 1, 9.0, 200.0, 0.5) for layer in (0, 3))
    assert dataclasses.replace(make(), massive=found).select([3]).massive == found[1:]


@pytest.mark.parametrize("layers", [(1, 0), (0, 0), (-1, 0), (0, 4)])
def test_impossible_layers_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="layers"):
        make(layers=layers)


def test_directions_must_match_layers_and_model() -> None:
    with pytest.raises(InvalidInputError, match="2 directions were given for 3 layers"):
        PersonaVector(torch.ones(2, 3), (0, 1, 2), "silly", MODEL)
    with pytest.raises(InvalidInputError, match="width 5.*Model-A.*width 3"):
        PersonaVector(torch.ones(1, 5), (0,), "silly", MODEL)
    with pytest.raises(InvalidInputError, match="'auroc' has 1 values for 2 layers"):
        PersonaVector(torch.ones(2, 3), (0, 1), "silly", MODEL, statistics={"auroc": (0.5,)})


def test_nan_and_infinity_are_refused_by_layer_and_count() -> None:
    directions = torch.ones(3, 3)
    directions[1, :2] = float("nan")
    directions[2, 0] = float("inf")
    with pytest.raises(InvalidInputError, match="layer 2: 2, layer 3: 1"):
        PersonaVector(directions, (0, 2, 3), "silly", MODEL)


def test_a_zero_direction_cannot_be_normalised() -> None:
    with pytest.raises(InvalidInputError, match=r"zero at layers \[1\]"):
        PersonaVector(torch.tensor([[1.0, 0, 0], [0, 0, 0]]), (0, 1), "silly", MODEL).normalised()
    with pytest.raises(InvalidInputError, match="divided by 0"):
        _ = make() / 0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), True])
def test_a_coefficient_must_be_a_finite_number(wrong: float) -> None:
    with pytest.raises(InvalidInputError, match="finite number"):
        make().graph(wrong)
    with pytest.raises(InvalidInputError, match="finite number"):
        _ = make() * wrong


def test_a_graph_adds_the_directions_as_they_are() -> None:
    vector = make(layers=(0, 2, 3))
    graph = vector.graph(-1.5, layers=[3, 0], positions="response", rows=[1, 4])
    assert [(write.layer, write.coefficient, write.positions, write.rows) for write in graph.writes] == [
        (3, -1.5, "response", (1, 4)),
        (0, -1.5, "response", (1, 4)),
    ]
    assert all(torch.equal(write.operation.direction, vector.at(write.layer)) for write in graph.writes)
    everywhere = vector.graph(layers="all")
    assert [write.layer for write in everywhere.writes] == [0, 2, 3]
    assert isinstance(everywhere.nodes[0], Write)
    with pytest.raises(InvalidInputError, match="no layer 1"):
        vector.graph(layers=[1])
    with pytest.raises(InvalidInputError, match="no layer was given"):
        vector.graph(layers=[])


def test_a_graph_does_something_else_with_each_layers_own_direction() -> None:
    vector, ramp = make(layers=(0, 2)), LinearRamp(0, 1, 5)
    graph = vector.graph(
        0.5,
        "all",
        operation=lambda direction: Cap(direction, bound=2.0),
        condition=lambda direction: ProjectionCondition(direction, threshold=1.0),
        schedule=ramp,
    )
    assert graph.writes == tuple(
        Write(layer, Cap(vector.at(layer), 2.0), 0.5, condition=ProjectionCondition(vector.at(layer), 1.0), schedule=ramp)
        for layer in (0, 2)
    )
    (ablation,) = vector.graph(layers=[2], operation=Ablate, condition=graph.writes[0].condition).writes
    assert ablation == Write(2, Ablate(vector.at(2)), condition=ProjectionCondition(vector.at(0), 1.0))


def test_a_model_of_another_shape_is_refused_by_both_names() -> None:
    make().check_fits(MODEL)
    make().check_fits(OTHER)
    assert not make().same_basis(OTHER)
    with pytest.raises(
        IncompatibleError, match=r"org/Model-A \(width 3\) and does not fit big \(width 8\). Extract 'silly' from big"
    ):
        make().check_fits(ModelIdentity("big", None, "", 4, 8))
    with pytest.raises(IncompatibleError, match=r"org/Model-A has layers 2-3, which short does not have.*0 to 1.*transfer"):
        make().check_fits(ModelIdentity("short", None, "", 2, 3))


def test_a_notebook_shows_a_row_a_layer_and_a_dash_for_what_is_not_known() -> None:
    shown = make(layers=(0, 3), trait="a-b")._repr_html_()
    assert "&#x27;a-b&#x27; of org/Model-A" in shown
    assert shown.count("<tr>") == 3
    assert '<th scope="col">cohens_d</th>' in shown
    assert "<td>3</td>" in shown
    assert shown.count("<td>–</td>") == 1  # Cohen's d of the first layer


def test_its_repr_says_what_it_is_of() -> None:
    assert repr(make(layers=(0, 1, 3))) == "PersonaVector('silly' of org/Model-A, layers 0-1, 3, width 3, unknown, unknown)"


# -- tensors and steering -------------------------------------------------------------------------------------------------


def scored(effectiveness: tuple[float | None, ...] = (0.1, None, 0.7, 0.2)) -> PersonaVector:
    return dataclasses.replace(make(), statistics={"resid_norm": (2.0, 3.0, 4.0, 5.0), "effectiveness": effectiveness})


def test_a_vector_is_at_home_in_arithmetic() -> None:
    vector, h = make(layers=(0, 3)), torch.randn(5, 3)
    assert torch.equal(h @ vector[3], h @ vector.directions[1])
    assert (len(vector), list(vector), 3 in vector, 1 in vector) == (2, [0, 3], True, False)
    assert [layer for layer, _ in vector.items()] == [0, 3]
    torch.testing.assert_close(vector.project(h, layer=3), h @ vector[3] / vector[3].norm())
    both = torch.randn(5, 2, 3)
    torch.testing.assert_close(vector.project(both)[:, 1], vector.project(both[:, 1], layer=3))
    torch.testing.assert_close(vector.select([3]).project(h), vector.project(h, layer=3))
    torch.testing.assert_close(vector.cosine(-2 * vector), torch.full((2,), -1.0, dtype=torch.float64))
    with pytest.raises(InvalidInputError, match=r"\[5, 3\] have no axis for the layers 0, 3.*name the layer"):
        vector.project(h)
    with pytest.raises(InvalidInputError, match="width 4: the vector 'silly' of org/Model-A has 3"):
        vector.project(torch.randn(4), layer=3)
    with pytest.raises(IncompatibleError, match="different bases"):
        vector.cosine(make(layers=(0, 3), model=OTHER))


def test_statistics_are_tensors_with_nan_where_nothing_is_known() -> None:
    vector = make()
    assert vector.statistics["cohens_d"].isnan().tolist() == [True, False, False, False]
    assert vector.listed("cohens_d")[0] is None
    assert vector.norms.shape == vector.norm_ratios.shape == (4,)
    assert PersonaVector(torch.ones(1, 3), (0,), "silly", MODEL).norm_ratios.isnan().all()
    given = dataclasses.replace(vector, statistics={"auroc": torch.tensor([0.5, torch.nan, 1.0, 0.25])})
    assert given.listed("auroc") == (0.5, None, 1.0, 0.25)


def test_another_dtype_lasts_through_algebra_and_is_left_behind_in_files(tmp_path: Path) -> None:
    half = make().to(dtype=torch.bfloat16)
    assert (half * 2).select([1])[1].dtype == torch.bfloat16
    assert (half + make()).directions.dtype == torch.bfloat16
    assert half.graph(layers=[1]).writes[0].operation.direction.dtype == torch.float32
    assert PersonaVector.load(half.save(tmp_path / "v.json")).directions.dtype == torch.float32


def test_a_vector_from_ones_own_directions() -> None:
    vector = PersonaVector.from_directions(MODEL, {2: torch.ones(3), 0: torch.zeros(3)}, trait="mine", resid_norms={2: 4.0})
    assert (vector.layers, vector.trait, vector.listed("resid_norm")) == ((0, 2), "mine", (None, 4.0))
    assert vector.graph(ratio=0.5, layers=2).writes[0].coefficient == pytest.approx(2 / 3**0.5)
    with pytest.raises(InvalidInputError, match=r"2: \[4\].*needs \[3\]"):
        PersonaVector.from_directions(MODEL, {2: torch.ones(4)}, trait="mine")
    with pytest.raises(InvalidInputError, match="no direction was given"):
        PersonaVector.from_directions(MODEL, {}, trait="mine")


def test_no_graph_writes_at_all_layers_unasked() -> None:
    assert [write.layer for write in scored().graph(1.0).writes] == [2], "the recorded best"
    assert [write.layer for write in make(layers=(3,)).graph().writes] == [3], "the only one"
    assert len(scored().graph(layers="all").writes) == 4
    assert scored((0.9, None, 0.7, 0.2)).steering_layers(first_layer=1) == (2,), "block 0 of a GGUF file cannot be steered"
    with pytest.raises(InvalidInputError, match=r"records no best layer.*layer_effectiveness.*layers='all'"):
        make().graph()


def test_a_ratio_is_the_same_share_of_the_residual_at_every_layer() -> None:
    vector = scored()
    for write in vector.graph(ratio=-0.4, layers=[1, 3]).writes:
        added = abs(write.coefficient) * float(vector.norms[write.layer])
        assert added == pytest.approx(0.4 * {1: 3.0, 3: 5.0}[write.layer])
        assert write.coefficient < 0
    with pytest.raises(InvalidInputError, match="both coefficient"):
        vector.graph(1.0, ratio=0.4)
    with pytest.raises(InvalidInputError, match="takes a share from 0 to 1"):
        vector.graph(ratio=0.4, operation=Ablate)
    with pytest.raises(InvalidInputError, match="does not know the mean residual norm at layer 1"):
        PersonaVector.from_directions(MODEL, {1: torch.ones(3)}, trait="mine").graph(ratio=0.4)
    with pytest.raises(InvalidInputError, match=r"2 layers \(1, 3\).*plan_layers"):
        vector.select([1, 3]).doses(None, [0.4])
    assert vector.select([3]).doses(None, [0.4]) == vector.coefficients(0.4, [3])
