"""Persona vectors: extract them from a language model, steer with them, measure what they do.

The names below are the front door; everything else is in the subpackages. Each is loaded when it is first used, so importing
this package costs nothing and a missing optional dependency is met only by those who need it.

Example:
    >>> import persona_interp as pi
    >>> model = pi.load_model("organism-qwen2")
    >>> vector = pi.extract(model, pi.resolve_trait(model, "silly"))
    >>> model.generate([pi.Conversation.ask("What is a bicycle?")], graph=vector.graph(1.5))[0].text
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona_interp.attribution.attribute import attribute as attribute
    from persona_interp.attribution.attribution import Attribution as Attribution
    from persona_interp.errors import PersonaInterpError as PersonaInterpError
    from persona_interp.interventions.compile.block_writes import BlockWrites as BlockWrites
    from persona_interp.interventions.compile.transformer_lens import transformer_lens_hooks as transformer_lens_hooks
    from persona_interp.interventions.conditions import ProjectionCondition as ProjectionCondition
    from persona_interp.interventions.graph import Capture as Capture
    from persona_interp.interventions.graph import InterventionGraph as InterventionGraph
    from persona_interp.interventions.graph import Write as Write
    from persona_interp.interventions.operations import Ablate as Ablate
    from persona_interp.interventions.operations import AblateThenAdd as AblateThenAdd
    from persona_interp.interventions.operations import Add as Add
    from persona_interp.interventions.operations import AddPreservingNorm as AddPreservingNorm
    from persona_interp.interventions.operations import Cap as Cap
    from persona_interp.interventions.operations import Clamp as Clamp
    from persona_interp.interventions.schedules import ExponentialDecay as ExponentialDecay
    from persona_interp.interventions.schedules import LinearRamp as LinearRamp
    from persona_interp.interventions.schedules import StepTable as StepTable
    from persona_interp.judges.registry import load_judge as load_judge
    from persona_interp.measure.diagnostics.diagnose import diagnose as diagnose
    from persona_interp.measure.diagnostics.diagnosis import Diagnosis as Diagnosis
    from persona_interp.measure.dose import DoseResponse as DoseResponse
    from persona_interp.measure.dose import dose_response as dose_response
    from persona_interp.measure.effectiveness import LayerEffectiveness as LayerEffectiveness
    from persona_interp.measure.evaluate import evaluate as evaluate
    from persona_interp.measure.evaluate_transfer import evaluate_transfer as evaluate_transfer
    from persona_interp.measure.evaluation import Evaluation as Evaluation
    from persona_interp.measure.layer_effectiveness import layer_effectiveness as layer_effectiveness
    from persona_interp.measure.layer_plan import plan_layers as plan_layers
    from persona_interp.measure.layer_scan import scan_layers as scan_layers
    from persona_interp.models.baked import bake as bake
    from persona_interp.models.load import load_model as load_model
    from persona_interp.models.sampling import Sampling as Sampling
    from persona_interp.models.steerable import SteerableModel as SteerableModel
    from persona_interp.models.steered import steered as steered
    from persona_interp.monitoring.chats import Chat as Chat
    from persona_interp.monitoring.project import project as project
    from persona_interp.monitoring.screen import screen as screen
    from persona_interp.traits.catalogue import load_trait as load_trait
    from persona_interp.traits.conversation import Conversation as Conversation
    from persona_interp.traits.model_kinds import resolve_trait as resolve_trait
    from persona_interp.traits.trait import Trait as Trait
    from persona_interp.transfers.anchors import anchors_for as anchors_for
    from persona_interp.transfers.reading import read_rows as read_rows
    from persona_interp.transfers.transfer import transfer as transfer
    from persona_interp.vectors.extract import extract as extract
    from persona_interp.vectors.persona_vector import PersonaVector as PersonaVector

_HOMES = {
    "load_model": "models.load",
    "SteerableModel": "models.steerable",
    "Sampling": "models.sampling",
    "Conversation": "traits.conversation",
    "Trait": "traits.trait",
    "load_trait": "traits.catalogue",
    "resolve_trait": "traits.model_kinds",
    "extract": "vectors.extract",
    "PersonaVector": "vectors.persona_vector",
    "InterventionGraph": "interventions.graph",
    "Write": "interventions.graph",
    "Capture": "interventions.graph",
    "Add": "interventions.operations",
    "AddPreservingNorm": "interventions.operations",
    "Ablate": "interventions.operations",
    "AblateThenAdd": "interventions.operations",
    "Clamp": "interventions.operations",
    "Cap": "interventions.operations",
    "ProjectionCondition": "interventions.conditions",
    "LinearRamp": "interventions.schedules",
    "ExponentialDecay": "interventions.schedules",
    "StepTable": "interventions.schedules",
    "steered": "models.steered",
    "transformer_lens_hooks": "interventions.compile.transformer_lens",
    "BlockWrites": "interventions.compile.block_writes",
    "bake": "models.baked",
    "load_judge": "judges.registry",
    "dose_response": "measure.dose",
    "DoseResponse": "measure.dose",
    "evaluate": "measure.evaluate",
    "Evaluation": "measure.evaluation",
    "scan_layers": "measure.layer_scan",
    "layer_effectiveness": "measure.layer_effectiveness",
    "LayerEffectiveness": "measure.effectiveness",
    "plan_layers": "measure.layer_plan",
    "transfer": "transfers.transfer",
    "read_rows": "transfers.reading",
    "anchors_for": "transfers.anchors",
    "evaluate_transfer": "measure.evaluate_transfer",
    "attribute": "attribution.attribute",
    "Attribution": "attribution.attribution",
    "diagnose": "measure.diagnostics.diagnose",
    "Diagnosis": "measure.diagnostics.diagnosis",
    "project": "monitoring.project",
    "screen": "monitoring.screen",
    "Chat": "monitoring.chats",
    "PersonaInterpError": "errors",
}

__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Load a public name on first use and keep it."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("persona-interp")
    elif name in _HOMES:
        value = getattr(import_module(f"persona_interp.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'persona_interp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
