"""How far the answers a vector was made from point along it: one number for each answer and layer.

Read from the folder of the extraction; no model runs. Each answer is projected onto the unit direction made from the *other* half
of the questions, as the held-out statistics are, since any answers lie far out along a direction made from themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.provenance import provenance
from persona_interp.residuals.cache import ResidualCache, residual_key
from persona_interp.storage import check_format_version, read_json
from persona_interp.traits.judging import Judgement
from persona_interp.vectors.collection import READING
from persona_interp.vectors.estimators import Estimator
from persona_interp.vectors.estimators import estimator as estimator_called
from persona_interp.vectors.pairs import Selection, Thresholds, halves_by_question, select_pairs
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollout_log import RolloutLog
from persona_interp.vectors.rollouts import Rollout, RolloutKey
from persona_interp.vectors.statistics import HALVES, PairedResiduals

FORMAT_VERSION = 1
_GIVEN = "scores given with the rollouts"


@dataclass(frozen=True)
class PairProjections:
    """Projections of the kept pairs, in activation units.

    Attributes:
        trait: name of the trait.
        model: name of the model.
        positions: how residuals were pooled.
        layers: 0-based blocks.
        positive: for each layer, one value a positive answer.
        negative: likewise; in the same order of the pairs.
        held_out: whether each answer was projected onto a direction made without its question. If not, there was nothing to hold
            out, and positives and negatives look further apart than they are.
    """

    trait: str
    model: str
    positions: str
    layers: tuple[int, ...]
    positive: tuple[tuple[float, ...], ...]
    negative: tuple[tuple[float, ...], ...]
    held_out: bool

    def to_json(self) -> dict[str, Any]:
        """JSON values, with where they came from; numbers to six digits."""
        return {
            "format_version": FORMAT_VERSION,
            "trait": self.trait,
            "model": self.model,
            "positions": self.positions,
            "layers": list(self.layers),
            "positive": [[float(f"{value:.6g}") for value in row] for row in self.positive],
            "negative": [[float(f"{value:.6g}") for value in row] for row in self.negative],
            "held_out": self.held_out,
            "provenance": provenance(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "projections of pairs") -> PairProjections:
        """The inverse of `to_json`, but for digits.

        Raises:
            FileFormatError: another format version, or a field that is missing or malformed.
        """
        check_format_version(data, FORMAT_VERSION, source)
        try:
            positive, negative = (tuple(tuple(map(float, row)) for row in data[side]) for side in ("positive", "negative"))
            named = {name: str(data[name]) for name in ("trait", "model", "positions")}
            layers, held_out = tuple(map(int, data["layers"])), bool(data["held_out"])
            return cls(**named, layers=layers, positive=positive, negative=negative, held_out=held_out)
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{source}: a field is missing or malformed ({error!r})") from error


def pair_projections(folder: str | Path, vector: PersonaVector) -> PairProjections:
    """The projections of the answers that `vector` was made from.

    Example:
        >>> vector = extract(model, "silly", judge=judge, folder="runs/silly")
        >>> projection_figure(pair_projections("runs/silly", vector))

    Args:
        folder: of the extraction that made it.
        vector: says which answers were kept, how they were pooled, and by which estimator. What was done to it since does not
            matter: directions are made again.

    Raises:
        FileFormatError: the folder holds no extraction, or is damaged.
        InvalidInputError: the vector is of another extraction, or its file does not say how it was made.
    """
    folder = Path(folder)
    settings = read_json(folder / "settings.json", "extraction settings")
    if settings.get("model") != vector.model.fingerprint or settings.get("trait") != vector.trait:
        raise InvalidInputError(
            f"{folder} holds answers for {settings.get('trait')!r} of model {settings.get('model')!r}, the vector is of "
            f"{vector.trait!r} and {vector.model.fingerprint!r} ({vector.model.name}): give the folder it was made in"
        )
    log = RolloutLog(folder, {name: value for name, value in settings.items() if name != "format_version"})
    with ResidualCache(folder / "residuals") as cache:
        residuals = _residuals(cache, log, vector, str(settings.get("dtype")))
        estimate = estimator_called(vector.estimator)
        pairs = [_projected(residuals, layer, estimate) for layer in vector.layers]
    return PairProjections(
        trait=vector.trait,
        model=vector.model.name,
        positions=vector.positions,
        layers=vector.layers,
        positive=tuple(positive for positive, _ in pairs),
        negative=tuple(negative for _, negative in pairs),
        held_out=residuals.split,
    )


def _residuals(cache: ResidualCache, log: RolloutLog, vector: PersonaVector, dtype: str) -> PairedResiduals:
    """Where the residuals of the kept pairs are."""
    samples = vector.provenance.get("settings", {}).get("samples")
    rollouts = {r.key: r for r in log.scan() if samples is None or r.key.slot.sample < samples}
    selection = _selection(log, rollouts.values(), vector)
    kept = {sign: [rollouts[key] for key in selection.keys(sign)] for sign in ("positive", "negative")}
    graph, computed_in = READING.fingerprint(), getattr(torch, dtype.removeprefix("torch."), torch.float32)

    def key(rollout: Rollout) -> str:
        ids = (*rollout.prompt_ids, *rollout.answer_ids)
        return residual_key(vector.model.fingerprint, computed_in, ids, len(rollout.prompt_ids), graph)

    asked = [
        (one.conversation.question, other.conversation.question)
        for one, other in zip(kept["positive"], kept["negative"], strict=True)
    ]
    keys = {sign: tuple(map(key, found)) for sign, found in kept.items()}
    return PairedResiduals(cache, vector.positions, keys["positive"], keys["negative"], halves_by_question(asked))


def _selection(log: RolloutLog, rollouts: Iterable[Rollout], vector: PersonaVector) -> Selection:
    """The pairs that were kept, found again by the filter the vector's record describes."""
    listed = list(rollouts)
    try:
        recorded: dict[str, Any] = vector.provenance["filter"]
        n_kept, judge = vector.counts["kept_pairs"], recorded["judge"]
        thresholds = Thresholds(**recorded.get("thresholds", {}))
    except (KeyError, TypeError) as error:
        raise InvalidInputError(
            f"the vector {vector.trait!r} does not say which answers it was made from: use one that extraction made, as it is"
        ) from error
    judgements = None if judge is None else _judgements(log, listed, judge)
    selection = select_pairs({rollout.key: rollout.readable for rollout in listed}, judgements, thresholds)
    if len(selection.kept) != n_kept:
        raise InvalidInputError(
            f"{log.folder} keeps {len(selection.kept)} pairs, the vector was made from {n_kept}: it is of another extraction, or "
            "rollouts were added since; extract it again with that folder"
        )
    return selection


def _judgements(log: RolloutLog, rollouts: Iterable[Rollout], judge: str) -> dict[RolloutKey, Judgement]:
    if judge == _GIVEN:
        return {rollout.key: rollout.judgement for rollout in rollouts if rollout.judgement is not None}
    labels = [label for label in log.judges() if label.rpartition(" ")[0] == judge]
    if len(labels) != 1:
        raise FileFormatError(
            f"{log.folder} holds scores of {len(labels)} judges called {judge!r}, of which the vector used one: extract it again "
            "with that folder, or into a new one"
        )
    return log.judgements(labels[0])


def _projected(residuals: PairedResiduals, layer: int, estimate: Estimator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """All positives and all negatives of one layer, each along the direction of the half it is not in."""
    texts = {sign: residuals.at_layer(sign, layer) for sign in (1, -1)}
    halves = torch.tensor(residuals.halves)
    values = {sign: torch.zeros(len(halves), dtype=torch.float64) for sign in (1, -1)}
    for half in HALVES if residuals.split else (0,):
        made_from = halves != half if residuals.split else halves == half
        direction = estimate(texts[1][made_from], texts[-1][made_from]).double()
        unit = direction / direction.norm().clamp_min(torch.finfo(torch.float64).tiny)
        for sign, seen in texts.items():
            values[sign][halves == half] = seen[halves == half].double() @ unit
    return tuple(values[1].tolist()), tuple(values[-1].tolist())
