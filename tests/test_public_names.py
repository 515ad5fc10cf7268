"""The front door: its names are pinned, each one works, and type checkers see the same ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import persona_interp

FRONT = {
    "Ablate",
    "Add",
    "Cap",
    "Capture",
    "Chat",
    "Clamp",
    "Conversation",
    "Engine",
    "InterventionGraph",
    "Judge",
    "Judgement",
    "PersonaInterpError",
    "PersonaVector",
    "Sampling",
    "SteerableModel",
    "Trait",
    "Write",
    "__version__",
    "attribute",
    "diagnose",
    "dose_response",
    "evaluate",
    "evaluate_transfer",
    "extract",
    "layer_effectiveness",
    "load_judge",
    "load_model",
    "load_trait",
    "on_progress",
    "plan_layers",
    "project",
    "screen",
    "steered",
    "transfer",
}
MORE = {
    "AblateThenAdd",
    "AddPreservingNorm",
    "Attribution",
    "BlockWrites",
    "Diagnosis",
    "DoseResponse",
    "Evaluation",
    "ExponentialDecay",
    "Generation",
    "LayerEffectiveness",
    "LinearRamp",
    "ProjectionCondition",
    "StepTable",
    "Transferred",
    "FinetuneRecipe",
    "PreventionCallback",
    "Safeguards",
    "anchors_for",
    "audit",
    "bake",
    "choose_layer",
    "finetune",
    "preventing",
    "read_rows",
    "register_alignment",
    "register_estimator",
    "register_family",
    "register_format",
    "register_judge",
    "register_model_kind",
    "register_operation",
    "resolve_trait",
    "scan_layers",
    "transformer_lens_hooks",
}


def test_public_names_are_pinned() -> None:
    assert set(persona_interp.__all__) == FRONT
    assert len(FRONT) <= 36, "about thirty: what a newcomer must not wade through"
    assert dir(persona_interp) == sorted(FRONT | MORE)


@pytest.mark.parametrize("name", sorted(FRONT | MORE))
def test_every_public_name_can_be_had_and_is_documented(name: str) -> None:
    value = getattr(persona_interp, name)
    assert name == "__version__" or value.__doc__


def test_type_checkers_see_the_names_that_exist() -> None:
    tree = ast.parse(Path(persona_interp.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("persona_interp.")
        for alias in node.names
    }
    assert seen == {name: f"persona_interp.{home}" for name, home in {**persona_interp._HOMES, **persona_interp._MORE}.items()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        persona_interp.nonsense  # noqa: B018  (the access is the test)
