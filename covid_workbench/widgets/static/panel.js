// The sequence: one row a slot, from rank 1 down, with its weights and the effect of leaving its region out.
const ORDER_KEYS = { d: "distance", c: "score", r: "raster", h: "hilbert", n: "random", v: "reversed" };
const ORDER_NAMES = {
  distance: "Distance",
  score: "Confidence",
  raster: "Raster",
  hilbert: "Hilbert",
  random: "Random",
  reversed: "Reversed",
  custom: "Custom",
  none: "As found",
};
const OFF_HELP = {
  dropped: "as if it had never been found; repeats of the others fill its slots",
  refilled: "the next best candidate takes its place",
  zeroed: "its vector becomes zero",
};

function bar(value, end, colour, side) {
  const share = end ? Math.min(1, Math.abs(value) / end) : 0;
  return h(
    "span",
    { class: `cw-bar ${side}` },
    h("span", { class: "cw-fill", style: `width:${(100 * share).toFixed(1)}%;background:var(${colour})` }),
  );
}

/** The end of the scale of the weights: it grows on a slice where it must, and what was before stays in its place. */
const ends = new WeakMap();
function scaleOf(model, weights) {
  const before = model.get("before") ?? {},
    most = (rows) => scaleEnd((rows ?? []).flat().map(Math.abs));
  const end = Math.max(most(weights), most(before.weights), ends.get(before) ?? 0);
  ends.set(before, end);
  return end;
}

/** (region, slot) -> its weights by branch as the run was evaluated; undefined where nothing differs. */
function ticksOf(model, slots, weights) {
  const { slots: own = [], weights: was = [] } = model.get("before") ?? {},
    same = String(own) === String(slots) && was.flat().every((one, at) => Math.abs(one - weights.flat()[at]) < 1e-6);
  return (id, place) => {
    const nth = place === null ? 0 : slots.slice(0, place).filter((one) => one === id).length,
      places = own.flatMap((one, at) => (one === id ? [at] : []));
    return same || places[nth] === undefined ? undefined : was.map((branch) => branch[places[nth]]);
  };
}

/** A bar with a tick at an earlier value, measured from the `side` where the bar begins. */
function withTick(element, value, end, side) {
  if (value === undefined || !end) return element;
  const share = (side === "middle" ? 50 : 0) + ((side === "middle" ? 50 : 100) * value) / end;
  const title = `before ${value.toFixed(3)}`;
  element.append(
    h("u", { class: "cw-was", style: `${side === "right" ? "right" : "left"}:${share.toFixed(1)}%`, title }),
  );
  return element;
}

function render({ model, el }) {
  el.classList.add("cw");
  const head = h("div", { class: "cw-controls" }),
    rows = h("div", {
      class: "cw-rows cw-region-rows",
      tabindex: 0,
      role: "grid",
      "aria-label": "regions in rank order",
      "data-key": "rows",
    }),
    foot = h("div", { class: "cw-note" });
  el.append(head, rows, foot);
  const drawAll = () => {
      drawHead();
      drawRows();
    },
    live = connection(model, drawAll),
    cropOf = pictures(model, "crops", 64);

  const ask = (order) => put(model, { order, sequence: [] });
  const number = (step) =>
    put(model, {
      beta: Math.min(model.get("beta_most"), Math.max(2, model.get("beta") + step)),
      sequence: [],
      ...(model.get("order") === "custom" ? { order: model.get("own_order") } : {}),
    });
  const drawHead = () =>
    keepFocus(head, () => {
      if (!model.get("regions").length) return head.replaceChildren();
      const still = !live.alive || Boolean(model.get("frozen")) || Boolean(heldBy(model)),
        beta = model.get("beta"),
        fixed = model.get("beta_fixed") || still,
        why = model.get("beta_fixed")
          ? "this model has weights for this number of slots"
          : "− and + change the number of slots";
      head.replaceChildren(
        orderChoice(model, { label: "order of the regions", keys: ORDER_KEYS, titles: ORDER_NAMES, still, ask }),
        h(
          "span",
          { class: "cw-group", title: why },
          "β ",
          h("button", {
            class: "cw-button",
            text: "−",
            "aria-label": "one slot fewer",
            "data-key": "fewer",
            disabled: fixed,
            onclick: () => number(-1),
          }),
          h("span", { class: "cw-beta", text: beta }),
          h("button", {
            class: "cw-button",
            text: "+",
            "aria-label": "one slot more",
            "data-key": "more",
            disabled: fixed,
            onclick: () => number(1),
          }),
          h("button", {
            class: "cw-button",
            text: "↺",
            title: "order and β as the run has them",
            "aria-label": "order and β as the run has them",
            "data-key": "own",
            disabled: still,
            onclick: () => put(model, { order: model.get("own_order"), beta: model.get("own_beta"), sequence: [] }),
          }),
        ),
      );
    });

  const drawRows = () =>
    keepFocus(el, () => {
      const slots = model.get("slots"),
        weights = model.get("weights"),
        off = model.get("off"),
        effects = model.get("effects");
      const regions = Object.fromEntries(model.get("regions").map((one) => [one.id, one])),
        two = weights.length === 2,
        [labels, was] = [slots, model.get("before")?.slots ?? []].map(slotLabels),
        before = ticksOf(model, slots, weights),
        end = scaleOf(model, weights),
        still = !live.alive || Boolean(model.get("frozen"));
      const most = Math.max(1e-9, ...Object.values(effects).map(Math.abs)),
        on = model.get("all").filter((id) => !off.includes(id)),
        uniform = slots.length && end ? `${(100 / slots.length / end).toFixed(1)}%` : "0%";
      const states = model.get("over_states")
        ? "weights are over LSTM states: the weight at rank k reads regions 1…k, not region k alone"
        : null;
      const column = (text, title) => h("span", { role: "columnheader", text, title });
      const table = [
        h(
          "div",
          { class: "cw-row cw-head", role: "row" },
          column(""),
          column("on"),
          column("rank"),
          column(""),
          column("class, score"),
          ...(two
            ? [column("− attention", states), column("+ attention", states)]
            : weights.length
              ? [column("attention", states)]
              : []),
          effectHead(
            model,
            still,
            "how much the logit falls when the region is left out; effects do not add up to the logit",
          ),
        ),
      ];
      const shown = [
        ...slots.map((id, place) => [id, place]),
        ...off.filter((id) => !slots.includes(id)).map((id) => [id, null]),
      ];
      shown.forEach(([id, place], row) => {
        const region = regions[id];
        if (!region) return;
        const isOff = off.includes(id),
          last = !isOff && on.length < 2,
          effect = effects[id],
          again = shown[row - 1]?.[0] === id,
          after = shown[row + 1]?.[0] === id,
          ticks = before(id, place),
          rank = labels[id] ? `of rank ${labels[id]}` : was[id] ? `that had rank ${was[id]}` : "without a rank",
          weight = (branch) => (place === null ? null : weights[branch][place]);
        const figure = (value) => h("i", { text: value === null ? "" : value.toFixed(3).replace(/^(-?)0\./, "$1.") });
        const cells = [
          h("span", { class: "cw-grip", text: place === null ? "" : "⠿", title: "drag to another rank (Alt ↑ ↓)" }),
          rowSwitch(
            "region",
            `${rank}, ${region.name} ${region.score.toFixed(2)}`,
            {
              isOff,
              last,
              still: still || !canSwitch(model, live, id),
              flip: () => put(model, { off: offAfter(model, id) }),
            },
            { "data-switch": id, "data-key": `switch-${row}` },
          ),
          h(
            "b",
            {
              role: "rowheader",
              text: place === null ? "–" : place + 1,
              title: region.tied ? "another region is equally far; ties stay in score order" : null,
            },
            region.tied ? "=" : "",
          ),
          bytes(model, "crops").length
            ? h("img", { class: "cw-crop", src: cropOf(region.index), alt: "", width: 22, height: 22 })
            : h("span"),
          h("span", { class: "cw-name", text: `${region.name} ${region.score.toFixed(2)}` }),
        ];
        const line = `--cw-uniform:${uniform}`;
        if (two)
          cells.push(
            h(
              "span",
              { class: "cw-cell left", style: line },
              figure(weight(1)),
              withTick(bar(weight(1) ?? 0, end, "--cw-negative", "left"), ticks?.[1], end, "right"),
            ),
          );
        if (weights.length)
          cells.push(
            h(
              "span",
              { class: "cw-cell", style: line },
              weights.flat().some((one) => one < 0)
                ? withTick(signedBar(weight(0) ?? 0, end), ticks?.[0], end, "middle")
                : withTick(bar(weight(0) ?? 0, end, "--cw-positive", "right"), ticks?.[0], end, "left"),
              figure(weight(0)),
            ),
          );
        cells.push(
          h(
            "span",
            {
              class:
                "cw-cell" +
                (again || after ? " repeated" : "") +
                (again && !after ? " end" : "") +
                (after && !again ? " start" : ""),
            },
            ...(again
              ? []
              : [
                  effect === undefined ? h("i", { text: isOff ? "" : "…" }) : signedBar(effect, most, true),
                  h("b", { text: effect === undefined ? "" : signed(effect) }),
                ]),
          ),
        );
        table.push(
          h(
            "div",
            {
              class: "cw-row" + (isOff ? " off" : ""),
              role: "row",
              "aria-selected": false,
              "data-movable": place !== null && !still && !heldBy(model),
              "data-region": id,
              "data-slot": place === null ? null : place + 1,
              ...onPress((event) =>
                put(model, { selected: event.shiftKey ? toggled(model.get("selected"), id) : [id] }),
              ),
            },
            ...cells,
          ),
        );
      });
      const branches = two ? "minmax(76px,1.3fr) minmax(76px,1.3fr)" : weights.length ? "minmax(90px,2fr)" : "";
      rows.style.setProperty("--cw-columns", `12px 30px 28px 22px minmax(64px,1fr) ${branches} minmax(96px,1.6fr)`);
      rows.style.setProperty(
        "--cw-narrow",
        `12px 30px 26px minmax(52px,1fr) ${branches.replaceAll("76px", "66px")} minmax(80px,1.2fr)`,
      );
      const had = rows.scrollTop;
      rows.replaceChildren(
        ...(slots.length
          ? table
          : [
              h("p", {
                class: "cw-note cw-empty",
                text:
                  model.get("empty_note") ||
                  "No region passed the selection on this slice, so the model has nothing to attend to.",
              }),
            ]),
      );
      rows.scrollTop = had;
      mark();
      drawFoot(still, weights, slots);
    });
  const mark = () => {
    for (const row of rows.querySelectorAll("[data-region]")) {
      const id = Number(row.dataset.region),
        isSelected = model.get("selected").includes(id);
      if (!row.classList.contains("cw-row")) continue;
      row.classList.toggle("selected", isSelected);
      row.classList.toggle("hovered", model.get("hovered") === id);
      row.setAttribute("aria-selected", isSelected);
    }
  };
  const drawFoot = (still, weights, slots) => {
    const different = new Set(slots).size,
      mode = model.get("off_mode");
    const words = [
      !live.alive
        ? live.words
        : model.get("frozen")
          ? model.get("frozen")
          : heldBy(model)?.players.length
            ? "Saved: regions go off and on by the answers in this page; order and β need the running notebook."
            : "",
      model.get("note"),
      slots.length && !weights.length ? "This model gives no attention weights." : "",
      slots.length && different < slots.length ? `${different} regions fill ${slots.length} slots by repeats.` : "",
    ].filter(Boolean);
    foot.replaceChildren(
      ...(slots.length
        ? [
            offChoice(
              model,
              OFF_HELP,
              still,
              model.get("order") === "custom" && mode !== "zeroed"
                ? "in a custom order its slot is left out"
                : OFF_HELP[mode],
            ),
          ]
        : []),
      ...(weights.length && slots.length
        ? [
            h("span", { class: "cw-group", text: `┊ uniform 1/${slots.length}` }),
            rows.querySelector(".cw-was") ? h("span", {}, h("u", { class: "cw-was" }), " before") : null,
          ].filter(Boolean)
        : []),
      ...words.map((text) => h("span", { text })),
    );
  };

  // the pointer on rows: hovering, and dragging one to another rank
  const rowAt = (event) => event.target.closest?.(".cw-row[data-region]");
  rows.addEventListener("mouseover", (event) => {
    const row = rowAt(event),
      id = row ? Number(row.dataset.region) : null;
    if (id !== model.get("hovered")) put(model, { hovered: id });
  });
  rows.addEventListener("mouseleave", () => put(model, { hovered: null }));
  const move = (from, to) => {
    const next = [...model.get("slots")],
      [moved] = next.splice(from, 1);
    next.splice(to, 0, moved);
    put(model, { order: "custom", sequence: next, selected: [moved], hovered: null });
  };
  draggedRows(rows, rowAt, (row) => Number(row.dataset.slot ?? 0) - 1, move);

  let digits = "",
    typed = 0;
  const step = (event, forward) => {
    const slots = model.get("slots"),
      selected = model.get("selected"),
      place = slots.lastIndexOf(selected.at(-1));
    let next = place < 0 ? (forward > 0 ? 0 : slots.length - 1) : place + forward;
    while (slots[next] !== undefined && slots[next] === selected.at(-1)) next += forward; // repeats of a region are one
    if (slots[next] !== undefined)
      put(model, { selected: event.shiftKey ? [...new Set([...selected, slots[next]])] : [slots[next]] });
    rows.querySelector(`[data-slot="${next + 1}"]`)?.scrollIntoView?.({ block: "nearest" });
  };
  const keys = (event, chord) => {
    const slots = model.get("slots"),
      selected = model.get("selected"),
      asks = live.alive && !model.get("frozen"),
      rearranges = asks && !heldBy(model),
      root = el.closest(".cw-explorer") ?? el;
    if (event.ctrlKey || event.metaKey || !slots.length) return false;
    if (chord === "o") {
      delete root.dataset.chord;
      const name = ORDER_KEYS[event.key];
      if (rearranges && name && model.get("orders").includes(name)) ask(name);
      return true;
    }
    const forward = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (forward && event.altKey) {
      const from = slots.indexOf(selected.at(-1)),
        to = from + forward;
      if (rearranges && from >= 0 && to >= 0 && to < slots.length) move(from, to);
      return true;
    }
    if (event.altKey) return false;
    if (forward) step(event, forward);
    else if (event.key === " " && selected.length) {
      if (!asks || !canSwitch(model, live, selected.at(-1))) return true;
      put(model, {
        off: event.shiftKey
          ? [...new Set(model.get("all"))].filter((id) => !selected.includes(id) && canSwitch(model, live, id))
          : offAfter(model, selected.at(-1)),
      });
    } else if (event.key === "Escape" && selected.length) put(model, { selected: [] });
    else if (event.key === "o") beginOrder(root);
    else if ((event.key === "-" || event.key === "+") && rearranges && !model.get("beta_fixed"))
      number(event.key === "+" ? 1 : -1);
    else if (/^[0-9]$/.test(event.key)) {
      digits = event.timeStamp - typed < 600 ? digits + event.key : event.key;
      typed = event.timeStamp;
      const id = slots[Number(digits) - 1];
      if (id !== undefined) put(model, { selected: [id] });
    } else return false;
    return true;
  };
  const stops = [
    live.stop,
    explorerKeys(el, keys),
    onChange(model, ["order", "orders", "beta", "beta_fixed", "beta_most", "frozen", "regions", "held"], drawHead),
    onChange(
      model,
      [
        "slots",
        "weights",
        "regions",
        "off",
        "off_mode",
        "effects",
        "effect_class",
        "order",
        "note",
        "empty_note",
        "before",
        "all",
        "crops",
        "frozen",
        "held",
      ],
      drawRows,
    ),
    onChange(model, ["selected", "hovered"], mark),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
