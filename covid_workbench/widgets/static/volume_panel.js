// The slices that were read, in the order of the LSTM: a switch, attention and effect of each, and the question as a
// whole: order, what off means, whether the rest is read anew.
const SLICE_ORDER_KEYS = { a: "axial", v: "reversed", n: "random" };
const SLICE_ORDER_NAMES = { axial: "Axial", reversed: "Reversed", random: "Random", custom: "Custom" };
const SLICE_OFF_HELP = {
  dropped: "as if the slice were not in the volume",
  zeroed: "its vector becomes zero, its place stays",
};

function render({ model, el }) {
  el.classList.add("cw");
  const head = h("div", { class: "cw-controls" }),
    rows = h("div", {
      class: "cw-rows cw-slice-rows",
      tabindex: 0,
      role: "grid",
      "aria-label": "slices in the order in which they are read",
      "data-key": "rows",
    }),
    foot = h("div", { class: "cw-note" });
  el.append(head, rows, foot);
  const drawAll = () => {
      drawHead();
      drawRows();
    },
    live = connection(model, drawAll),
    still = () => !live.alive || Boolean(model.get("frozen")),
    on = () => model.get("reading").filter((place) => !model.get("off").includes(place));

  const ask = (order) => put(model, { order, sequence: [] });
  const flip = (place) => {
    const off = toggled(model.get("off"), place);
    if (model.get("reading").some((one) => !off.includes(one))) put(model, { off });
  };
  const move = (from, to) => {
    const next = [...model.get("reading")],
      [moved] = next.splice(from, 1);
    next.splice(to, 0, moved);
    put(model, { order: "custom", sequence: next, place: moved });
  };
  const drawHead = () =>
    keepFocus(head, () => {
      if (!model.get("reading").length) return head.replaceChildren();
      head.replaceChildren(
        orderChoice(model, {
          label: "order of the slices",
          keys: SLICE_ORDER_KEYS,
          titles: SLICE_ORDER_NAMES,
          still: still(),
          ask,
        }),
        h("button", {
          class: "cw-button",
          "aria-pressed": model.get("exact"),
          "data-key": "exact",
          disabled: still(),
          title: "read the slices that are left anew, as if the others had never been scanned (X); takes seconds",
          text: "Exact",
          onclick: () => put(model, { exact: !model.get("exact") }),
        }),
      );
    });

  const headRow = (attention) =>
    h(
      "div",
      { class: "cw-row cw-head", role: "row" },
      ...["", "on", "read", "slice"].map((text) => h("span", { role: "columnheader", text })),
      ...(attention ? [h("span", { role: "columnheader", text: "attention" })] : []),
      effectHead(model, still(), "what the log-odds of the class lose when the slice is left out"),
    );
  const row = (place, rank, { attention, effects, end, most, frozen }) => {
    const isOff = model.get("off").includes(place),
      last = !isOff && on().length < 2,
      weight = attention[place],
      effect = effects[place],
      own = model.get("slices")[place] ?? {},
      figure = (value) => (value === undefined ? "" : value.toFixed(3).replace(/^(-?)0\./, "$1."));
    const cells = [
      h("span", { class: "cw-grip", text: "⠿", title: "drag to another rank (Alt ↑ ↓)" }),
      rowSwitch(
        "slice",
        place,
        { isOff, last, still: frozen, flip: () => flip(place) },
        { "data-switch": place, "data-key": `switch-${place}` },
      ),
      h("b", { role: "rowheader", text: rank }),
      h("span", { class: "cw-name", title: own.id ?? "", text: `${place}${own.lesion ? " ● lesion" : ""}` }),
    ];
    if (Object.keys(attention).length)
      cells.push(
        h(
          "span",
          { class: "cw-cell" },
          h(
            "span",
            { class: "cw-bar right" },
            h("span", {
              class: "cw-fill",
              style: `width:${end && weight ? ((100 * weight) / end).toFixed(1) : 0}%;background:var(--cw-positive)`,
            }),
          ),
          h("i", { text: figure(weight) }),
        ),
      );
    cells.push(
      h(
        "span",
        { class: "cw-cell" },
        effect === undefined ? h("i", { text: isOff ? "" : "…" }) : signedBar(effect, most, true),
        h("b", { text: effect === undefined ? "" : signedFigure(effect, most) }),
      ),
    );
    return h(
      "div",
      {
        class: "cw-row" + (isOff ? " off" : ""),
        role: "row",
        "aria-selected": false,
        "data-movable": !frozen,
        "data-place": place,
        ...onPress(() => put(model, { place })),
      },
      ...cells,
    );
  };
  const drawRows = () =>
    keepFocus(el, () => {
      const attention = model.get("attention"),
        effects = model.get("effects"),
        reading = model.get("reading"),
        about = {
          attention,
          effects,
          end: scaleEnd(Object.values(attention)),
          most: Math.max(1e-9, ...Object.values(effects).map(Math.abs)),
          frozen: still(),
        },
        weights = Object.keys(attention).length > 0;
      rows.style.setProperty(
        "--cw-columns",
        `12px 30px 30px minmax(62px,1fr) ${weights ? "minmax(80px,1.6fr)" : ""} minmax(96px,1.6fr)`,
      );
      const had = rows.scrollTop;
      rows.replaceChildren(
        ...(reading.length
          ? [headRow(weights), ...reading.map((place, at) => row(place, at + 1, about))]
          : [h("p", { class: "cw-note cw-empty", text: model.get("frozen") || "Nothing was read." })]),
      );
      rows.scrollTop = had;
      mark();
      drawFoot();
    });
  const mark = () => {
    for (const one of rows.querySelectorAll("[data-place]")) {
      const here = Number(one.dataset.place) === model.get("place");
      one.classList.toggle("selected", here);
      one.setAttribute("aria-selected", here);
    }
  };
  const drawFoot = () => {
    const mode = model.get("off_mode"),
      words = [live.words, ...model.get("notes")];
    foot.replaceChildren(
      ...(model.get("reading").length ? [offChoice(model, SLICE_OFF_HELP, still(), SLICE_OFF_HELP[mode])] : []),
      ...words.filter(Boolean).map((text) => h("span", { text })),
    );
  };

  draggedRows(
    rows,
    (event) => event.target.closest?.("[data-place]"),
    (row) => model.get("reading").indexOf(Number(row.dataset.place)),
    move,
  );

  /** The next slice by weight: by attention, or by the size of the effect where there is none. */
  const byWeight = (forward) => {
    const attention = model.get("attention"),
      weights = Object.keys(attention).length ? attention : model.get("effects"),
      order = Object.keys(weights)
        .map(Number)
        .sort((a, b) => Math.abs(weights[b]) - Math.abs(weights[a])),
      at = order.indexOf(model.get("place")),
      next = order[at < 0 ? 0 : (at + forward + order.length) % order.length];
    if (next !== undefined) put(model, { place: next });
  };
  const reveal = () =>
    rows.querySelector(`[data-place="${model.get("place")}"]`)?.scrollIntoView?.({ block: "nearest" });
  const keys = (event, chord) => {
    const reading = model.get("reading"),
      at = reading.indexOf(model.get("place")),
      root = el.closest(".cw-explorer") ?? el;
    if (event.ctrlKey || event.metaKey || !reading.length) return false;
    if (chord === "o") {
      delete root.dataset.chord;
      const name = SLICE_ORDER_KEYS[event.key];
      if (!still() && name) ask(name);
      return true;
    }
    const forward = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (forward && event.altKey) {
      if (!still() && at >= 0 && reading[at + forward] !== undefined) move(at, at + forward);
      return true;
    }
    if (event.altKey) return false;
    if (forward) {
      const next = at < 0 ? (forward > 0 ? 0 : reading.length - 1) : at + forward;
      if (reading[next] !== undefined) put(model, { place: reading[next] });
      reveal();
    } else if (event.key === " ") {
      if (still() || at < 0) return true;
      if (event.shiftKey) put(model, { off: reading.filter((place) => place !== model.get("place")) });
      else flip(model.get("place"));
    } else if (event.key.toLowerCase() === "n") {
      byWeight(event.shiftKey ? -1 : 1);
      reveal();
    } else if (event.key.toLowerCase() === "x" && !still()) put(model, { exact: !model.get("exact") });
    else if (event.key === "o") beginOrder(root);
    else return false;
    return true;
  };
  const stops = [
    live.stop,
    explorerKeys(el, keys),
    onChange(model, ["order", "orders", "exact", "frozen", "reading"], drawHead),
    onChange(
      model,
      ["reading", "attention", "effects", "effect_class", "off", "off_mode", "notes", "slices", "frozen", "classes"],
      drawRows,
    ),
    onChange(model, ["place"], mark),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
