"""The layers of a model as a strip of cells coloured by how well each one steers; pressing one chooses it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from plotly.colors import sample_colorscale

from persona_interp.demo.explained import LAYERS, what
from persona_interp.models.steerable import SteerableModel
from persona_interp.plotting.palette import SEQUENTIAL
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

CHOOSE = "choose"
"""Name of the event a pressed layer triggers, with ``layer`` in its data."""

SCRIPT = """
const focused = () => element.querySelector('[data-layer][tabindex="0"]');
let wanted = null;
const pick = button => { wanted = button.dataset.layer; trigger('choose', {layer: Number(wanted)}); };
element.addEventListener('click', event => {
  const button = event.target.closest('[data-layer]');
  if (button && !button.disabled) pick(button);
});
element.addEventListener('keydown', event => {
  const button = event.target.closest('[data-layer]');
  if (!button) return;
  const all = [...element.querySelectorAll('[data-layer]:not([disabled])')];
  const steps = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1};
  let next = null;
  if (event.key in steps) next = all[(all.indexOf(button) + steps[event.key] + all.length) % all.length];
  if (event.key === 'Home') next = all[0];
  if (event.key === 'End') next = all[all.length - 1];
  if (!next) return;
  event.preventDefault();
  all.forEach(each => each.tabIndex = -1);
  next.tabIndex = 0;
  next.focus();
  pick(next);
});
watch('value', () => {
  if (wanted === null) return;
  const button = element.querySelector(`[data-layer="${wanted}"]`);
  if (button && (document.activeElement === document.body || element.contains(document.activeElement))) button.focus();
  wanted = null;
});
"""
"""Arrows move as in a group of radio buttons, which this is to a screen reader; Gradio draws the buttons anew after a choice."""


@dataclass(frozen=True)
class LayerHeat:
    """What there is to choose from.

    Attributes:
        n_layers: of the model.
        first: the first layer where it can be steered.
        chosen: the layer in use.
        vector: whose scores are shown; None: not extracted yet.
    """

    n_layers: int
    first: int
    chosen: int | None
    vector: PersonaVector | None

    @classmethod
    def of(cls, model: SteerableModel, vector: PersonaVector | None, chosen: int | None) -> LayerHeat:
        """With `chosen`, or else the layer that `choose_layer` takes."""
        if vector is not None and (chosen is None or chosen not in vector.layers or chosen < model.first_steerable_layer):
            chosen = best_layer(model, vector)
        return cls(model.n_layers, model.first_steerable_layer, chosen, vector)

    def html(self) -> str:
        """The buttons, and below them what the colours rest on."""
        scores = self._scores()
        known = [score for score in scores.values() if score is not None]
        low, high = min(known, default=0.0), max(known, default=1.0)
        tried = self.vector is not None and bool(self.vector.effectiveness)  # of geometry nobody says that its best steers best
        best = max(known, default=None) if tried else None
        buttons = "".join(self._button(layer, scores.get(layer), low, high, best) for layer in range(self.n_layers))
        group = f'<div class="pi-layers" role="radiogroup" aria-label="Layer to steer at">{buttons}</div>'
        scale = f'<span class="pi-worst">{low:.3g}</span><i></i><span>{high:.3g}</span>' if known else ""
        legend = f'<span class="pi-legend" aria-hidden="true">{scale}</span>' if known else ""
        group = f'<div class="pi-label">Layer to steer at{legend}</div>{group}'
        return f'{group}<p class="pi-caption">{escape(self._caption())}</p>{what(LAYERS)}'

    def _scores(self) -> dict[int, float | None]:
        if self.vector is None:
            return {}
        found = self.vector.effectiveness or self.vector.listed("auroc")
        return dict(zip(self.vector.layers, found, strict=False))

    def _button(self, layer: int, score: float | None, low: float, high: float, best: float | None) -> str:
        has = self.vector is None or layer in self.vector.layers
        off = "" if has and layer >= self.first else " disabled"
        share = None if score is None else (score - low) / (high - low) if high > low else 1.0
        style = "" if share is None else f' style="background:{sample_colorscale(SEQUENTIAL, share)[0]}"'
        kind = "pi-layer" if share is None else "pi-layer pi-scored"
        chosen = layer == self.chosen
        focus = 0 if chosen or (self.chosen is None and layer == self.first) else -1
        star = "★" if score is not None and score == best else ""
        spoken = f"layer {layer}, " + ("no score" if score is None else f"score {score:.3g}") + (", best" if star else "")
        return (
            f'<button type="button" role="radio" aria-checked="{str(chosen).lower()}" aria-label="{spoken}" tabindex="{focus}" '
            f'data-layer="{layer}" title="{spoken}" class="{kind}"{style}{off}>{layer}<sup>{star}</sup></button>'
        )

    def _caption(self) -> str:
        if self.vector is None:
            return "Which layer is best is not known yet: the first steering makes the vector, and then tries its layers."
        if self.vector.effectiveness:
            method = self.vector.provenance.get("effectiveness", {}).get("method", "an unnamed method")
            said = f"How well steering works at each layer, by {method}; ★ is best."
        elif self.vector.listed("auroc"):
            said = "How well each layer separates the answers (AUROC): geometry, not behaviour, until its layers have been tried."
        else:
            said = "This vector records no scores of its layers."
        return said if self.chosen is None else f"{said} Chosen: layer {self.chosen}.{self._facts(self.chosen)}"

    def _facts(self, layer: int) -> str:
        vector = self.vector
        if vector is None or layer not in vector.layers:
            return ""
        row = vector.layers.index(layer)
        ratio, auroc = vector.listed("norm_ratio")[row], vector.listed("auroc")
        score = self._scores().get(layer)
        facts = [] if score is None else [f"score {score:.3g}"]
        facts.append(f"norm {vector.norms[row]:.3g}" + (f", {ratio:.2f} of the mean residual" if ratio else ""))
        if auroc and auroc[row] is not None:
            facts.append(f"held-out AUROC {auroc[row]:.2f}")
        return f" There: {'; '.join(facts)}."


def best_layer(model: SteerableModel, vector: PersonaVector) -> int:
    """The layer `choose_layer` takes among those where the model can be steered."""
    first = model.first_steerable_layer
    return choose_layer(vector, first).layer if vector.layers[-1] >= first else vector.layers[0]
