// Does attention agree with effect? Each region by its rank in one and in the other.

/** Spearman's ρ of attention and effect, in words. */
function agreementWords(rho) {
  if (Math.abs(rho) < 0.3) return "Attention does not agree with effect";
  if (rho > 0.7) return "Attention agrees with effect";
  return rho > 0 ? "Attention partly agrees with effect" : "Attention runs against effect";
}

function render({ model, el }) {
  el.classList.add("cw");
  const box = h("div", { class: "cw-card cw-agreement" });
  el.append(box);
  const live = connection(model);
  const draw = () =>
    keepFocus(box, () => {
      const slots = model.get("slots"),
        weights = model.get("weights"),
        effects = model.get("effects"),
        labels = slotLabels(slots),
        rho = model.get("rho"),
        two = weights.length === 2,
        names = two ? ["positive", "negative"] : ["attention"];
      el.hidden = !weights.length;
      if (!weights.length) return;
      const branch = two && model.get("branch") === "negative" ? 1 : 0,
        ids = Object.keys(effects)
          .map(Number)
          .filter((id) => labels[id]);
      const attention = ids.map((id) =>
          slots.reduce((sum, one, place) => sum + (one === id ? Math.abs(weights[branch][place]) : 0), 0),
        ),
        effect = ids.map((id) => effects[id]);
      const x = ranksOf(attention),
        y = ranksOf(effect),
        n = ids.length,
        value = rho[names[branch]],
        place = (rank) => (n > 1 ? (rank - 1) / (n - 1) : 0.5);
      const told =
        value === undefined
          ? "Comparing attention with effect …"
          : value === null
            ? "Too few regions to compare"
            : agreementWords(value);
      const far = ids
        .map((id, at) => [id, x[at] - (branch ? n + 1 - y[at] : y[at])])
        .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))
        .filter(([, gap]) => typeof value === "number" && Math.abs(gap) >= n / 3)
        .slice(0, 2);
      const words = (id, gap) =>
        gap > 0
          ? effects[id] < 0 && !branch
            ? ` is looked at and speaks against ${model.get("effect_class")}`
            : " is looked at more than it matters"
          : " matters more than it is looked at";
      const [width, height] = [230, 130],
        pill = (id, at) => {
          const words = labels[id],
            wide = 7 * words.length + 10,
            isSelected = model.get("selected").includes(id),
            isHovered = model.get("hovered") === id;
          return h(
            "g",
            {
              class:
                "cw-pill" +
                (isSelected ? " selected" : "") +
                (isHovered ? " hovered" : "") +
                (effects[id] < 0 ? " against" : " for"),
              transform: `translate(${16 + (width - 32) * place(x[at])} ${height - 12 - (height - 24) * place(y[at])})`,
              "data-region": id,
              ...onPress((event) =>
                put(model, { selected: event.shiftKey ? toggled(model.get("selected"), id) : [id] }),
              ),
              onmouseenter: () => put(model, { hovered: id }),
              onmouseleave: () => put(model, { hovered: null }),
            },
            h("rect", { x: -wide / 2, y: -9, width: wide, height: 18, rx: 9 }),
            h("text", { y: 4, "text-anchor": "middle", text: words }),
          );
        };
      const rising = !branch,
        line = { x1: 16, x2: width - 16, y1: rising ? height - 12 : 12, y2: rising ? 12 : height - 12 };
      box.replaceChildren(
        h(
          "div",
          { class: "cw-title" },
          h("b", { text: told }),
          h("span", { class: "cw-soft", text: ` Spearman, ${n} regions` }),
        ),
        h(
          "div",
          { class: "cw-split" },
          h(
            "div",
            {},
            h(
              "svg",
              { viewBox: `0 0 ${width} ${height}`, class: "cw-plot", role: "img", "aria-label": told },
              h("line", { ...line, class: "cw-diagonal" }),
              ...ids.map(pill),
            ),
            h(
              "div",
              { class: "cw-axis" },
              h("span", { text: "low" }),
              two
                ? h(
                    "select",
                    {
                      class: "cw-select",
                      "data-key": "branch",
                      "aria-label": "branch",
                      onchange: (event) => put(model, { branch: event.target.value }),
                    },
                    ...names.map((one, at) =>
                      h("option", { value: one, text: `${"+−"[at]} attention rank`, selected: at === branch }),
                    ),
                  )
                : h("span", { text: "attention rank" }),
              h("span", { text: "high" }),
            ),
            h("div", { class: "cw-soft cw-small", text: "up: effect rank, from against to for" }),
          ),
          h(
            "div",
            { class: "cw-told" },
            h("div", {
              class: "cw-big",
              text: typeof value === "number" ? `ρ ${signed(value)}` : value === null ? "too few regions" : "…",
            }),
            two && typeof rho[names[1 - branch]] === "number"
              ? h("div", {
                  class: "cw-soft",
                  text: `${branch ? "+" : "−"} attention ρ ${signed(rho[names[1 - branch]])}`,
                })
              : null,
            ...far.map(([id, gap]) => h("p", {}, h("b", { text: `RoI ${labels[id]}` }), words(id, gap))),
          ),
        ),
      );
    });
  const stops = [
    live.stop,
    onChange(model, ["slots", "weights", "effects", "effect_class", "rho", "branch", "selected", "hovered"], draw),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
