"""Persona vectors: extract them from a language model, steer with them, carry them into other models, measure what they do.

The lists below are the front door. Each name is loaded when it is first used, so importing this package costs nothing and a
missing optional dependency is met only by those who need it.

Example:
    >>> import persona_interp as pi
    >>> model = pi.load_model("organism-qwen2")
    >>> vector = pi.extract(model, "silly", judge="auto", samples=1)
    >>> with vector.steer(model, ratio=0.4):
    ...     print(model.generate("What is a bicycle?")[0])

What is added by other packages is registered by ``register_family`` (architectures), ``register_alignment``, ``register_judge``,
``register_format`` (vector files), ``register_operation``, ``register_estimator`` and ``register_model_kind``.

Lines that say what happens go to `logging` under the name ``persona_interp``, and `on_progress` tells how far long work is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona_interp.alignment.methods import register_alignment as register_alignment
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
    from persona_interp.interventions.operations import register_operation as register_operation
    from persona_interp.interventions.schedules import ExponentialDecay as ExponentialDecay
    from persona_interp.interventions.schedules import LinearRamp as LinearRamp
    from persona_interp.interventions.schedules import StepTable as StepTable
    from persona_interp.judges.kinds import register_judge as register_judge
    from persona_interp.judges.registry import load_judge as load_judge
    from persona_interp.measure.diagnostics.diagnose import diagnose as diagnose
    from persona_interp.measure.diagnostics.diagnosis import Diagnosis as Diagnosis
    from persona_interp.measure.dose import DoseResponse as DoseResponse
    from persona_interp.measure.dose import dose_response as dose_response
    from persona_interp.measure.effectiveness import LayerEffectiveness as LayerEffectiveness
    from persona_interp.measure.evaluate import evaluate as evaluate
    from persona_interp.measure.evaluate_transfer import evaluate_transfer as evaluate_transfer
    from persona_interp.measure.evaluation import Evaluation as Evaluation
    from persona_interp.measure.extraction import extract as extract
    from persona_interp.measure.layer_effectiveness import layer_effectiveness as layer_effectiveness
    from persona_interp.measure.layer_plan import plan_layers as plan_layers
    from persona_interp.measure.layer_scan import scan_layers as scan_layers
    from persona_interp.models.baked import bake as bake
    from persona_interp.models.engines.protocol import Engine as Engine
    from persona_interp.models.families import register_family as register_family
    from persona_interp.models.load import load_model as load_model
    from persona_interp.models.results import Generation as Generation
    from persona_interp.models.sampling import Sampling as Sampling
    from persona_interp.models.steerable import SteerableModel as SteerableModel
    from persona_interp.models.steered import steered as steered
    from persona_interp.monitoring.chats import Chat as Chat
    from persona_interp.monitoring.project import project as project
    from persona_interp.monitoring.screen import screen as screen
    from persona_interp.progress import on_progress as on_progress
    from persona_interp.training.audit import audit as audit
    from persona_interp.training.callback import PreventionCallback as PreventionCallback
    from persona_interp.training.finetune import finetune as finetune
    from persona_interp.training.prevention import preventing as preventing
    from persona_interp.training.recipe import FinetuneRecipe as FinetuneRecipe
    from persona_interp.training.recipe import Safeguards as Safeguards
    from persona_interp.traits.catalogue import load_trait as load_trait
    from persona_interp.traits.conversation import Conversation as Conversation
    from persona_interp.traits.judging import Judge as Judge
    from persona_interp.traits.judging import Judgement as Judgement
    from persona_interp.traits.model_kinds import register_model_kind as register_model_kind
    from persona_interp.traits.model_kinds import resolve_trait as resolve_trait
    from persona_interp.traits.trait import Trait as Trait
    from persona_interp.transfers.anchors import anchors_for as anchors_for
    from persona_interp.transfers.reading import read_rows as read_rows
    from persona_interp.transfers.transfer import Transferred as Transferred
    from persona_interp.transfers.transfer import transfer as transfer
    from persona_interp.vectors.estimators import register_estimator as register_estimator
    from persona_interp.vectors.formats import register_format as register_format
    from persona_interp.vectors.layer_choice import choose_layer as choose_layer
    from persona_interp.vectors.persona_vector import PersonaVector as PersonaVector

_HOMES = {
    "load_model": "models.load",
    "SteerableModel": "models.steerable",
    "Sampling": "models.sampling",
    "Conversation": "traits.conversation",
    "Chat": "monitoring.chats",
    "Trait": "traits.trait",
    "load_trait": "traits.catalogue",
    "extract": "measure.extraction",
    "PersonaVector": "vectors.persona_vector",
    "InterventionGraph": "interventions.graph",
    "Write": "interventions.graph",
    "Capture": "interventions.graph",
    "Add": "interventions.operations",
    "Ablate": "interventions.operations",
    "Clamp": "interventions.operations",
    "Cap": "interventions.operations",
    "steered": "models.steered",
    "dose_response": "measure.dose",
    "evaluate": "measure.evaluate",
    "layer_effectiveness": "measure.layer_effectiveness",
    "plan_layers": "measure.layer_plan",
    "transfer": "transfers.transfer",
    "evaluate_transfer": "measure.evaluate_transfer",
    "diagnose": "measure.diagnostics.diagnose",
    "attribute": "attribution.attribute",
    "project": "monitoring.project",
    "screen": "monitoring.screen",
    "load_judge": "judges.registry",
    "Judge": "traits.judging",
    "Judgement": "traits.judging",
    "Engine": "models.engines.protocol",
    "on_progress": "progress",
    "PersonaInterpError": "errors",
}
"""The names a newcomer meets, in about that order, and where they live."""

_MORE = {
    "register_family": "models.families",
    "register_alignment": "alignment.methods",
    "register_judge": "judges.kinds",
    "register_format": "vectors.formats",
    "register_operation": "interventions.operations",
    "register_estimator": "vectors.estimators",
    "register_model_kind": "traits.model_kinds",
    "resolve_trait": "traits.model_kinds",
    "AddPreservingNorm": "interventions.operations",
    "AblateThenAdd": "interventions.operations",
    "ProjectionCondition": "interventions.conditions",
    "LinearRamp": "interventions.schedules",
    "ExponentialDecay": "interventions.schedules",
    "StepTable": "interventions.schedules",
    "transformer_lens_hooks": "interventions.compile.transformer_lens",
    "BlockWrites": "interventions.compile.block_writes",
    "bake": "models.baked",
    "choose_layer": "vectors.layer_choice",
    "scan_layers": "measure.layer_scan",
    "read_rows": "transfers.reading",
    "anchors_for": "transfers.anchors",
    "DoseResponse": "measure.dose",
    "Evaluation": "measure.evaluation",
    "LayerEffectiveness": "measure.effectiveness",
    "Attribution": "attribution.attribution",
    "Diagnosis": "measure.diagnostics.diagnosis",
    "Transferred": "transfers.transfer",
    "Generation": "models.results",
    "preventing": "training.prevention",
    "PreventionCallback": "training.callback",
    "finetune": "training.finetune",
    "FinetuneRecipe": "training.recipe",
    "Safeguards": "training.recipe",
    "audit": "training.audit",
}
"""Names for extensions, for rarer needs, and of results; not part of ``from persona_interp import *``."""

__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Load a public name on first use and keep it."""
    home = _HOMES.get(name) or _MORE.get(name)
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("persona-interp")
    elif home is not None:
        value = getattr(import_module(f"persona_interp.{home}"), name)
    else:
        raise AttributeError(f"module 'persona_interp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOMES, *_MORE, "__version__"])
