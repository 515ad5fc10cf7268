"""Served personas: an OpenAI-compatible server in which each request names the persona it is answered by."""
