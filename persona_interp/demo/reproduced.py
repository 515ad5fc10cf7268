"""What is on the screen as a command and as Python: both give the same answers, on the machine the page comes from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from persona_interp.demo.site import Site
from persona_interp.demo.vector_files import file_name
from persona_interp.demo.wanted import ADD, Manner, Picked
from persona_interp.jsonl_store import content_key
from persona_interp.models.sampling import Sampling
from persona_interp.storage import home
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.steering import Steering

_SHOWN = "shown"


@dataclass(frozen=True)
class Reproduced:
    """Text to copy.

    Attributes:
        command: of a shell, one line for each command.
        python: a program.
    """

    command: str
    python: str


def reproduced(site: Site, picked: Picked, conversation: Conversation, sampling: Sampling, seed: int) -> Reproduced:
    """The command and the program of a steering; the vectors they read, each at the one layer it steers at, are written.

    Raises:
        PersonaInterpError: the files cannot be written.
    """
    files = [_written(site, part) for part in picked.pushes[0].parts]
    source = site.shelf.source(picked.wanted.model)
    return Reproduced(
        _command(site, source, files, picked, conversation, sampling, seed),
        _python(site, source, files, picked, conversation, sampling, seed),
    )


def _written(site: Site, part: Steering) -> str:
    vector = part.selected
    digest = content_key(vector.directions.tolist(), vector.model.fingerprint)[:8]
    name = f"{file_name(vector.model.name)}_{file_name(vector.trait)}_layer{part.layers[0]}-{digest}.json"
    path = home() / "demo" / _SHOWN / name
    if not path.exists():
        vector.save(path)
    return str(path) if site.shows_paths else name


def _command(
    site: Site, source: str, files: Sequence[str], picked: Picked, asked: Conversation, sampling: Sampling, seed: int
) -> str:
    manner, doses = picked.wanted.manner, picked.wanted.doses
    system = [] if asked.system is None else ["--system", asked.system]
    head = ["persona-interp", "apply-steering", "--model", source, "--vectors", *files, "--prompt", asked.question, *system]
    if site.engine is not None:
        head += ["--engine", site.engine]
    tail = ["--max-new-tokens", str(sampling.max_new_tokens), "--temperature", f"{sampling.temperature:g}", "--seed", str(seed)]
    if manner.positions != "all":
        tail += ["--positions", manner.positions]
    if manner.operation != ADD:
        tail += ["--operation", manner.operation]
    if manner.kind.needs():
        tail += ["--value", repr(manner.value)]
    strengths = [list(each) for each in doses]
    if len(files) == 1:  # several doses of one vector are one command
        strengths = [[dose for each in doses for dose in each]]
    option = "--coefficient" if manner.takes_share else "--ratio"
    lines = ([*head, option, *map(repr, each), *tail, "--baseline"] for each in strengths)
    return "\n".join(shlex.join(line) for line in lines)


def _python(
    site: Site, source: str, files: Sequence[str], picked: Picked, asked: Conversation, sampling: Sampling, seed: int
) -> str:
    manner = picked.wanted.manner
    engine = "" if site.engine is None else f", engine={site.engine!r}"
    system = "" if asked.system is None else f", system={asked.system!r}"
    names = ["vector"] if len(files) == 1 else [f"vector_{number}" for number in range(1, len(files) + 1)]
    lines = ["import persona_interp as pi", *_imports(manner), ""]
    lines += [f"model = pi.load_model({source!r}{engine})"]
    lines += [f"{name} = pi.PersonaVector.load({file!r})" for name, file in zip(names, files, strict=True)]
    lines += [f"question = pi.Conversation.ask({asked.question!r}{system})"]
    lines += [f"sampling = pi.Sampling(max_new_tokens={sampling.max_new_tokens}, temperature={sampling.temperature!r})"]
    lines += [f"print('baseline:', model.generate([question], sampling=sampling, seed=[{seed}])[0].text)"]
    layers = [part.layers[0] for part in picked.pushes[0].parts]
    for doses in picked.wanted.doses:
        graphs = (_graph(manner, name, layer, dose) for name, layer, dose in zip(names, layers, doses, strict=True))
        lines += [f"graph = {' + '.join(graphs)}"]
        label = ", ".join(f"{dose:g}" for dose in doses)
        lines += [f"steered = model.generate([question], graph=graph, sampling=sampling, seed=[{seed}])[0].text"]
        lines += [f"print('steered at {label}:', steered)"]
    return "\n".join(lines) + "\n"


def _graph(manner: Manner, name: str, layer: int, dose: float) -> str:
    if dose == 0:
        return "pi.InterventionGraph()"  # nothing is done, whatever the operation does at 0
    options = [f"coefficient={dose!r}" if manner.takes_share else f"ratio={dose!r}", f"layers=[{layer}]"]
    if manner.positions != "all":
        options.append(f"positions={manner.positions!r}")
    if manner.operation != ADD:
        numbers = "".join(f", {each}={manner.value!r}" for each in manner.kind.needs())
        kind = manner.kind.__name__
        options.append(f"operation={f'lambda direction: {kind}(direction{numbers})' if numbers else kind}")
    return f"{name}.graph({', '.join(options)})"


def _imports(manner: Manner) -> list[str]:
    return [] if manner.operation == ADD else [f"from {manner.kind.__module__} import {manner.kind.__name__}"]
