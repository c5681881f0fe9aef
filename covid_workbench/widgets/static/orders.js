// Does the order matter? The probability of a class in each order of the same regions.
const NAMES = {
  axial: "Axial",
  distance: "Distance",
  score: "Confidence",
  raster: "Raster",
  hilbert: "Hilbert",
  random: "Random",
  reversed: "Reversed",
};

function render({ model, el }) {
  el.classList.add("cw");
  const box = h("div", { class: "cw-card cw-orders" });
  el.append(box);
  const draw = () =>
    keepFocus(box, () => {
      const results = model.get("results"),
        classes = model.get("classes"),
        name = model.get("effect_class"),
        number = classes.indexOf(name),
        top = (p) => p.indexOf(Math.max(...p)),
        short = (p) => classes[top(p)];
      el.hidden = model.get("orderless");
      const named = Object.entries(results).filter(([one]) => !one.startsWith("random ")),
        drawn = Object.entries(results)
          .filter(([one]) => one.startsWith("random "))
          .map(([, p]) => p);
      if (!named.length || number < 0)
        return box.replaceChildren(
          h("div", { class: "cw-title" }, h("b", { text: "Does the order matter?" })),
          h("p", { class: "cw-note", text: model.get("empty_note") || "Asking …" }),
        );
      const own = results[model.get("own_order")] ?? named[0][1],
        others = named.filter(([, p]) => top(p) !== top(own)).map(([one]) => NAMES[one] ?? one),
        turned = drawn.filter((p) => top(p) !== top(own)).length,
        still = !live.alive || Boolean(model.get("frozen")) || Boolean(heldBy(model));
      const told = others.length
        ? `${others.join(" and ")} order ${others.length > 1 ? "change" : "changes"} the verdict`
        : turned
          ? `${turned} of ${drawn.length} random orders change the verdict`
          : "No order changes the verdict";
      const line = (ticks, dot, label) =>
        h(
          "svg",
          { viewBox: "0 0 200 18", preserveAspectRatio: "none", class: "cw-strip", role: "img", "aria-label": label },
          ...[0, 50, 100, 150, 200].map((x) => h("line", { x1: x, x2: x, y1: 0, y2: 18, class: "cw-tick" })),
          ...ticks.map((p) => h("line", { x1: 200 * p, x2: 200 * p, y1: 4, y2: 14, class: "cw-zero strong" })),
          dot,
        );
      const spot = (p) =>
        h("span", { class: "cw-dot" + (top(p) === number ? "" : " hollow"), style: `left:${100 * p[number]}%` });
      const rows = named.map(([one, p]) =>
        h(
          "button",
          {
            class: "cw-order" + (model.get("order") === one ? " chosen" : ""),
            "data-key": `o-${one}`,
            "data-order": one,
            disabled: still,
            title: "a click applies this order",
            ...onPress(() => put(model, { order: one })),
          },
          h("span", { text: NAMES[one] ?? one }),
          h("span", { class: "cw-line" }, line([], null, `${p[number].toFixed(2)}`), spot(p)),
          h("span", { text: `${p[number].toFixed(2)} ${short(p)}` }),
        ),
      );
      if (drawn.length) {
        const sorted = drawn.map((p) => p[number]).sort((a, b) => a - b),
          median = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2,
          same = drawn.filter((p) => top(p) === number).length;
        rows.push(
          h(
            "div",
            { class: "cw-order", title: `orders drawn with seed ${model.get("seed")}` },
            h("span", { text: `Random ×${drawn.length}` }),
            h(
              "span",
              { class: "cw-line" },
              line(sorted, null, `median ${median.toFixed(2)}`),
              h("span", {
                class: "cw-dot" + (same * 2 > drawn.length ? "" : " hollow"),
                style: `left:${100 * median}%`,
              }),
            ),
            h("span", { text: `${median.toFixed(2)}, ${same}/${drawn.length}` }),
          ),
        );
      }
      box.replaceChildren(
        h(
          "div",
          { class: "cw-title" },
          h("b", { text: told }),
          h("span", { class: "cw-soft", text: still ? "" : " a click applies" }),
        ),
        ...rows,
        h(
          "div",
          { class: "cw-order cw-soft" },
          h("span"),
          h(
            "span",
            { class: "cw-axis" },
            h("span", { text: "0" }),
            h("span", { text: `p(${name})` }),
            h("span", { text: "1" }),
          ),
          h("span", { text: `● ${name} wins ○ another` }),
        ),
      );
    });
  const live = connection(model, draw);
  const stops = [
    live.stop,
    onChange(
      model,
      ["results", "held", "classes", "effect_class", "order", "own_order", "frozen", "orderless", "empty_note"],
      draw,
    ),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
