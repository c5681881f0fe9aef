// A volume to scroll: the axial slice large, the coronal and the sagittal plane beside it, all from one block of grey
// values that is in the page already. Lungs and lesions are outlines; what each slice weighs stands beside the planes.
const LUNGS = ["#8C95A1", null],
  LESIONS = ["#35D6A2", "5 3"];

/** The planes of a volume: sides, grey values, and whether a voxel is in a mask of packed bits. */
function planesOf(model) {
  const [depth, side] = model.get("dims"),
    grey = bytes(model, "volume"),
    masks = { lungs: bytes(model, "lungs"), lesions: bytes(model, "lesions") };
  const at = (place, row, column) => (place * side + row) * side + column,
    inside = (name) => (place, row, column) => {
      const bit = at(place, row, column);
      return (masks[name][bit >> 3] & (0x80 >> (bit & 7))) !== 0;
    };
  return { depth, side, grey, at, inside, has: (name) => masks[name].length > 0 };
}

/** The edges of a mask as an SVG path, along the sides of its pixels. `within(y, x)` over (height, width). */
function edges(within, height, width) {
  const on = (y, x) => y >= 0 && x >= 0 && y < height && x < width && within(y, x),
    path = [];
  const runs = (lines, length, differs, draw) => {
    for (let line = 0; line <= lines; line++)
      for (let from = 0, to = 0; from < length; from = to + 1) {
        for (to = from; to < length && differs(line, to); to++);
        if (to > from) path.push(draw(line, from, to));
      }
  };
  runs(
    height,
    width,
    (y, x) => on(y - 1, x) !== on(y, x),
    (y, from, to) => `M${from} ${y}H${to}`,
  );
  runs(
    width,
    height,
    (x, y) => on(y, x - 1) !== on(y, x),
    (x, from, to) => `M${x} ${from}V${to}`,
  );
  return path.join("");
}

/** The HU of the slice on show, or null. */
function huAt(model) {
  const [, side] = model.get("dims"),
    from = model.get("place") * side * side;
  return huOf(model)?.subarray(from, from + side * side) ?? null;
}

/** The traits of a slice for `viewport`, taken from the volume at its place. */
function sliceOf(model) {
  const named = { pixels: ["volume", "place"], shape: ["dims"], hu: ["hu", "place"] },
    events = (event) => (named[event.replace("change:", "")] ?? []).map((name) => `change:${name}`);
  return {
    get(name) {
      if (name === "hu") return huAt(model);
      if (name === "shape") return model.get("dims").slice(1);
      if (name !== "pixels") return model.get(name);
      const [, side] = model.get("dims"),
        block = model.get("volume"),
        from = model.get("place") * side * side;
      if (!block?.byteLength || from + side * side > block.byteLength) return new DataView(new ArrayBuffer(0));
      return new DataView(block.buffer, block.byteOffset + from, side * side);
    },
    set: (name, value) => model.set(name, value),
    save_changes: () => model.save_changes(),
    on: (event, run) => (events(event).length ? events(event) : [event]).forEach((one) => model.on(one, run)),
    off: (event, run) => (events(event).length ? events(event) : [event]).forEach((one) => model.off(one, run)),
  };
}

/** Letters at the edges of a plane, from the top clockwise; those that the files do not say are left away. */
function edgeLetters(model, letters) {
  const elements = ["top", "right", "bottom", "left"].map((edge, at) =>
    h("b", { class: `cw-edge ${edge}`, "data-edge": letters[at], text: letters[at] }),
  );
  const draw = () => {
    for (const [at, one] of elements.entries()) one.hidden = !model.get("directions").includes(letters[at]);
  };
  return { elements, stop: onChange(model, ["directions"], draw) };
}

/** A plane along the body, head on top: `across` is the trait that a column stands for, `through` the one it is at. */
function sideView(model, name, across, through) {
  const canvas = h("canvas", { class: "cw-image" }),
    layer = h("svg", { class: "cw-layer", preserveAspectRatio: "none" }),
    title = h("span", { class: "cw-side-name", text: name }),
    letters = edgeLetters(model, across === "column" ? "HLFR" : "HPFA"),
    stage = h(
      "div",
      { class: "cw-stage cw-plane", tabindex: 0, role: "img", "aria-label": `${name} plane`, "data-plane": name },
      canvas,
      layer,
      title,
      ...letters.elements,
    );
  const voxel = (place, column) =>
    across === "column" ? [place, model.get(through), column] : [place, column, model.get(through)];
  const drawGrey = () => {
    const { depth, side, grey, at } = planesOf(model);
    canvas.hidden = !grey.length;
    if (!grey.length) return;
    const image = new ImageData(side, depth),
      low = model.get("level") - model.get("window") / 2,
      span = Math.max(1, model.get("window")),
      held = huOf(model),
      table = held && model.get("hu_window").length === 2 ? greyTable(...huEnds(model)) : null;
    const shade = (place) =>
      table ? table[held[place] + 32768] : held ? grey[place] : (255 * (grey[place] - low)) / span;
    for (let y = 0; y < depth; y++)
      for (let x = 0; x < side; x++) {
        const value = shade(at(...voxel(depth - 1 - y, x))),
          to = 4 * (y * side + x);
        image.data[to] = image.data[to + 1] = image.data[to + 2] = value;
        image.data[to + 3] = 255;
      }
    [canvas.width, canvas.height] = [side, depth];
    canvas.getContext("2d").putImageData(image, 0, 0);
    const [plane, rows, columns] = model.get("spacing");
    stage.style.aspectRatio = `${side * (across === "column" ? columns : rows)} / ${depth * plane}`;
  };
  const drawLines = () => {
    const { depth, side, inside, has } = planesOf(model),
      layers = model.get("layers"),
      attention = model.get("attention"),
      end = scaleEnd(Object.values(attention)),
      off = model.get("off");
    layer.setAttribute("viewBox", `0 0 ${side} ${depth}`);
    const outline = (mask, [colour, dash]) =>
      layers.includes(mask) && has(mask)
        ? [
            cased(
              "path",
              { d: edges((y, x) => inside(mask)(...voxel(depth - 1 - y, x)), depth, side) },
              colour,
              1,
              dash,
            ),
          ]
        : [];
    const row = (place, more) => h("rect", { y: depth - 1 - place, height: 1, "pointer-events": "none", ...more });
    const line = (more) =>
      h("line", { ...more, class: "cw-cross", "vector-effect": "non-scaling-stroke", "pointer-events": "none" });
    const [x, y] = [model.get(across) + 0.5, depth - 0.5 - model.get("place")];
    layer.replaceChildren(
      ...outline("lungs", LUNGS),
      ...outline("lesions", LESIONS),
      ...Object.entries(attention).map(([place, weight]) =>
        row(Number(place), { x: 0, width: end ? (0.18 * side * weight) / end : 0, class: "cw-weight" }),
      ),
      ...off.map((place) => row(place, { x: 0, width: side, class: "cw-away" })),
      ...(layers.includes("lines")
        ? [line({ x1: x, x2: x, y1: 0, y2: depth }), line({ x1: 0, x2: side, y1: y, y2: y })]
        : []),
    );
  };
  const look = (event) => {
    if (event.type === "pointermove" && !(event.buttons & 1)) return;
    const [depth, side] = model.get("dims"),
      box = stage.getBoundingClientRect(),
      clamp = (value, many) => Math.min(many - 1, Math.max(0, Math.floor(value)));
    put(model, {
      [across]: clamp(((event.clientX - box.left) / box.width) * side, side),
      place: depth - 1 - clamp(((event.clientY - box.top) / box.height) * depth, depth),
    });
  };
  stage.addEventListener("pointerdown", (event) => {
    stage.focus({ preventScroll: true });
    look(event);
  });
  stage.addEventListener("pointermove", look);
  const stops = [
    onChange(
      model,
      ["volume", "dims", "spacing", "window", "level", "hu", "hu_window", "hu_presets", through],
      drawGrey,
    ),
    letters.stop,
    onChange(model, ["dims", "lungs", "lesions", "layers", "place", "row", "column", "attention", "off"], drawLines),
  ];
  return { stage, stop: () => stops.forEach((stop) => stop()) };
}

/** What is known of the slice on show, in words. */
function wordsOf(model) {
  const place = model.get("place"),
    slices = model.get("slices"),
    own = slices[place];
  if (!own) return [];
  const weight = model.get("attention")[place],
    effect = model.get("effects")[place],
    rank = model.get("reading").indexOf(place) + 1;
  const words = [`slice ${place} of 0–${slices.length - 1}`, own.id];
  if (!own.read) words.push("not read");
  else if (model.get("off").includes(place)) words.push("off");
  else words.push(`read as number ${rank}`);
  if (weight !== undefined) words.push(`attention ${weight.toFixed(3)}`);
  if (effect !== undefined) words.push(`effect ${signedFigure(effect)} on ${model.get("effect_class")}`);
  if (own.lesion !== null)
    words.push(own.lesion ? `lesion ${(100 * own.lesion).toFixed(1)} % of it` : "no lesion in its mask");
  return words;
}

const LAYERS = { lungs: ["Lungs", "L"], lesions: ["Lesions", "T"], lines: ["Lines", "C"] };

function render({ model, el }) {
  el.classList.add("cw");
  const live = connection(model),
    controls = h("div", { class: "cw-controls" }),
    told = h("div", { class: "cw-note cw-slice-words", role: "status" });
  const view = viewport(
    sliceOf(model),
    "axial slice of the volume",
    ["place", "layers", "lungs", "lesions", "row", "column"],
    {
      draw: (layer, unit) => {
        const { depth, side, inside, has } = planesOf(model),
          layers = model.get("layers"),
          place = model.get("place"),
          parts = [];
        for (const [mask, [colour, dash], width] of [
          ["lungs", LUNGS, 1],
          ["lesions", LESIONS, 1.6],
        ])
          if (layers.includes(mask) && has(mask) && place < depth)
            parts.push(
              cased("path", { d: edges((y, x) => inside(mask)(place, y, x), side, side) }, colour, width, dash),
            );
        const line = (more) =>
          h("line", { ...more, class: "cw-cross", "vector-effect": "non-scaling-stroke", "pointer-events": "none" });
        const [x, y] = [model.get("column") + 0.5, model.get("row") + 0.5];
        if (layers.includes("lines"))
          parts.push(line({ x1: x, x2: x, y1: 0, y2: side }), line({ x1: 0, x2: side, y1: y, y2: y }));
        if (model.get("off").includes(place)) parts.push(plate(4 * unit, 4 * unit, "off", unit));
        layer.replaceChildren(...parts);
      },
      windowBy: "width",
      click: (event) => {
        const [, side] = model.get("dims"),
          [column, row] = view.point(event).map((value) => Math.min(side - 1, Math.max(0, Math.floor(value))));
        put(model, { row, column });
      },
    },
  );
  const letters = edgeLetters(model, "ALPR"),
    greys = h("span", { class: "cw-soft cw-no-hu", text: "grey values, no HU", title: "the files hold no HU" });
  view.stage.append(...letters.elements);
  const go = (place) => {
    const [depth] = model.get("dims");
    if (depth) put(model, { place: Math.min(depth - 1, Math.max(0, place)) });
  };
  view.stage.addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey || document.activeElement !== view.stage) return; // else it scrolls the notebook
      event.preventDefault();
      go(model.get("place") + (event.deltaY < 0 ? 1 : -1));
    },
    { passive: false },
  );
  const coronal = sideView(model, "coronal", "column", "row"),
    sagittal = sideView(model, "sagittal", "row", "column");
  const drawControls = () =>
    keepFocus(controls, () => {
      const [depth] = model.get("dims"),
        place = model.get("place"),
        mask = { lungs: bytes(model, "lungs").length, lesions: bytes(model, "lesions").length, lines: 1 };
      controls.replaceChildren(
        ...Object.entries(LAYERS).map(([layer, [text, key]]) =>
          h("button", {
            class: "cw-button",
            "data-layer": layer,
            "data-key": layer,
            "aria-pressed": model.get("layers").includes(layer),
            disabled: !mask[layer],
            title: mask[layer] ? `${key} shows or hides them` : "this volume has no mask of them",
            text,
            onclick: () => put(model, { layers: toggled(model.get("layers"), layer) }),
          }),
        ),
        h("input", {
          type: "range",
          class: "cw-grow cw-scroll",
          min: 0,
          max: Math.max(0, depth - 1),
          value: place,
          "data-key": "place",
          "aria-label": model.get("directions").includes("H") ? "slice, from the feet to the head" : "slice",
          oninput: (event) => go(event.target.valueAsNumber),
        }),
        h("b", { class: "cw-place", text: depth ? `${place} / ${depth - 1}` : "" }),
      );
    });
  const key = ([colour, dash], text) =>
    h(
      "span",
      { class: "cw-truth" },
      h("svg", { width: 26, height: 8, "aria-hidden": "true" }, cased("path", { d: "M1 4H25" }, colour, 2, dash)),
      h("span", { text }),
    );
  el.append(
    controls,
    h("div", { class: "cw-planes" }, view.stage, h("div", { class: "cw-along" }, coronal.stage, sagittal.stage)),
    h(
      "div",
      { class: "cw-foot" },
      h("span", { class: "cw-key" }, key(LUNGS, "lung mask"), key(LESIONS, "true lesions")),
      h("span", { class: "cw-group cw-windows" }, view.presets, greys, view.readout),
    ),
    told,
  );
  const keys = (event, chord) => {
    if (chord || !model.get("dims")[0]) return false;
    if (view.key(event)) return true;
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const [depth] = model.get("dims"),
      place = model.get("place"),
      far = Math.max(1, Math.round(depth / 10)),
      layer = Object.keys(LAYERS).find((one) => LAYERS[one][1].toLowerCase() === event.key.toLowerCase()),
      to = { ArrowLeft: place - 1, ArrowRight: place + 1, PageUp: place + far, PageDown: place - far };
    Object.assign(to, { Home: 0, End: depth - 1 });
    if (to[event.key] !== undefined) go(to[event.key]);
    else if (layer) put(model, { layers: toggled(model.get("layers"), layer) });
    else return false;
    return true;
  };
  const stops = [
    live.stop,
    view.stop,
    coronal.stop,
    sagittal.stop,
    letters.stop,
    onChange(model, ["hu", "dims"], () => {
      greys.hidden = !model.get("dims")[0] || model.get("hu")?.byteLength > 0;
    }),
    explorerKeys(el, keys),
    onChange(model, ["layers", "place", "dims", "lungs", "lesions", "directions"], drawControls),
    onChange(model, ["place", "slices", "attention", "effects", "effect_class", "off", "reading"], () =>
      told.replaceChildren(...wordsOf(model).map((text) => h("span", { text }))),
    ),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
