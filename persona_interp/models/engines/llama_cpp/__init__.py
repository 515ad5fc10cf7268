"""GGUF files, run by llama.cpp."""
