"""Hugging Face models, run by vLLM: a plugin on its releases, with the intervention graphs of every other engine."""
