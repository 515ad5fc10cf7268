"""How the model organisms were trained."""
