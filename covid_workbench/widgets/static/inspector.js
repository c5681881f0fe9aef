// One region from near: the one under the pointer, else the selected one, else the one that matters most.
function render({ model, el }) {
  el.classList.add("cw");
  const box = h("div", { class: "cw-card cw-inspector" });
  el.append(box);
  const live = connection(model),
    cropOf = pictures(model, "crops", 64),
    maskOf = pictures(model, "masks", 28, true);
  const draw = () => {
    const slots = model.get("slots"),
      effects = model.get("effects"),
      weights = model.get("weights"),
      regions = model.get("regions"),
      labels = slotLabels(slots),
      selected = model.get("selected");
    const strongest = Object.entries(effects).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))[0]?.[0];
    const region = [model.get("hovered"), selected.at(-1), strongest === undefined ? slots[0] : Number(strongest)]
      .map((id) => regions.find((one) => one.id === id))
      .find(Boolean);
    if (!region)
      return box.replaceChildren(h("p", { class: "cw-note cw-empty", text: "No region to look at on this slice." }));
    const own = slots
        .map((id, place) => [id, place])
        .filter(([id]) => id === region.id)
        .map(([, place]) => place),
      fact = (name, value) =>
        value === null || value === undefined ? [] : [h("dt", { text: name }), h("dd", { text: value })];
    const weight = (branch) => {
        if (!weights[branch] || !own.length) return null;
        const each = own.map((place) => weights[branch][place]),
          sum = each.reduce((a, b) => a + b, 0).toFixed(3);
        return own.length > 3 ? `${sum} in ${own.length} slots` : each.map((one) => one.toFixed(3)).join(" + ");
      },
      isOff = model.get("off").includes(region.id);
    const net = netAttention(slots, weights),
      together = selected.reduce((sum, id) => sum + (net[id] ?? 0), 0);
    const union =
      selected.length > 1 && selected.includes(region.id)
        ? ` · ${selected.length} selected, together ${together.toFixed(3)} attention`
        : "";
    box.replaceChildren(
      h(
        "div",
        { class: "cw-title" },
        h("b", { text: labels[region.id] ? `RoI ${labels[region.id]}` : region.name }),
        h("span", {
          class: "cw-soft",
          text: (own.length > 1 ? ` one region in ${own.length} slots` : isOff ? " switched off" : "") + union,
        }),
      ),
      h(
        "div",
        { class: "cw-near" },
        h(
          "figure",
          {},
          h("img", { src: cropOf(region.index), alt: "the region and a margin", width: 84, height: 84 }),
          h("figcaption", { text: "crop, +15 %" }),
        ),
        bytes(model, "masks").length
          ? h(
              "figure",
              {},
              h("img", { src: maskOf(region.index), alt: "probability of the mask", width: 84, height: 84 }),
              h("figcaption", {}, "mask 0 ", h("span", { class: "cw-cividis" }), " 1"),
            )
          : null,
        h(
          "dl",
          {},
          ...fact("class", `${region.name} ${region.score.toFixed(2)}`),
          ...fact("box", region.box.map(Math.round).join(", ")),
          ...fact("distance", `${region.distance.toFixed(1)} px`),
          ...fact(weights.length === 2 ? "+ attention" : "attention", weight(0)),
          ...fact("− attention", weight(1)),
          ...fact("effect", effects[region.id] === undefined ? null : `${signed(effects[region.id])} logit`),
          ...fact("truth", region.overlap === null ? null : `IoU ${region.overlap.toFixed(2)}`),
        ),
      ),
    );
  };
  const stops = [
    live.stop,
    onChange(
      model,
      ["regions", "slots", "weights", "effects", "effect_class", "selected", "hovered", "off", "crops", "masks"],
      draw,
    ),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
