"""Residual-stream activations: which are read, how their statistics stream, and where they are kept."""

from __future__ import annotations

from persona_interp.residuals.cache import ResidualCache, residual_key
from persona_interp.residuals.moments import Moments
from persona_interp.residuals.pooling import POOLINGS, pooling

__all__ = ["POOLINGS", "Moments", "ResidualCache", "pooling", "residual_key"]
