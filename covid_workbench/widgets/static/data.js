// The data explorer: counts, figures, findings, a contact sheet, one slice. Python puts common.js and viewport.js
// before it. Every choice is a trait; the kernel answers with another sheet or another slice.
const LEVEL = { error: "✕", warning: "!", note: "i" };
const HELP = [
  ["click, Enter", "a finding or a number shows its slices, a tile opens its slice; a second click leaves the finding"],
  ["↑ ↓", "through findings"],
  ["← →", "the slice before, the next; [ ] the page before, the next"],
  ["M", "masks on or off"],
  ["Esc", "leave the finding, then the filters"],
  ["Ctrl-wheel, drag, Z, F", "zoom, move, fit"],
  ["right-drag, Alt-drag, Alt 1–4", "window of the picture, in HU where the file has them"],
];
const many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** A table of counts; a click on a cell filters by its row and column. */
function countTable(model, { across, columns, rows }) {
  const live = (wanted) => {
    const filters = {};
    for (const [axis, value] of Object.entries(wanted)) if (value !== null) filters[axis] = [value];
    put(model, { filters, finding: "" });
  };
  const cell = (row, column, { slices, patients }) =>
    h(
      "td",
      {},
      h(
        "button",
        {
          class: "cwd-cell",
          disabled: !slices,
          "data-key": `count-${across}-${row.value}-${column.value}`,
          title: slices ? `show: ${row.words}, ${column.words}` : null,
          ...onPress(() => live({ label: row.value, [across]: column.value })),
        },
        h("b", { text: slices ? slices.toLocaleString("en") : "–" }),
        h("i", { text: slices ? (patients === null ? "of unknown patients" : `of ${many(patients, "patient")}`) : "" }),
      ),
    );
  return h(
    "table",
    { class: "cwd-counts" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { text: `slices by ${across}` }),
        ...columns.map(({ words }) => h("th", { scope: "col", text: words })),
      ),
    ),
    h(
      "tbody",
      {},
      ...rows.map((row) =>
        h(
          "tr",
          { class: row.value === null ? "all" : "" },
          h("th", { scope: "row", text: row.words }),
          ...row.cells.map((one, at) => cell(row, columns[at], one)),
        ),
      ),
    ),
  );
}

/** One histogram: a step line for each class over bins of equal width. */
function histogram({ title, x, unit, bins, ticks, series, note, mark }) {
  const [wide, high, left, base] = [320, 128, 4, 108],
    share = unit.startsWith("of "),
    most = Math.max(1e-9, ...series.flatMap(({ values }) => values)),
    step = (wide - 2 * left) / Math.max(1, bins.length),
    told = (value) => (share ? `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %` : value.toLocaleString("en")),
    across = (place) => left + place * step,
    up = (value) => base - (value / most) * (base - 16);
  const line = (values) =>
    `M${across(0)} ${base}` + values.map((value, at) => `V${up(value)}H${across(at + 1)}`).join("") + `V${base}`;
  const lines = series.flatMap(({ colour, dash, values }) => [
    h("path", { d: line(values), fill: colour, "fill-opacity": 0.1 }),
    h("path", {
      d: line(values),
      class: "cwd-line",
      style: `--cwd-colour:${colour}`,
      "stroke-dasharray": dash || null,
    }),
  ]);
  const over = bins.map((words, at) =>
    h(
      "g",
      {},
      h("title", { text: `${words}: ${series.map(({ name, values }) => `${name} ${told(values[at])}`).join(", ")}` }),
      h("rect", { x: across(at), y: 0, width: step, height: base, class: "cwd-bin" }),
    ),
  );
  const legend = series.map(({ name, colour, dash, count }) =>
    h(
      "span",
      { class: "cwd-legend" },
      h(
        "svg",
        { width: 22, height: 8, "aria-hidden": "true" },
        h("path", {
          d: "M1 4H21",
          class: "cwd-line",
          style: `--cwd-colour:${colour}`,
          "stroke-dasharray": dash || null,
        }),
      ),
      name,
      h("i", { text: count.toLocaleString("en") }),
    ),
  );
  const spoken = series.map(({ name, count }) => `${name} ${count}`).join(", ");
  return h(
    "figure",
    { class: "cwd-figure" },
    h("figcaption", {}, h("b", { text: title }), h("span", {}, ...legend)),
    h(
      "svg",
      { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${title}: ${spoken || "nothing to count"}` },
      h("line", { x1: left, x2: wide - left, y1: base, y2: base, class: "cwd-base" }),
      ...lines,
      mark === null ? null : h("line", { x1: across(mark), x2: across(mark), y1: 8, y2: base, class: "cwd-mark" }),
      h("text", { x: left, y: 9, text: series.length ? `up to ${told(most)} ${unit}` : "nothing to count" }),
      ...ticks.map(([place, words]) =>
        h("text", {
          x: across(place),
          y: base + 12,
          "text-anchor": place === 0 ? "start" : place === bins.length ? "end" : "middle",
          text: words,
        }),
      ),
      ...over,
    ),
    h("p", { class: "cw-soft", text: `${x}. ${note}` }),
  );
}

/** The findings as a table with one row in the tab order. */
function findingTable(model, el) {
  const choose = (key) => put(model, { finding: key === model.get("finding") ? "" : key });
  return () =>
    keepFocus(el, () => {
      const findings = model.get("findings"),
        chosen = model.get("finding"),
        tab = findings.some(({ key }) => key === chosen) ? chosen : findings[0]?.key;
      const row = ({ key, level, what, mend, count, slices, figures }) =>
        h(
          "tr",
          {
            class: `cwd-finding ${level}`,
            "data-key": `finding-${key}`,
            "data-finding": key,
            tabindex: key === tab ? 0 : -1,
            "aria-selected": String(key === chosen),
            ...onPress(() => choose(key)),
          },
          h("td", { class: "cwd-level" }, h("b", { "aria-hidden": "true", text: LEVEL[level] }), ` ${level}`),
          h("td", {}, h("div", { text: what }), mend ? h("div", { class: "cw-soft", text: mend }) : null),
          h("td", { class: "cw-soft", text: figures }),
          h("td", { class: "cwd-many", text: count ? many(count, "place") : "" }),
          h("td", { class: "cwd-many", text: slices ? `${many(slices, "slice")} to see ›` : "" }),
        );
      const held = ["error", "warning", "note"]
        .map((level) => [findings.filter((one) => one.level === level).length, level])
        .filter(([count]) => count)
        .map(([count, level]) => many(count, level));
      el.replaceChildren(
        h(
          "div",
          { class: "cw-title" },
          h("b", { text: "Findings" }),
          h("span", { class: "cw-soft", text: `  ${held.join(", ") || "the audit found nothing to say"}` }),
        ),
        h(
          "div",
          { class: "cwd-scroll" },
          h(
            "table",
            { class: "cwd-findings", role: "grid", "aria-label": "findings of the audit" },
            h("tbody", {}, ...findings.map(row)),
          ),
        ),
      );
    });
}

/** Chips for the filters, the order of the slices, and pages. */
function sheetBar(model, el) {
  const chip = (axis, { value, words, count, on }) =>
    h(
      "button",
      {
        class: "cwd-chip",
        "aria-pressed": String(on),
        "data-key": `${axis}=${value}`,
        ...onPress(() => {
          const filters = model.get("filters");
          put(model, { filters: { ...filters, [axis]: toggled(filters[axis] ?? [], value) } });
        }),
      },
      h("b", { text: on ? "✓ " : "" }),
      words,
      h("i", { text: count.toLocaleString("en") }),
    );
  const turn = (key, words, label, page, off) =>
    h("button", {
      class: "cw-button",
      "data-key": key,
      text: words,
      title: label,
      "aria-label": label,
      disabled: off,
      onclick: () => put(model, { page }),
    });
  return () =>
    keepFocus(el, () => {
      const [page, pages, total, key] = ["page", "pages", "total", "finding"].map((name) => model.get(name)),
        finding = model.get("findings").find((one) => one.key === key),
        picked = Object.values(model.get("filters")).some((values) => values.length);
      const axes = model
        .get("facets")
        .map(({ axis, name, values }) =>
          h(
            "div",
            { class: "cwd-axis", role: "group", "aria-label": `show by ${name}` },
            h("span", { class: "cw-soft cwd-name", text: name }),
            ...values.map((one) => chip(axis, one)),
          ),
        );
      const order = h(
        "label",
        { class: "cw-group" },
        h("span", { class: "cw-soft", text: "order" }),
        h(
          "select",
          {
            class: "cw-select",
            "data-key": "order",
            disabled: Boolean(finding),
            onchange: (event) => put(model, { order: event.target.value }),
          },
          ...model
            .get("orders")
            .map(([value, words]) => h("option", { value, text: words, selected: value === model.get("order") })),
        ),
      );
      el.replaceChildren(
        finding
          ? h(
              "div",
              { class: `cwd-banner ${finding.level}`, role: "status" },
              h("b", { text: `${LEVEL[finding.level]} ` }),
              h("span", { text: finding.what }),
              h("button", {
                class: "cw-button",
                "data-key": "leave",
                text: "all slices again",
                onclick: () => put(model, { finding: "" }),
              }),
            )
          : "",
        ...axes,
        h(
          "div",
          { class: "cwd-axis" },
          h("b", { role: "status", "data-total": total, text: many(total, "slice") }),
          finding && finding.count > 0 && total
            ? h("span", { class: "cw-soft", text: `of ${many(finding.count, "place")} of this finding` })
            : null,
          picked
            ? h("button", {
                class: "cw-button",
                "data-key": "clear",
                text: "clear filters",
                onclick: () => put(model, { filters: {} }),
              })
            : null,
          h("span", { class: "cw-grow" }),
          order,
          pages > 1 ? turn("back", "‹", "the page before, [", page - 1, page === 0) : null,
          pages > 1 ? h("span", { text: `page ${page + 1} of ${pages}` }) : null,
          pages > 1 ? turn("on", "›", "the next page, ]", page + 1, page >= pages - 1) : null,
        ),
      );
    });
}

/** The outline of a mask value; organs are thin. */
const drawn =
  (width) =>
  ({ d, colour, dash, organ }) =>
    cased("path", { d }, colour, organ ? 0.6 : width, dash || null);

/** A tile: the small picture and its outlines. */
function tile(model, entry, number) {
  const side = model.get("side"),
    all = bytes(model, "thumbs"),
    canvas = h("canvas", { width: side, height: side }),
    image = new ImageData(side, side),
    [left, top] = entry.frame;
  for (let at = 0; at < side * side; at++) image.data.fill(all[number * side * side + at], 4 * at, 4 * at + 3);
  for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return h(
    "button",
    {
      class: "cwd-tile",
      "data-key": `tile-${number}`,
      "data-slice": entry.id,
      tabindex: -1,
      title: `${entry.id}\n${entry.about}\npatient ${entry.patient}`,
      ...onPress(() => put(model, { slice: entry.id })),
    },
    h(
      "span",
      { class: "cwd-picture" },
      canvas,
      h(
        "svg",
        { viewBox: `0 0 ${side} ${side}`, class: "cwd-masks", "aria-hidden": "true" },
        h("g", { transform: `translate(${left} ${top})` }, ...entry.outlines.map(drawn(1.2))),
      ),
      entry.error ? h("span", { class: "cwd-broken", text: "cannot be read" }) : null,
    ),
    h("span", { class: "cwd-id", text: entry.id }),
    h("span", { class: "cwd-id cw-soft", text: entry.about || entry.patient }),
  );
}

function contactSheet(model, el) {
  const fill = () =>
    keepFocus(el, () => {
      const tiles = model.get("tiles"),
        inFinding = model.get("finding") !== "",
        groups = new Map();
      tiles.forEach((entry, number) => {
        if (!groups.has(entry.group)) groups.set(entry.group, []);
        groups.get(entry.group).push([entry, number]);
      });
      el.replaceChildren(
        ...[...groups.values()].map((own) =>
          h(
            "div",
            { class: "cwd-group" + (own.length > 1 ? " together" : "") },
            ...own.map(([entry, number]) => tile(model, entry, number)),
            inFinding && own[0][0].words ? h("span", { class: "cwd-words cw-soft", text: own[0][0].words }) : null,
          ),
        ),
      );
      if (!tiles.length)
        el.replaceChildren(
          h("p", {
            class: "cw-soft",
            text: inFinding
              ? "This finding is about the whole set, or about files that are no slices: the sentence above says all."
              : "No slice passes these filters.",
          }),
        );
      mark();
    });
  const mark = () => {
    const slice = model.get("slice"),
      tiles = [...el.querySelectorAll("[data-slice]")],
      chosen = tiles.find((one) => one.dataset.slice === slice) ?? tiles[0];
    for (const one of tiles) {
      one.setAttribute("aria-pressed", String(one.dataset.slice === slice));
      one.tabIndex = one === chosen ? 0 : -1;
    }
    el.classList.toggle("plain", !model.get("layers").includes("masks"));
  };
  return { fill, mark };
}

/** The slice on show, with its mask and what is known of it. */
function bigView(model) {
  const known = h("table", { class: "cwd-about" }),
    cover = h("div", { class: "cwd-cover", role: "status" }),
    key = h("span", { class: "cw-key" }),
    controls = h("div", { class: "cw-controls" });
  const view = viewport(model, "CT slice with its mask", ["outlines", "layers"], {
    draw: (layer) =>
      layer.replaceChildren(...(model.get("layers").includes("masks") ? model.get("outlines").map(drawn(1.6)) : [])),
  });
  view.stage.append(cover);
  const draw = () => {
    const outlines = model.get("outlines"),
      on = model.get("layers").includes("masks"),
      error = model.get("slice_error");
    cover.hidden = !error;
    cover.textContent = error;
    if (error) view.stage.style.aspectRatio = "4 / 3";
    known.replaceChildren(
      h(
        "tbody",
        {},
        ...model
          .get("about_slice")
          .map(([name, value]) => h("tr", {}, h("th", { scope: "row", text: name }), h("td", { text: value }))),
      ),
    );
    keepFocus(controls, () =>
      controls.replaceChildren(
        h("b", { class: "cwd-chosen", text: model.get("slice") }),
        h("span", { class: "cw-grow" }),
        h("button", {
          class: "cw-button",
          "data-key": "masks",
          "aria-pressed": on,
          disabled: !outlines.length,
          text: "Masks",
          title: outlines.length ? "M shows or hides them" : "this slice has no mask to show",
          onclick: () => put(model, { layers: toggled(model.get("layers"), "masks") }),
        }),
      ),
    );
    key.replaceChildren(
      ...outlines.map(({ name, colour, dash, organ }) =>
        h(
          "span",
          { class: "cw-truth" },
          h("svg", { width: 26, height: 8, "aria-hidden": "true" }, drawn(2)({ d: "M1 4H25", colour, dash, organ })),
          h("span", { text: name }),
        ),
      ),
    );
  };
  const foot = h(
    "div",
    { class: "cw-foot" },
    key,
    h("span", { class: "cw-group cwd-window" }, view.presets, view.readout),
  );
  return { view, draw, element: h("div", { class: "cwd-big" }, controls, view.stage, foot, known) };
}

function render({ model, el }) {
  el.classList.add("cw", "cw-data");
  if (model.get("trouble")) {
    const live = connection(model);
    el.append(h("p", { class: "cwd-trouble", role: "alert", text: model.get("trouble") }));
    return () => live.stop();
  }
  const live = connection(model),
    head = h("div", { class: "cw-header" }),
    sheet = h(
      "div",
      { class: "cw-help", hidden: true },
      h("dl", {}, ...HELP.flatMap(([keys, words]) => [h("dt", { text: keys }), h("dd", { text: words })])),
    ),
    notes = h("div", {}),
    numbers = h("div", { class: "cwd-numbers" }),
    findings = h("div", { class: "cw-card" }),
    bar = h("div", { class: "cwd-bar" }),
    tiles = h("div", { class: "cwd-sheet", role: "group", "aria-label": "contact sheet", "data-key": "sheet" }),
    big = bigView(model),
    contact = contactSheet(model, tiles);
  const help = h("button", {
    class: "cw-button",
    text: "?",
    title: "keys",
    "aria-label": "keys",
    "aria-expanded": false,
    onclick: () => {
      sheet.hidden = !sheet.hidden;
      help.setAttribute("aria-expanded", !sheet.hidden);
    },
  });
  const drawHead = () => {
    const [name, words] = model.get("about");
    head.replaceChildren(
      h("span", { class: "cw-run" }, h("b", { text: name }), h("span", { class: "cw-soft", text: ` ${words}` })),
      h("span", { class: "cw-grow" }),
      help,
    );
    notes.replaceChildren(...model.get("notes").map((note) => h("p", { class: "cwd-note", text: note })));
  };
  const drawNumbers = () =>
    keepFocus(numbers, () =>
      numbers.replaceChildren(
        h("div", { class: "cwd-tables" }, ...model.get("counts").map((one) => countTable(model, one))),
        h("div", { class: "cwd-figures" }, ...model.get("figures").map(histogram)),
      ),
    );
  el.append(
    head,
    sheet,
    notes,
    numbers,
    findings,
    h("div", { class: "cw-card" }, bar, h("div", { class: "cwd-grid" }, tiles, big.element)),
    h("p", { class: "cw-note", text: "Research software, not a medical device." }),
  );
  const ids = () => model.get("tiles").map(({ id }) => id);
  const go = (step) => {
    const all = ids(),
      next = all.indexOf(model.get("slice")) + step,
      page = model.get("page") + Math.sign(step);
    if (next >= 0 && next < all.length) put(model, { slice: all[next] });
    else if (page >= 0 && page < model.get("pages")) put(model, { page });
  };
  const along = (event, step) => {
    const rows = [...findings.querySelectorAll("[data-finding]")],
      at = rows.indexOf(event.target.closest("[data-finding]"));
    rows[Math.min(rows.length - 1, Math.max(0, at + step))]?.focus();
  };
  const stops = [
    big.view.stop,
    live.stop,
    onChange(model, ["about", "notes"], drawHead),
    onChange(model, ["counts", "figures"], drawNumbers),
    onChange(model, ["findings", "finding"], findingTable(model, findings)),
    onChange(
      model,
      ["facets", "filters", "finding", "page", "pages", "total", "order", "orders"],
      sheetBar(model, bar),
    ),
    onChange(model, ["tiles", "thumbs"], contact.fill),
    onChange(model, ["slice", "layers"], contact.mark),
    onChange(model, ["slice", "about_slice", "outlines", "slice_error", "layers", "shape"], big.draw),
    explorerKeys(el, (event) => {
      if (big.view.key(event)) return true;
      if (event.ctrlKey || event.metaKey || event.altKey) return false;
      const inFindings = event.target.closest?.("[data-finding]"),
        step = { ArrowLeft: -1, ArrowRight: 1 }[event.key],
        row = { ArrowUp: -1, ArrowDown: 1 }[event.key],
        page = { "[": -1, "]": 1 }[event.key];
      if (inFindings && row) along(event, row);
      else if (inFindings && (event.key === "Enter" || event.key === " ")) inFindings.click();
      else if (step) go(step);
      else if (page) {
        const next = model.get("page") + page;
        if (next >= 0 && next < model.get("pages")) put(model, { page: next });
      } else if (event.key.toLowerCase() === "m") put(model, { layers: toggled(model.get("layers"), "masks") });
      else if (event.key === "Escape") {
        if (!sheet.hidden) help.click();
        else put(model, model.get("finding") ? { finding: "" } : { filters: {} });
      } else if (event.key === "?") help.click();
      else return false;
      return true;
    }),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
