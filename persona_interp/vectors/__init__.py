"""Persona vectors: the object, its file formats, and how it is extracted."""
