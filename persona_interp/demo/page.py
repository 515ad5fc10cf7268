"""The whole page: its look, its tabs, and nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
from gradio.themes import Base
from plotly.colors import sample_colorscale

from persona_interp.demo.site import Site
from persona_interp.demo.tabs.chat import ChatTab
from persona_interp.demo.tabs.custom import CustomTab
from persona_interp.demo.tabs.steer import SteerTab
from persona_interp.demo.tabs.transfer import TransferTab
from persona_interp.demo.tabs.vectors import VectorsTab
from persona_interp.plotting.palette import SEQUENTIAL

TITLE = "persona_interp"
_HEADING = """# persona_interp
Find a trait's direction in a language model, add it, and watch what the model says. Everything runs on the machine this page \
comes from."""

TABS: dict[str, Callable[[Site, gr.Blocks, gr.Tab], object]] = {
    "Steer": SteerTab,
    "Chat": ChatTab,
    "Transfer": TransferTab,
    "Vectors": VectorsTab,
    "Custom trait": CustomTab,
}
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

CSS = """
.gradio-container { max-width: min(1280px, 100vw) !important; min-width: 0 !important; margin: 0 auto !important; }
@media (max-width: 600px) { .gradio-container > .main { padding: 12px !important; } }
.gradio-container :is(button, input, textarea, select, [tabindex], a):focus-visible {
  outline: 3px solid #0072B2 !important; outline-offset: 2px; }
.dark .gradio-container :is(button, input, textarea, select, [tabindex], a):focus-visible { outline-color: #56B4E9 !important; }
.pi-label { font-size: var(--block-label-text-size); color: var(--body-text-color-subdued); }
.gradio-container .block:has([data-notice][hidden]) { display: none; }
.pi-box { padding: 0 !important; }
.block.pi-box { padding: 10px 12px !important; }
.pi-dose, .pi-dose * { --border-color-primary-group: transparent; }
.pi-dose > *, .pi-dose .block { background: var(--block-background-fill) !important; }
.pi-layers { display: grid; grid-template-columns: repeat(auto-fill, minmax(30px, 1fr)); gap: 2px; padding: 6px 0; }
.pi-layer { height: 32px; padding: 0; border: 1px solid var(--border-color-primary) !important; border-radius: 4px;
  font-size: 12px; line-height: 1; cursor: pointer; background: transparent; color: var(--body-text-color); position: relative; }
.pi-layer sup { position: absolute; top: 1px; right: 1px; font-size: 9px; line-height: 1; }
.pi-layer.pi-scored, .pi-layer.pi-scored * { color: #000 !important; }
.pi-layer[aria-checked="true"] { border-color: var(--body-text-color) !important; box-shadow: 0 0 0 2px var(--body-text-color);
  text-decoration: underline; font-weight: bold; z-index: 1; }
.pi-label { display: flex; justify-content: space-between; }
.pi-legend { display: inline-flex; align-items: center; gap: 6px; font-size: 11px; }
.pi-legend i { width: 60px; height: 8px; border-radius: 2px; background: linear-gradient(90deg, SHADES); }
.pi-scale { position: relative; height: 26px; margin: 0 21px 2px 22px; border-top: 1px solid var(--border-color-primary); }
.pi-band { position: absolute; top: -1px; height: 7px; border-radius: 2px; background: #009E73; }
.pi-band.pi-guessed { background: repeating-linear-gradient(135deg, #009E73 0 3px, transparent 3px 7px); opacity: .7; }
.pi-tick { position: absolute; top: 9px; transform: translateX(-50%); font-size: 11px; color: var(--body-text-color-subdued); }
.pi-code textarea { font-family: var(--font-mono); font-size: 12px; }
.pi-what { font-size: 13px; margin: 6px 0 0; }
.pi-what summary { cursor: pointer; color: var(--body-text-color-subdued); text-decoration: underline dotted; padding: 3px 0; }
.pi-what p { margin: 4px 0 0; max-width: 62em; }
.gradio-container summary:focus-visible { outline: 3px solid #0072B2 !important; outline-offset: 2px; }
.pi-layer[disabled] { opacity: .45; cursor: not-allowed; }
.pi-scroll { overflow-x: auto; }
.pi-table table { border-collapse: collapse; font-size: 13px; width: max-content; }
.pi-table :is(th, td) { border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  padding: 4px 10px !important; text-align: right; white-space: nowrap; }
.pi-table p { margin: 4px 0; }
.pi-warning { border: 2px solid #E69F00; border-radius: 8px; padding: 6px 12px; margin: 8px 0; }
.pi-warning ul { margin: 2px 0; padding-left: 18px; }
.pi-talk { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column; gap: 14px; }
.pi-said { background: var(--background-fill-secondary); border-radius: 10px; padding: 8px 12px; margin-left: 10%;
  overflow-wrap: anywhere; }
.pi-reply { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 8px 12px; margin: 6px 10% 0 0; }
.pi-talk details { margin: 4px 10% 0 0; font-size: 14px; }
.pi-caption { font-size: 13px; color: var(--body-text-color-subdued); margin: 6px 0 0; }
.pi-notice { padding: 8px 12px; border-radius: 8px; border: 1px solid var(--border-color-primary); font-size: 14px;
  overflow-wrap: anywhere; }
.pi-working progress { width: 100%; height: 8px; display: block; margin-top: 6px; appearance: none; border: 0; border-radius: 4px;
  overflow: hidden; background: var(--border-color-primary); color: #0072B2; }
.pi-working progress::-webkit-progress-bar { background: var(--border-color-primary); }
.pi-working progress::-webkit-progress-value, .pi-working progress::-moz-progress-bar { background: #0072B2; }
.pi-failed { border: 2px solid #D55E00; }
.pi-done { border-left: 5px solid #009E73; }
.pi-aside { font-size: 13px; color: var(--body-text-color-subdued); margin-top: 4px; overflow-wrap: anywhere; }
.pi-cards { flex-wrap: wrap !important; gap: 12px !important; }
.pi-cards > * { flex: 1 1 260px !important; min-width: min(260px, 100%) !important; }
.pi-card { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 10px 14px; min-height: 130px; }
.pi-head { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; justify-content: space-between; }
.pi-head h3 { margin: 0; font-size: 16px; }
.pi-text { white-space: pre-wrap; overflow-wrap: anywhere; margin-top: 6px; font-size: 16px; line-height: 1.5; }
.pi-empty, .pi-state { color: var(--body-text-color-subdued); }
.pi-state { font-size: 13px; min-height: 18px; }
.pi-strip h4 { margin: 10px 0 4px; font-size: 14px; }
.pi-tokens { display: flex; flex-wrap: wrap; gap: 4px 2px; }
.pi-token { display: inline-flex; flex-direction: column; align-items: center; font-family: var(--font-mono); font-size: 14px; }
.pi-token > span { color: #000; background: #fff; border: 1px solid #D8D8D8; border-radius: 3px; padding: 0 3px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.pi-token small { font-size: 10px; color: var(--body-text-color-subdued); }
"""


def css() -> str:
    """How the page looks."""
    shades = ", ".join(str(shade) for shade in sample_colorscale(SEQUENTIAL, [place / 8 for place in range(9)]))
    return CSS.replace("SHADES", shades)


def theme() -> Base:
    """Fonts the reader's machine has: none is fetched."""
    base = Base(primary_hue="blue", neutral_hue="slate", font=_SANS, font_mono=_MONO)
    return base.set(  # Gradio's own grey is too pale for small print
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
    )


def page(site: Site) -> gr.Blocks:
    """The page, not served yet."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        gr.Markdown(_HEADING)
        with gr.Tabs():
            for title, place in TABS.items():
                with gr.Tab(title) as tab:
                    place(site, blocks, tab)

        def gone(request: gr.Request) -> None:
            site.sessions.drop(request.session_hash)

        blocks.unload(gone)
    return blocks
