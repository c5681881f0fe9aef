# Runs first in the kernel of every notebook of the site: a widget made of parts is shown as its saved page.


def _docs_prelude():
    import asyncio
    import importlib.util
    import json
    from threading import Thread
    from types import SimpleNamespace
    from unittest.mock import patch

    from IPython import get_ipython

    if importlib.util.find_spec("ipywidgets") is None:
        return
    import ipywidgets
    from anywidget import AnyWidget
    from ipywidgets.widgets.widget import _instances
    from ipywidgets.widgets.widget_link import Link
    from plotly.basedatatypes import BaseFigure

    def parts_in(widget):
        inner = [part for child in getattr(widget, "children", ()) for part in parts_in(child)]
        own = isinstance(widget, AnyWidget) and not isinstance(widget, BaseFigure)
        return [widget, *inner] if own else inner

    def page_of_parts(widget, parts):
        from covid_workbench.widgets import saved

        links = [(*link.source, *link.target) for link in _instances.values() if isinstance(link, Link)]
        with patch.object(saved, "Part", AnyWidget, create=True):  # a notebook defines parts of its own
            page = saved.page_of(SimpleNamespace(children=[widget], links=links), type(widget).__name__)
        css = "\n".join(dict.fromkeys(str(part._css) for part in parts))
        return page.replace("</style>", f"\n{css}</style>", 1)

    def work_through(explorer):
        "What an explorer computes after its first picture; in a thread, since the kernel's own loop is busy here."
        if hasattr(explorer, "_fill"):
            work = Thread(target=lambda: asyncio.run(explorer._fill(explorer.panes)))
            work.start()
            work.join()
        if hasattr(explorer, "read_volume"):
            explorer.read_volume()

    def bundle_of(widget, include=None, exclude=None):
        if isinstance(widget, BaseFigure):  # a chart needs no kernel
            return {"application/vnd.plotly.v1+json": json.loads(widget.to_json()), "text/plain": "a chart"}, {}
        work_through(widget)
        bundle = widget._repr_mimebundle_() or {}
        bundle, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        parts = parts_in(widget)
        if callable(getattr(widget, "page", None)):
            page = widget.page()
        elif parts and (isinstance(widget, AnyWidget) or "image/svg+xml" not in bundle):
            page = page_of_parts(widget, parts)
        else:
            return bundle, metadata
        return {"application/vnd.covid-workbench.saved-page": page, "text/plain": type(widget).__name__}, metadata

    get_ipython().display_formatter.mimebundle_formatter.for_type(ipywidgets.DOMWidget, bundle_of)


_docs_prelude()
del _docs_prelude
