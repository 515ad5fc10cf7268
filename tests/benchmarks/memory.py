"""(d) The most memory an extraction holds, at few and at many rollouts, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

COUNTS = (100, 2000)
BAR = 1.05

_CHILD = """
import resource, sys
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.vectors.extract import extract

count = int(sys.argv[1])
model, trait = load_model("organism-qwen2", device="cpu"), organism_trait("silly")
n_questions = min(20, count // 10)
samples = count // (10 * n_questions)
vector = extract(model, trait, judge=GrammarJudge(), samples=samples, questions=trait.extraction_questions[:n_questions],
                 sampling=Sampling(max_new_tokens=32), batch_size=32)
assert vector.counts["rollouts"] == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure() -> dict[int, float]:
    """Number of rollouts -> peak resident memory in MiB."""
    return {count: _peak(count) for count in COUNTS}


def _peak(count: int) -> float:
    ran = subprocess.run([sys.executable, "-c", _CHILD, str(count)], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"the extraction of {count} rollouts failed:\n{ran.stderr}")
    return float(ran.stdout.split()[-1])
