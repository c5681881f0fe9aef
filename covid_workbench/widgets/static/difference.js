// Where runs part: the regions they weigh differently, and the slices that only some of them get right.
const MARKS = { 0: "●", 1: "□", 2: "△" };

function render({ model, el }) {
  el.classList.add("cw");
  const box = h("div", { class: "cw-difference" });
  el.append(box);
  const live = connection(model);
  const draw = () =>
    keepFocus(box, () => {
      const rows = model.get("rows"),
        runs = model.get("runs"),
        name = model.get("effect_class"),
        kind = model.get("filter").kind,
        cells = model.get("cells"),
        most = Math.max(0.1, ...rows.flatMap(({ shares }) => shares.filter((one) => one !== null).map(Math.abs))),
        at = (share) => 50 + (46 * share) / most;
      const letter = (number) => "ABC"[number],
        opposite = rows.filter((row) => row.opposite).length,
        labelled = cells.reduce((sum, [, number]) => sum + number, 0),
        told = !name
          ? "Not compared: these runs know no class in common"
          : !rows.length
            ? "Comparing …"
            : opposite
              ? `The runs read ${opposite} ${opposite > 1 ? "regions" : "region"} in opposite ways`
              : "No region is read in opposite ways";
      const words = (pattern) => {
        const right = [...pattern].map((one, number) => (one === "1" ? letter(number) : "")).filter(Boolean);
        return right.length === pattern.length
          ? "all right"
          : right.length
            ? `only ${right.join(" and ")} right`
            : "all wrong";
      };
      box.replaceChildren(
        h(
          "div",
          { class: "cw-card" },
          h(
            "div",
            { class: "cw-title" },
            h("b", { text: told }),
            h("span", {
              class: "cw-soft",
              text: ` share of each run's leave-one-out effect on ${name}, largest differences first`,
            }),
          ),
          h(
            "div",
            { class: "cw-pairs" },
            h(
              "div",
              { class: "cw-pair cw-soft" },
              ...runs.map((_, number) => h("b", { text: letter(number) })),
              h("span", { class: "cw-match", text: "match" }),
              h("span", {
                class: "cw-line",
                text: runs.map((run, number) => `${MARKS[number]} ${letter(number)} ${run}`).join("  "),
              }),
              h("span", { class: "cw-word" }),
            ),
            ...rows.slice(0, 10).map((row) => {
              const shown = row.shares.map((share, number) => [share, number]).filter(([share]) => share !== null),
                xs = shown.map(([share]) => at(share));
              return h(
                "div",
                {
                  class:
                    "cw-pair" +
                    (model.get("selected").includes(row.id) ? " selected" : "") +
                    (model.get("hovered") === row.id ? " hovered" : ""),
                  "data-region": row.id,
                  tabindex: 0,
                  "data-key": `pair-${row.id}`,
                  ...onPress(() => put(model, { selected: [row.id] })),
                  onkeydown: (event) => {
                    if (event.key === "Enter") put(model, { selected: [row.id] });
                  },
                  onmouseenter: () => put(model, { hovered: row.id }),
                  onmouseleave: () => put(model, { hovered: null }),
                },
                ...row.labels.map((label) => h("b", { text: label ?? "–" })),
                h("span", {
                  class: "cw-match cw-soft",
                  text:
                    row.iou === null ? `only in ${letter(row.labels.findIndex(Boolean))}` : `IoU ${row.iou.toFixed(2)}`,
                }),
                h(
                  "span",
                  { class: "cw-line" },
                  h("span", { class: "cw-middle-line" }),
                  h("span", {
                    class: "cw-span",
                    style: `left:${Math.min(...xs)}%;width:${Math.max(...xs) - Math.min(...xs)}%`,
                  }),
                  ...shown.map(([share, number]) =>
                    h("span", {
                      class: "cw-mark",
                      style: `left:${at(share)}%`,
                      title: `${letter(number)} ${signed(100 * share, 0)} %`,
                      text: MARKS[number],
                    }),
                  ),
                ),
                h("b", { class: "cw-word", text: row.opposite ? "opposite" : "" }),
              );
            }),
            h(
              "div",
              { class: "cw-pair cw-soft" },
              ...runs.map(() => h("b")),
              h("span", { class: "cw-match" }),
              h(
                "span",
                { class: "cw-line cw-axis" },
                h("span", { text: `against −${(100 * most).toFixed(0)} %` }),
                h("span", { text: "0" }),
                h("span", { text: `for +${(100 * most).toFixed(0)} %` }),
              ),
              h("span", { class: "cw-word" }),
            ),
          ),
        ),
        h(
          "div",
          { class: "cw-card" },
          h(
            "div",
            { class: "cw-title" },
            h("b", { text: "Where the runs part" }),
            h("span", {
              class: "cw-soft",
              text: cells.length
                ? ` ${labelled} labelled slices; a click shows them in the browser`
                : " the runs have no predictions for the same labelled slices",
            }),
          ),
          h(
            "div",
            { class: "cw-cells" },
            ...cells.map(([pattern, number]) =>
              h(
                "button",
                {
                  class: "cw-cell-button" + (kind === `pattern:${pattern}` ? " chosen" : ""),
                  "data-key": `cell-${pattern}`,
                  "data-pattern": pattern,
                  "aria-pressed": kind === `pattern:${pattern}`,
                  ...onPress(() =>
                    put(model, {
                      filter: {
                        ...model.get("filter"),
                        kind: kind === `pattern:${pattern}` ? "all" : `pattern:${pattern}`,
                      },
                    }),
                  ),
                },
                h("b", { text: number }),
                h("span", { text: words(pattern) }),
              ),
            ),
          ),
          h(
            "label",
            { class: "cw-group cw-note" },
            "the same region: box IoU ≥ ",
            h("input", {
              type: "number",
              min: 0.1,
              max: 0.95,
              step: 0.05,
              value: model.get("iou"),
              "data-key": "iou",
              class: "cw-number",
              onchange: (event) =>
                put(model, { iou: Math.min(0.95, Math.max(0.1, Number(event.target.value) || 0.5)) }),
            }),
            " weights of two runs are different quantities; effects can be compared",
          ),
        ),
      );
    });
  const stops = [
    live.stop,
    onChange(model, ["rows", "runs", "cells", "filter", "iou", "effect_class", "selected", "hovered"], draw),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
