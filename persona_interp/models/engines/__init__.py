"""What runs models: one module or folder an engine."""
