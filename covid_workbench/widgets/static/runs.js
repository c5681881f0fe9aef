// The run explorer's own parts, chosen by the trait `part`: the bar of choices and filters, the table of runs, the card
// of one run.
const POINTS = {
  circle: "M20 2a4 4 0 1 0 .01 0Z",
  square: "M16 2h8v8h-8Z",
  diamond: "M20 1l5 5l-5 5l-5-5Z",
  "triangle-up": "M20 1l5 9h-10Z",
  cross: "M18.5 1h3v3.5H25v3h-3.5V11h-3V7.5H15v-3h3.5Z",
  x: "M16 1l4 4l4-4l1 1l-4 4l4 4l-1 1l-4-4l-4 4l-1-1l4-4l-4-4Z",
  star: "M20 0l1.8 4h4l-3.2 2.6L24 11l-4-2.6L16 11l1.4-4.4L14.2 4h4Z",
  "triangle-down": "M20 11l5-9h-10Z",
  "triangle-left": "M15 6l9-5v10Z",
  "triangle-right": "M25 6l-9-5v10Z",
  pentagon: "M20 1l5 4l-2 6h-6l-2-6Z",
  hourglass: "M15 1h10l-10 10h10Z",
};
const STROKES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "12 4", longdashdot: "12 3 2 3" };

function picker(model, name, label, title) {
  const options = model.get("choices")[name] ?? [];
  return h(
    "label",
    { class: "cwr-pick", title },
    h("span", { text: label }),
    h(
      "select",
      { "data-key": name, "aria-label": label, onchange: (event) => put(model, { [name]: event.target.value }) },
      ...options.map(([value, words]) => h("option", { value, text: words, selected: value === model.get(name) })),
    ),
  );
}

function toggle(model, name, label, title) {
  const on = model.get(name);
  return h(
    "button",
    {
      class: "cwr-toggle",
      role: "switch",
      "aria-checked": String(on),
      "data-key": name,
      title,
      onclick: () => put(model, { [name]: !on }),
    },
    h("i", { class: "cwr-knob" }),
    label,
  );
}

function bar(model, el) {
  const chips = ({ name, values }) =>
    h(
      "div",
      { class: "cwr-axis", role: "group", "aria-label": `show by ${name}` },
      h("span", { class: "cwr-name", text: name }),
      h(
        "span",
        { class: "cwr-chips" },
        ...values.map(({ value, count, on }) =>
          h(
            "button",
            {
              class: "cwr-chip" + (count ? "" : " none"),
              "aria-pressed": String(on),
              "data-key": `${name}=${value}`,
              "aria-label": `${name} ${value}, ${count} runs`,
              ...onPress(() =>
                put(model, {
                  filters: { ...model.get("filters"), [name]: toggled(model.get("filters")[name] ?? [], value) },
                }),
              ),
            },
            h("b", { text: on ? "✓ " : "" }),
            value,
            h("i", { text: count }),
          ),
        ),
      ),
    );
  let open = {};
  const fold = (key, words, ...inside) =>
    h(
      "details",
      {
        class: "cwr-fold",
        open: open[key] ?? false,
        ontoggle: (event) => {
          open[key] = event.target.open;
        },
      },
      h("summary", { "data-key": key, text: words }),
      ...inside,
    );
  return () =>
    keepFocus(el, () => {
      const filters = model.get("filters"),
        picked = Object.values(filters).some((wanted) => wanted.length),
        left = model.get("left"),
        more = model.get("more");
      const inMore = more.filter(({ values }) => values.some(({ on }) => on)).length,
        detectors = model.get("detector_count");
      if (inMore) open.more = true;
      el.replaceChildren(
        h(
          "div",
          { class: "cwr-line" },
          h("span", { class: "cwr-head", role: "status" }, h("b", { text: model.get("head") }), model.get("where")),
          h("span", { class: "cwr-space" }),
          h("span", { class: "cwr-soft", role: "status", text: model.get("live_words") }),
          model.get("empty")
            ? null
            : toggle(model, "live", "watch live", "read runs in training again every few seconds"),
        ),
        model.get("empty")
          ? h("p", { class: "cwr-empty", text: model.get("empty") })
          : h(
              "div",
              { class: "cwr-line" },
              picker(model, "y", "curve"),
              picker(model, "x", "over"),
              picker(model, "colour", "colour by"),
              picker(model, "smooth", "smoothing", "the raw values stay visible behind it, pale"),
              toggle(model, "log", "log scale", "logarithmic vertical axis"),
              detectors
                ? toggle(
                    model,
                    "detectors",
                    `shared detectors ${detectors}`,
                    "also show the detectors that warm starts share",
                  )
                : null,
            ),
        ...model.get("axes").map(chips),
        more.length
          ? fold(
              "more",
              `${more.length} more ${more.length > 1 ? "settings differ" : "setting differs"}`,
              ...more.map(chips),
            )
          : "",
        picked
          ? h("button", {
              class: "cwr-clear",
              "data-key": "clear",
              text: "Show all runs again",
              onclick: () => put(model, { filters: {} }),
            })
          : "",
        left.length
          ? fold(
              "left",
              `${left.length} not shown`,
              h(
                "ul",
                { class: "cwr-left" },
                ...left.map(([folder, why]) => h("li", {}, h("b", { text: folder }), ` ${why}`)),
              ),
            )
          : "",
      );
    });
}

function swatch({ colour, dash, symbol }) {
  return h(
    "svg",
    { class: "cwr-swatch", viewBox: "0 0 40 12", width: 40, height: 12, "aria-hidden": "true" },
    h("path", { d: "M1 6H39", stroke: colour, "stroke-width": 2, "stroke-dasharray": STROKES[dash] ?? "" }),
    h("path", { d: POINTS[symbol] ?? POINTS.circle, fill: colour }),
  );
}

/**
 * The chart is in the same column and does not notice when that changes its width. Plotly listens to the window, so an
 * event of the window tells it.
 */
function watchWidth(el) {
  let width = 0,
    asked = 0;
  const tell = () => {
    clearTimeout(asked);
    asked = setTimeout(() => window.dispatchEvent(new Event("resize")), 60);
  };
  const observer = new ResizeObserver(([{ contentRect }]) => {
    if (Math.abs(contentRect.width - width) > 1) {
      width = contentRect.width;
      tell();
    }
  });
  observer.observe(el);
  document.addEventListener("plotlywidget-after-render", tell);
  return () => {
    observer.disconnect();
    document.removeEventListener("plotlywidget-after-render", tell);
    clearTimeout(asked);
  };
}

function table(model, el) {
  const less = (a, b) =>
    a === null || a === undefined
      ? 1
      : b === null || b === undefined
        ? -1
        : typeof a === "number" && typeof b === "number"
          ? a - b
          : String(a).localeCompare(String(b), undefined, { numeric: true });
  const sorted = () => {
    const [by, down] = model.get("sort"),
      rows = [...model.get("rows")];
    if (!by) return rows;
    return rows.sort((one, other) => {
      const [a, b] = [one.cells[by]?.sort, other.cells[by]?.sort],
        missing = a === null || b === null;
      return less(a, b) * (down && !missing ? -1 : 1);
    });
  };
  const keys = (event) => {
    const row = event.target.closest("tr[data-run]"),
      forward = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!row) return;
    if (forward) {
      const next = forward > 0 ? row.nextElementSibling : row.previousElementSibling;
      if (next?.dataset.run) {
        row.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      }
    } else if (event.key === "Enter" || event.key === " ") put(model, { selected: row.dataset.run });
    else return;
    event.preventDefault();
  };
  el.addEventListener("keydown", keys);
  return () =>
    keepFocus(el, () => {
      const [by, down] = model.get("sort"),
        columns = model.get("columns"),
        rows = sorted(),
        selected = model.get("selected"),
        at = rows.some(({ key }) => key === selected) ? selected : rows[0]?.key;
      const best = Object.fromEntries(
        columns
          .filter(({ best: wanted }) => wanted)
          .map(({ name }) => [name, Math.max(...rows.map(({ cells }) => cells[name]?.sort ?? -Infinity))]),
      );
      const scroll = el.querySelector(".cwr-scroll")?.scrollTop ?? 0;
      const head = columns.map(({ name, label, number, title }) =>
        h(
          "th",
          {
            scope: "col",
            class: number ? "number" : null,
            "aria-sort": by === name ? (down ? "descending" : "ascending") : "none",
          },
          h(
            "button",
            {
              "data-key": `sort-${name}`,
              title: title ?? `sort by ${label}`,
              onclick: () => put(model, { sort: [name, by === name ? !down : Boolean(number)] }),
            },
            label,
            h("i", { text: by === name ? (down ? " ▾" : " ▴") : "" }),
          ),
        ),
      );
      const body = rows.map(({ key, style, cells }) =>
        h(
          "tr",
          {
            "data-run": key,
            "data-key": `run-${key}`,
            tabindex: key === at ? 0 : -1,
            "aria-selected": String(key === selected),
            ...onPress(() => put(model, { selected: key })),
          },
          ...columns.map(({ name, number }, place) =>
            h(
              "td",
              {
                class: number ? "number" : name === "status" ? `status ${cells[name].sort}` : null,
                title: cells[name]?.title,
              },
              place ? null : swatch(style),
              rows.length > 1 && best[name] === cells[name]?.sort
                ? h("b", { text: cells[name].text })
                : (cells[name]?.text ?? ""),
            ),
          ),
        ),
      );
      el.replaceChildren(
        h("p", { class: "cwr-soft cwr-note", role: "status", text: model.get("note") }),
        h(
          "div",
          { class: "cwr-scroll" },
          h(
            "table",
            { class: "cwr-table", role: "grid", "aria-label": "runs; arrow keys move, Enter opens" },
            h("thead", {}, h("tr", {}, ...head)),
            h("tbody", {}, ...body),
          ),
        ),
      );
      el.querySelector(".cwr-scroll").scrollTop = scroll;
    });
}

/** What a class that is called from a stop of the slider on is worth at a prevalence; null where it is not defined. */
function decided({ hits, wrong, ill, healthy }, stop, prevalence) {
  const ratio = (part, rest) => (part + rest > 0 ? part / (part + rest) : null),
    sensitivity = ill ? hits[stop] / ill : null,
    specificity = healthy ? 1 - wrong[stop] / healthy : null;
  if (sensitivity === null || specificity === null) return { sensitivity, specificity, PPV: null, NPV: null };
  const PPV = ratio(prevalence * sensitivity, (1 - prevalence) * (1 - specificity)),
    NPV = ratio((1 - prevalence) * specificity, prevalence * (1 - sensitivity));
  return { sensitivity, specificity, PPV, NPV };
}

/** A slider with its value beside it; `moved` hears every step, `done` the last one. */
function slider(key, label, value, moved, done) {
  const said = h("output", { text: value.toFixed(2) });
  const input = h("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.01,
    "aria-label": label,
    "data-key": key,
    oninput: (event) => {
      said.textContent = Number(event.target.value).toFixed(2);
      moved(Number(event.target.value));
    },
    onchange: done,
  });
  input.value = value;
  return h("label", { class: "cwr-slider" }, h("span", { text: label }), input, said);
}

/** The ROC curve of a class, and where the threshold of the slider lies on it. */
function rocPicture({ curve, name }, { sensitivity, specificity }) {
  const at = ([x, y]) => `${(10 + 120 * x).toFixed(1)},${(130 - 120 * y).toFixed(1)}`;
  return h(
    "svg",
    { class: "cwr-roc", viewBox: "0 -8 140 158", role: "img", "aria-label": `ROC curve of ${name}` },
    h("path", { d: "M10 10V130H130", class: "axis" }),
    h("path", { d: "M10 130L130 10", class: "guess" }),
    h("polyline", { points: curve.map(at).join(" ") }),
    sensitivity === null || specificity === null
      ? null
      : h("circle", { cx: 10 + 120 * (1 - specificity), cy: 130 - 120 * sensitivity, r: 4.5 }),
    h("text", { x: 70, y: 145, "text-anchor": "middle", text: "1 − specificity" }),
    h("text", { x: 8, y: 2, text: "sensitivity" }),
  );
}

/**
 * The tool for the threshold of one class. Its sliders stay where they are while they are dragged; only what they say
 * is drawn anew.
 */
function thresholds(model, rows, changed) {
  const first = rows.length - 1,
    share = ({ ill, healthy }) => Math.round((100 * ill) / Math.max(1, ill + healthy)) / 100;
  let [at, threshold, prevalence] = model.get("decision").length
    ? model.get("decision")
    : [first, 0.5, share(rows[first])];
  const readout = h("div", { class: "cwr-decided", "aria-live": "polite" });
  const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
  const show = () => {
    const row = rows[at],
      stop = Math.round(100 * threshold),
      found = decided(row, stop, prevalence);
    const called = (count, all) => ` ${count} of ${all}`;
    const lines = [
      ["sensitivity", found.sensitivity, called(row.hits[stop], row.ill)],
      ["specificity", found.specificity, called(row.healthy - row.wrong[stop], row.healthy)],
      ["PPV", found.PPV, ` of yeses right, where ${percent(prevalence)} are ill`],
      ["NPV", found.NPV, " of noes right"],
    ];
    readout.replaceChildren(
      h(
        "dl",
        {},
        ...lines.flatMap(([name, value, note]) => [
          h("dt", { text: name }),
          h("dd", {}, h("b", { text: percent(value) }), h("span", { text: note })),
        ]),
      ),
      row.curve.length
        ? rocPicture(row, found)
        : h("p", { class: "cwr-soft", text: "All slices are of one kind: there is no curve." }),
    );
  };
  const set = () => {
    show();
    changed([at, threshold, prevalence]);
  };
  const save = () => model.save_changes();
  const menu = h(
    "select",
    {
      "data-key": "decision-class",
      "aria-label": "class whose threshold is looked at",
      onchange: (event) => {
        at = Number(event.target.value);
        set();
        save();
      },
    },
    ...rows.map(({ name }, place) => h("option", { value: place, text: name, selected: place === at })),
  );
  const moved = (name) => (value) => {
    if (name === "threshold") threshold = value;
    else prevalence = value;
    set();
  };
  show();
  return h(
    "div",
    { class: "cwr-thresholds", role: "group", "aria-label": "threshold of a class" },
    h("label", { class: "cwr-pick" }, h("span", { text: "call" }), menu),
    slider("decision-threshold", "from probability", threshold, moved("threshold"), save),
    slider("decision-prevalence", "prevalence", prevalence, moved("prevalence"), save),
    readout,
    h("p", {
      class: "cwr-soft",
      text: "Counted on the test slices: a threshold that is chosen here has no test left. Choose it by validation.",
    }),
  );
}

function card(model, el) {
  let drawn = null;
  const decide = (decision) => {
    drawn[0] = JSON.stringify(decision);
    model.set("decision", decision);
  };
  const cellOf = (matrix, cell) => (count, true_, called) => {
    const { classes, counts, linked } = matrix,
      all = counts[true_].reduce((a, b) => a + b, 0),
      share = all ? count / all : 0,
      percent = `${Math.round(100 * share)} %`,
      words = `labelled ${classes[true_]}, predicted ${classes[called]}: ${count} slices, ${percent} of the class`;
    return h(
      "td",
      {},
      h(
        "button",
        {
          class: "cwr-cell" + (true_ === called ? " right" : ""),
          style: `--share:${(55 * share).toFixed(1)}%`,
          disabled: !count || !linked,
          "aria-label": words,
          title: words,
          "data-key": `cell-${true_}-${called}`,
          "aria-pressed": String(cell[0] === true_ && cell[1] === called),
          ...onPress(() => put(model, { cell: cell[0] === true_ && cell[1] === called ? [] : [true_, called] })),
        },
        h("b", { text: count }),
        h("span", { text: percent }),
      ),
    );
  };
  const pairs = (rows) =>
    h(
      "dl",
      {},
      ...rows.flatMap(([name, value, note]) => [
        h("dt", { text: name }),
        h("dd", {}, h("b", { text: value }), note ? h("span", { text: ` ${note}` }) : ""),
      ]),
    );
  const share = (value) => (value === null ? "–" : value.toFixed(2));
  return () => {
    const now = [
      JSON.stringify(model.get("decision")),
      ...["run", "cell", "slices", "words"].map((name) => model.get(name)),
    ];
    if (drawn && now.every((value, place) => value === drawn[place])) return; // the slider's own move
    drawn = now;
    keepFocus(el, () => {
      const run = model.get("run"),
        matrix = run.confusion,
        cell = model.get("cell"),
        slices = model.get("slices");
      if (!run.name) {
        el.replaceChildren(h("p", { class: "cwr-empty", text: "Click a point or a row to open its run." }));
        return;
      }
      const draw = matrix?.counts ? cellOf(matrix, cell) : null;
      el.replaceChildren(
        h(
          "div",
          { class: "cwr-line" },
          h("h3", { text: run.name }),
          h("span", { class: "cwr-space" }),
          h("button", {
            class: "cwr-close",
            "data-key": "close",
            "aria-label": "close this run",
            title: "close this run",
            text: "×",
            onclick: () => model.send({ close: true }),
          }),
        ),
        h("p", { class: "cwr-soft", text: run.about }),
        run.note ? h("p", { class: "cwr-warn", text: run.note }) : "",
        run.figures.length ? pairs(run.figures) : "",
        run.settings.length ? h("h4", { text: "Settings that differ" }) : "",
        run.settings.length ? pairs(run.settings) : "",
        h("h4", { text: "Test slices" }),
        run.confusion_words ? h("p", { class: "cwr-soft", text: run.confusion_words }) : "",
        draw
          ? h(
              "table",
              { class: "cwr-matrix", "aria-label": "confusion matrix of the test slices" },
              h(
                "thead",
                {},
                h(
                  "tr",
                  {},
                  h("td", { class: "cwr-soft", text: "label ↓" }),
                  ...matrix.classes.map((name, place) =>
                    h("th", { scope: "col" }, place ? "" : h("span", { class: "cwr-soft", text: "predicted " }), name),
                  ),
                ),
              ),
              h(
                "tbody",
                {},
                ...matrix.counts.map((row, number) =>
                  h(
                    "tr",
                    {},
                    h("th", { scope: "row", text: matrix.classes[number] }),
                    ...row.map((count, called) => draw(count, number, called)),
                  ),
                ),
              ),
            )
          : "",
        run.thresholds?.length ? h("h4", { text: "Threshold of a class" }) : "",
        run.thresholds?.length ? thresholds(model, run.thresholds, decide) : "",
        run.threshold_words ? h("p", { class: "cwr-warn", text: run.threshold_words }) : "",
        h("p", { class: "cwr-soft", role: "status", text: model.get("words") }),
        slices.rows
          ? h(
              "div",
              { class: "cwr-slices", role: "group", "aria-label": slices.title },
              h("h4", { text: slices.title }),
              ...slices.rows.map((one) =>
                h(
                  "button",
                  {
                    "data-key": `slice-${one.id}`,
                    title: "open this slice alone",
                    ...onPress(() => model.send({ open: [one.id] })),
                  },
                  h("b", { text: one.id }),
                  h("span", {
                    text:
                      slices.called === slices.true
                        ? `p ${share(one.called)}`
                        : `p ${share(one.called)}, of its label ${share(one.true)}`,
                  }),
                ),
              ),
            )
          : "",
      );
    });
  };
}

const DRAWN = {
  bar: [
    bar,
    [
      "head",
      "where",
      "empty",
      "choices",
      "y",
      "x",
      "colour",
      "smooth",
      "log",
      "filters",
      "axes",
      "more",
      "detectors",
      "detector_count",
      "live",
      "live_words",
      "left",
    ],
  ],
  table: [table, ["columns", "rows", "sort", "selected", "note"]],
  card: [card, ["run", "cell", "decision", "slices", "words"]],
};

function render({ model, el }) {
  const [part, names] = DRAWN[model.get("part")];
  el.classList.add("cw", "cwr", `cwr-part-${model.get("part")}`);
  const stops = [
    connection(model).stop,
    onChange(model, names, part(model, el)),
    ownKeys(el),
    ...(model.get("part") === "table" ? [watchWidth(el)] : []),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
