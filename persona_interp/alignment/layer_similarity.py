"""Similarity of all pairs of layers of two models, from rows that pass by once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import symmetric_eigen, thin_svd
from persona_interp.errors import IncompatibleError, InvalidInputError, unknown_name

MEASURES = ("cka", "svcca", "pwcca", "angle")
"""``angle`` is the mean principal angle, in radians, between what the two layers' leading directions span over the rows: small
where layers are alike. The others are larger there, see `alignment.similarity`, whose functions give the same from rows."""

Layers = Mapping[int, Float[Tensor, "_ _"]]
"""Layer -> rows ``[row d_model]``."""
Stacked = Float[Tensor, "row layer d_model"]
_EPS, _TINY = torch.finfo(torch.float64).eps, torch.finfo(torch.float64).tiny


def similarity_matrices(
    chunks: Iterable[tuple[Layers, Layers]], *, measures: Sequence[str] = MEASURES, variance: float = 0.99
) -> dict[str, Float[Tensor, "source_layer target_layer"]]:
    """Measure -> similarity of each source layer with each target layer, in the order of the first chunk's layers.

    Memory: the cross-products of all layers of the one model with all of the other, and each layer's own; none of it grows with
    the number of rows. For wide and deep models give some of the layers.

    Example:
        >>> found = similarity_matrices([({0: source_rows}, {0: target_rows, 1: others})], measures=["cka"])
        >>> found["cka"]  # one row, two columns

    Args:
        chunks: ({layer: rows} of the source, {layer: rows} of the target), the same texts in the same order on both sides.
        measures: of `MEASURES`.
        variance: share of each layer's variance that its leading directions hold, for all but ``cka``.

    Raises:
        UnknownNameError: no such measure.
        InvalidInputError: fewer than 4 rows, other numbers of rows, NaN or infinite values, or `variance` is no share.
        IncompatibleError: chunks of other layers or widths.
    """
    for measure in measures:
        if measure not in MEASURES:
            raise unknown_name("measure of layers", measure, MEASURES)
    if not 0 < variance <= 1:
        raise InvalidInputError(f"variance {variance:g} is no share: give more than 0 and at most 1")
    sums: _Sums | None = None
    layers: tuple[list[int], list[int]] | None = None
    for source, target in chunks:
        named = (list(source), list(target))
        if layers is not None and named != layers:
            raise IncompatibleError(f"a chunk of layers {named} follows one of {layers}: give the same layers in every chunk")
        layers = named
        x, y = _stacked(source, "source"), _stacked(target, "target")
        if len(x) == 0 and len(y) == 0:
            continue
        if sums is None:
            sums = _Sums.before(x, y)
        sums.include(x, y)
    if sums is None or sums.count < 4:
        raise InvalidInputError(f"a similarity of {sums.count if sums else 0} rows means nothing: give at least 4")
    sums.centre()
    found = {"cka": _cka(sums)} if "cka" in measures else {}
    if set(measures) - {"cka"}:
        found |= _canonical(sums, variance)
    return {measure: found[measure] for measure in measures}


@dataclass
class _Sums:
    """What CKA and canonical correlations need, of deviations from the first chunk's means, later from the means of all.

    Debiased CKA leaves out what a row has in common with itself, so it needs the products of both sides' squared lengths, too.
    """

    count: int
    origins: tuple[Tensor, Tensor]
    totals: tuple[Tensor, Tensor]
    cross: Float[Tensor, "s d t e"]
    own: tuple[Float[Tensor, "s d d"], Float[Tensor, "t e e"]]
    lengths: Float[Tensor, "s t"]
    own_lengths: tuple[Float[Tensor, " s"], Float[Tensor, " t"]]
    weighted: tuple[Float[Tensor, "t s d"], Float[Tensor, "s t e"]]
    own_weighted: tuple[Float[Tensor, "s d"], Float[Tensor, "t e"]]

    @classmethod
    def before(cls, x: Float[Tensor, "x_row s d"], y: Float[Tensor, "y_row t e"]) -> _Sums:
        """No rows yet; these say widths and where deviations are counted from."""
        (s, d), (t, e) = x.shape[1:], y.shape[1:]

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=x.device)

        return cls(
            count=0,
            origins=(x.mean(dim=0), y.mean(dim=0)),
            totals=(zeros(s, d), zeros(t, e)),
            cross=zeros(s, d, t, e),
            own=(zeros(s, d, d), zeros(t, e, e)),
            lengths=zeros(s, t),
            own_lengths=(zeros(s), zeros(t)),
            weighted=(zeros(t, s, d), zeros(s, t, e)),
            own_weighted=(zeros(s, d), zeros(t, e)),
        )

    def include(self, x: Float[Tensor, "x_row s d"], y: Float[Tensor, "y_row t e"]) -> None:
        """Count in these rows, in place."""
        if len(x) != len(y) or (x.shape[1:], y.shape[1:]) != (self.totals[0].shape, self.totals[1].shape):
            raise IncompatibleError(
                f"rows, layers and widths {tuple(x.shape)} and {tuple(y.shape)} do not go with each other, or with earlier "
                f"chunks of {tuple(self.totals[0].shape)} and {tuple(self.totals[1].shape)}: give the same texts and layers"
            )
        self.count += len(x)
        sides = (x - self.origins[0], y - self.origins[1])
        squares = tuple(side.square().sum(dim=2) for side in sides)
        flat = tuple(side.flatten(1) for side in sides)
        self.cross.view(flat[0].shape[1], -1).addmm_(flat[0].T, flat[1])
        self.lengths.addmm_(squares[0].T, squares[1])
        for side, rows in enumerate(sides):
            other = squares[1 - side]
            by_layer = rows.transpose(0, 1)
            self.totals[side].add_(rows.sum(dim=0))
            self.own[side].baddbmm_(by_layer.transpose(1, 2), by_layer)
            self.own_lengths[side].add_(squares[side].square().sum(dim=0))
            self.weighted[side].view(other.shape[1], -1).addmm_(other.T, flat[side])
            self.own_weighted[side].add_(einsum(squares[side], rows, "row s, row s d -> s d"))

    def centre(self) -> None:
        """From here on, deviations are from the means of all rows. Products of squared lengths are expanded around them."""
        n = self.count
        g, h = (total / n for total in self.totals)
        g2, h2 = g.square().sum(dim=1), h.square().sum(dim=1)
        traces = [own.diagonal(dim1=1, dim2=2).sum(dim=1) for own in self.own]
        self.lengths += 4 * einsum(einsum(self.cross, h, "s d t e, t e -> s d t"), g, "s d t, s d -> s t")
        self.lengths -= 2 * einsum(self.weighted[1], h, "s t e, t e -> s t")
        self.lengths -= 2 * einsum(self.weighted[0], g, "t s d, s d -> s t")
        self.lengths += torch.outer(traces[0], h2) + torch.outer(g2, traces[1]) - 3 * n * torch.outer(g2, h2)
        for lengths, own, mean, weighted, trace, m2 in zip(
            self.own_lengths, self.own, (g, h), self.own_weighted, traces, (g2, h2), strict=True
        ):
            lengths += 4 * einsum(own, mean, mean, "s d e, s d, s e -> s") - 4 * (weighted * mean).sum(dim=1)
            lengths += 2 * trace * m2 - 3 * n * m2.square()
            own -= n * einsum(mean, mean, "s d, s e -> s d e")
        self.cross.view(g.numel(), -1).addr_(g.flatten(), h.flatten(), alpha=-n)


def _cka(sums: _Sums) -> Float[Tensor, "source_layer target_layer"]:
    """From the unbiased HSIC (Song et al. 2012), which for linear kernels needs no kernel: only sums over features."""
    n = sums.count
    traces = [own.diagonal(dim1=1, dim2=2).sum(dim=1) for own in sums.own]

    def hsic(squared: Tensor, left: Tensor, right: Tensor, lengths: Tensor) -> Tensor:
        return squared - lengths + left * right / ((n - 1) * (n - 2)) - 2 * lengths / (n - 2)

    squared = torch.stack([side.square().sum(dim=(0, 2)) for side in sums.cross])
    together = hsic(squared, traces[0][:, None], traces[1], sums.lengths)
    alone = [
        hsic(own.square().sum(dim=(1, 2)), trace, trace, lengths)
        for own, trace, lengths in zip(sums.own, traces, sums.own_lengths, strict=True)
    ]
    return together / torch.outer(*(side.clamp_min(_TINY).sqrt() for side in alone))


def _canonical(sums: _Sums, variance: float) -> dict[str, Float[Tensor, "source_layer target_layer"]]:
    sides = [[_leading(scatter, variance) for scatter in own] for own in sums.own]
    found = {measure: torch.zeros_like(sums.lengths) for measure in MEASURES if measure != "cka"}
    for row, (axes, roots) in enumerate(sides[0]):
        for column, (other_axes, other_roots) in enumerate(sides[1]):
            whitened = (axes / roots).T @ sums.cross[row, :, column] @ (other_axes / other_roots)
            left, correlations, _ = thin_svd(whitened)
            correlations = correlations.clamp(0, 1)
            weights = (left.abs() * roots[:, None]).sum(dim=0)
            found["svcca"][row, column] = correlations.mean()
            found["pwcca"][row, column] = (weights * correlations).sum() / weights.sum()
            found["angle"][row, column] = correlations.acos().mean()
    return found


def _leading(scatter: Float[Tensor, "d d"], variance: float) -> tuple[Float[Tensor, "d kept"], Float[Tensor, " kept"]]:
    """Leading principal directions, and the root of the scatter along each."""
    values, vectors = symmetric_eigen(scatter)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    if not float(values[0]) > 0:
        raise InvalidInputError("the rows of a layer are all the same: leave the layer out, or give texts that differ")
    share = values.cumsum(0) / values.sum()
    kept = min(int((share < variance).sum()) + 1, int((values > values[0] * _EPS * len(values)).sum()))
    return vectors[:, :kept], values[:kept].sqrt()


def _stacked(layers: Layers, side: str) -> Stacked:
    shapes = {tuple(rows.shape) for rows in layers.values()}
    if len(shapes) != 1:
        raise IncompatibleError(
            f"layers of the {side} have rows of {sorted(shapes)}: give at least one, all of one model and text"
        )
    stacked = torch.stack([rows.double() for rows in layers.values()], dim=1)
    if not torch.isfinite(stacked).all():
        raise InvalidInputError(f"{int((~torch.isfinite(stacked)).sum())} values of the {side}'s rows are NaN or infinite")
    return stacked
