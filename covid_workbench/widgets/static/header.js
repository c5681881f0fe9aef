// What is open, and what can be done with the view as a whole: step, undo, reset, save, link, help.
const HELP = [
  ["select", "click a box, row or pill; ↑ ↓; digits: the rank; Shift for several, Shift-drag a lasso"],
  ["switch off, on", "the row's switch; double-click the box; Space; Shift Space: only this one"],
  ["move in the order", "drag the row; Alt ↑ ↓"],
  ["order, β", "buttons; o then d c r h n v (distance, confidence, raster, Hilbert, random, reversed); − +"],
  ["window", "right-drag or Alt-drag on the slice; Alt 1–4"],
  ["zoom, pan", "Ctrl-wheel, drag; Z, Shift Z, Ctrl arrows; F or double-click: all of it"],
  ["layers", "B boxes, N numbers, D distance, T truth, M masks"],
  ["slices", "[ ] slice, { } patient, w W next and last wrong, j k next and last disagreement of runs"],
  ["mark slices", "S the open one; marked slices are kept beside the run under a name"],
  ["undo, reset", "Ctrl Z, Ctrl Shift Z; Esc: first the selection, then the what-if"],
  ["this sheet", "?"],
];

async function download(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** An SVG drawn twice as large into a PNG. */
async function rastered(svg) {
  const image = new Image();
  image.src = `data:image/svg+xml;base64,${btoa(unescape(encodeURIComponent(svg)))}`;
  await image.decode();
  const canvas = h("canvas", { width: 2 * image.naturalWidth, height: 2 * image.naturalHeight });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function render({ model, el }) {
  el.classList.add("cw");
  const noun = model.get("noun"),
    bar = h("div", { class: "cw-header" }),
    told = h("div", { class: "cw-note cw-message", role: "status" }),
    sheet = h(
      "div",
      { class: "cw-help", hidden: true },
      h(
        "dl",
        {},
        ...(model.get("key_sheet").length ? model.get("key_sheet") : HELP).flatMap(([what, how]) => [
          h("dt", { text: what }),
          h("dd", { text: how }),
        ]),
      ),
      h("p", {
        class: "cw-note",
        text:
          model.get("key_note") ??
          "Keys act while the explorer has the focus. Attention is where the model looked, not why it decided. " +
            "Research software, not a medical device.",
      }),
    );
  el.append(bar, told, sheet);
  const root = () => el.closest(".cw-explorer") ?? el,
    step = (forward) => el.dispatchEvent(new CustomEvent("cw-step", { detail: forward, bubbles: true })),
    say = (words) => {
      told.textContent = words;
    };
  const act = (what, more = {}) =>
    live.alive ? model.send({ act: what, ...more }) : say(live.words || "The kernel has not answered yet.");
  const draw = () =>
    keepFocus(bar, () => {
      const dirty = model.get("dirty"),
        [reset, back] = model.get("reset_words") ?? ["Reset what-if Esc", "the run as evaluated"],
        button = (key, text, title, onclick, more = {}) =>
          h("button", { class: "cw-button", "data-key": key, title, text, onclick, ...more });
      bar.replaceChildren(
        ...model
          .get("runs")
          .map((name, number) =>
            h(
              "span",
              { class: "cw-run" },
              model.get("runs").length > 1 ? h("b", { class: "cw-letter", text: "ABC"[number] }) : "",
              h("b", { text: name[0] }),
              h("span", { class: "cw-soft", text: ` ${name[1]}` }),
            ),
          ),
        model.get("where") === null
          ? "" // a part that has its own
          : h(
              "span",
              { class: "cw-group" },
              button("back", "‹", `the ${noun} before, [`, () => step(-1), { "aria-label": `the ${noun} before` }),
              h("b", { class: "cw-where", text: model.get("where") }),
              button("on", "›", `the next ${noun}, ]`, () => step(1), { "aria-label": `the next ${noun}` }),
            ),
        h("span", { class: "cw-grow" }),
        button("undo", "↶ Undo", "Ctrl Z", () => act("undo"), { disabled: !model.get("can_undo") || !live.alive }),
        button("redo", "↷", "Ctrl Shift Z", () => act("redo"), {
          disabled: !model.get("can_redo") || !live.alive,
          "aria-label": "redo",
        }),
        button("reset", dirty ? reset : "Reset", back, () => act("reset"), {
          disabled: !dirty || !live.alive,
          class: "cw-button" + (dirty ? " cw-strong" : ""),
        }),
        h(
          "select",
          {
            class: "cw-select",
            "data-key": "save",
            "aria-label": "save the view as",
            disabled: !live.alive,
            onchange: (event) => {
              act("save", { as: event.target.value });
              event.target.value = "";
              say("Saving …");
            },
          },
          h("option", { value: "", text: "Save as" }),
          ...Object.entries({ html: "HTML page of this view", png: "PNG figure", svg: "SVG figure" }).map(
            ([one, text]) => h("option", { value: one, text }),
          ),
        ),
        button("link", "Copy link", "an address that opens this view in this notebook", () => links.copy()),
        button(
          "help",
          "?",
          "keys",
          () => {
            sheet.hidden = !sheet.hidden;
          },
          { "aria-expanded": !sheet.hidden, "aria-label": "keys" },
        ),
      );
    });
  const hear = async (message) => {
    if (message?.message !== undefined) say(message.message);
    if (!message?.save) return;
    await download(
      message.save,
      message.save.endsWith(".png") ? await rastered(message.text) : message.text,
      { svg: "image/svg+xml", html: "text/html", png: "image/png" }[message.save.split(".").at(-1)],
    );
    say(`${message.save} is in your downloads.`);
  };
  const live = connection(model, () => {
    draw();
    if (live.words) say(live.words);
    else if ([BUSY, SILENT].includes(told.textContent)) say(""); // taken back when the kernel is there
  });
  model.on("msg:custom", hear);
  const links = viewLinks(model, el, live, say);
  const keys = (event, chord) => {
    if (chord) return false;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") act(event.shiftKey ? "redo" : "undo");
    else if (event.ctrlKey || event.metaKey || event.altKey) return false;
    else if (event.key === "?") {
      sheet.hidden = !sheet.hidden;
      draw();
    } else if (event.key === "Escape" && !sheet.hidden) sheet.hidden = true;
    else if (event.key === "Escape" && model.get("dirty")) act("reset");
    else return false;
    return true;
  };
  const stops = [
    live.stop,
    links.stop,
    explorerKeys(el, keys, window),
    onChange(model, ["runs", "where", "dirty", "can_undo", "can_redo"], draw),
    () => model.off("msg:custom", hear),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
