"""The runtime type checker of the tests: beartype that accepts an int where a float is annotated, as static checkers do."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
