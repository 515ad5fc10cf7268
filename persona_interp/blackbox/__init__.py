"""Models that are not PyTorch: GGUF files through llama.cpp, read and steered inside, or shaped from outside."""
