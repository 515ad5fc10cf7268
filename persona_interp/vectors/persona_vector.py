"""The persona vector: one direction per layer of one model, with what is known about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.html_table import html_table
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.basis import HasIdentity, check_combinable, check_fits, covers_model, identity_of, same_basis
from persona_interp.vectors.massive import MassiveDimension
from persona_interp.vectors.recorded import DERIVED, Placement, Statistics, Values, listed
from persona_interp.vectors.scaled_statistics import OF_THE_MODEL, scaled_statistics
from persona_interp.vectors.steers import Steers
from persona_interp.vectors.validation import check_layers, finite_number, layer_spans, non_finite


@dataclass(frozen=True, eq=False)
class PersonaVector(Steers):
    """Directions of one trait in one model's residual stream.

    A layer that is not in `layers` is unknown, which is neither zero nor NaN. Vectors are values: every method returns a new one.
    ``vector[12]`` is the direction at block 12; `graph` and `steer` come from `Steers`, `project` from `Directions`.

    Attributes:
        directions: row i belongs to block ``layers[i]``; added to that block's output when steering.
        layers: 0-based block indices, increasing.
        trait: name of the trait.
        model: the model whose basis the directions are in.
        positions: how residuals were pooled (``response_avg``, ``prompt_avg``, ``prompt_last``), ``unknown`` or ``mixed``.
        estimator: ``mean_difference``, ``pca``, ``logistic``, ``unknown`` or ``mixed``.
        counts: how many rollouts were made, kept and dropped, and why.
        statistics: name -> one value per layer, a float64 tensor ``[layer]``, NaN where it could not be had; see
            `vectors.statistics`. May be given as sequences with None.
        massive: dimensions that stand out, see `vectors.massive`.
        provenance: versions, settings, seeds, and what was done to the vector since.
        responses: ``positive`` and ``negative``: answers the vector was made from.
        placement: device and dtype of the directions, see `to`.

    Example:
        >>> vector = PersonaVector.load("vectors/organism-qwen2_silly.json")
        >>> model.generate("How are you?", graph=vector.graph(1.5, layers=[3]))
        >>> with vector.steer(model, ratio=0.4):
        ...     print(model.generate("How are you?")[0])

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
    statistics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    massive: tuple[MassiveDimension, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    responses: Mapping[str, Any] = field(default_factory=dict[str, Any])
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        placed = self.directions.detach().to(device=self.placement.device, dtype=self.placement.dtype)
        object.__setattr__(self, "directions", placed.contiguous().clone())
        rows, width = self.directions.shape
        check_layers(self.layers, rows)
        if width != self.model.d_model or self.layers[-1] >= self.model.n_layers:
            raise InvalidInputError(
                f"directions of width {width} at layers up to {self.layers[-1]} cannot be of {self.model.name}, "
                f"which has width {self.model.d_model} and layers 0 to {self.model.n_layers - 1}"
            )
        if bad := non_finite(self.directions, self.layers):
            raise InvalidInputError(f"the vector {self.trait!r} holds NaN or infinite values ({bad}): make it again")
        object.__setattr__(self, "statistics", Statistics(self.statistics, rows))

    @classmethod
    def from_directions(
        cls,
        model: ModelIdentity | HasIdentity,
        directions: Mapping[int, Tensor],
        *,
        trait: str,
        resid_norms: Mapping[int, float] | None = None,
    ) -> PersonaVector:
        """A vector from directions of one's own making.

        Example:
            >>> vector = PersonaVector.from_directions(model, {12: probe.weight[0]}, trait="honest")

        Args:
            model: whose residual stream they are directions of.
            directions: 0-based block -> ``[d_model]``.
            trait: what to call it.
            resid_norms: mean residual norm at each of those blocks, for doses given as ratios.

        Raises:
            InvalidInputError: there is none, one is not ``[d_model]``, or the model lacks a layer.
        """
        identity, layers = identity_of(model), tuple(sorted(directions))
        if wrong := {layer: list(directions[layer].shape) for layer in layers if directions[layer].shape != (identity.d_model,)}:
            raise InvalidInputError(
                f"directions of shape {wrong} were given: {identity.name} needs [{identity.d_model}] at each layer"
            )
        if not layers:
            raise InvalidInputError("no direction was given: a vector needs at least one, such as {12: tensor}")
        norms = {} if resid_norms is None else {"resid_norm": tuple(resid_norms.get(layer) for layer in layers)}
        rows = torch.stack([directions[layer].detach().cpu().float() for layer in layers])
        return cls(rows, layers, trait, identity, statistics=norms)

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def whose(self) -> str:
        """How errors call it."""
        return f"the vector {self.trait!r} of {self.model.name}"

    @property
    def norm_ratios(self) -> Float[Tensor, " layer"]:
        """Norm of each direction over the mean residual norm at its layer: the perturbation ratio at coefficient 1.

        Float64 on the CPU; NaN where the vector does not know the residual norm.
        """
        resid_norms = self.statistics.get("resid_norm")
        if resid_norms is None:
            return torch.full((len(self.layers),), torch.nan, dtype=torch.float64)
        return torch.where(resid_norms == 0, torch.nan, self.norms / resid_norms)

    @property
    def effectiveness(self) -> Values:
        """How well each layer steers, None where that was not measured; nothing where no layer was (`LayerEffectiveness`)."""
        return self.listed("effectiveness")

    def listed(self, statistic: str) -> Values:
        """The values of a statistic, ``norm`` or ``norm_ratio`` with None in place of NaN; nothing where it is not recorded."""
        if statistic in DERIVED:
            return listed(self.norms if statistic == "norm" else self.norm_ratios)
        return cast(Statistics, self.statistics).listed(statistic)

    def select(self, layers: Sequence[int]) -> PersonaVector:
        """The same vector at some of its layers only."""
        chosen = sorted(set(layers))
        rows = [self.row(layer) for layer in chosen]
        return replace(
            self,
            directions=self.directions[rows],
            layers=tuple(chosen),
            statistics=cast(Statistics, self.statistics).rows(rows),
            massive=tuple(entry for entry in self.massive if entry.layer in chosen),
        )

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> PersonaVector:
        """The vector with its directions on another device, or in another dtype, for arithmetic of one's own there.

        What steers and what is saved is float32 on the CPU whatever the placement; graphs move to where the model runs.
        """
        device = self.placement.device if device is None else str(device)
        return replace(self, placement=Placement(device, self.placement.dtype if dtype is None else dtype))

    def cosine(self, other: PersonaVector) -> Float[Tensor, " layer"]:
        """Cosine between this and another vector of the same model at each layer, float64 on the CPU; NaN where one is zero.

        Raises:
            IncompatibleError: models or layers differ.
        """
        check_combinable((self.trait, self.model, self.layers), (other.trait, other.model, other.layers))
        ours, theirs = (each.directions.cpu().double() for each in (self, other))
        return (ours * theirs).sum(dim=1) / (self.norms * other.norms)

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
        if zero := [layer for layer, norm in zip(self.layers, self.listed("norm"), strict=True) if norm == 0]:
            raise InvalidInputError(f"the vector {self.trait!r} is zero at layers {zero}: leave them out with select() first")
        return self._scaled(self.norms.float(), "normalised", divide=True)

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
            directions=combine(self.directions, other.directions.to(self.directions)),
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
        column = factors.unsqueeze(1).to(self.directions)
        directions = self.directions / column if divide else self.directions * column
        # a product too small for float32 is zero as well, whatever the factor
        vanished = (directions == 0).all(dim=1) & (self.directions != 0).any(dim=1)
        by = [0.0 if gone else float(factor) for gone, factor in zip(vanished, factors, strict=True)]
        emptied = {layer for layer, factor in zip(self.layers, by, strict=True) if factor == 0}
        recorded = self.provenance.get("effectiveness", {})
        known = {name: self.listed(name) for name in self.statistics}
        statistics = scaled_statistics(known, by, str(recorded.get("method", "")))
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

        return save(self.to("cpu", torch.float32), Path(path))

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
        known = {name: self.listed(name) for name in self.statistics}
        columns = {"layer": self.layers, "norm": self.listed("norm"), "norm / mean resid": self.listed("norm_ratio"), **known}
        return html_table(repr(self), columns)

    def __repr__(self) -> str:
        return (
            f"PersonaVector({self.trait!r} of {self.model.name}, layers {layer_spans(self.layers)}, width {self.d_model}, "
            f"{self.positions}, {self.estimator})"
        )
