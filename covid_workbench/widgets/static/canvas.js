// The slice with its regions: an image on a canvas, everything else as SVG above it in slice pixels.
function drawPixels(canvas, model) {
  const [height, width] = model.get("shape"), view = model.get("pixels");
  if (!height || !view?.byteLength) return;
  const pixels = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const image = new ImageData(width, height), low = model.get("level") - model.get("window") / 2, span = Math.max(1, model.get("window"));
  for (let at = 0; at < width * height; at++) {
    image.data[4 * at] = image.data[4 * at + 1] = image.data[4 * at + 2] = (255 * (pixels[at] - low)) / span;
    image.data[4 * at + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** A line that can be seen on any grey: dark below, colour above. */
function cased(name, attributes, colour, width, dash) {
  const common = { ...attributes, fill: "none", "vector-effect": "non-scaling-stroke", "pointer-events": "none" };
  return h("g", {}, h(name, { ...common, stroke: "#0D0F12", "stroke-width": width + 2, opacity: 0.7 }),
    h(name, { ...common, stroke: colour, "stroke-width": width, "stroke-dasharray": dash }));
}

function brackets([left, top, right, bottom], reach) {
  const [dx, dy] = [Math.min(reach, (right - left) / 3), Math.min(reach, (bottom - top) / 3)];
  return `M${left} ${top + dy}V${top}H${left + dx}M${right - dx} ${top}H${right}V${top + dy}M${right} ${bottom - dy}V${bottom}H${right - dx}M${left + dx} ${bottom}H${left}V${bottom - dy}`;
}

function render({ model, el }) {
  const canvas = h("canvas", { class: "cw-image" }), layer = h("svg", { class: "cw-layer", preserveAspectRatio: "none" });
  const stage = h("div", { class: "cw-stage", tabindex: 0, role: "listbox", "aria-label": "CT slice with its regions" }, canvas, layer);
  const readout = h("div", { class: "cw-readout" });
  el.classList.add("cw");
  el.append(stage, readout);

  const drawRegions = () => {
    const [height, width] = model.get("shape");
    if (!height) return;
    layer.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const unit = width / (stage.clientWidth || 512); // one screen pixel in slice pixels, unzoomed
    const slots = model.get("slots"), weights = model.get("weights"), net = netAttention(slots, weights), labels = slotLabels(slots);
    const end = scaleEnd(Object.values(net).map(Math.abs)), layers = model.get("layers"), off = model.get("off"), selected = model.get("selected"), hovered = model.get("hovered");
    const parts = [];
    if (layers.includes("truth"))
      for (const { d, colour, dash } of model.get("truth")) parts.push(cased("path", { d }, colour, 1.6, dash));
    const regions = [...model.get("regions")].sort((a, b) => (b.box[2] - b.box[0]) * (b.box[3] - b.box[1]) - (a.box[2] - a.box[0]) * (a.box[3] - a.box[1]));
    for (const { id, box: [left, top, right, bottom], name, score } of regions) {
      const isOff = off.includes(id), value = net[id] ?? 0, share = end ? Math.abs(value) / end : 0;
      if (!(id in labels) && !isOff) continue;
      const colour = isOff ? "#B8BEC6" : between(value < 0 ? RAMP.negative : RAMP.positive, share), frame = { x: left, y: top, width: right - left, height: bottom - top };
      const told = `RoI ${labels[id] ?? "off"}, ${name}, score ${score.toFixed(2)}${weights.length ? `, attention ${value.toFixed(2)}` : ""}, ${isOff ? "off" : "on"}`;
      if (layers.includes("boxes")) parts.push(cased("rect", frame, colour, isOff ? 1 : 1 + 2.5 * share, isOff ? "4 3" : null));
      if (isOff && layers.includes("boxes")) parts.push(cased("path", { d: `M${left} ${top}L${right} ${bottom}` }, colour, 1, "4 3"));
      const hit = h("rect", { ...frame, fill: "transparent", class: "cw-hit", role: "option", "data-region": id, "aria-label": told, "aria-selected": selected.includes(id) }, h("title", { text: told }));
      parts.push(hit);
      if (hovered === id) parts.push(cased("path", { d: brackets([left, top, right, bottom], 12 * unit) }, "#FFE14D", 1.6, "3 2"));
      if (selected.includes(id)) {
        parts.push(cased("path", { d: brackets([left, top, right, bottom], 14 * unit) }, "#FFE14D", 2.4));
        if (layers.includes("distance")) {
          const reach = Math.hypot(left, top);
          parts.push(cased("path", { d: `M${reach} 0A${reach} ${reach} 0 0 1 ${left} ${top}` }, "#FFE14D", 1, "2 3"), cased("path", { d: `M0 0L${left} ${top}` }, "#FFE14D", 1, "2 3"));
        }
      }
      if (layers.includes("labels") && (labels[id] || isOff))
        parts.push(h("text", { x: left + 2 * unit, y: Math.max(11 * unit, top - 3 * unit), class: "cw-label", "font-size": 12 * unit, text: labels[id] ?? "×", "pointer-events": "none" }));
    }
    if (layers.includes("distance"))
      for (const id of Object.keys(labels)) {
        const region = model.get("regions").find((one) => one.id === Number(id)), reach = Math.hypot(region.box[0], region.box[1]);
        parts.push(h("line", { x1: reach, x2: reach, y1: 0, y2: 7 * unit, stroke: "#fff", "vector-effect": "non-scaling-stroke" }));
      }
    layer.replaceChildren(...parts);
  };
  const place = () => {
    const { x, y, zoom } = model.get("camera");
    for (const one of [canvas, layer]) one.style.transform = `translate(${-x * zoom * 100}%, ${-y * zoom * 100}%) scale(${zoom})`;
  };
  const tell = (event) => {
    const [height, width] = model.get("shape"), { x, y, zoom } = model.get("camera"), bounds = stage.getBoundingClientRect();
    const column = Math.floor(((event.clientX - bounds.left) / bounds.width / zoom + x) * width), row = Math.floor(((event.clientY - bounds.top) / bounds.height / zoom + y) * height);
    const view = model.get("pixels");
    if (column >= 0 && row >= 0 && column < width && row < height)
      readout.textContent = `x ${column} y ${row} value ${new Uint8Array(view.buffer, view.byteOffset)[row * width + column]}  window ${Math.round(model.get("window"))} level ${Math.round(model.get("level"))}`;
  };

  const regionAt = (event) => {
    const id = event.target.getAttribute?.("data-region");
    return id === null || id === undefined ? null : Number(id);
  };
  let drag = null, last = { at: 0, x: 0, y: 0, depth: 0 };
  stage.addEventListener("pointermove", (event) => {
    tell(event);
    if (drag) {
      const bounds = stage.getBoundingClientRect(), dx = event.clientX - drag.x, dy = event.clientY - drag.y;
      drag.moved ||= Math.hypot(dx, dy) > 4;
      if (!drag.moved) return;
      if (drag.grey) put(model, { window: Math.max(2, drag.window + dx), level: drag.level - dy });
      else {
        const { zoom } = drag.camera, clamp = (value) => Math.min(1 - 1 / zoom, Math.max(0, value));
        put(model, { camera: { zoom, x: clamp(drag.camera.x - dx / bounds.width / zoom), y: clamp(drag.camera.y - dy / bounds.height / zoom) } });
      }
    } else if (regionAt(event) !== model.get("hovered")) put(model, { hovered: regionAt(event) });
  });
  stage.addEventListener("pointerleave", () => put(model, { hovered: null }));
  stage.addEventListener("pointerdown", (event) => {
    stage.focus();
    stage.setPointerCapture?.(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, grey: event.button === 2 || event.altKey, window: model.get("window"), level: model.get("level"), camera: model.get("camera"), target: event.target };
  });
  stage.addEventListener("pointerup", (event) => {
    const was = drag;
    drag = null;
    if (!was || was.moved || was.grey) return;
    // what lies under the pointer, smallest first; a second click on the same spot goes outwards
    const under = document.elementsFromPoint(event.clientX, event.clientY).map((one) => one.getAttribute?.("data-region")).filter((id) => id != null).map(Number);
    const same = Math.hypot(event.clientX - last.x, event.clientY - last.y) < 4 && event.timeStamp - last.at < 1500 && event.timeStamp - last.at > 350;
    last = { at: event.timeStamp, x: event.clientX, y: event.clientY, depth: same ? (last.depth + 1) % Math.max(1, under.length) : 0 };
    const id = under[last.depth];
    if (id === undefined) put(model, { selected: [] });
    else put(model, { selected: event.shiftKey ? toggled(model.get("selected"), id) : [id] });
  });
  stage.addEventListener("dblclick", (event) => {
    const id = regionAt(event);
    if (id === null) put(model, { camera: { x: 0, y: 0, zoom: 1 } });
    else {
      const next = toggled(model.get("off"), id);
      if (model.get("all").some((one) => !next.includes(one))) put(model, { off: next });
    }
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the plain wheel scrolls the notebook
    event.preventDefault();
    const { x, y, zoom } = model.get("camera"), bounds = stage.getBoundingClientRect(), next = Math.min(12, Math.max(1, zoom * Math.exp(-event.deltaY / 300)));
    const [u, v] = [(event.clientX - bounds.left) / bounds.width, (event.clientY - bounds.top) / bounds.height], clamp = (value) => Math.min(1 - 1 / next, Math.max(0, value));
    put(model, { camera: { zoom: next, x: clamp(x + u / zoom - u / next), y: clamp(y + v / zoom - v / next) } });
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const layer = { b: "boxes", n: "labels", d: "distance", t: "truth" }[event.key.toLowerCase()];
    if (regionKey(model, event)) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (layer) put(model, { layers: toggled(model.get("layers"), layer) });
    else if (event.key.toLowerCase() === "f") put(model, { camera: { x: 0, y: 0, zoom: 1 } });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  ready(model);
  const stops = [
    onChange(model, ["pixels", "shape", "window", "level"], () => drawPixels(canvas, model)),
    onChange(model, ["shape", "regions", "slots", "weights", "off", "selected", "hovered", "layers", "truth"], drawRegions),
    onChange(model, ["camera"], place),
  ];
  const watch = new ResizeObserver(drawRegions);
  watch.observe(stage);
  return () => { watch.disconnect(); stops.forEach((stop) => stop()); };
}

export default { render };
