"""Carrying vectors from one model into another: anchors, what both models make of them, and the direction in the target."""
