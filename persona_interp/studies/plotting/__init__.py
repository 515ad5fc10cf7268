"""Figures of studies: a result goes in, a plotly Figure comes out."""
