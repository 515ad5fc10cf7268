"""Models with named layers: loading, chat formats, and the verbs capture, generate and log_likelihood."""
