"""A result says which versions, command and settings made it."""

from __future__ import annotations

import datetime
import json

import pytest

from persona_interp import provenance as module
from persona_interp.provenance import provenance


def test_the_record_is_json_and_keeps_the_details(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "argv", ["/bin/persona-interp", "info", "v.json"])
    record = json.loads(json.dumps(provenance(seed=3)))
    assert record["seed"] == 3
    assert record["command"] == "persona-interp info v.json"
    assert set(record["versions"]) == {"python", "persona-interp", "torch", "transformers", "nnsight"}
    assert datetime.datetime.fromisoformat(record["created"]).tzinfo is not None
