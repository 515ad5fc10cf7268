"""The axis names used in jaxtyping annotations, one line of meaning each.

==========  ==========================================================================
``batch``   rows run together
``pos``     token positions of a padded batch or of one text
``layer``   0-based block index along a stored axis; which blocks is said by the object
``d_model`` width of the residual stream
``vocab``   tokenizer entries the model scores
``sample``  texts or rollouts statistics are taken over
==========  ==========================================================================

``Float[Tensor, "layer d_model"]`` is therefore one residual-stream row for each of several blocks.
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Residual: TypeAlias = Float[Tensor, "batch pos d_model"]
Direction: TypeAlias = Float[Tensor, " d_model"]
Directions: TypeAlias = Float[Tensor, "layer d_model"]
TokenIds: TypeAlias = Int[Tensor, "batch pos"]
PositionMask: TypeAlias = Bool[Tensor, "batch pos"]
