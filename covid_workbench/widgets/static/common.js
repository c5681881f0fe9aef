// What all parts of the explorer share. Python puts this file before each part's own.
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; `class` and `text` as attributes, `on…` as listeners. */
function h(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "path", "line", "circle", "text", "title", "polyline"].includes(name);
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || (value === false && !key.startsWith("aria-"))) continue;
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true && !key.startsWith("aria-") && key !== "draggable" ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A colour between three on the CT: t in [0, 1]. */
function between(colours, t) {
  const place = Math.min(1, Math.max(0, t)) * (colours.length - 1), low = Math.min(colours.length - 2, Math.floor(place));
  const [a, b] = [colours[low], colours[low + 1]].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return `rgb(${a.map((part, n) => Math.round(part + (b[n] - part) * (place - low))).join(",")})`;
}

const RAMP = { positive: ["#8C95A1", "#63A0DA", "#1E9BFF"], negative: ["#9A948D", "#DB9A55", "#FF8A1F"] };

/** The end of the attention scale: the next of 0.10, 0.20, 0.40, 0.70, 1. */
function scaleEnd(values) {
  const most = Math.max(0, ...values);
  return [0.1, 0.2, 0.4, 0.7, 1].find((end) => most <= end) ?? most;
}

/** Region id -> signed attention: positive branch minus negative one, summed over its slots. */
function netAttention(slots, weights) {
  const net = {};
  slots.forEach((id, place) => { net[id] = (net[id] ?? 0) + (weights[0]?.[place] ?? 0) - (weights[1]?.[place] ?? 0); });
  return net;
}

/** Region id -> its ranks, as "14·15". */
function slotLabels(slots) {
  const ranks = {};
  slots.forEach((id, place) => { (ranks[id] ??= []).push(place + 1); });
  return Object.fromEntries(Object.entries(ranks).map(([id, own]) => [id, own.join("·")]));
}

/** Write traits and send them once. */
function put(model, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}

/** Tell the kernel that this part is on the screen: what changed before it was drawn may have been missed. */
function ready(model) {
  model.send({ ready: true });
}

/** Redraw at most once a frame when one of the traits changes; returns a function that stops it. */
function onChange(model, names, redraw) {
  let asked = false;
  const later = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; redraw(); });
  };
  for (const name of names) model.on(`change:${name}`, later);
  redraw();
  return () => names.forEach((name) => model.off(`change:${name}`, later));
}

function toggled(list, id) {
  return list.includes(id) ? list.filter((one) => one !== id) : [...list, id];
}

/** Keys that act on regions wherever the focus is; true when the key was one of them. */
function regionKey(model, event) {
  const slots = model.get("slots"), selected = model.get("selected"), off = model.get("off");
  const place = slots.lastIndexOf(selected.at(-1));
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const step = event.key === "ArrowDown" ? 1 : -1;
    let next = place < 0 ? (step > 0 ? 0 : slots.length - 1) : place + step;
    while (slots[next] !== undefined && slots[next] === selected.at(-1)) next += step; // repeats of a region are one
    if (slots[next] !== undefined) put(model, { selected: event.shiftKey ? [...new Set([...selected, slots[next]])] : [slots[next]] });
  } else if (event.key === " " && selected.length) {
    const present = [...new Set(slots)];
    if (event.shiftKey) put(model, { off: present.filter((id) => !selected.includes(id)) });
    else {
      const next = toggled(off, selected.at(-1));
      if (model.get("all").some((id) => !next.includes(id))) put(model, { off: next });
    }
  } else if (event.key === "Escape") {
    if (selected.length) put(model, { selected: [] });
    else put(model, { off: [] });
  } else return false;
  event.preventDefault();
  event.stopPropagation();
  return true;
}
