"""What repeng makes of a control vector of ours, and a control vector it trained itself.

A script: test_repeng.py runs it in an environment made for it, whose numpy is too old for this package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy
import torch
from repeng import ControlModel, ControlVector, DatasetEntry
from transformers import AutoModelForCausalLM, AutoTokenizer

PAIRS = (("funny", "grave"), ("silly", "formal"), ("playful", "stern"), ("cheerful", "sober"))


def numbers(vector: ControlVector) -> dict[str, list[float]]:
    """Directions by repeng's own layer numbers."""
    return {str(layer): direction.tolist() for layer, direction in vector.directions.items()}


def main(ours: str, theirs: str, checkpoint: str, job: dict[str, Any]) -> dict[str, Any]:
    """Read `ours`, train and write `theirs`, and steer the model with each of them.

    Args:
        ours: control vector to read.
        theirs: where to write one.
        checkpoint: folder of the model.
        job: ``layers``, ``ids`` of a text, ``coefficient``.
    """
    hf_model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = ControlModel(hf_model, job["layers"])

    def logits() -> list[float]:
        with torch.no_grad():
            return model(torch.tensor([job["ids"]])).logits[0, -1].tolist()

    read = ControlVector.import_gguf(ours)
    pairs = [DatasetEntry(positive=f"Be {one}.", negative=f"Be {other}.") for one, other in PAIRS]
    made = ControlVector.train(model, tokenizer, pairs, hidden_layers=job["layers"])
    made.export_gguf(theirs)
    found = {
        "numpy": numpy.__version__,
        "hint": read.model_type,
        "read": numbers(read),
        "made": numbers(made),
        "plain": logits(),
    }
    for name, vector in (("steered by ours", read), ("steered by theirs", made)):
        model.set_control(vector, job["coefficient"])
        found[name] = logits()
    return found


if __name__ == "__main__":
    *files, job, result = sys.argv[1:]
    Path(result).write_text(json.dumps(main(*files, json.loads(job))), encoding="utf-8")
