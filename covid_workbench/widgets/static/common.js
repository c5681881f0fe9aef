// What all parts of the explorer share. Python puts this file before each part's own.
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; `class` and `text` as attributes, `on…` as listeners. */
function h(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "path", "line", "circle", "text", "title", "polyline", "image"].includes(name);
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || (value === false && !key.startsWith("aria-"))) continue;
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : String(value));
  }
  element.append(...there(children));
  return element;
}

/** Children but for those that are not there. */
function there(children) {
  return children.filter((child) => child !== null && child !== undefined);
}

/** Put other children into an element; null is none, where the browser's own would write "null". */
function fill(element, ...children) {
  element.replaceChildren(...there(children));
}

/** A colour between three on the CT: t in [0, 1]. */
function between(colours, t) {
  const place = Math.min(1, Math.max(0, t)) * (colours.length - 1),
    low = Math.min(colours.length - 2, Math.floor(place));
  const [a, b] = [colours[low], colours[low + 1]].map((hex) =>
    [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)),
  );
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
  slots.forEach((id, place) => {
    net[id] = (net[id] ?? 0) + (weights[0]?.[place] ?? 0) - (weights[1]?.[place] ?? 0);
  });
  return net;
}

/** Region id -> its ranks in short: "7", "14·15", "4–6". */
function slotLabels(slots) {
  const ranks = {};
  slots.forEach((id, place) => {
    (ranks[id] ??= []).push(place + 1);
  });
  return Object.fromEntries(Object.entries(ranks).map(([id, own]) => [id, shortRanks(own)]));
}

function shortRanks(ranks) {
  const runs = [];
  for (const rank of ranks)
    if (runs.length && runs.at(-1).at(-1) === rank - 1) runs.at(-1).push(rank);
    else runs.push([rank]);
  return runs.map((run) => (run.length > 2 ? `${run[0]}–${run.at(-1)}` : run.join("·"))).join("·");
}

/** Write traits and send them once. */
function put(model, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}

/** The widget itself: anywidget shows a part only some of it, and a change of a trait tells of the whole. */
function wholeOf(model) {
  let whole = null;
  const told = (one) => (whole = one ?? null);
  model.on("change:_asked", told);
  model.set("_asked", (model.get("_asked") ?? 0) + 1);
  model.off("change:_asked", told);
  return whole?.comm === undefined && whole?.widget_manager === undefined ? null : whole;
}

/**
 * Hear the kernel also where anywidget gave up. It waits two seconds for a part's module, and refuses every message to
 * a part whose module came later, which stays as it was made: empty. Here the module is there, so that messages go to
 * where anywidget would hand them on. What was refused before is lost: the part asks for it with `ready`.
 */
function hearLate(whole) {
  const handlers = [];
  for (let kind = whole; kind; kind = Object.getPrototypeOf(kind))
    if (Object.hasOwn(kind, "_handle_comm_msg")) handlers.push(kind._handle_comm_msg);
  if (handlers.length > 1) whole.comm?.on_msg?.((message) => handlers[1].call(whole, message));
}

const BUSY = "The kernel is busy. Looking goes on; what is asked is answered when it is free.",
  SILENT = "No kernel answers. Looking goes on; other slices, what-ifs and saving need it: run the cell again.",
  SAVED = "A saved page: looking goes on, what-ifs need the notebook.",
  PATIENCE = 10; // seconds in which a kernel that is free answers

/** What a front end says of its kernel: "busy", "idle", "none", or "unknown" where it does not say. */
function kernelOf(whole) {
  if (whole?.comm_live === false) return "none";
  const kernel = whole?.widget_manager?.kernel;
  if (!kernel?.status) return "unknown";
  if (kernel.isDisposed || kernel.status === "dead") return "none";
  return kernel.connectionStatus === "connected" && kernel.status === "idle" ? "idle" : "busy";
}

/**
 * Whether a kernel answers. It is asked when a part appears; it then sends the part's traits again, since a change
 * before the part was drawn may have been missed, and says that it is there. `changed` runs when that becomes known or
 * ends. Without an answer, everything that only changes the view still works; `words` then say why there is none: the
 * kernel is busy, or it is free and has not answered for a while.
 */
function connection(model, changed) {
  const whole = wholeOf(model),
    state = { alive: false, words: model.saved ? SAVED : "" };
  let free = 0;
  const set = (alive, words = "") => {
    if (state.alive === alive && state.words === words) return;
    Object.assign(state, { alive, words });
    changed?.();
  };
  const heard = (message) => message?.alive && set(true);
  const look = () => {
    if (state.alive || model.saved) return;
    const kernel = kernelOf(whole);
    free = kernel === "busy" ? 0 : free + 1;
    if (kernel === "busy") set(false, BUSY);
    else if (kernel === "none" || free > PATIENCE) set(false, SILENT);
  };
  const turned = () => {
    free = 0;
    set(false);
    if (whole?.comm_live) model.send({ ready: true });
    else look();
  };
  model.on("msg:custom", heard);
  model.on("comm_live_update", turned);
  hearLate(whole);
  model.send({ ready: true });
  const looking = setInterval(look, 1000);
  state.stop = () => {
    clearInterval(looking);
    model.off("msg:custom", heard);
    model.off("comm_live_update", turned);
  };
  return state;
}

/** Redraw at most once a frame when one of the traits changes; returns a function that stops it. */
function onChange(model, names, redraw) {
  let asked = false;
  const later = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      redraw();
    });
  };
  for (const name of names) model.on(`change:${name}`, later);
  redraw();
  return () => names.forEach((name) => model.off(`change:${name}`, later));
}

/** Redraw the children of `root`; the element with the same data-key has the focus afterwards. */
function keepFocus(root, redraw) {
  const key = root.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  redraw();
  if (key === undefined) return;
  const again = root.querySelector(`[data-key="${CSS.escape(key)}"]`);
  (again && !again.disabled
    ? again
    : (root.closest(".cw-explorer") ?? root).querySelector(".cw-stage, [tabindex]")
  )?.focus({ preventScroll: true });
}

function toggled(list, id) {
  return list.includes(id) ? list.filter((one) => one !== id) : [...list, id];
}

/**
 * Listeners of a row that a press chooses. A mouse chooses when its button goes down: a click is lost where rows are
 * drawn anew before the button is up. A finger, which may have begun to scroll, a keyboard and a screen reader click.
 */
function onPress(act) {
  let done = false;
  return {
    onpointerdown: (event) => {
      done = event.pointerType === "mouse" && event.button === 0;
      if (done) act(event);
    },
    onclick: (event) => {
      if (!done || event.detail === 0) act(event);
      done = false;
    },
  };
}

/** What a saved page holds answers for, `players` and `modes`; undefined where a kernel answers. */
const heldBy = (model) => model.get("held");

/** Whether a region can be switched: with a kernel any, on a saved page those that its tables are about. */
const canSwitch = (model, live, id) => live.alive && (heldBy(model)?.players.includes(id) ?? true);

/** Regions switched off after turning one over; unchanged when that would be the last one on. */
function offAfter(model, id) {
  const next = toggled(model.get("off"), id);
  return model.get("all").some((one) => !next.includes(one)) ? next : model.get("off");
}

const typing = (target) => target.closest?.("input, textarea, select, [contenteditable=true]") !== null;

/**
 * Plain keys pressed inside belong to the part and not to the notebook; those with Ctrl stay the notebook's, except Z
 * where there is an undo. JupyterLab matches its shortcuts from the focused element outwards, before anyone else
 * listens, so that element has to refuse them.
 */
function ownKeys(el, inside = (event) => el.contains(event.target)) {
  const guard = (event) =>
    inside(event) &&
    event.target.toggleAttribute(
      "data-lm-suppress-shortcuts",
      !(event.ctrlKey || event.metaKey) || (event.key.toLowerCase() === "z" && el.closest(".cw-explorer") !== null),
    );
  window.addEventListener("keydown", guard, true);
  return () => window.removeEventListener("keydown", guard, true);
}

/**
 * Keys of a part, wherever in its explorer the focus is; `handle(event, chord)` says whether the key was its own. Where
 * several runs are side by side, the pane with the focus answers, else the first. `chord` is the key that a two-key
 * command began with.
 * A part that listens `on` the window comes after the others.
 */
function explorerKeys(el, handle, on = document) {
  const inside = (event) => {
    const root = el.closest(".cw-explorer") ?? el,
      pane = el.closest(".cw-pane"),
      where = event.target.closest?.(".cw-pane");
    if (!root.contains(event.target)) return false;
    return !pane || pane === (where ?? root.querySelector(".cw-pane"));
  };
  const listen = (event) => {
    if (event.defaultPrevented || !inside(event) || typing(event.target)) return;
    const pressed = event.target.closest?.("button, a") && (event.key === " " || event.key === "Enter");
    if (!pressed && handle(event, (el.closest(".cw-explorer") ?? el).dataset.chord)) event.preventDefault();
  };
  const free = ownKeys(el, inside);
  on.addEventListener("keydown", listen);
  return () => {
    free();
    on.removeEventListener("keydown", listen);
  };
}

/** Bytes of a trait as an array. */
function bytes(model, name) {
  const view = model.get(name);
  return view?.byteLength ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array();
}

const CIVIDIS = [
  [0, 34, 78],
  [33, 58, 110],
  [76, 85, 109],
  [108, 110, 114],
  [142, 137, 120],
  [180, 165, 111],
  [220, 197, 91],
  [254, 232, 56],
];

/**
 * One of n square pictures in `all` (n, side, side) as an address: grey, or mask probability in cividis with `clear` as
 * its opacity.
 */
function pictureOf(all, number, side, cividis = false, clear = null) {
  const canvas = document.createElement("canvas"),
    image = new ImageData(side, side);
  canvas.width = canvas.height = side;
  for (let at = 0; at < side * side; at++) {
    const value = all[number * side * side + at] ?? 0,
      place = (value / 255) * (CIVIDIS.length - 1),
      low = Math.min(CIVIDIS.length - 2, Math.floor(place));
    const colour = cividis
      ? CIVIDIS[low].map((part, n) => part + (CIVIDIS[low + 1][n] - part) * (place - low))
      : [value, value, value];
    image.data.set([...colour, clear === null ? 255 : clear * value], 4 * at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.toDataURL();
}

/** Pictures of `pictureOf`, made once each until the bytes change. */
function pictures(model, name, side, ...how) {
  let from = null,
    made = {};
  return (number) => {
    if (model.get(name) !== from) [from, made] = [model.get(name), {}];
    return (made[number] ??= pictureOf(bytes(model, name), number, side, ...how));
  };
}

/** Average ranks, 1 for the smallest. */
function ranksOf(values) {
  return values.map(
    (value) =>
      values.filter((other) => other < value).length + (values.filter((other) => other === value).length + 1) / 2,
  );
}

const signed = (value, digits = 2) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);

/** Digits after the point that tell numbers up to `most` apart. */
const digitsFor = (most) => (most > 0 ? Math.min(5, Math.max(2, 1 - Math.floor(Math.log10(most)))) : 2);

/** A signed number beside others up to `most`, in powers of ten where digits after the point would show none. */
const signedFigure = (value, most = Math.abs(value)) =>
  most > 0 && most < 1e-4
    ? (value < 0 ? "−" : "+") + Math.abs(value).toExponential(1).replace("e-", "e−")
    : signed(value, digitsFor(most));

/** A bar to the left or the right of a middle line. */
function signedBar(value, end, hollow = false) {
  const share = end ? (50 * Math.min(1, Math.abs(value) / end)).toFixed(1) : 0,
    colour = value < 0 ? "--cw-negative" : "--cw-positive";
  return h(
    "span",
    { class: "cw-bar cw-middle" },
    h("span", {
      class: "cw-fill" + (hollow ? " hollow" : ""),
      style: `--cw-fill:var(${colour});width:${share}%;margin-left:${value < 0 ? 50 - share : 50}%`,
    }),
  );
}
