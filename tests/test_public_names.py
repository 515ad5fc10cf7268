"""The front door: its names are pinned, each one works, and type checkers see the same ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import persona_interp

NAMES = {
    "Ablate",
    "AblateThenAdd",
    "Add",
    "AddPreservingNorm",
    "Attribution",
    "Cap",
    "Capture",
    "Chat",
    "Clamp",
    "Conversation",
    "Diagnosis",
    "DoseResponse",
    "Evaluation",
    "ExponentialDecay",
    "InterventionGraph",
    "LayerEffectiveness",
    "LinearRamp",
    "PersonaInterpError",
    "PersonaVector",
    "ProjectionCondition",
    "Sampling",
    "SteerableModel",
    "StepTable",
    "anchors_for",
    "evaluate_transfer",
    "read_rows",
    "transfer",
    "Trait",
    "Write",
    "__version__",
    "attribute",
    "bake",
    "diagnose",
    "dose_response",
    "evaluate",
    "extract",
    "layer_effectiveness",
    "load_judge",
    "load_model",
    "load_trait",
    "plan_layers",
    "project",
    "resolve_trait",
    "scan_layers",
    "screen",
    "steered",
    "transformer_lens_hooks",
    "BlockWrites",
}


def test_public_names_are_pinned() -> None:
    assert set(persona_interp.__all__) == NAMES
    assert dir(persona_interp) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
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
    assert seen == {name: f"persona_interp.{home}" for name, home in persona_interp._HOMES.items()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        persona_interp.nonsense  # noqa: B018  (the access is the test)
