"""The one check between a model and a result: NaN and infinity are an error, never a number that something is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from persona_interp.errors import PersonaInterpError

_NARROW = (torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)


def check_finite(values: Tensor, what: str, model: str, dtype: torch.dtype | None = None) -> Tensor:
    """`values` themselves, all of them finite.

    Args:
        values: what a model gave.
        what: they are, in the plural.
        model: its name.
        dtype: of its weights, where it is known.

    Raises:
        PersonaInterpError: some are NaN or infinite; names model, dtype and remedy.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        raise _refusal(f"{int((~finite).sum())} of {values.numel()} {what}", model, dtype)
    return values


def check_scores(logits: Tensor, what: str, model: str, dtype: torch.dtype | None = None) -> Tensor:
    """`logits` themselves, ``[... vocab]``, where each row makes a distribution: a token may be impossible, not every one.

    Raises:
        PersonaInterpError: a row holds NaN or infinity, or minus infinity alone; names model, dtype and remedy.
    """
    if logits.numel():
        largest = torch.isfinite(logits.amax(dim=-1))  # NaN is the largest of whatever it stands among
        if not bool(largest.all()):
            raise _refusal(f"{what}: the logits at {int((~largest).sum())} of {largest.numel()} places", model, dtype)
    return logits


def _refusal(which: str, model: str, dtype: torch.dtype | None) -> PersonaInterpError:
    kind = "" if dtype is None else f" (in {str(dtype).removeprefix('torch.')})"
    first = (
        "load it in bfloat16 or float32, whose range is wider" if dtype in _NARROW else "load it in float32 if it is in float16"
    )
    return PersonaInterpError(
        f"{which} of {model}{kind} are NaN or infinite, so nothing can be made of them: {first}; if it is steered, use smaller "
        "coefficients; else its weights are damaged: download or convert them again"
    )
