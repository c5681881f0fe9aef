"""Outputs for a page without a kernel: widgets become saved pages or pictures, figures draw offline."""

import hashlib
import json
import re
from collections.abc import Callable
from html import escape

import plotly.io

WIDGET = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
SAVED = "application/vnd.covid-workbench.saved-page"  # written by prelude.py
PLOTLY_CONFIG = {"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": "", "responsive": True}
LIVE = (
    "A saved page of the widget: it answers to clicks, but a what-if or another slice needs the kernel in JupyterLab."
)
STILL = "A picture of the widget, which is live in JupyterLab."
NOTHING = "A widget stands here in JupyterLab; it has no picture."


def frame(source: str, title: str) -> str:
    "A saved page inside another one; site.js gives it the height of what it holds."
    return f'<iframe class="saved" src="{escape(source)}" title="{escape(title)}" loading="lazy"></iframe>'


def note(text: str) -> str:
    return f'<p class="docs-note">{text}</p>'


def last_lines(text: str) -> str:
    "What a terminal shows in the end of lines that were written over with carriage returns."
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def unlink(html: str) -> str:
    "HTML without links to notebooks that lay beside it when it was made and are not on the site; their text stays."
    return re.sub(r'<a [^>]*href="[^"#:]+\.ipynb"[^>]*>(.*?)</a>', r"\1", html)


def static_data(data: dict, save: Callable[[str], str]) -> dict:
    "One output's MIME bundle without what needs a kernel or network. `save(page)` stores a page, gives its address."
    if SAVED in data:
        return {"text/html": frame(save("".join(data[SAVED])), "Saved widget") + note(LIVE)}
    if PLOTLY in data:
        figure = plotly.io.from_json(json.dumps(data[PLOTLY]), skip_invalid=True)
        name = "figure-" + hashlib.sha256(json.dumps(data[PLOTLY], sort_keys=True).encode()).hexdigest()[:12]
        html = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=PLOTLY_CONFIG)
        return {"text/html": f'<div class="plotly-figure">{html}</div>'}
    if WIDGET in data and "image/svg+xml" in data:
        return {"text/html": f'<div class="docs-picture">{"".join(data["image/svg+xml"])}</div>' + note(STILL)}
    if WIDGET in data:
        return {"text/html": note(NOTHING)}
    return data


def static_outputs(outputs: list[dict], save: Callable[[str], str], plotly_script: str) -> list[dict]:
    "Outputs as a page shows them; `plotly_script` is the address of plotly's script, loaded where a figure needs it."
    kept = []
    for output in outputs:
        output = dict(output)
        if output["output_type"] == "stream":
            if output["name"] == "stderr":
                continue
            output["text"] = last_lines("".join(output["text"]))
        elif "data" in output:
            output["data"] = static_data(output["data"], save)
            html = unlink("".join(output["data"].get("text/html", "")))
            if html:
                output["data"]["text/html"] = html
            if "Plotly.newPlot" in html:
                output["data"] = {"text/html": f'<script src="{plotly_script}"></script>{html}'}
        kept.append(output)
    return kept
