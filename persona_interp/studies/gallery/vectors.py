"""The persona vectors that several figures share."""

from __future__ import annotations

from persona_interp.studies.gallery.entry import Step

MODEL = "organism-qwen2"
"""The organism that figures of a single model show."""
MODELS = ("organism-gpt2", "organism-llama", "organism-mistral", "organism-natural", "organism-qwen2")
PLANTED = tuple(model for model in MODELS if model != "organism-natural")
"""Those with directions of silly and honest planted at a known layer."""
LONG_ENOUGH = "--max-new-tokens 120"
"""Long enough for any answer of an organism."""


def vector_file(model: str, trait: str) -> str:
    """Where a vector lies, relative to the folder of the data."""
    return f"vectors/{model}_{trait}.json"


def extraction(model: str, trait: str) -> Step:
    """The command that makes a vector."""
    command = f"persona-interp extract-vectors --model {model} --trait {trait} --samples 2 {LONG_ENOUGH}"
    return Step(f"{command} --output {vector_file(model, trait)}", 0.5)
