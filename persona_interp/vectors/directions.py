"""One direction for each of several layers, as arithmetic uses it: `v[12]`, `h @ v[12]`, `v.project(h)`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.directed import unit
from persona_interp.vectors.validation import layer_spans


class Directions:
    """What a `PersonaVector` has of a mapping from layers to directions; ``len(v)`` layers, ``for layer in v``, ``12 in v``.

    Attributes:
        directions: row i belongs to block ``layers[i]``.
        layers: 0-based block indices, increasing.
    """

    directions: Float[Tensor, "layer d_model"]
    layers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[int]:
        return iter(self.layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self.layers

    def __getitem__(self, layer: int) -> Float[Tensor, " d_model"]:
        return self.at(layer)

    def items(self) -> Iterator[tuple[int, Float[Tensor, " d_model"]]]:
        """Layers with their directions."""
        return ((layer, self.at(layer)) for layer in self.layers)

    def at(self, layer: int) -> Float[Tensor, " d_model"]:
        """The direction at one layer; ``vector[layer]`` is the same.

        Raises:
            InvalidInputError: the vector has no such layer; the message lists those it has.
        """
        return self.directions[self.row(layer)].clone()

    def row(self, layer: int) -> int:
        """The place of a layer among `layers`; raises as `at`."""
        given: Any = layer
        if isinstance(given, bool) or given not in self.layers:
            raise InvalidInputError(f"{self.whose} has no layer {given}: it has layers {layer_spans(self.layers)} (0-based)")
        return self.layers.index(layer)

    @property
    def whose(self) -> str:
        """How errors call it."""
        return "the vector"

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.directions.shape[1]

    @property
    def norms(self) -> Float[Tensor, " layer"]:
        """Euclidean norm of each direction, float64 on the CPU."""
        return self.directions.detach().cpu().double().square().sum(dim=1).sqrt()

    def project(self, resid: Tensor, layer: int | None = None) -> Tensor:
        """How far residuals lie along the direction, in their own unit: ``h @ v / |v|``.

        Example:
            >>> vector.project(h, layer=12)  # h [*any d_model] -> [*any]
            >>> vector.project(model.read(texts, layers=vector.layers))  # [text layer d_model] -> [text layer]

        Args:
            resid: ``[*any d_model]`` with `layer`, else ``[*any layer d_model]``, one row for each of the vector's layers in
                their order. A vector of one layer takes either.
            layer: at which they were read.

        Returns:
            ``[*any]`` or ``[*any layer]``, in the wider of the two dtypes, where `resid` lies.

        Raises:
            InvalidInputError: shapes do not agree, the vector lacks the layer, or is zero there.
        """
        width = resid.shape[-1] if resid.ndim else 0
        if width != self.d_model:
            raise InvalidInputError(
                f"residuals of shape {list(resid.shape)} end in width {width}: {self.whose} has {self.d_model}"
            )
        if layer is None and len(self.layers) > 1 and (resid.ndim < 2 or resid.shape[-2] != len(self.layers)):
            raise InvalidInputError(
                f"residuals of shape {list(resid.shape)} have no axis for the layers {layer_spans(self.layers)} of {self.whose}: "
                "give [..., layer, d_model], or name the layer they were read at"
            )
        along = self.directions[self.row(layer)] if layer is not None else self.directions
        along = along[0] if len(self.layers) == 1 and along.ndim == 2 else along
        if bool((along == 0).all(dim=-1).any()):
            raise InvalidInputError(f"{self.whose} is zero at a layer, so nothing lies along it there: select() others")
        dtype = torch.promote_types(torch.promote_types(resid.dtype, along.dtype), torch.float32)
        return (resid.to(dtype) * unit(along.to(device=resid.device, dtype=dtype))).sum(dim=-1)
