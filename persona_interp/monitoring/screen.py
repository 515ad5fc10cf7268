"""`screen`: which samples of a training set would push a model along a persona vector, before anybody trains on them.

The score is the projection *difference* of *Persona Vectors* (arXiv 2507.21509, section 6): the mean projection of the sample's
answer minus that of the model's own answer to the same prompt. The plain projection stands beside it; it also rises with whatever
the prompt brings along, which the difference takes away.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import fsum
from pathlib import Path

from persona_interp.errors import InUseError, InvalidInputError
from persona_interp.jsonl_store import JsonlStore, content_key
from persona_interp.locks import folder_lock
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat, Turn
from persona_interp.monitoring.own_answers import ANSWERS, own_answers
from persona_interp.monitoring.project import mean_projections
from persona_interp.monitoring.projection import Axis
from persona_interp.monitoring.screening import ScreenedSample, Screening
from persona_interp.progress import say, track
from persona_interp.provenance import provenance
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

PROJECTIONS = "projections.jsonl"
_ROWS_AT_ONCE = 256
"""Rows projected before their values are written: what an interruption costs at most."""


def screen(
    model: SteerableModel,
    vector: PersonaVector,
    samples: Sequence[Chat],
    *,
    layer: int | None = None,
    own_samples: int = 3,
    sampling: Sampling | None = None,
    seed: int = 0,
    reverse: bool = False,
    folder: str | Path | None = None,
    batch_size: int | None = None,
) -> Screening:
    """Rank training samples by projection difference.

    Example:
        >>> found = screen(model, vector, read_chats("data.jsonl"), folder="data.run")
        >>> [(sample.name, sample.difference) for sample in found.samples[:10]]

    Args:
        model: the one that is to be trained.
        vector: of this model.
        samples: conversations that end with an answer; the last answer of each is judged.
        layer: of the vector; `choose_layer`'s if None.
        own_samples: own answers averaged for each prompt. One alone, drawn at temperature 1, may show the trait by chance and so
            hide a sample that does.
        sampling: how the model's own answers are drawn; `Sampling()` if None.
        seed: of the own answers.
        reverse: put samples first that pull against the vector.
        folder: keeps own answers and projections as they are made, so that an interrupted screening goes on where it stopped;
            own answers are used again for other vectors and layers. None: a temporary one.
        batch_size: rows run together; None lets the model choose.

    Raises:
        InvalidInputError: no sample, one without an answer or too long for the context, or `folder` is of other settings.
        IncompatibleError: the vector does not fit the model.
    """
    vector.check_fits(model.identity)
    if own_samples < 1:
        raise InvalidInputError(f"own_samples is {own_samples}: give at least 1 own answer a prompt")
    sampling = sampling or Sampling()
    layer = choose_layer(vector, model.first_steerable_layer).layer if layer is None else layer
    axis = Axis.of(vector, [layer], "activation")
    turns, rows = _answered(model, samples, sampling.max_new_tokens)
    with _work_folder(folder) as work:
        own = own_answers(
            model, [turn.conversation for turn in turns], samples=own_samples, sampling=sampling, seed=seed, folder=work,
            batch_size=batch_size,
        )  # fmt: skip
        given = _projections(model, axis, rows, work, "the samples", batch_size)
        flat = [answer.tokenised for answers in own for answer in answers]
        theirs = _projections(model, axis, flat, work, "own answers", batch_size)
    screened = [
        ScreenedSample(
            name=chat.name or f"sample {place + 1}",
            prompt=turn.conversation.question,
            answer=turn.answer or "",
            projection=given[place],
            own_projection=_mean(theirs[place * own_samples : (place + 1) * own_samples]),
            own_answers=tuple(answer.text for answer in own[place]),
            planted=chat.planted,
        )
        for place, (chat, turn) in enumerate(zip(samples, turns, strict=True))
    ]
    settings = {"seed": seed, "own_samples": own_samples, "sampling": sampling.to_json(), "vector": vector.model.to_json()}
    return Screening(
        vector.trait, model.identity, layer, axis.norms[0], reverse, tuple(_ranked(screened, reverse)), provenance(**settings)
    )


@contextmanager
def _work_folder(folder: str | Path | None) -> Iterator[Path]:
    """The folder, or a temporary one that is kept only if something goes wrong after work was done in it."""
    kept = Path(tempfile.mkdtemp(prefix="persona-interp-screen-")) if folder is None else Path(folder)
    try:
        with nullcontext() if folder is None else folder_lock(kept):
            yield kept
    except InUseError:
        raise
    except BaseException as error:
        if (kept / ANSWERS).exists():
            what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped by an error"
            say(f"{what}: what was made is kept in {kept}; screen with folder={str(kept)!r} to go on, none of it is made again")
        elif folder is None:
            shutil.rmtree(kept, ignore_errors=True)
        raise
    if folder is None:
        shutil.rmtree(kept, ignore_errors=True)


def _answered(model: SteerableModel, samples: Sequence[Chat], new_tokens: int) -> tuple[list[Turn], list[TokenisedAnswer]]:
    """The last turn of each sample and its ids; refuses what could not be read, all of it at once and by name."""
    if not samples:
        raise InvalidInputError("there is no sample to screen: give at least one")
    turns = [chat.turns[-1] for chat in samples]
    if unanswered := [chat.name for chat, turn in zip(samples, turns, strict=True) if turn.answer is None]:
        raise InvalidInputError(
            f"{_counted(unanswered)} ends without an answer: a training sample ends with the assistant's message, or has a "
            "'response'"
        )
    rows = [model.chat.tokenise(turn.conversation, turn.answer or "") for turn in turns]
    long = [
        chat.name
        for chat, row in zip(samples, rows, strict=True)
        if max(len(row.ids) - 1, row.n_prompt + new_tokens) > model.n_ctx
    ]
    if long:
        raise InvalidInputError(
            f"{_counted(long)} does not fit into the context of {model.name}, {model.n_ctx} tokens for a prompt and its answer "
            f"({new_tokens} for the model's own): shorten it, leave it out, or lower max_new_tokens"
        )
    return turns, rows


def _counted(names: Sequence[str]) -> str:
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"the sample {names[0]!r}{more}"


def _projections(
    model: SteerableModel, axis: Axis, rows: Sequence[TokenisedAnswer], folder: Path, what: str, batch_size: int | None
) -> list[float | None]:
    """Mean projection of each row's answer; what the folder has is not read again, and what is read is written at once."""
    direction = hashlib.sha256(axis.unit_directions.numpy().tobytes()).hexdigest()[:16]
    keys = [content_key(direction, axis.layers, row.ids, row.n_prompt) for row in rows]
    log = JsonlStore(folder / PROJECTIONS)
    missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in log}
    # similar lengths together, longest first, so that a chunk wastes little on padding
    waiting = sorted(missing, key=lambda key: -len(missing[key].ids))
    with track(len(waiting), f"{model.name}: projecting {what}") as bar:
        for start in range(0, len(waiting), _ROWS_AT_ONCE):
            chunk = waiting[start : start + _ROWS_AT_ONCE]
            read = mean_projections(model, [axis], [missing[key] for key in chunk], batch_size=batch_size)[0]
            for key, (_, mean) in zip(chunk, read, strict=True):
                log.put(key, {"projection": None if mean is None else mean[0]})
            bar.advance(len(chunk))
    return [log.get(key)["projection"] for key in keys]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None


def _ranked(samples: Sequence[ScreenedSample], reverse: bool) -> list[ScreenedSample]:
    sign = 1 if reverse else -1
    return sorted(samples, key=lambda s: (s.difference is None, 0.0 if s.difference is None else sign * s.difference))
