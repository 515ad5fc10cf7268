"""The command line: one file a command; each turns options into library calls, and results into files and tables."""

from __future__ import annotations

from persona_interp.cli.entry import build_parser, main

__all__ = ["build_parser", "main"]
