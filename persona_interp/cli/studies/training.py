"""``persona-interp study training NAME``: make a model organism from its recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "training",
        help="train one of the bundled model organisms again, from nothing",
        description="The shipped organisms are frozen instruments: a new one goes into a folder of yours and replaces nothing.",
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="for example organism-qwen2")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: organisms/NAME")
    parser.add_argument("--restart", action="store_true", help="start anew even if an interrupted run can be continued")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train with a progress bar, then save; an interrupted run continues where its last checkpoint stopped."""
    from persona_interp.organisms.recipes import recipe_of
    from persona_interp.progress import say, track
    from persona_interp.storage import ensure_writable
    from persona_interp.studies.training.publish import save_organism
    from persona_interp.studies.training.train import CHECKPOINT_EVERY, train

    recipe = recipe_of(args.name)
    folder = args.output or Path("organisms") / recipe.name
    ensure_writable(folder / "organism.json")
    say(f"training {recipe.name}: {recipe.steps} steps; interrupt at will, the same command continues")
    with track(recipe.steps, f"training {recipe.name}") as bar:

        def on_step(step: int, loss: float) -> None:
            bar.to(step)
            if step % 100 == 0:
                say(f"step {step} of {recipe.steps}: loss {loss:.3f}")

        try:
            state = train(recipe, folder / "training", resume=not args.restart, on_step=on_step)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"The same command goes on from the last checkpoint in {folder / 'training'}, "
                f"at most {CHECKPOINT_EVERY} steps back"
            ) from None
    saved = save_organism(state, recipe, folder)
    print(f"saved {saved}: load it with load_model({str(saved)!r})")
