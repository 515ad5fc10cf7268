"""``persona-interp info FILE``: what a vector is, and for which model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from persona_interp.cli.registered import add_vector_file

if TYPE_CHECKING:
    from persona_interp.vectors.persona_vector import PersonaVector


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("info", help="say what a vector file holds and for which model", allow_abbrev=False)
    add_vector_file(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the vector's facts and its layers."""
    from persona_interp.cli.tables import console, layer_table
    from persona_interp.vectors.persona_vector import PersonaVector

    vector = PersonaVector.load(args.file)
    screen = console()
    for name, value in facts(vector).items():
        screen.print(f"{name:<12}{value}", markup=False, highlight=False, soft_wrap=True)
    screen.print()
    screen.print(layer_table(vector))


def facts(vector: PersonaVector) -> dict[str, str]:
    """What `info` says above the table; what the file does not know is said to be unknown."""
    model = vector.model
    rollouts = [f"{name} {value}" for name, value in vector.counts.items() if isinstance(value, int)]
    found = {
        "trait": vector.trait,
        "model": f"{model.name} ({model.n_layers} layers, width {model.d_model})",
        "revision": model.revision or "unknown",
        "weights": model.fingerprint or "no fingerprint recorded",
        "layers": f"{len(vector.layers)} of {model.n_layers}, 0-based: {vector.layers[0]} to {vector.layers[-1]}",
        "positions": vector.positions,
        "estimator": vector.estimator,
        "rollouts": ", ".join(rollouts) or "unknown",
        "made": str(vector.provenance.get("created", "unknown")),
    }
    if vector.massive:
        found["massive"] = f"{len(vector.massive)} dimensions stand far out; see the file"
    return found
