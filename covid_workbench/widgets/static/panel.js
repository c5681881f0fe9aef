// The sequence: one row a slot, from rank 1 down, with its weights and the effect of leaving its region out.
function bar(value, end, colour, side) {
  const share = end ? Math.min(1, Math.abs(value) / end) : 0;
  return h("span", { class: `cw-bar ${side}` }, h("span", { class: "cw-fill", style: `width:${(100 * share).toFixed(1)}%;background:var(${colour})` }));
}

function render({ model, el }) {
  el.classList.add("cw");
  const head = h("div", { class: "cw-controls" }), rows = h("div", { class: "cw-rows", tabindex: 0, role: "grid", "aria-label": "regions in rank order" }), foot = h("div", { class: "cw-note" });
  el.append(head, rows, foot);
  let dragged = null;

  const drawHead = () => {
    const orders = h("span", { class: "cw-group", role: "radiogroup", "aria-label": "order of the regions" });
    const order = model.get("order");
    for (const name of model.get("orders"))
      orders.append(h("button", { class: "cw-button", role: "radio", "aria-checked": order === name, "data-order": name, text: name, onclick: () => put(model, { order: name, sequence: [] }) }));
    if (order === "custom") orders.append(h("button", { class: "cw-button", role: "radio", "aria-checked": true, text: "custom" }));
    const beta = model.get("beta"), fixed = model.get("beta_fixed"), change = (step) => () => put(model, { beta: Math.min(model.get("beta_most"), Math.max(2, model.get("beta") + step)), sequence: [] });
    const why = fixed ? "this model has weights for this number of slots" : null;
    head.replaceChildren(orders, h("span", { class: "cw-group", title: why },
      h("button", { class: "cw-button", text: "−", "aria-label": "one region fewer", disabled: fixed, onclick: change(-1) }), h("span", { class: "cw-beta", text: `β ${beta}` }),
      h("button", { class: "cw-button", text: "+", "aria-label": "one region more", disabled: fixed, onclick: change(1) })),
    h("label", { class: "cw-group", title: "what switching a region off means" }, "off: ", h("select", { "data-off-mode": true, onchange: (event) => put(model, { off_mode: event.target.value }) },
      ...["dropped", "refilled", "zeroed"].map((mode) => h("option", { value: mode, text: mode, selected: model.get("off_mode") === mode })))));
  };

  const drawRows = () => {
    const slots = model.get("slots"), weights = model.get("weights"), off = model.get("off"), selected = model.get("selected"), hovered = model.get("hovered"), effects = model.get("effects");
    const regions = Object.fromEntries(model.get("regions").map((one) => [one.id, one])), two = weights.length === 2, end = scaleEnd(weights.flat().map(Math.abs));
    const most = Math.max(1e-9, ...Object.values(effects).map(Math.abs)), on = model.get("all").filter((id) => !off.includes(id));
    const names = ["", "on", "rank", "region", ...(two ? ["− attention", "+ attention"] : weights.length ? ["attention"] : []), `effect on ${model.get("effect_class")}`];
    const table = [h("div", { class: "cw-row cw-head", role: "row" }, ...names.map((text) => h("span", { role: "columnheader", text,
      title: text.includes("attention") && model.get("over_states") ? "weights are over LSTM states: the weight at rank k reads regions 1…k, not region k alone" : null })))];
    const shown = [...slots.map((id, place) => [id, place]), ...off.filter((id) => !slots.includes(id)).map((id) => [id, null])];
    for (const [id, place] of shown) {
      const region = regions[id], isOff = off.includes(id), last = isOff ? false : on.length < 2, effect = effects[id];
      const cells = [
        h("span", { class: "cw-grip", text: place === null ? "" : "⠿", title: "drag to another rank" }),
        h("button", { class: "cw-switch", role: "switch", "aria-checked": !isOff, "data-switch": id, disabled: last, title: last ? "the last region stays on" : isOff ? "switch on" : "switch off", onclick: (event) => { event.stopPropagation(); put(model, { off: toggled(model.get("off"), id) }); } }),
        h("b", { text: place === null ? "–" : place + 1 }), h("span", { text: `${region.name} ${region.score.toFixed(2)}` }),
      ];
      if (two) cells.push(h("span", { class: "cw-cell" }, h("i", { text: place === null ? "" : weights[1][place].toFixed(3) }), bar(place === null ? 0 : weights[1][place], end, "--cw-negative", "left")));
      if (weights.length) cells.push(h("span", { class: "cw-cell" }, bar(place === null ? 0 : weights[0][place], end, weights[0][place] < 0 ? "--cw-negative" : "--cw-positive", "right"), h("i", { text: place === null ? "" : weights[0][place].toFixed(3) })));
      cells.push(h("span", { class: "cw-cell" }, effect === undefined ? h("i", { text: "–" }) : bar(effect, most, effect < 0 ? "--cw-negative" : "--cw-positive", "right"), h("i", { text: effect === undefined ? "" : (effect > 0 ? "+" : "") + effect.toFixed(2) })));
      table.push(h("div", { class: "cw-row" + (selected.includes(id) ? " selected" : "") + (hovered === id ? " hovered" : "") + (isOff ? " off" : ""), role: "row", draggable: place !== null, "data-region": id, "data-slot": place === null ? null : place + 1,
        "aria-selected": selected.includes(id), onmouseenter: () => put(model, { hovered: id }), onmouseleave: () => put(model, { hovered: null }),
        onclick: (event) => put(model, { selected: event.shiftKey ? toggled(model.get("selected"), id) : [id] }),
        ondragstart: () => { dragged = place; }, ondragover: (event) => event.preventDefault(),
        ondrop: (event) => { event.preventDefault(); if (dragged !== null && place !== null && dragged !== place) { const next = [...slots], [moved] = next.splice(dragged, 1); next.splice(place, 0, moved); put(model, { order: "custom", sequence: next }); } dragged = null; } }, ...cells));
    }
    rows.style.setProperty("--cw-columns", two ? "14px 30px 30px minmax(90px,1fr) minmax(90px,1.4fr) minmax(90px,1.4fr) minmax(90px,1.4fr)" : weights.length ? "14px 30px 30px minmax(90px,1fr) minmax(110px,2fr) minmax(110px,2fr)" : "14px 30px 30px minmax(90px,1fr) minmax(110px,2fr)");
    rows.replaceChildren(...(slots.length ? table : [h("p", { class: "cw-note", text: "No region passed the selection on this slice, so the model has nothing to attend to." })]));
    const different = new Set(slots).size;
    foot.textContent = [model.get("note"), weights.length ? "" : "This model gives no attention weights.", slots.length && different < slots.length ? `${different} regions fill ${slots.length} slots.` : ""].filter(Boolean).join(" ");
  };

  rows.addEventListener("keydown", (event) => {
    if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      const slots = [...model.get("slots")], place = slots.indexOf(model.get("selected").at(-1)), next = place + (event.key === "ArrowDown" ? 1 : -1);
      if (place >= 0 && next >= 0 && next < slots.length) { [slots[place], slots[next]] = [slots[next], slots[place]]; put(model, { order: "custom", sequence: slots }); }
      event.preventDefault();
      event.stopPropagation();
    } else regionKey(model, event);
  });
  ready(model);
  const stops = [
    onChange(model, ["order", "orders", "beta", "beta_fixed", "beta_most", "off_mode"], drawHead),
    onChange(model, ["slots", "weights", "regions", "off", "selected", "hovered", "effects", "effect_class", "note", "all"], drawRows),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
