"""Judges: objects that score answers for a trait and for coherence, 0 to 100 each."""
