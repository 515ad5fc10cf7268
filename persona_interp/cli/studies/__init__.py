"""Commands of studies: one file a command."""
