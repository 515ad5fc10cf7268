"""PyTorch models, run through nnsight."""
