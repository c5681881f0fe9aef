// A saved page: what the parts showed, with a stand-in for the kernel's side of their traits. Python puts common.js and
// answers.js before this.
const told = JSON.parse(document.getElementById("told").textContent);
if (matchMedia("(prefers-color-scheme: dark)").matches) document.body.classList.add("theme-dark");

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

async function inflated(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Traits of a part with their bytes as a kernel sends them; `all` are those of all parts. */
async function unpacked(traits, all) {
  const values = {};
  for (const [name, told] of Object.entries(traits)) {
    const value = told?.same === undefined ? told : all[told.same][name];
    const bytes = value?.deflate !== undefined ? await inflated(value.deflate) : value?.base64 && bytesOf(value.base64);
    values[name] = bytes === undefined ? value : new DataView((bytes || bytesOf("")).buffer);
  }
  return values;
}

/** The answers of a slice, with their numbers as arrays. */
async function opened(panes) {
  for (const { tables } of panes)
    for (const table of Object.values(tables ?? {}))
      for (const name of ["logits", "branches", "weights", "slots"])
        if (table[name]?.deflate) table[name] = new Uint16Array((await inflated(table[name].deflate)).buffer);
  return panes;
}

/** What parts ask before they let anything be changed: the regions and the modes that a table answers for. */
function heldOf({ tables }) {
  const modes = Object.keys(tables ?? {});
  return { modes, players: modes.length ? tables[modes[0]].players : [] };
}

function stand(values) {
  const heard = {},
    tell = (event, message) => [...(heard[event] ?? [])].forEach((run) => run(message));
  return {
    saved: true,
    get: (name) => values[name],
    on: (event, run) => (heard[event] ??= []).push(run),
    off: (event, run) => {
      heard[event] = (heard[event] ?? []).filter((one) => one !== run);
    },
    save_changes() {},
    send(message) {
      if (message?.open) open(slices.findIndex(({ name }) => name === message.open));
      if (message?.ready && values.held) queueMicrotask(() => tell("msg:custom", { alive: true }));
    },
    set(name, value) {
      const plain = !(value instanceof DataView);
      if (plain && JSON.stringify(values[name]) === JSON.stringify(value)) return;
      values[name] = value;
      tell(`change:${name}`);
    },
  };
}

let now = 0,
  busy = false;
const slices = told.slices ?? [],
  models = [];
const first = told.parts.map(({ traits }) => traits);
for (const traits of first) models.push(stand(await unpacked(traits, first)));
for (const [a, name, b, other] of told.links) {
  models[a].on(`change:${name}`, () => models[b].set(other, models[a].get(name)));
  models[b].on(`change:${other}`, () => models[a].set(name, models[b].get(other)));
}

const panes = (slices[0]?.panes ?? []).map((_, number) => ({
  answer: answering(models, () => slices[now].panes[number]),
}));
const holds = slices.some(({ panes }) => panes.some(({ tables }) => tables));

/** Say what is held of the slice that is open, and begin with a mode that a table answers for. */
function hold() {
  if (!holds) return;
  slices[now].panes.forEach((pane, number) => {
    const held = heldOf(pane);
    for (const part of ["canvas", "panel", "inspector", "orders"]) models[pane.parts[part]]?.set("held", held);
    const panel = models[pane.parts.panel];
    if (held.modes.length && !held.modes.includes(panel.get("off_mode")) && !panel.get("off").length) {
      panel.set("off_mode", held.modes[0]);
      panes[number].answer();
    }
  });
}

const panels = panes.map((_, number) => models[slices[0].panes[number].parts.panel]),
  difference = models[told.parts.findIndex(({ kind }) => kind === "DifferencePanel")];

let paired = {}; // region -> IoU of the regions paired in it, kept while one of them is off

/** What the runs side by side differ in, from the effects that their panels show. */
function compare() {
  if (panels.length < 2 || !difference) return;
  for (const { id, iou } of difference.get("rows")) if (iou !== null) paired[id] = iou;
  const runs = panels.map((panel) => ({ effects: panel.get("effects"), slots: panel.get("slots") }));
  difference.set("effect_class", panels[0].get("effect_class"));
  difference.set("rows", shareRows(runs, paired));
}

panels.forEach((panel, number) => {
  for (const name of ["off", "off_mode", "effect_class"])
    panel.on(`change:${name}`, () => {
      if (busy) return;
      busy = true;
      if (name === "effect_class") {
        for (const other of panels) other.set(name, panel.get(name)); // as with a kernel, of all runs
        for (const { answer } of panes) answer();
      } else panes[number].answer();
      compare();
      busy = false;
    });
});

const KEPT = ["layers", "color_by", "window", "level", "hu_window", "camera", "link", "branch", "iou"]; // the reader's

async function open(number) {
  if (!slices[number] || number === now) return;
  const parts = number ? slices[number].traits : first,
    traits = await Promise.all(parts.map((one) => unpacked(one, parts)));
  await opened(slices[number].panes);
  busy = true;
  [now, paired] = [number, {}];
  traits.forEach((values, part) => {
    for (const [name, value] of Object.entries(values)) if (!KEPT.includes(name)) models[part].set(name, value);
  });
  hold();
  busy = false;
  list();
}

/** The slices to choose from, where there are several. */
function list() {
  if (slices.length < 2) return;
  const nav = document.querySelector("nav"),
    groups = [...new Set(slices.map(({ group }) => group))];
  keepFocus(nav, () =>
    nav.replaceChildren(
      ...groups.map((group) =>
        h(
          "div",
          {},
          h("b", { text: group }),
          ...slices.flatMap(({ name, words, group: own }, number) =>
            own === group
              ? h("button", {
                  class: "cw-button",
                  "data-key": `open-${number}`,
                  "data-open": name,
                  "aria-pressed": number === now,
                  title: words,
                  text: name,
                  onclick: () => open(number),
                })
              : [],
          ),
        ),
      ),
      h("p", { class: "cw-words", text: slices[now].words }),
    ),
  );
}

await opened(slices[0]?.panes ?? []);
busy = true;
hold();
busy = false;
list();
document.addEventListener("keydown", (event) => {
  const step = { "[": -1, "]": 1 }[event.key];
  if (step && !typing(event.target)) open(now + step);
});

const modules = {};
for (const [kind, source] of Object.entries(told.modules))
  modules[kind] = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
told.parts.forEach(({ kind }, number) => {
  const el = document.querySelector(`[data-part="${number}"]`);
  modules[kind].default.render({ model: models[number], el });
});
