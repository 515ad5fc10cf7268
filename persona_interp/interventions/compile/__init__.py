"""Compilers: an `InterventionGraph` becomes an nnsight trace or plain PyTorch hooks, with one shared arithmetic."""
