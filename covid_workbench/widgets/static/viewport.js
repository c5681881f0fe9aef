// A slice to look at: grey values with window and level on a canvas, and an SVG layer above it in slice pixels. Zoom
// and pan move both. Where the file has Hounsfield units, a window in HU takes the place of window and level.

/** The HU of a slice or a volume as numbers, or null; the bytes of a trait may begin at an odd place. */
const huNumbers = new WeakMap();
function huOf(model) {
  const view = model.get("hu");
  if (!view?.byteLength) return null;
  if (view instanceof Int16Array) return view; // a slice of a volume
  if (!huNumbers.has(view))
    huNumbers.set(view, new Int16Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)));
  return huNumbers.get(view);
}

/** The ends in HU of what is shown, or null for a slice without HU. */
function huEnds(model) {
  if (!huOf(model)) return null;
  const own = model.get("hu_window") ?? [];
  return own.length === 2 ? own : Object.values(model.get("hu_presets"))[0];
}

/**
 * The grey value of every HU from -32768 on, as data.windows.apply_window makes it: in 32-bit arithmetic, and a half
 * is rounded to the even number, which is what an array of clamped bytes does.
 */
function greyTable(low, high) {
  const table = new Uint8ClampedArray(65536),
    { fround } = Math,
    [from, span] = [fround(low), fround(high - low)];
  for (let at = 0; at < 65536; at++) {
    const share = fround(fround(at - 32768 - from) / span);
    table[at] = fround(255 * Math.min(1, Math.max(0, share)));
  }
  return table;
}

function drawPixels(canvas, model) {
  const [height, width] = model.get("shape"),
    pixels = bytes(model, "pixels");
  canvas.hidden = !height || !width || !pixels.length;
  if (canvas.hidden) return;
  const image = new ImageData(width, height),
    low = model.get("level") - model.get("window") / 2,
    span = Math.max(1, model.get("window")),
    hu = model.get("hu_window")?.length === 2 ? huOf(model) : null,
    table = hu && greyTable(...huEnds(model)),
    plain = huOf(model) !== null; // the pixels are those that the model sees
  for (let at = 0; at < width * height; at++) {
    const grey = hu ? table[hu[at] + 32768] : plain ? pixels[at] : (255 * (pixels[at] - low)) / span;
    image.data[4 * at] = image.data[4 * at + 1] = image.data[4 * at + 2] = grey;
    image.data[4 * at + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** A line that can be seen on any grey: dark below, colour above. */
function cased(name, attributes, colour, width, dash) {
  const common = { ...attributes, fill: "none", "vector-effect": "non-scaling-stroke", "pointer-events": "none" };
  return h(
    "g",
    {},
    h(name, { ...common, stroke: "#0D0F12", "stroke-width": width + 2, opacity: 0.7 }),
    h(name, { ...common, stroke: colour, "stroke-width": width, "stroke-dasharray": dash }),
  );
}

/** Corner brackets around a box. */
function brackets([left, top, right, bottom], reach) {
  const [dx, dy] = [Math.min(reach, (right - left) / 3), Math.min(reach, (bottom - top) / 3)];
  return (
    `M${left} ${top + dy}V${top}H${left + dx}M${right - dx} ${top}H${right}V${top + dy}` +
    `M${right} ${bottom - dy}V${bottom}H${right - dx}M${left + dx} ${bottom}H${left}V${bottom - dy}`
  );
}

/** Presets of window and level where there are no HU: shares of the grey values, darkest first. */
const WINDOWS = { full: [0, 1], "without extremes": [0.01, 0.99], lung: [0, 0.75], "soft tissue": [0.5, 1] };

function windowOf(model, name) {
  if (name === "full") return { window: 255, level: 127.5 };
  const counts = new Uint32Array(256),
    pixels = bytes(model, "pixels");
  for (const value of pixels) counts[value]++;
  const at = (share) => {
    let seen = 0;
    for (let value = 0; value < 256; value++) if ((seen += counts[value]) >= share * pixels.length) return value;
    return 255;
  };
  const [low, high] = WINDOWS[name].map(at);
  return { window: Math.max(2, high - low), level: (low + high) / 2 };
}

/** A window in HU in whole numbers, low end first. */
function huWindow(low, high) {
  const whole = (value) => Math.min(32767, Math.max(-32768, Math.round(value))),
    first = Math.min(32766, whole(low));
  return { hu_window: [first, Math.max(first + 1, whole(high))] };
}

/** The two numbers of a window beside its presets: from ends in HU and back, with a word and a title for each. */
const WINDOW_BY = {
  ends: {
    from: (ends) => ends,
    back: (ends) => ends,
    words: ["", "to"],
    titles: ["low end of the window in HU", "high end of the window in HU"],
  },
  width: {
    from: ([low, high]) => [high - low, (low + high) / 2],
    back: ([width, level]) => [level - width / 2, level + width / 2],
    words: ["W", "L"],
    titles: ["width of the window in HU", "level of the window in HU"],
  },
};

/** The choice of a window: presets, and for a slice with HU two numbers and what the model sees. `draw` shows them. */
function windowChoice(model, by) {
  const choose = h("select", {
      class: "cw-select",
      "aria-label": "window",
      onchange: () => {
        const ends = model.get("hu_presets")?.[choose.value];
        put(
          model,
          huOf(model) && ends
            ? { hu_window: namesOf(model)[0] === choose.value ? [] : ends }
            : windowOf(model, choose.value),
        );
        if (!huOf(model)) choose.value = "";
      },
    }),
    { from, back, words, titles } = WINDOW_BY[by],
    fields = titles.map((title, place) =>
      h("input", {
        type: "number",
        class: "cw-number",
        step: 10,
        title,
        "aria-label": title,
        onchange: (event) => {
          const numbers = [...from(huEnds(model))],
            value = event.target.valueAsNumber;
          if (Number.isFinite(value)) numbers[place] = value;
          const ends = back(numbers);
          if (ends[0] < ends[1]) put(model, huWindow(...ends));
          event.target.value = from(huEnds(model))[place];
          draw();
        },
      }),
    ),
    seen = h("span", { class: "cw-soft" }),
    units = h("span", { class: "cw-group cw-hu" }, words[0], fields[0], words[1], fields[1], "HU", seen),
    drag = "right-drag or Alt-drag on the slice: across width, up level";
  let shown = null;
  const draw = () => {
    const ends = huEnds(model),
      names = ends ? namesOf(model) : Object.keys(WINDOWS);
    choose.title = `window (${drag}; Alt 1–${ends ? names.length - 1 : 4}${ends ? ", Alt 0 as the model" : ""})`;
    if (shown !== names.join()) {
      shown = names.join();
      choose.replaceChildren(
        h("option", { value: "", text: ends ? "own window" : "window" }),
        ...names.map((name) => h("option", { value: name, text: name })),
      );
    }
    units.hidden = !ends;
    if (!ends) return;
    const presets = model.get("hu_presets"),
      model_ends = presets[names[0]],
      same = (one) => one[0] === ends[0] && one[1] === ends[1];
    choose.value = names.find((name) => same(presets[name])) ?? "";
    // what is being typed stays
    for (const [place, field] of fields.entries())
      if (document.activeElement !== field) field.value = from(ends)[place];
    const own = from(model_ends).map((value, place) => `${words[place]} ${value}`.trim());
    seen.textContent = same(model_ends) ? "" : `(the model sees ${own.join(" ")})`;
  };
  return { element: h("span", { class: "cw-group cw-window" }, choose, units), draw };
}

const namesOf = (model) => Object.keys(model.get("hu_presets") ?? {});

/**
 * A label on the picture: words on a dark plate; its corner at (x, y) in slice pixels, `unit` slice pixels to a screen
 * pixel.
 */
function plate(x, y, words, unit, { ground = "#0D0F12", ink = "#fff", line = "#0D0F12" } = {}) {
  const width = (6.6 * words.length + 8) * unit;
  return h(
    "g",
    { "pointer-events": "none", class: "cw-plate" },
    h("rect", {
      x,
      y,
      width,
      height: 16 * unit,
      rx: 3 * unit,
      fill: ground,
      opacity: 0.9,
      stroke: line,
      "stroke-width": unit,
    }),
    h("text", {
      x: x + width / 2,
      y: y + 12 * unit,
      "text-anchor": "middle",
      "font-size": 11 * unit,
      "font-weight": 600,
      fill: ink,
      text: words,
    }),
  );
}

/**
 * A corner of each box where its label of `words` covers no earlier one, top-left where possible. Boxes and corners are
 * in slice pixels.
 */
function placeLabels(boxes, words, unit, [height, width]) {
  const taken = [];
  return boxes.map(([left, top, right, bottom], number) => {
    const wide = (6.6 * words[number].length + 8) * unit,
      high = 16 * unit;
    const spots = [
      [left, top - high],
      [left, top],
      [right - wide, top - high],
      [left, bottom],
      [right - wide, bottom],
      [right, top],
      [left - wide, top],
      [right - wide, bottom - high],
    ].map(([x, y]) => [Math.min(Math.max(0, x), width - wide), Math.min(Math.max(0, y), height - high)]);
    const free = ([x, y]) => taken.every(([u, v, w]) => x + wide <= u || u + w <= x || y + high <= v || v + high <= y);
    const [x, y] = spots.find(free) ?? spots[0];
    taken.push([x, y, wide]);
    return [x, y];
  });
}

/**
 * The stage of a slice. Traits of the model: pixels, shape, window, level, camera (x, y: corner as shares of the slice;
 * zoom). `draw(layer, unit)` fills the SVG layer and runs again when one of the traits `names` changes. `click(event)`,
 * `hover(event)`, `double(event)` and `lasso(box)` hear what the reader does. `windowBy`: a key of `WINDOW_BY`.
 */
function viewport(model, label, names, { draw, click, hover, double, lasso, windowBy = "ends" }) {
  const canvas = h("canvas", { class: "cw-image" }),
    layer = h("svg", { class: "cw-layer", preserveAspectRatio: "none" });
  const stage = h(
      "div",
      { class: "cw-stage", tabindex: 0, role: "listbox", "aria-label": label, "data-key": "stage" },
      canvas,
      layer,
    ),
    readout = h("span", { class: "cw-readout" });
  const unit = () => model.get("shape")[1] / model.get("camera").zoom / (stage.clientWidth || 512);
  const point = (event) => {
    const [height, width] = model.get("shape"),
      { x, y, zoom } = model.get("camera"),
      bounds = stage.getBoundingClientRect();
    return [
      ((event.clientX - bounds.left) / bounds.width / zoom + x) * width,
      ((event.clientY - bounds.top) / bounds.height / zoom + y) * height,
    ];
  };
  const tell = (event) => {
    const [height, width] = model.get("shape"),
      [column, row] = event ? point(event).map(Math.floor) : [-1, -1],
      { zoom } = model.get("camera");
    const inside = column >= 0 && row >= 0 && column < width && row < height;
    const ends = huEnds(model),
      values = ends ? huOf(model) : bytes(model, "pixels"),
      value = inside ? (values[row * width + column] ?? "–") : null,
      [w, l] = ends ? [ends[1] - ends[0], (ends[0] + ends[1]) / 2] : [model.get("window"), model.get("level")];
    readout.textContent =
      (inside ? `x ${column} y ${row} ${ends ? `${value} HU` : `value ${value}`} · ` : "") +
      (ends && windowBy === "width" ? "" : `W ${Math.round(w)} L ${Math.round(l)}`) +
      (zoom > 1 ? ` ×${zoom.toFixed(1)}` : "");
  };
  const redraw = () => {
    const [height, width] = model.get("shape"),
      { x, y, zoom } = model.get("camera");
    if (!height || !width) return layer.replaceChildren();
    stage.style.aspectRatio = `${width} / ${height}`;
    layer.setAttribute("viewBox", `${x * width} ${y * height} ${width / zoom} ${height / zoom}`);
    canvas.style.transform = `translate(${-x * zoom * 100}%, ${-y * zoom * 100}%) scale(${zoom})`;
    stage.style.touchAction = zoom > 1 ? "none" : "pan-y"; // a finger scrolls the notebook over what fits
    draw(layer, unit());
    tell();
  };
  const look = (camera) => {
    const zoom = Math.min(12, Math.max(1, camera.zoom)),
      clamp = (value) => Math.min(1 - 1 / zoom, Math.max(0, value));
    put(model, { camera: { zoom, x: clamp(camera.x), y: clamp(camera.y) } });
  };
  const zoomed = (factor, u = 0.5, v = 0.5) => {
    const { x, y, zoom } = model.get("camera"),
      next = Math.min(12, Math.max(1, zoom * factor));
    look({ zoom: next, x: x + u / zoom - u / next, y: y + v / zoom - v / next });
  };

  let drag = null,
    pinch = null; // two fingers: how far apart they were, and the spot of the slice between them
  const fingers = new Map();
  const betweenFingers = () => {
    const [[x, y], [u, v]] = [...fingers.values()],
      bounds = stage.getBoundingClientRect();
    return {
      apart: Math.max(1, Math.hypot(u - x, v - y)),
      middle: [((x + u) / 2 - bounds.left) / bounds.width, ((y + v) / 2 - bounds.top) / bounds.height],
    };
  };
  const pinched = () => {
    const { apart, middle } = betweenFingers(),
      zoom = Math.min(12, Math.max(1, (pinch.zoom * apart) / pinch.apart));
    look({ zoom, x: pinch.spot[0] - middle[0] / zoom, y: pinch.spot[1] - middle[1] / zoom });
  };
  const lifted = (event) => {
    if (fingers.delete(event.pointerId) && fingers.size < 2) pinch = null;
  };
  stage.addEventListener("pointermove", (event) => {
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pinch) return pinched();
    tell(event);
    if (!drag) return hover?.(event);
    const bounds = stage.getBoundingClientRect(),
      dx = event.clientX - drag.x,
      dy = event.clientY - drag.y;
    drag.moved ||= Math.hypot(dx, dy) > 4;
    if (!drag.moved) return;
    if (drag.grey && drag.ends) {
      const [low, high] = drag.ends,
        step = (high - low) / 256,
        half = Math.max(1, (high - low + step * dx) / 2),
        middle = (low + high) / 2 - step * dy;
      put(model, huWindow(middle - half, middle + half));
    } else if (drag.grey) put(model, { window: Math.max(2, drag.window + dx), level: drag.level - dy });
    else if (drag.lasso) drag.to = point(event);
    else
      look({
        zoom: drag.camera.zoom,
        x: drag.camera.x - dx / bounds.width / drag.camera.zoom,
        y: drag.camera.y - dy / bounds.height / drag.camera.zoom,
      });
  });
  stage.addEventListener("pointerleave", () => {
    tell();
    hover?.(null);
  });
  stage.addEventListener("pointerdown", (event) => {
    stage.focus({ preventScroll: true });
    if (event.pointerType === "touch") fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) {
      const { apart, middle } = betweenFingers(),
        { x, y, zoom } = model.get("camera");
      pinch = { apart, zoom, spot: [x + middle[0] / zoom, y + middle[1] / zoom] };
    }
    if (fingers.size > 1) {
      drag = null; // the finger that is lifted last clicks nothing
      return;
    }
    drag = {
      x: event.clientX,
      y: event.clientY,
      grey: event.button === 2 || event.altKey,
      lasso: lasso && event.shiftKey,
      from: point(event),
      window: model.get("window"),
      level: model.get("level"),
      ends: huEnds(model),
      camera: model.get("camera"),
    };
    try {
      stage.setPointerCapture(event.pointerId);
    } catch {
      /* a pointer that is gone already */
    }
  });
  stage.addEventListener("pointercancel", (event) => {
    lifted(event);
    drag = null;
  });
  for (const name of ["touchstart", "touchmove"])
    stage.addEventListener(name, (event) => event.touches.length > 1 && event.cancelable && event.preventDefault(), {
      passive: false,
    }); // two fingers are the picture's, not the browser's
  stage.addEventListener("pointerup", (event) => {
    lifted(event);
    const was = drag;
    drag = null;
    if (!was || was.grey) return;
    if (!was.moved) click?.(event);
    else if (was.lasso && was.to)
      lasso(
        [
          Math.min(was.from[0], was.to[0]),
          Math.min(was.from[1], was.to[1]),
          Math.max(was.from[0], was.to[0]),
          Math.max(was.from[1], was.to[1]),
        ],
        event,
      );
  });
  stage.addEventListener("dblclick", (event) => {
    if (!double?.(event)) look({ x: 0, y: 0, zoom: 1 });
  });
  stage.addEventListener("contextmenu", (event) => {
    event.preventDefault();
    event.stopPropagation();
  }); // nor the notebook's menu
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey) return; // the plain wheel scrolls the notebook
      event.preventDefault();
      const bounds = stage.getBoundingClientRect();
      zoomed(
        Math.exp(-event.deltaY / 300),
        (event.clientX - bounds.left) / bounds.width,
        (event.clientY - bounds.top) / bounds.height,
      );
    },
    { passive: false },
  );

  const key = (event) => {
    const digit = event.altKey ? Number(event.code.replace("Digit", "")) : NaN,
      of_hu = huOf(model) && namesOf(model)[digit],
      preset = !huOf(model) && Object.keys(WINDOWS)[digit - 1],
      step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (of_hu) put(model, { hu_window: digit ? model.get("hu_presets")[of_hu] : [] });
    else if (preset) put(model, windowOf(model, preset));
    else if (event.ctrlKey && step) {
      const { x, y, zoom } = model.get("camera");
      look({ zoom, x: x + step[0] / 8 / zoom, y: y + step[1] / 8 / zoom });
    } else if (event.ctrlKey || event.metaKey || event.altKey) return false;
    else if (event.key.toLowerCase() === "z") zoomed(event.shiftKey ? 1 / 1.5 : 1.5);
    else if (event.key.toLowerCase() === "f") look({ x: 0, y: 0, zoom: 1 });
    else return false;
    return true;
  };
  const choice = windowChoice(model, windowBy);
  const stops = [
    onChange(model, ["pixels", "shape", "window", "level", "hu", "hu_window", "hu_presets"], () => {
      drawPixels(canvas, model);
      choice.draw();
      tell();
    }),
    onChange(model, ["shape", "camera", ...names], redraw),
  ];
  const watch = new ResizeObserver(redraw);
  watch.observe(stage);
  return {
    stage,
    readout,
    presets: choice.element,
    key,
    point,
    stop: () => {
      watch.disconnect();
      stops.forEach((stop) => stop());
    },
  };
}
