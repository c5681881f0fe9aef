// The slice with its regions. Python puts common.js and viewport.js before this.
const LAYERS = {
  boxes: ["Boxes", "b"],
  labels: ["Numbers", "n"],
  distance: ["Distance", "d"],
  truth: ["Truth", "t"],
  masks: ["Masks", "m"],
};
const COLOURS = {
  positive: "+ attention",
  negative: "− attention",
  net: "net attention",
  attention: "attention",
  effect: "effect",
  score: "score",
};

/** What the boxes can be coloured by: trait color_by where the evidence has it, else the nearest. */
function colouring(model) {
  const branches = model.get("weights").length,
    can = [...(branches === 2 ? ["positive", "negative", "net"] : branches ? ["attention"] : []), "effect", "score"];
  return { can, by: can.includes(model.get("color_by")) ? model.get("color_by") : can[0] };
}

/** Region id -> value in the chosen colouring, and the end of its scale. */
function coloured(model) {
  const { by } = colouring(model),
    slots = model.get("slots"),
    weights = model.get("weights"),
    values = {};
  const of = {
    positive: (place) => weights[0][place],
    negative: (place) => weights[1][place],
    net: (place) => weights[0][place] - weights[1][place],
    attention: (place) => weights[0][place],
  }[by];
  if (of)
    slots.forEach((id, place) => {
      values[id] = (values[id] ?? 0) + of(place);
    });
  else if (by === "effect") for (const [id, value] of Object.entries(model.get("effects"))) values[id] = value;
  else for (const { id, score } of model.get("regions")) values[id] = score;
  const sizes = Object.entries(values)
    .filter(([id]) => slots.includes(Number(id)))
    .map(([, value]) => Math.abs(value));
  return { by, values, end: by === "effect" ? Math.max(1e-9, ...sizes) : by === "score" ? 1 : scaleEnd(sizes) };
}

function colourOf(by, value, share) {
  return between((by === "negative") !== value < 0 ? RAMP.negative : RAMP.positive, share);
}

function render({ model, el }) {
  el.classList.add("cw");
  const live = connection(model),
    maskOf = pictures(model, "masks", 28, true, 0.7);
  const regionAt = (event) => {
    const id = event?.target?.getAttribute?.("data-region");
    return id == null ? null : Number(id);
  };
  const shown = () => {
    const slots = model.get("slots"),
      off = model.get("off");
    return model.get("regions").filter(({ id }) => slots.includes(id) || off.includes(id));
  };

  const draw = (layer, unit) => {
    const shape = model.get("shape"),
      [height, width] = shape,
      slots = model.get("slots"),
      labels = slotLabels(slots),
      layers = model.get("layers"),
      off = model.get("off"),
      selected = model.get("selected"),
      hovered = model.get("hovered");
    const { by, values, end } = coloured(model),
      parts = [],
      area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
    if (layers.includes("truth"))
      for (const { d, colour, dash } of model.get("truth")) parts.push(cased("path", { d }, colour, 1.6, dash));
    const regions = shown().sort((a, b) => area(b) - area(a)); // the smallest on top: it wins a click
    for (const {
      id,
      index,
      box: [left, top, right, bottom],
      name,
      score,
    } of regions) {
      const isOff = off.includes(id),
        value = values[id] ?? 0,
        share = end ? Math.abs(value) / end : 0,
        frame = { x: left, y: top, width: right - left, height: bottom - top };
      const colour = isOff ? "#B8BEC6" : colourOf(by, value, share);
      if (layers.includes("masks") && !isOff && bytes(model, "masks").length)
        parts.push(
          h("image", { ...frame, href: maskOf(index), preserveAspectRatio: "none", "pointer-events": "none" }),
        );
      if (layers.includes("boxes"))
        parts.push(cased("rect", frame, colour, isOff ? 1 : 1 + 2.5 * share, isOff ? "4 3" : null));
      if (isOff && layers.includes("boxes"))
        parts.push(cased("path", { d: `M${left} ${top}L${right} ${bottom}` }, colour, 1, "4 3"));
      const figures = `score ${score.toFixed(2)}, ${COLOURS[by]} ${value.toFixed(2)}`,
        told = `RoI ${labels[id] ?? "off"}, ${name}, ${figures}, ${isOff ? "off" : "on"}`,
        halo = Math.max(0, (24 * unit - frame.width) / 2),
        high = Math.max(0, (24 * unit - frame.height) / 2);
      parts.push(
        h(
          "rect",
          {
            x: left - halo,
            y: top - high,
            width: frame.width + 2 * halo,
            height: frame.height + 2 * high,
            fill: "transparent",
            class: "cw-hit",
            role: "option",
            "data-region": id,
            "aria-label": told,
            "aria-selected": selected.includes(id),
          },
          h("title", { text: told }),
        ),
      );
    }
    for (const { id, box } of regions) {
      const [left, top] = box;
      if (hovered === id) parts.push(cased("path", { d: brackets(box, 12 * unit) }, "#FFE14D", 1.6, "3 2"));
      if (!selected.includes(id)) continue;
      parts.push(cased("path", { d: brackets(box, 14 * unit) }, "#FFE14D", 2.4));
      if (layers.includes("distance")) {
        // equal distance in the network's square frame: an ellipse on a slice that is not square
        const far = Math.hypot(left / width, top / height);
        parts.push(
          cased("path", { d: `M${far * width} 0A${far * width} ${far * height} 0 0 1 ${left} ${top}` }, "#FFE14D", 1.2),
          cased("path", { d: `M0 0L${left} ${top}` }, "#FFE14D", 1, "4 4"),
        );
      }
    }
    if (layers.includes("labels")) {
      const first = [...regions].sort(
          (a, b) =>
            selected.includes(b.id) - selected.includes(a.id) ||
            Math.abs(values[b.id] ?? 0) - Math.abs(values[a.id] ?? 0),
        ),
        words = first.map(({ id }) => labels[id] ?? "off");
      placeLabels(
        first.map(({ box }) => box),
        words,
        unit,
        shape,
      ).forEach(([x, y], number) => {
        const { id, box } = first[number],
          isSelected = selected.includes(id);
        parts.push(
          h("circle", {
            cx: box[0],
            cy: box[1],
            r: 2.4 * unit,
            fill: "#fff",
            stroke: "#0D0F12",
            "stroke-width": unit,
            "pointer-events": "none",
          }),
        );
        parts.push(
          plate(
            x,
            y,
            words[number],
            unit,
            isSelected
              ? { ground: "#FFE14D", ink: "#0D0F12" }
              : { line: off.includes(id) ? "#B8BEC6" : colourOf(by, values[id] ?? 0, 0.8) },
          ),
        );
      });
    }
    layer.replaceChildren(...parts);
    drawRuler(labels, regions, shape);
    drawKey(by, end, slots.length);
  };

  let view = null;
  const layerWidth = () => view?.stage.clientWidth || 512;
  const ruler = h("div", { class: "cw-ruler" }),
    key = h("span", { class: "cw-key" });
  const drawRuler = (labels, regions, [height, width]) => {
    const on = model.get("layers").includes("distance"),
      { x, y, zoom } = model.get("camera"),
      selected = model.get("selected"),
      order = model.get("order");
    ruler.hidden = !on || !regions.length;
    if (!on) return;
    const across = layerWidth(),
      ticks = regions
        .filter(({ id }) => labels[id])
        .map(({ id, box }) => ({ id, at: (Math.hypot(box[0] / width, box[1] / height) - x) * zoom * across }))
        .filter(({ at }) => at >= 0 && at <= across)
        .sort((a, b) => a.at - b.at);
    const groups = [];
    for (const tick of ticks)
      if (
        groups.length &&
        tick.at - groups.at(-1).at(-1).at < 20 &&
        !selected.includes(tick.id) &&
        !selected.includes(groups.at(-1)[0].id)
      )
        groups.at(-1).push(tick);
      else groups.push([tick]);
    ruler.replaceChildren(
      h("span", {
        class: "cw-ruler-name",
        text: order === "distance" || !order ? "distance from the origin → rank" : "distance from the origin",
      }),
      ...ticks.map(({ at }) => h("i", { style: `left:${at}px` })),
      ...groups.map((group) =>
        h("b", {
          class: selected.includes(group[0].id) ? "selected" : "",
          style: `left:clamp(18px, ${(group[0].at + group.at(-1).at) / 2}px, calc(100% - 18px))`, // whole at both ends
          text:
            group.length > 1 && order === "distance"
              ? `${labels[group[0].id].split(/[·–]/)[0]}–${labels[group.at(-1).id].split(/[·–]/).at(-1)}`
              : group.length > 1
                ? "…"
                : labels[group[0].id],
          ...onPress(() => put(model, { selected: group.map(({ id }) => id) })),
          onmouseenter: () => put(model, { hovered: group[0].id }),
          onmouseleave: () => put(model, { hovered: null }),
        }),
      ),
    );
  };
  const drawKey = (by, end, beta) => {
    const left = between(by === "negative" ? RAMP.negative : RAMP.positive, 0),
      right = between(by === "negative" ? RAMP.negative : RAMP.positive, 1),
      two = by === "effect" || by === "net";
    key.replaceChildren(
      h("span", { text: two ? `${by === "effect" ? "against" : "−"} ` : `${COLOURS[by]} 0 ` }),
      h("span", {
        class: "cw-wedge" + (two ? " two" : ""),
        style: two
          ? `background:linear-gradient(90deg,#FF8A1F,#A3A8AE,#1E9BFF)`
          : `background:linear-gradient(90deg,${left},${right})`,
      }),
      h("span", { text: two ? ` ${by === "effect" ? `for ${model.get("effect_class")}` : "+"}` : ` ${end}` }),
      ...(by === "effect" || by === "score" || !beta || two
        ? []
        : [h("span", { class: "cw-soft", text: `  1/β = ${(1 / beta).toFixed(3)}` })]),
      ...(model.get("layers").includes("truth")
        ? model
            .get("truth")
            .map(({ name, colour, dash }) =>
              h(
                "span",
                { class: "cw-truth" },
                h(
                  "svg",
                  { width: 26, height: 8 },
                  h("path", { d: "M0 4H26", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }),
                ),
                h("span", { text: name }),
              ),
            )
        : []),
    );
  };
  const head = h("div", { class: "cw-controls" });
  const drawHead = () =>
    keepFocus(head, () => {
      const layers = model.get("layers"),
        { can, by } = colouring(model);
      const group = h(
        "span",
        { class: "cw-group cw-joined", role: "group", "aria-label": "layers" },
        ...Object.entries(LAYERS).map(([name, [words, letter]]) => {
          const none = name === "truth" && !model.get("truth").length;
          return h("button", {
            class: "cw-button",
            "data-key": `layer-${name}`,
            "data-layer": name,
            "aria-pressed": layers.includes(name),
            disabled: none,
            title: none ? "this slice has no true lesions to show" : `${letter.toUpperCase()} shows or hides them`,
            text: words,
            onclick: () => put(model, { layers: toggled(layers, name) }),
          });
        }),
      );
      head.replaceChildren(
        group,
        h(
          "label",
          { class: "cw-group" },
          "colour by ",
          h(
            "select",
            {
              class: "cw-select",
              "data-key": "colour",
              onchange: (event) => put(model, { color_by: event.target.value }),
            },
            ...can.map((one) => h("option", { value: one, text: COLOURS[one], selected: one === by })),
          ),
        ),
      );
    });

  let last = { at: 0, x: 0, y: 0, depth: 0 };
  view = viewport(
    model,
    "CT slice with its regions",
    [
      "regions",
      "slots",
      "weights",
      "effects",
      "effect_class",
      "color_by",
      "off",
      "selected",
      "hovered",
      "layers",
      "truth",
      "masks",
      "order",
    ],
    {
      draw,
      hover: (event) => {
        if (regionAt(event) !== model.get("hovered")) put(model, { hovered: regionAt(event) });
      },
      click: (event) => {
        // what lies under the pointer, smallest first; a second, slow click on the same spot goes outwards
        const under = [
          ...new Set(
            document
              .elementsFromPoint(event.clientX, event.clientY)
              .map((one) => one.getAttribute?.("data-region"))
              .filter((id) => id != null)
              .map(Number),
          ),
        ];
        const same =
          Math.hypot(event.clientX - last.x, event.clientY - last.y) < 4 &&
          event.timeStamp - last.at < 2500 &&
          event.timeStamp - last.at > 350;
        last = {
          at: event.timeStamp,
          x: event.clientX,
          y: event.clientY,
          depth: same ? (last.depth + 1) % Math.max(1, under.length) : 0,
        };
        const id = under[last.depth];
        put(model, { selected: id === undefined ? [] : event.shiftKey ? toggled(model.get("selected"), id) : [id] });
      },
      double: (event) => {
        // the stage holds the pointer, so that the event is its own
        const id = regionAt({ target: document.elementFromPoint(event.clientX, event.clientY) });
        if (id !== null && canSwitch(model, live, id)) put(model, { off: offAfter(model, id) });
        return id !== null;
      },
      lasso: ([left, top, right, bottom]) =>
        put(model, {
          selected: shown()
            .filter(({ box }) => left <= box[0] && top <= box[1] && box[2] <= right && box[3] <= bottom)
            .map(({ id }) => id),
        }),
    },
  );
  el.append(
    head,
    ruler,
    view.stage,
    h("div", { class: "cw-foot" }, key, h("span", { class: "cw-group" }, view.presets, view.readout)),
  );
  const stops = [
    view.stop,
    live.stop,
    onChange(model, ["layers", "color_by", "weights", "truth"], drawHead),
    explorerKeys(el, (event, chord) => {
      if (chord) return false;
      if (view.key(event)) return true;
      if (event.ctrlKey || event.metaKey || event.altKey) return false;
      const layer = Object.entries(LAYERS).find(([, [, letter]]) => letter === event.key.toLowerCase());
      if (!layer || (layer[0] === "truth" && !model.get("truth").length)) return false;
      put(model, { layers: toggled(model.get("layers"), layer[0]) });
      return true;
    }),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
