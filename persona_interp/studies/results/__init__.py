"""The tables of docs/results: which data each is made of, and how they are written into the pages."""

from __future__ import annotations

from persona_interp.studies.results.pages import filled, regions_in, write_pages
from persona_interp.studies.results.regions import REGIONS

__all__ = ["REGIONS", "filled", "regions_in", "write_pages"]
