// The lesion browser: predictions beside the truth. Python puts common.js, viewport.js and lesion_counts.js before it.
// The kernel is asked only for slices that were not sent yet.
const OUTCOME = {
  matched: { glyph: "✓", line: "#35D6A2" },
  missed: { glyph: "○", line: "#FFB54A" },
  false: { glyph: "×", line: "#F0A6DE" },
  found: { glyph: "□", line: "#FFFFFF" },
};
const LESION_LAYERS = {
  predictions: ["Predictions", "p"],
  truth: ["Truth", "t"],
  names: ["Names", "n"],
  lungs: ["Lungs", "l"],
};
const BINS = 20,
  NEIGHBOURS = [0, 1, -1, 2, -2, 3, -3, 4, -4],
  MOST_SLICES = 96;
const HELP = [
  ["← → or [ ]", "the slice before, the next; Home, End; Shift-wheel over the slice"],
  ["{ }", "the patient before, the next"],
  ["click, ↑ ↓, Esc", "select a lesion, the next, none; a second click on a spot selects the lesion around it"],
  ["P T N L", "predictions, truth, names, lungs"],
  ["Ctrl-wheel, drag, Z, F", "zoom, move, fit"],
  ["right-drag, Alt-drag, Alt 1–4", "window of the picture, in HU where the file has them; never of the model"],
  ["Ctrl Z, Ctrl Shift Z", "undo and redo of score, IoU, classes and layers"],
  ["?", "this sheet"],
];

/** The model with some traits that stay in this view. */
function within(model, own) {
  const heard = {};
  return {
    get: (name) => (name in own ? own[name] : model.get(name)),
    save_changes: () => model.save_changes(),
    send: (...said) => model.send(...said),
    set(name, value) {
      if (!(name in own)) model.set(name, value);
      else if (own[name] !== value) {
        own[name] = value;
        for (const run of heard[`change:${name}`] ?? []) run();
      }
    },
    on(event, run) {
      if (event.slice(7) in own) (heard[event] ??= []).push(run);
      else model.on(event, run);
    },
    off(event, run) {
      if (event.slice(7) in own) heard[event] = (heard[event] ?? []).filter((one) => one !== run);
      else model.off(event, run);
    },
  };
}

/** The slice on show, its lesions, and what the reader chose. */
function atHand(model) {
  const entries = model.get("slices"),
    id = model.get("slice"),
    number = Math.max(
      0,
      entries.findIndex((one) => one.id === id),
    ),
    score = model.get("score"),
    iou = model.get("iou"),
    reading = model.get("reading");
  const entry =
    entries[number]?.id === id
      ? entries[number]
      : { id, read: false, error: "", found: [], readings: {}, lungs: { truth: "", found: [] } };
  return { entries, entry, number, score, iou, reading, rows: lesionRows(entry, score, iou, reading) };
}

/** What a layer shows, in words: the organs have the names of the data set. */
function spokenLayer(model, name) {
  const organs = model.get("organs");
  return name !== "lungs" || organs === "lung" ? name : organs || "organs";
}

const shownLayer = (words) => words[0].toUpperCase() + words.slice(1, 24);

/**
 * A drawing that is made again only when what it shows has changed, so that nothing is replaced under the reader's
 * pointer while the detector reads the other slices.
 */
function once(shows, draw) {
  let last = null;
  return () => {
    const now = JSON.stringify(shows());
    if (now !== last) {
      last = now;
      draw();
    }
  };
}

const figure = (value) => (value === null ? "–" : value.toFixed(2));

/** The lesions of a slice on its stage. */
function drawLesions(model, layer, unit) {
  const { entry, rows, score } = atHand(model),
    layers = model.get("layers"),
    selected = model.get("selected"),
    hovered = model.get("hovered"),
    parts = [],
    [wide, high] = [model.get("shape")[1], model.get("shape")[0]];
  const show = { predictions: layers.includes("predictions"), truth: layers.includes("truth") };
  if (layers.includes("lungs")) {
    if (entry.lungs.truth && show.truth) parts.push(cased("path", { d: entry.lungs.truth }, "#C3CAD2", 1, "5 3"));
    if (show.predictions)
      parts.push(
        ...entry.lungs.found.filter((one) => one.score >= score).map(({ d }) => cased("path", { d }, "#C3CAD2", 1)),
      );
  }
  for (const row of [...rows].sort((a, b) => b.area - a.area)) {
    // the smallest on top: it wins a click
    const { line } = OUTCOME[row.outcome],
      isTruth = row.id[0] === "t";
    if (isTruth && show.truth)
      parts.push(
        h("path", { d: row.d, fill: line, "fill-opacity": 0.2, "pointer-events": "none" }),
        cased("path", { d: row.d }, line, 1.5, "5 3"),
      );
    if (!isTruth && show.predictions) parts.push(cased("path", { d: row.d }, line, 1.7));
    if (row.outcome === "matched" && show.predictions) parts.push(cased("path", { d: row.pair.d }, line, 1.9));
    if (!(isTruth ? show.truth || (row.outcome === "matched" && show.predictions) : show.predictions)) continue;
    const words = spoken(row),
      [left, top, right, bottom] = row.box,
      x = Math.max(0, (24 * unit - right + left) / 2),
      y = Math.max(0, (24 * unit - bottom + top) / 2);
    parts.push(
      h(
        "g",
        {
          class: "cw-hit",
          role: "option",
          "data-lesion": row.id,
          "aria-label": words,
          "aria-selected": selected === row.id,
        },
        h("title", { text: words }),
        h("path", { d: row.d, fill: "transparent", "data-lesion": row.id }),
        x || y
          ? h("rect", {
              x: left - x,
              y: top - y,
              width: right - left + 2 * x,
              height: bottom - top + 2 * y,
              fill: "transparent",
              "data-lesion": row.id,
            })
          : null,
      ),
    );
  }
  const framed = (id, width, dash) => {
    const row = rows.find((one) => one.id === id);
    if (row)
      parts.push(
        cased(
          "path",
          {
            d: brackets(
              row.box.map((side, at) => side + (at < 2 ? -4 : 4) * unit),
              12 * unit,
            ),
          },
          "#FFE14D",
          width,
          dash,
        ),
      );
  };
  if (hovered !== selected) framed(hovered, 1.6, "3 2");
  framed(selected, 2.4);
  if (layers.includes("names")) {
    const named = rows
        .filter((row) => (row.id[0] === "t" ? show.truth : show.predictions))
        .sort((a, b) => (b.id === selected) - (a.id === selected)),
      words = named.map(
        ({ outcome, label, iou, id }) =>
          `${OUTCOME[outcome].glyph} ${label}${id[0] === "t" && iou > 0 ? ` ${iou.toFixed(2)}` : ""}`,
      );
    placeLabels(
      named.map(({ box }) => box.map((side, at) => side + (at < 2 ? -3 : 3) * unit)),
      words,
      unit,
      [high, wide],
    ).forEach(([x, y], place) => {
      const row = named[place];
      parts.push(
        plate(
          x,
          y,
          words[place],
          unit,
          row.id === selected ? { ground: "#FFE14D", ink: "#0D0F12" } : { line: OUTCOME[row.outcome].line },
        ),
      );
    });
  }
  layer.replaceChildren(...parts);
}

function spoken({ label, outcome, name, area, iou, score, id }) {
  const share = iou > 0 ? `, IoU ${iou.toFixed(2)}` : "",
    sure = score === null || score === undefined ? "" : `, score ${score.toFixed(2)}`;
  const alone = id[0] === "t" && !share && outcome === "missed" ? ", no prediction touches it" : "";
  return `${label}, ${outcome}, ${name}, ${area} px${share}${sure}${alone}`;
}

/** A lesion from near: a piece of the drawn slice with its outlines. */
function crop(source, row) {
  const [left, top, right, bottom] = row.box,
    side = Math.max(right - left, bottom - top, 12) * 1.35,
    x = (left + right - side) / 2,
    y = (top + bottom - side) / 2,
    canvas = h("canvas", { width: 88, height: 88 }),
    { line } = OUTCOME[row.outcome];
  if (source) canvas.getContext("2d").drawImage(source, x, y, side, side, 0, 0, 88, 88);
  const paths = [
    row.id[0] === "t" ? cased("path", { d: row.d }, line, 1.3, "4 2") : cased("path", { d: row.d }, line, 1.5),
    row.outcome === "matched" ? cased("path", { d: row.pair.d }, line, 1.5) : null,
  ];
  return h(
    "span",
    { class: "cwl-crop", "aria-hidden": "true" },
    canvas,
    h("svg", { viewBox: `${x} ${y} ${side} ${side}` }, ...paths),
  );
}

/** The table of lesions. */
function lesionTable(model) {
  const grey = h("canvas"); // the whole slice as it is windowed, to cut from
  const head = ["", "", "outcome", "class", "area", "mask IoU, tick: threshold", "score"],
    body = h("tbody"),
    box = h(
      "div",
      { class: "cwl-scroll", "data-key": "table" },
      h(
        "table",
        { class: "cwl-table", role: "grid", "aria-label": "lesions of this slice" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ...head.map((text, at) => h("th", { scope: "col", class: at === 4 || at === 6 ? "number" : null, text })),
          ),
        ),
        body,
      ),
    ),
    foot = h("div", { class: "cw-note" });
  const fill = () =>
    keepFocus(body, () => {
      const { rows, iou: threshold, entry } = atHand(model),
        there = model.get("shown") === entry.id;
      if (there) drawPixels(grey, model);
      const bar = ({ iou, outcome, why, id }) =>
        iou > 0
          ? h(
              "span",
              { class: "cwl-iou", title: why ?? null },
              h(
                "span",
                { class: "cwl-track" },
                h("span", { class: `cwl-fill ${outcome}`, style: `width:${100 * iou}%` }),
                h("u", { style: `left:${100 * threshold}%` }),
              ),
              h("span", { text: iou.toFixed(2) }),
              why ? h("i", { text: why }) : null,
            )
          : h("span", {
              class: "cw-soft",
              text: outcome === "found" ? "no true mask" : id[0] === "t" ? "no prediction touches it" : why,
            });
      body.replaceChildren(
        ...rows.map((row) =>
          h(
            "tr",
            {
              tabindex: -1,
              "data-key": row.id,
              "data-lesion": row.id,
              "aria-label": spoken(row),
              ...onPress(() => put(model, { selected: row.id === model.get("selected") ? "" : row.id })),
              onmouseenter: () => model.set("hovered", row.id),
              onmouseleave: () => model.set("hovered", ""),
              onfocus: () => model.set("hovered", row.id),
              onblur: () => model.set("hovered", ""),
            },
            h("td", {}, crop(there ? grey : null, row)),
            h("th", { scope: "row", text: row.label }),
            h("td", { class: `cwl-outcome ${row.outcome}`, text: `${OUTCOME[row.outcome].glyph} ${row.outcome}` }),
            h("td", { text: row.name }),
            h("td", { class: "number", text: `${row.area} px` }),
            h("td", {}, bar(row)),
            h("td", { class: "number", text: figure(row.score ?? null) }),
          ),
        ),
      );
      if (!rows.length)
        body.replaceChildren(
          h(
            "tr",
            { class: "cwl-none" },
            h("td", {
              colspan: 7,
              text: entry.read
                ? entry.found.length
                  ? `No lesion, and no prediction from this score on; ${entry.found.length} below it.`
                  : "No lesion, and no prediction."
                : "…",
            }),
          ),
        );
      foot.textContent = model.get("note");
    });
  let shown = "";
  const mark = () => {
    const selected = model.get("selected"),
      hovered = model.get("hovered"),
      rows = [...body.querySelectorAll("[data-lesion]")],
      chosen = rows.find(({ dataset }) => dataset.lesion === selected);
    for (const row of rows) {
      row.classList.toggle("selected", row === chosen);
      row.classList.toggle("hovered", row.dataset.lesion === hovered);
      row.setAttribute("aria-selected", row === chosen);
      row.tabIndex = row === (chosen ?? rows[0]) ? 0 : -1;
    }
    if (
      chosen &&
      shown !== selected &&
      (chosen.offsetTop < box.scrollTop + 30 ||
        chosen.offsetTop + chosen.offsetHeight > box.scrollTop + box.clientHeight)
    )
      box.scrollTop = chosen.offsetTop - 60; // the page itself stays where it is
    shown = selected;
  };
  const refill = once(() => {
      const { entry, score, iou, reading } = atHand(model);
      return [
        entry.id,
        entry.read,
        score,
        iou,
        reading,
        model.get("shown"),
        model.get("window"),
        model.get("level"),
        model.get("hu_window"),
        model.get("note"),
      ];
    }, fill),
    draw = () => {
      refill();
      mark();
    };
  return { element: h("div", { class: "cw-card cwl-tablecard" }, box, foot), draw };
}

/** Choose a score on the histogram of the volume's predictions. */
function scoreCard(model) {
  const chart = h("svg", { class: "cwl-chart", "aria-hidden": "true" }),
    slider = (name, label) =>
      h("input", {
        type: "range",
        min: 0,
        max: 1,
        step: 0.01,
        "aria-label": label,
        class: "cwl-range",
        oninput: (event) => put(model, { [name]: Number(event.target.value) }),
      });
  const score = slider("score", "least score of a prediction"),
    iou = slider("iou", "least IoU of a match"),
    figures = h("span", { class: "cwl-figures", role: "status" }),
    scoreWords = h("b"),
    iouWords = h("b");
  iou.min = 0.05;
  iou.max = 0.95;
  iou.step = 0.05;
  const at = (event) => {
    const bounds = chart.getBoundingClientRect();
    return Math.round(100 * Math.min(1, Math.max(0, (event.clientX - bounds.left) / bounds.width))) / 100;
  };
  chart.addEventListener("pointerdown", (event) => {
    chart.setPointerCapture(event.pointerId);
    put(model, { score: at(event) });
  });
  chart.addEventListener("pointermove", (event) => {
    if (chart.hasPointerCapture(event.pointerId)) put(model, { score: at(event) });
  });
  const draw = () => {
    const { entries, score: least, iou: threshold, reading } = atHand(model),
      bins = Array.from({ length: BINS }, () => [0, 0, 0]),
      width = chart.clientWidth || 600,
      height = 78;
    for (const entry of entries) {
      const made = matched(entry, threshold, reading);
      entry.found.forEach(
        (one, number) =>
          bins[Math.min(BINS - 1, Math.floor(one.score * BINS))][made ? (made.takes[number] < 0 ? 1 : 0) : 2]++,
      );
    }
    const most = Math.max(1, ...bins.map((parts) => parts.reduce((a, b) => a + b, 0))),
      parts = [],
      step = width / BINS,
      tall = (count) => (count / most) * (height - 6);
    bins.forEach(([hits, wrong, open], bin) => {
      const pale = (bin + 1) / BINS <= least,
        x = bin * step + 1,
        range = `score ${(bin / BINS).toFixed(2)} to ${((bin + 1) / BINS).toFixed(2)}`,
        words = `${range}: ${hits} matched, ${wrong} false${open ? `, ${open} without truth` : ""}`;
      const bar = (from, count, kind) =>
        count
          ? h("rect", {
              x: kind === "hit" ? x : x + 0.75,
              y: height - tall(from + count) + (kind === "hit" ? 0 : 0.75),
              width: step - (kind === "hit" ? 2 : 3.5),
              height: Math.max(0.5, tall(count) - (kind === "hit" ? 0 : 1.5)),
              class: `cwl-${kind}${pale ? " pale" : ""}`,
            })
          : null;
      parts.push(
        h(
          "g",
          {},
          h("title", { text: words }),
          h("rect", { x, y: 0, width: step - 2, height, fill: "transparent" }),
          bar(0, hits, "hit"),
          bar(hits, wrong, "wrong"),
          bar(hits + wrong, open, "open"),
        ),
      );
    });
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.replaceChildren(
      ...parts,
      h("line", { x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5, class: "cwl-base" }),
      h("line", { x1: least * width, x2: least * width, y1: 0, y2: height, class: "cwl-cut" }),
    );
    [score.value, iou.value, scoreWords.textContent, iouWords.textContent] = [
      least,
      threshold,
      `score ≥ ${least.toFixed(2)}`,
      threshold.toFixed(2),
    ];
    scoreWords.style.left = `${100 * Math.min(0.92, Math.max(0.08, least))}%`;
    const all = sums(entries, least, threshold, reading),
      read = entries.filter((one) => one.read).length,
      pair = (name, value) => h("span", {}, `${name} `, h("b", { text: figure(value) }));
    const counts = `${all.matched} matched, ${all.missed} missed, ${all.false} false`;
    figures.title = `${counts} on ${all.slices} slices with a true mask`;
    figures.replaceChildren(
      h("span", {
        class: "cw-soft",
        text: read < entries.length ? `volume, ${read} of ${entries.length} slices:` : "volume:",
      }),
      ...(all.slices
        ? [pair("precision", all.precision), pair("recall", all.recall), pair("mean IoU", all.mean_iou)]
        : [h("span", { text: "no true masks to compare with" })]),
    );
  };
  const element = h(
    "div",
    { class: "cw-card" },
    h(
      "div",
      { class: "cw-title" },
      h("b", { text: "Drag to choose the score" }),
      h("span", { class: "cw-soft", text: "  predictions of this volume by score, matched below, false on top" }),
    ),
    h(
      "div",
      { class: "cwl-score" },
      chart,
      score,
      h(
        "div",
        { class: "cw-axis cwl-axis" },
        ...[0, 0.25, 0.5, 0.75, 1].map((tick) => h("span", { style: `left:${100 * tick}%`, text: tick })),
        scoreWords,
      ),
    ),
    h(
      "div",
      { class: "cwl-line" },
      h("label", { class: "cw-group" }, h("span", { class: "cw-soft", text: "match when IoU ≥" }), iou, iouWords),
      h("span", { class: "cw-grow" }),
      figures,
    ),
  );
  return { element, draw, chart };
}

/** Lesions slice by slice: truth above the line, false below. */
function profile(model, go) {
  const chart = h("svg", {
    class: "cwl-profile",
    tabindex: 0,
    role: "slider",
    "aria-label": "slice",
    "data-key": "profile",
  });
  const draw = () => {
    const { entries, number, score, iou, reading } = atHand(model),
      counts = entries.map((entry) =>
        entry.read
          ? (tally(entry, score, iou, reading) ?? {
              matched: 0,
              missed: 0,
              false: 0,
              open: entry.found.filter((one) => one.score >= score).length,
            })
          : null,
      ),
      width = chart.clientWidth || 900;
    const up = Math.max(3, ...counts.map((one) => (one ? one.matched + one.missed : 0))),
      down = Math.max(2, ...counts.map((one) => (one ? one.false + (one.open ?? 0) : 0))),
      unit = Math.min(9, 80 / up, 56 / down),
      base = up * unit + 4,
      high = base + down * unit + 22;
    const step = Math.min(46, width / Math.max(1, entries.length)),
      wide = Math.max(1.5, Math.min(22, step * 0.62)),
      thin = step < 7 || unit < 5,
      blocks = (count) =>
        thin ? (count ? [[0, count]] : []) : Array.from({ length: count }, (_, place) => [place, 1]),
      every = [1, 2, 5, 10, 20, 50, 100].find((one) => one * step >= 30) ?? 200,
      parts = [h("line", { x1: 0, x2: step * entries.length, y1: base, y2: base, class: "cwl-base" })];
    counts.forEach((one, at) => {
      // lesions one by one, or as one block each kind where there are too many to count
      const x = at * step + (step - wide) / 2,
        isNow = at === number,
        pieces = (from, count, kind, way) =>
          blocks(count).map(([place, many]) => {
            const line = kind === "hit" ? 0 : 0.6,
              tall = Math.max(1, many * unit - (thin ? 0 : 1.6) - 2 * line),
              y =
                way > 0
                  ? base - 2 - (from + place + many) * unit + (thin ? 0 : 0.8) + line
                  : base + 2 + (from + place) * unit + line;
            return h("rect", {
              x: x + line,
              y,
              width: Math.max(1, wide - 2 * line),
              height: tall,
              class: `cwl-${kind}${thin ? " thin" : ""}`,
            });
          });
      const outcome = !one
          ? "not read yet"
          : one.open === undefined
            ? `${one.matched} matched, ${one.missed} missed, ${one.false} false`
            : `${one.open} predictions, no true mask`,
        words = `slice ${at + 1}: ${outcome}`;
      parts.push(
        h(
          "g",
          { "data-slice": at, class: "cwl-column" },
          h("title", { text: words }),
          h("rect", { x: at * step, y: 0, width: step, height: high, class: isNow ? "cwl-now" : "cwl-free", rx: 2 }),
          ...(one
            ? [
                ...pieces(0, one.matched, "hit", 1),
                ...pieces(one.matched, one.missed, "miss", 1),
                ...pieces(0, one.false, "wrong", -1),
                ...pieces(0, one.open ?? 0, "open", -1),
              ]
            : [h("text", { x: at * step + step / 2, y: base - 4, "text-anchor": "middle", text: "·" })]),
          isNow || at === 0 || (at + 1) % every === 0
            ? h("text", {
                x: at * step + step / 2,
                y: high - 5,
                "text-anchor": "middle",
                class: isNow ? "now" : "",
                text: at + 1,
              })
            : null,
        ),
      );
    });
    for (const [name, value] of Object.entries({
      viewBox: `0 0 ${width} ${high}`,
      height: high,
      "aria-valuemin": 1,
      "aria-valuemax": entries.length,
      "aria-valuenow": number + 1,
      "aria-valuetext": `slice ${number + 1} of ${entries.length}`,
    }))
      chart.setAttribute(name, value);
    chart.replaceChildren(...parts);
  };
  const pick = (event) => {
    const column = document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".cwl-column");
    if (column && chart.contains(column)) go(Number(column.dataset.slice));
  };
  chart.addEventListener("pointerdown", (event) => {
    chart.focus({ preventScroll: true });
    pick(event);
  });
  chart.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) pick(event);
  });
  return {
    element: h(
      "div",
      { class: "cw-card cwl-whole" },
      h(
        "div",
        { class: "cw-title" },
        h("b", { text: "Lesions slice by slice" }),
        h(
          "span",
          { class: "cw-soft" },
          "  above the line: true lesions (solid matched, dashed missed); below: false predictions; ",
          h("kbd", { text: "[" }),
          " ",
          h("kbd", { text: "]" }),
          " moves through the volume",
        ),
      ),
      chart,
    ),
    draw,
    chart,
  };
}

function render({ model: outer, el }) {
  el.classList.add("cw", "cw-lesions", "cw-explorer");
  const model = within(outer, {
      pixels: null,
      shape: [0, 0],
      hu: null,
      hu_presets: {},
      shown: "",
      hovered: "",
      stamp: 0,
    }),
    kept = new Map(),
    asked = new Set();
  const keep = (id, picture) => {
    kept.delete(id);
    kept.set(id, picture);
    asked.delete(id);
    if (kept.size > MOST_SLICES) kept.delete(kept.keys().next().value);
  };
  const held = outer.get("held_slices") ?? {}; // of a saved page
  for (const [id, [place, more]] of Object.entries(held))
    keep(id, { ...more, pixels: outer.get(`pixels ${place}`), hu: outer.get(`hu ${place}`) ?? null });
  const cover = h("div", { class: "cwl-cover", role: "status" });
  const bring = () => {
    // the pixels of the slice at hand, and a request for those near by
    const { entries, entry, number } = atHand(model),
      sent = model.get("pixels_of");
    if (sent && outer.get("pixels")?.byteLength && !kept.has(sent))
      keep(sent, Object.fromEntries(["pixels", "shape", "hu", "hu_presets"].map((name) => [name, outer.get(name)])));
    const got = kept.get(entry.id);
    model.set("shape", got?.shape ?? (model.get("shape")[0] ? model.get("shape") : [1, 1]));
    model.set("hu_presets", got?.hu_presets ?? {});
    model.set("hu", got?.hu ?? null);
    model.set("pixels", got?.pixels ?? null);
    model.set("shown", got ? entry.id : "");
    cover.hidden = Boolean(got);
    cover.textContent = got
      ? ""
      : entry.error
        ? entry.error
        : outer.saved
          ? `This page holds the pictures of ${Object.keys(held).length} slices; this one is not among them.`
          : live.words
            ? `${live.words} This slice was not sent yet.`
            : "reading this slice …";
    const want = NEIGHBOURS.map((far) => entries[number + far]?.id).filter(
      (id) => id && !kept.has(id) && !asked.has(id),
    );
    if (!live.alive || !want.length) return;
    want.forEach((id) => asked.add(id));
    outer.send({ want });
  };
  const live = connection(outer, () => {
    asked.clear();
    bring();
    drawHead();
  });
  const hear = (message, buffers) => {
    if (message?.pixels) {
      const { shape, hu_presets } = message;
      keep(message.pixels, { pixels: buffers[0], shape, hu: buffers[1] ?? null, hu_presets });
      if (message.pixels === model.get("slice")) bring();
    }
    if (message?.entry && message.volume === model.get("volume")) {
      model.get("slices")[message.number] = message.entry;
      model.set("stamp", model.get("stamp") + 1);
    }
  };
  outer.on("msg:custom", hear);

  const go = (number) => {
    const entry = model.get("slices")[Math.min(model.get("slices").length - 1, Math.max(0, number))];
    if (entry && entry.id !== model.get("slice")) {
      model.set("hovered", "");
      put(model, { slice: entry.id, selected: "" });
    }
  };
  const patient = (forward) => {
    const names = model.get("volumes").map(([name]) => name),
      next = names[names.indexOf(model.get("volume")) + forward];
    if (next !== undefined && live.alive) outer.send({ open: next });
  };
  const along = (forward) => {
    const ids = atHand(model).rows.map(({ id }) => id),
      at = ids.indexOf(model.get("selected")),
      next = ids[at < 0 ? (forward > 0 ? 0 : ids.length - 1) : Math.min(ids.length - 1, Math.max(0, at + forward))];
    if (next) put(model, { selected: next });
  };

  // above: what is open
  const head = h("div", { class: "cw-header" }),
    tools = h("div"),
    own = { key_sheet: HELP, runs: [], where: null, noun: "slice" },
    words = {
      key_note: "Keys act while the browser has the focus. Research software, not a medical device.",
      reset_words: ["Reset", "score, IoU and classes as at first"],
    },
    leave = outer.saved ? () => {} : header.render({ model: within(outer, { ...own, ...words }), el: tools });
  const button = (key, text, label, onclick, more = {}) =>
    h("button", { class: "cw-button", "data-key": key, text, title: label, "aria-label": label, onclick, ...more });
  const run = h("span", { class: "cw-run" }),
    choose = h("select", {
      class: "cw-select",
      "aria-label": "patient",
      onchange: () => outer.send({ open: choose.value }),
    }),
    steps = h("span", { class: "cw-group" }),
    reading = h("label", { class: "cw-group cw-soft cw-small", role: "status" });
  head.append(
    run,
    h("label", { class: "cw-group" }, h("span", { class: "cw-soft", text: "patient" }), choose),
    steps,
    h("span", { class: "cw-grow" }),
    reading,
  );
  const drawChoice = once(
    () => [model.get("about"), model.get("volumes"), model.get("volume"), live.alive],
    () => {
      const [name, words] = model.get("about"),
        volumes = model.get("volumes");
      run.hidden = !name;
      run.replaceChildren(h("b", { text: name }), h("span", { class: "cw-soft", text: ` ${words}` }));
      if (choose.options.length !== volumes.length)
        choose.replaceChildren(...volumes.map(([one, told]) => h("option", { value: one, text: told })));
      [choose.value, choose.disabled] = [model.get("volume"), !live.alive];
    },
  );
  const place = () => {
    const { entries, number } = atHand(model);
    return [number, entries.length];
  };
  const drawSteps = once(place, () =>
    keepFocus(steps, () => {
      const [number, many] = place();
      steps.replaceChildren(
        button("back", "‹", "the slice before, [", () => go(number - 1), { disabled: number === 0 }),
        h("span", { class: "cw-where" }, "slice ", h("b", { text: number + 1 }), ` of ${many}`),
        button("on", "›", "the next slice, ]", () => go(number + 1), { disabled: number >= many - 1 }),
      );
    }),
  );
  const drawHead = () => {
    const entries = model.get("slices"),
      read = entries.filter((one) => one.read).length;
    reading.replaceChildren(
      ...(read < entries.length
        ? [`detector: ${read} of ${entries.length} slices `, h("progress", { max: entries.length, value: read })]
        : []),
    );
    drawChoice();
    drawSteps();
  };

  // the slice
  let last = { at: 0, x: 0, y: 0, depth: 0 };
  const lesionAt = (event) => event?.target?.closest?.("[data-lesion]")?.dataset.lesion ?? "";
  const about = ["slices", "slice", "volume", "score", "iou", "reading", "stamp"];
  const view = viewport(model, "CT slice with its lesions", [...about, "selected", "hovered", "layers"], {
    draw: (layer, unit) => drawLesions(model, layer, unit),
    hover: (event) => {
      if (lesionAt(event) !== model.get("hovered")) model.set("hovered", lesionAt(event));
    },
    click: (event) => {
      // the smallest under the pointer; a second, slow click on the same spot goes outwards
      const under = [
          ...new Set(
            document
              .elementsFromPoint(event.clientX, event.clientY)
              .map((one) => one.dataset?.lesion)
              .filter(Boolean),
          ),
        ],
        same =
          Math.hypot(event.clientX - last.x, event.clientY - last.y) < 4 &&
          event.timeStamp - last.at < 2500 &&
          event.timeStamp - last.at > 350;
      last = {
        at: event.timeStamp,
        x: event.clientX,
        y: event.clientY,
        depth: same ? (last.depth + 1) % Math.max(1, under.length) : 0,
      };
      put(model, { selected: under[last.depth] ?? "" });
    },
  });
  const roll = { far: 0 };
  view.stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.shiftKey || event.ctrlKey) return;
      event.preventDefault();
      roll.far += event.deltaX || event.deltaY;
      if (Math.abs(roll.far) >= 40) {
        go(atHand(model).number + Math.sign(roll.far));
        roll.far = 0;
      }
    },
    { passive: false },
  );
  view.stage.append(cover);
  const controls = h("div", { class: "cw-controls" }),
    absent = () => {
      const { lungs, readings } = atHand(model).entry;
      return { lungs: !lungs.truth && !lungs.found.length, truth: !Object.keys(readings).length };
    };
  const drawControls = once(
    () => [model.get("layers"), absent(), model.get("readings"), model.get("reading")],
    () =>
      keepFocus(controls, () => {
        const layers = model.get("layers"),
          none = absent();
        const choices = model.get("readings"),
          choose = h(
            "select",
            {
              class: "cw-select",
              "data-key": "reading",
              "aria-label": "classes",
              onchange: (event) => put(model, { reading: event.target.value, selected: "" }),
            },
            ...choices.map(([value, text]) => h("option", { value, text, selected: value === model.get("reading") })),
          );
        controls.replaceChildren(
          h(
            "span",
            { class: "cw-group cw-joined", role: "group", "aria-label": "layers" },
            ...Object.entries(LESION_LAYERS).map(([name, [words, letter]]) =>
              h("button", {
                class: "cw-button",
                "data-key": `layer-${name}`,
                "data-layer": name,
                "aria-pressed": layers.includes(name),
                disabled: Boolean(none[name]),
                title: none[name]
                  ? `this slice has no ${spokenLayer(model, name)} to show`
                  : `${letter.toUpperCase()} shows or hides them`,
                text: name === "lungs" ? shownLayer(spokenLayer(model, name)) : words,
                onclick: () => put(model, { layers: toggled(layers, name) }),
              }),
            ),
          ),
          h("span", { class: "cw-grow" }),
          h(
            "label",
            { class: "cw-group" },
            h("span", { class: "cw-soft", text: "classes" }),
            choices.length > 1 ? choose : h("b", { text: choices[0][1] }),
          ),
        );
      }),
  );
  const line = (dash) =>
      h(
        "svg",
        { width: 26, height: 8, "aria-hidden": "true" },
        h("path", { d: "M0 4H26", stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": dash }),
      ),
    mark = (name) => h("b", { class: `cwl-outcome ${name}`, text: `${OUTCOME[name].glyph} ${name}` });
  const foot = h(
    "div",
    { class: "cw-foot" },
    h("span", { class: "cw-key" }, line(null), "prediction", line("5 3"), "truth"),
    h("span", { class: "cw-key" }, mark("matched"), mark("missed"), mark("false")),
    h("span", { class: "cw-group" }, view.presets, view.readout),
  );
  const counts = h("div", { class: "cw-card cwl-counts", "aria-live": "polite" }),
    drawCounts = () => {
      const { entry, rows, iou } = atHand(model),
        number = (outcome) => rows.filter((row) => row.outcome === outcome).length,
        shown = Object.keys(entry.readings).length ? ["matched", "missed", "false"] : ["found"];
      counts.replaceChildren(
        h(
          "div",
          { class: "cwl-line" },
          ...shown.map((name) =>
            h(
              "span",
              { class: `cwl-count ${name}`, "data-outcome": name },
              h("b", { text: `${OUTCOME[name].glyph} ${number(name)}` }),
              ` ${name}`,
            ),
          ),
          h("span", { class: "cw-grow" }),
          h("span", { class: "cw-soft", text: "this slice" }),
        ),
        h("div", { text: told(entry, rows, iou) }),
      );
    };

  const scores = scoreCard(model),
    table = lesionTable(model),
    whole = profile(model, go);
  el.append(
    tools,
    head,
    h(
      "div",
      { class: "cwl-grid" },
      h("div", { class: "cwl-left" }, controls, view.stage, foot, counts),
      h("div", { class: "cwl-right" }, scores.element, table.element),
    ),
    whole.element,
  );
  const watch = new ResizeObserver(() => {
    scores.draw();
    whole.draw();
  });
  watch.observe(scores.chart);
  watch.observe(whole.chart);
  const stops = [
    leave,
    view.stop,
    live.stop,
    () => watch.disconnect(),
    () => outer.off("msg:custom", hear),
    onChange(model, ["slices", "slice", "pixels_of", "volume"], bring),
    onChange(model, [...about, "about", "volumes"], drawHead),
    onChange(model, [...about, "layers", "readings"], drawControls),
    onChange(model, about, drawCounts),
    onChange(model, about, scores.draw),
    onChange(model, about, whole.draw),
    onChange(model, [...about, "shown", "window", "level", "hu_window", "selected", "hovered", "note"], table.draw),
    explorerKeys(el, (event) => {
      if (view.key(event)) return true;
      if (event.ctrlKey || event.metaKey || event.altKey) return false;
      const step = { ArrowLeft: -1, "[": -1, ArrowRight: 1, "]": 1, Home: -1e9, End: 1e9 }[event.key],
        row = { ArrowUp: -1, ArrowDown: 1 }[event.key],
        way = { "{": -1, "}": 1 }[event.key],
        layer = Object.entries(LESION_LAYERS).find(([, [, letter]]) => letter === event.key.toLowerCase());
      if (step) go(atHand(model).number + step);
      else if (row) along(row);
      else if (way) patient(way);
      else if (layer) {
        if (!controls.querySelector(`[data-layer="${layer[0]}"]`).disabled)
          put(model, { layers: toggled(model.get("layers"), layer[0]) });
      } else if ((event.key === "Enter" || event.key === " ") && event.target.dataset?.lesion)
        put(model, { selected: event.target.dataset.lesion });
      else if (event.key === "Escape" && model.get("selected")) put(model, { selected: "" });
      else return false;
      return true;
    }),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
