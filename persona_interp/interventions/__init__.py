"""Interventions as descriptions: what to write into the residual stream, what to read from it, where, and for which rows."""
