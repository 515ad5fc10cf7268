"""Judges measured against the truth the grammar knows."""
