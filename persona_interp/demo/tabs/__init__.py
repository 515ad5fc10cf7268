"""One file a tab: controls, and what they set going."""
