// Does attention agree with effect? Each region by its rank in the size of one and of the other; what chance reaches.
const VERDICT = {
  few: "Too few regions to compare",
  chance: "Not shown to differ from chance",
  ties: "Agrees only by figures that look alike",
  against: "Attention goes to regions that matter less",
  partly: "Attention partly agrees with effect",
  agrees: "Attention agrees with effect",
};
const FLAT = {
  attention: "All regions have the same attention",
  effects: "All regions have the same effect",
};
const MODES = ["dropped", "refilled", "zeroed"];
const MATTERS = 0.25; // of the largest: what is at least that matters, or is looked at

const verdictOf = ({ verdict, flat }) => (verdict === "flat" ? FLAT[flat] : VERDICT[verdict]);

/** ρ of an off mode in words, for one branch of `found`. */
function rhoWords(own, why) {
  if (why) return why;
  if (!own) return "…";
  return own.rho === null ? verdictOf(own) : `ρ ${signed(own.rho)}, chance ±${own.reach.toFixed(2)}`;
}

/** ρ on a line from -1 to 1, the reach of chance shaded. */
function rhoLine(own) {
  const at = (value) => 60 + 54 * value;
  return h(
    "svg",
    { viewBox: "0 0 120 14", class: "cw-rho-line", "aria-hidden": "true" },
    own?.reach
      ? h("rect", { x: at(-own.reach), width: 108 * own.reach, y: 2, height: 10, rx: 2, class: "cw-chance" })
      : null,
    h("line", { x1: at(-1), x2: at(1), y1: 7, y2: 7, class: "cw-tick" }),
    h("line", { x1: 60, x2: 60, y1: 1, y2: 13, class: "cw-zero" }),
    typeof own?.rho === "number"
      ? h("circle", { cx: at(own.rho), cy: 7, r: 4, class: "cw-rho-dot" + (own.verdict === "chance" ? " hollow" : "") })
      : null,
  );
}

/** Groups of regions that are looked at and matter differently, as [what, ids]; `attention` and `effect` by id. */
function apartOf(ids, attention, effect) {
  const large = (values) => {
      const most = Math.max(...values.map(Math.abs));
      return values.map((value) => most > 0 && Math.abs(value) >= MATTERS * most);
    },
    [looked, matters] = [large(attention), large(effect)],
    those = (fits) => ids.filter((_, at) => fits(at)).sort((a, b) => sizeOf(b) - sizeOf(a)),
    sizeOf = (id) => Math.max(Math.abs(effect[ids.indexOf(id)]), 0);
  return [
    [
      "matters more than it is looked at",
      "matter more than they are looked at",
      those((at) => matters[at] && !looked[at]),
    ],
    [
      "is looked at more than it matters",
      "are looked at more than they matter",
      those((at) => looked[at] && !matters[at]),
    ],
    [
      "is looked at and speaks against CLASS",
      "are looked at and speak against CLASS",
      those((at) => looked[at] && matters[at] && effect[at] < 0),
    ],
  ].filter(([, , own]) => own.length);
}

/** Where each region stands: attention to the right, effect upwards, by rank of size. */
function rankPlot(model, ids, labels, x, y, told) {
  const [width, height] = [230, 130],
    effects = model.get("effects"),
    place = (rank) => (ids.length > 1 ? (rank - 1) / (ids.length - 1) : 0.5);
  const pill = (id, at) => {
    const words = labels[id],
      wide = 7 * words.length + 10,
      marks = [
        model.get("selected").includes(id) ? " selected" : "",
        model.get("hovered") === id ? " hovered" : "",
        effects[id] < 0 ? " against" : " for",
      ];
    return h(
      "g",
      {
        class: "cw-pill" + marks.join(""),
        transform: `translate(${16 + (width - 32) * place(x[at])} ${height - 12 - (height - 24) * place(y[at])})`,
        "data-region": id,
        ...onPress((event) => put(model, { selected: event.shiftKey ? toggled(model.get("selected"), id) : [id] })),
        onmouseenter: () => put(model, { hovered: id }),
        onmouseleave: () => put(model, { hovered: null }),
      },
      h("title", { text: `RoI ${words}: effect ${signedFigure(effects[id])}` }),
      h("rect", { x: -wide / 2, y: -9, width: wide, height: 18, rx: 9 }),
      h("text", { y: 4, "text-anchor": "middle", text: words }),
    );
  };
  return h(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, class: "cw-plot", role: "img", "aria-label": told },
    h("line", { x1: 16, x2: width - 16, y1: height - 12, y2: 12, class: "cw-diagonal" }),
    ...ids.map(pill),
  );
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
        mode = model.get("off_mode"),
        effectClass = model.get("effect_class"),
        found = model.get("found"),
        refused = model.get("refused"),
        two = weights.length === 2,
        names = two ? ["positive", "negative"] : ["attention"];
      el.hidden = !weights.length;
      if (!weights.length) return;
      const branch = two && model.get("branch") === "negative" ? 1 : 0,
        of = (one, number = branch) => found[one]?.[names[number]],
        own = of(mode),
        ids = Object.keys(effects)
          .map(Number)
          .filter((id) => labels[id]);
      const attention = ids.map((id) =>
          Math.abs(slots.reduce((sum, one, place) => sum + (one === id ? weights[branch][place] : 0), 0)),
        ),
        effect = ids.map((id) => effects[id]),
        told = own ? verdictOf(own) : "Comparing attention with effect …",
        apart = own && own.verdict !== "flat" ? apartOf(ids, attention, effect) : [];
      const named = (list) =>
        `RoI ${list
          .slice(0, 4)
          .map((id) => labels[id])
          .join(", ")}${list.length > 4 ? ` and ${list.length - 4} more` : ""} `;
      const what = two ? `${"+−"[branch]} attention` : "attention",
        about =
          `ρ (Spearman) ranks ${own?.regions ?? ids.length} regions by the size of ${what} and by the size of the ` +
          `effect on the logit of ${effectClass}.`,
        chance = own?.reach
          ? ` Of random orders, 95 in 100 stay within ±${own.reach.toFixed(2)}` +
            (own.reach >= 1 ? ": so few regions can show nothing." : ".")
          : "",
        tied =
          own?.verdict === "ties" || (own?.rho !== null && own?.alike > own?.regions / 2)
            ? ` ${own.alike} of ${own.regions} weights are alike to a thousandth of the largest` +
              (own.tied === null ? "." : `; tied, ρ is ${signed(own.tied)} (chance ±${own.tied_reach.toFixed(2)}).`)
            : "";
      fill(
        box,
        h("div", { class: "cw-title" }, h("b", { class: "cw-verdict-words", text: told })),
        h(
          "div",
          { class: "cw-split" },
          h(
            "div",
            {},
            rankPlot(model, ids, labels, ranksOf(attention), ranksOf(effect.map(Math.abs)), told),
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
            h("div", { class: "cw-soft cw-small", text: "up: rank of the size of effect; dashed: speaks against" }),
          ),
          h(
            "div",
            { class: "cw-told" },
            ...apart.map(([one, several, list]) =>
              h(
                "p",
                {},
                h("b", { text: named(list) }),
                (list.length > 1 ? several : one).replace("CLASS", effectClass),
              ),
            ),
          ),
        ),
        h(
          "div",
          { class: "cw-modes", role: "list", "aria-label": "ρ by what off means" },
          ...MODES.flatMap((one) => {
            const words = rhoWords(of(one), refused[one]);
            return [
              h(
                "div",
                {
                  class: "cw-mode" + (one === mode ? " now" : ""),
                  role: "listitem",
                  "data-mode": one,
                  "aria-label": `${one}: ${words}`,
                  title: `regions are ${one} to measure their effects` + (one === mode ? ", as asked" : ""),
                },
                h("span", { text: one }),
                rhoLine(of(one)),
                h("span", { class: "cw-rho-words", text: words }),
              ),
            ];
          }),
        ),
        two && of(mode, 1 - branch)
          ? h("div", {
              class: "cw-soft cw-small",
              text: `${branch ? "+" : "−"} attention, ${mode}: ${rhoWords(of(mode, 1 - branch))}`,
            })
          : null,
        h("p", { class: "cw-soft cw-small cw-about", text: about + chance + tied }),
        apart.length
          ? h("p", {
              class: "cw-soft cw-small",
              text: "To matter, or to be looked at, is to have at least a quarter of the largest effect, or attention.",
            })
          : null,
        model.get("statistics") ? h("p", { class: "cw-soft cw-small", text: model.get("statistics") }) : null,
      );
    });
  const about = ["slots", "weights", "effects", "effect_class", "found", "refused", "off_mode", "statistics", "branch"],
    stops = [live.stop, onChange(model, [...about, "selected", "hovered"], draw)];
  return () => stops.forEach((stop) => stop());
}

export default { render };
