"""Persona vectors: extract them, steer with them, measure what they do."""
