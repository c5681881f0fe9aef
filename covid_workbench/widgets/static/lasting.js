// A plotly figure that shows all of itself however late its module came: 5 MB, for which anywidget may not have waited.
// Python puts plotly's module around this and common.js, and `lasting(plotly's own widget)` takes its place.
function lasting(plotly) {
  return () => {
    const widget = plotly();
    return {
      ...widget,
      render(context) {
        const { model, el } = context;
        let drawn = "",
          clean = null;
        const draw = () => {
          el.classList.add(...(model.get("_dom_classes") ?? [])); // anywidget no longer listens for them
          const wanted = JSON.stringify(["_widget_data", "_config"].map((name) => model.get(name)));
          if (clean && wanted === drawn) return;
          clean?.();
          el.replaceChildren();
          [drawn, clean] = [wanted, widget.render(context)];
        };
        // what was sent before the module came is lost; with its answer the kernel sends the whole figure again
        const live = connection(model, () => live.alive && draw());
        draw();
        return () => {
          live.stop();
          clean?.();
        };
      },
    };
  };
}
