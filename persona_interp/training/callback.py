"""Preventative steering for transformers' Trainer, as a callback."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import FrameType
from typing import Any

from transformers import Trainer, TrainerCallback

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.training.prevention import preventing


class PreventionCallback(TrainerCallback):
    """Prevents while ``trainer.train()`` runs, as `preventing` does, and takes the vector away when it ends.

    A callback is not told when training ends in an error. The hooks then write to nothing, as no call of the model comes from
    that training any more, and the first such call removes them.

    Example:
        >>> trainer = Trainer(hf_model, args, train_dataset=rows, callbacks=[PreventionCallback(vector.graph(ratio=0.3))])
        >>> trainer.train()

    Args:
        graph: what to write, see `preventing`.
    """

    def __init__(self, graph: InterventionGraph) -> None:
        self.graph = graph
        self._held = ExitStack()
        self._training: FrameType | None = None

    @property
    def attached(self) -> bool:
        """Whether hooks are on a model."""
        return self._training is not None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Attach.

        Raises:
            InvalidInputError: it was not a Trainer that called.
            PersonaInterpError: as `preventing`.
        """
        self.detach()
        self._training = _trainer_frame()
        try:
            self._held.enter_context(preventing(model, self.graph, wanted=self._in_training))
        except BaseException:
            self._training = None
            raise

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Detach."""
        self.detach()

    def detach(self) -> None:
        """Take the hooks away, if there are any."""
        self._training = None
        self._held.close()

    def _in_training(self) -> bool:
        """Whether this is called out of the training that the callback was attached in; else it has ended in an error."""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame is self._training:
                return True
            frame = frame.f_back
        self.detach()
        return False


def _trainer_frame() -> FrameType:
    """The innermost running method of a Trainer, which lasts as long as the training does."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), Trainer):
            return frame
        frame = frame.f_back
    raise InvalidInputError(
        "a PreventionCallback is for a transformers Trainer: in a loop of your own use `with preventing(...)`"
    )
