"""The measures that come with the package, one a file: each registers itself, and loads its library with the first text."""
