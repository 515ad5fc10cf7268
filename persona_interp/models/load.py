"""`load_model`, under the name by which 0.1 had it."""

from persona_interp.models.registry import load_model as load_model
