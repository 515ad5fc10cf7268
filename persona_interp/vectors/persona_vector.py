"""The persona vector: one direction per layer of one model, with what is known about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.html_table import html_table
from persona_interp.interventions.conditions import Condition
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add, Operation
from persona_interp.interventions.schedules import Schedule
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.basis import HasIdentity, check_combinable, check_fits, covers_model, identity_of, same_basis
from persona_interp.vectors.massive import MassiveDimension
from persona_interp.vectors.scaled_statistics import OF_THE_MODEL, scaled_statistics
from persona_interp.vectors.validation import check_layers, finite_number, layer_spans, non_finite


@dataclass(frozen=True, eq=False)
class PersonaVector:
    """Directions of one trait in one model's residual stream.

    A layer that is not in `layers` is unknown, which is neither zero nor NaN. Vectors are values: every method returns a new one.

    Attributes:
        directions: float32 on the CPU, row i belongs to block ``layers[i]``; added to that block's output when steering.
        layers: 0-based block indices, increasing.
        trait: name of the trait.
        model: the model whose basis the directions are in.
        positions: how residuals were pooled (``response_avg``, ``prompt_avg``, ``prompt_last``), ``unknown`` or ``mixed``.
        estimator: ``mean_difference``, ``pca``, ``logistic``, ``unknown`` or ``mixed``.
        counts: how many rollouts were made, kept and dropped, and why.
        statistics: name -> one value per layer (None where it could not be had); see `vectors.statistics`.
        massive: dimensions that stand out, see `vectors.massive`.
        provenance: versions, settings, seeds, and what was done to the vector since.
        responses: ``positive`` and ``negative``: answers the vector was made from.

    Example:
        >>> vector = PersonaVector.load("vectors/organism-qwen2_silly.json")
        >>> graph = vector.graph(1.5, layers=[3])
        >>> model.generate([Conversation.ask("How are you?")], graph=graph)

    Raises:
        InvalidInputError: shapes, layers and model do not agree, or a value is NaN or infinite (names layer and count).
    """

    directions: Float[Tensor, "layer d_model"]
    layers: tuple[int, ...]
    trait: str
    model: ModelIdentity
    positions: str = "unknown"
    estimator: str = "unknown"
    counts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    statistics: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict[str, tuple[float | None, ...]])
    massive: tuple[MassiveDimension, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    responses: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "directions", self.directions.detach().to(device="cpu", dtype=torch.float32).contiguous().clone()
        )
        rows, width = self.directions.shape
        check_layers(self.layers, rows)
        if width != self.model.d_model or self.layers[-1] >= self.model.n_layers:
            raise InvalidInputError(
                f"directions of width {width} at layers up to {self.layers[-1]} cannot be of {self.model.name}, "
                f"which has width {self.model.d_model} and layers 0 to {self.model.n_layers - 1}"
            )
        if bad := non_finite(self.directions, self.layers):
            raise InvalidInputError(f"the vector {self.trait!r} holds NaN or infinite values ({bad}): make it again")
        for name, values in self.statistics.items():
            if len(values) != rows:
                raise InvalidInputError(f"statistic {name!r} has {len(values)} values for {rows} layers: give one each")

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.directions.shape[1]

    @property
    def norms(self) -> tuple[float, ...]:
        """Euclidean norm of each direction."""
        return tuple(float(norm) for norm in self.directions.double().square().sum(dim=1).sqrt())

    @property
    def norm_ratios(self) -> tuple[float | None, ...]:
        """Norm of each direction over the mean residual norm at its layer: the perturbation ratio at coefficient 1."""
        resid_norms = self.statistics.get("resid_norm", (None,) * len(self.layers))
        return tuple(norm / resid if resid else None for norm, resid in zip(self.norms, resid_norms, strict=True))

    def at(self, layer: int) -> Float[Tensor, " d_model"]:
        """The direction at one layer.

        Raises:
            InvalidInputError: the vector has no such layer; the message lists those it has.
        """
        return self.directions[self._row(layer)].clone()

    def select(self, layers: Sequence[int]) -> PersonaVector:
        """The same vector at some of its layers only."""
        chosen = sorted(set(layers))
        rows = [self._row(layer) for layer in chosen]
        return replace(
            self,
            directions=self.directions[rows],
            layers=tuple(chosen),
            statistics={name: tuple(values[row] for row in rows) for name, values in self.statistics.items()},
            massive=tuple(entry for entry in self.massive if entry.layer in chosen),
        )

    def _row(self, layer: int) -> int:
        if layer not in self.layers:
            raise InvalidInputError(
                f"the vector {self.trait!r} of {self.model.name} has no layer {layer}: "
                f"it has layers {layer_spans(self.layers)} (0-based)"
            )
        return self.layers.index(layer)

    # -- algebra ---------------------------------------------------------------------------------------------------

    def __add__(self, other: PersonaVector) -> PersonaVector:
        return self._combined(other, "+", torch.add)

    def __sub__(self, other: PersonaVector) -> PersonaVector:
        return self._combined(other, "-", torch.sub)

    def __mul__(self, factor: float) -> PersonaVector:
        number = finite_number(factor, "a factor")
        return self._scaled(torch.full((len(self.layers),), number, dtype=torch.float32), f"* {number:g}")

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> PersonaVector:
        number = finite_number(divisor, "a divisor")
        if number == 0:
            raise InvalidInputError("a vector cannot be divided by 0")
        # Divided rather than multiplied by the inverse, so that v / 3 is what a reader computes.
        return self._scaled(torch.full((len(self.layers),), number, dtype=torch.float32), f"/ {number:g}", divide=True)

    def __neg__(self) -> PersonaVector:
        return self._scaled(torch.full((len(self.layers),), -1.0, dtype=torch.float32), "negated")

    def normalised(self) -> PersonaVector:
        """Every direction at norm 1.

        Raises:
            InvalidInputError: a direction is zero; names its layer.
        """
        if zero := [layer for layer, norm in zip(self.layers, self.norms, strict=True) if norm == 0]:
            raise InvalidInputError(f"the vector {self.trait!r} is zero at layers {zero}: leave them out with select() first")
        return self._scaled(torch.tensor(self.norms, dtype=torch.float32), "normalised", divide=True)

    @staticmethod
    def mean(vectors: Sequence[PersonaVector]) -> PersonaVector:
        """The mean of several vectors of one model at the same layers.

        Raises:
            InvalidInputError: there is none.
            IncompatibleError: models or layers differ.
        """
        if not vectors:
            raise InvalidInputError("the mean of no vectors is not defined: give at least one")
        total = vectors[0]
        for vector in vectors[1:]:
            total = total + vector
        return total / len(vectors)

    def _combined(self, other: PersonaVector, sign: str, combine: Callable[[Tensor, Tensor], Tensor]) -> PersonaVector:
        check_combinable((self.trait, self.model, self.layers), (other.trait, other.model, other.layers))
        return replace(
            self,
            directions=combine(self.directions, other.directions),
            trait=self.trait if self.trait == other.trait else f"{self.trait}{sign}{other.trait}",
            model=self.model if self.model.fingerprint else other.model,
            positions=self.positions if self.positions == other.positions else "mixed",
            estimator=self.estimator if self.estimator == other.estimator else "mixed",
            counts={},
            statistics={name: of.statistics[name] for name in OF_THE_MODEL for of in (other, self) if name in of.statistics},
            massive=(),
            provenance={"derived": [{"operation": sign, "operands": [self._summary(), other._summary()]}]},
            responses={},
        )

    def _scaled(self, factors: Float[Tensor, " layer"], operation: str, *, divide: bool = False) -> PersonaVector:
        column = factors.unsqueeze(1)
        directions = self.directions / column if divide else self.directions * column
        # a product too small for float32 is zero as well, whatever the factor
        vanished = (directions == 0).all(dim=1) & (self.directions != 0).any(dim=1)
        by = [0.0 if gone else float(factor) for gone, factor in zip(vanished, factors, strict=True)]
        emptied = {layer for layer, factor in zip(self.layers, by, strict=True) if factor == 0}
        recorded = self.provenance.get("effectiveness", {})
        statistics = scaled_statistics(self.statistics, by, str(recorded.get("method", "")))
        lost = {"effectiveness"} - statistics.keys()
        kept = {name: value for name, value in self.provenance.items() if name not in lost}
        return replace(
            self,
            directions=directions,
            statistics=statistics,
            massive=tuple(replace(each, direction_share=0.0) if each.layer in emptied else each for each in self.massive),
            provenance={**kept, "derived": [*self.provenance.get("derived", []), {"operation": operation}]},
        )

    def _summary(self) -> dict[str, Any]:
        return {
            "trait": self.trait,
            "model": self.model.to_json(),
            "positions": self.positions,
            "estimator": self.estimator,
            "provenance": dict(self.provenance),
        }

    # -- use -------------------------------------------------------------------------------------------------------

    def graph(
        self,
        coefficient: float = 1.0,
        layers: Sequence[int] | None = None,
        positions: Literal["all", "prompt", "response"] = "all",
        rows: Sequence[int] | None = None,
        *,
        operation: Callable[[Tensor], Operation] = Add,
        condition: Callable[[Tensor], Condition] | Condition | None = None,
        schedule: Schedule | None = None,
    ) -> InterventionGraph:
        """The intervention that adds ``coefficient * direction`` to the output of each block, or does something else with it.

        Example:
            >>> vector.graph(layers=[12], operation=Ablate)
            >>> vector.graph(layers=[12], operation=lambda direction: Cap(direction, bound=4.0))
            >>> vector.graph(-1.5, layers=[12], condition=lambda direction: ProjectionCondition(direction, threshold=2.0))

        Args:
            coefficient: multiplies the vector as it is, whatever its norm; for `Ablate`, `Clamp` and `Cap` from 0 to 1.
            layers: which blocks; every layer of the vector if None.
            positions: ``response`` starts at the last prompt token, which predicts the first answer token.
            rows: which rows of the batch; all if None.
            operation: what to do with the direction of each layer: called with it, returns the operation.
            condition: where to do it, by row and position: one condition for every layer, or called with each layer's direction.
            schedule: how the coefficient changes while an answer is generated.

        Raises:
            InvalidInputError: the coefficient is not a finite number, or the vector has no such layer.
        """
        number = finite_number(coefficient, "the coefficient")
        chosen = self.layers if layers is None else tuple(dict.fromkeys(layers))
        if not chosen:
            raise InvalidInputError(f"no layer was given to steer at: choose from {layer_spans(self.layers)}")
        chosen_rows = None if rows is None else tuple(rows)
        return InterventionGraph(
            tuple(
                Write(
                    layer=layer,
                    operation=operation(self.at(layer)),
                    coefficient=number,
                    positions=positions,
                    rows=chosen_rows,
                    condition=condition(self.at(layer)) if callable(condition) else condition,
                    schedule=schedule,
                )
                for layer in chosen
            )
        )

    def check_fits(self, model: ModelIdentity | HasIdentity) -> None:
        """Refuse a model this vector cannot be added to.

        Another model of the same shape passes, for it may be a finetune of the vector's own; `same_basis` tells them apart.

        Raises:
            IncompatibleError: the width differs, or the model lacks a layer. Names both models and the remedy.
        """
        check_fits(self.trait, self.model, self.layers, identity_of(model), whole=covers_model(self.provenance))

    def same_basis(self, model: ModelIdentity | HasIdentity) -> bool:
        """Whether `model` is the one this vector was made in, by fingerprint, or by name where a file had none."""
        return same_basis(self.model, identity_of(model))

    def save(self, path: str | Path) -> Path:
        """Write the vector in the format of the file's suffix (``.json``, ``.safetensors``, ``.pt``, ``.gguf``), whole or not."""
        from persona_interp.vectors.formats import save

        return save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, *, model: str | ModelIdentity | None = None, trait: str | None = None) -> PersonaVector:
        """Read a vector in the format of the file's suffix.

        Args:
            path: the file.
            model: whose vector it is, for formats that do not say (``.pt``); elsewhere it must agree with the file.
            trait: what it is a vector of, likewise.

        Raises:
            FileFormatError: the file is missing, damaged or holds NaN or infinite values.
            IncompatibleError: the file is of another model or trait than was said.
        """
        from persona_interp.vectors.formats import load

        return load(Path(path), model=model, trait=trait)

    def _repr_html_(self) -> str:
        """In a notebook: what it is, and a row for each layer."""
        columns = {"layer": self.layers, "norm": self.norms, "norm / mean resid": self.norm_ratios, **self.statistics}
        return html_table(repr(self), columns)

    def __repr__(self) -> str:
        return (
            f"PersonaVector({self.trait!r} of {self.model.name}, layers {layer_spans(self.layers)}, width {self.d_model}, "
            f"{self.positions}, {self.estimator})"
        )
