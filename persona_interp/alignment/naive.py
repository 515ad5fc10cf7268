"""No alignment at all: entries cut or padded with zeros, the control that everything should beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linear_alignment import LinearAlignment
from persona_interp.alignment.methods import register_alignment
from persona_interp.alignment.paired_moments import PairedMoments


@register_alignment("naive")
@dataclass
class NaiveTruncate(LinearAlignment):
    """Entry i of the source becomes entry i of the target. Data are taken for their widths and means only."""

    def _matrix(self, whole: PairedMoments, parts: Sequence[PairedMoments]) -> Float[Tensor, "d_source d_target"]:
        return torch.eye(*whole.cross.shape, dtype=torch.float64, device=whole.cross.device)
