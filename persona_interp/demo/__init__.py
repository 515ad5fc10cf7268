"""The web page: what the library does, to be tried in a browser. `persona-interp demo` serves it.

`shelf`, `jobs`, `sessions` and what they carry out know nothing of the page; `tabs` and `page` wire them to Gradio.
"""
