"""What a persona vector sees without steering: in conversations, in training data, and between two checkpoints."""
