// Slices that the reader marks, and selections kept beside the run: a filter of the list, and a way to keep one.

/** Ids that the filter leaves by marks or by a selection; null where it asks for neither. */
function amongOf(model) {
  const among = model.get("filter").among ?? "";
  if (among === "marked") return new Set(model.get("marked"));
  if (!among.startsWith("in:")) return null;
  return new Set(model.get("selections").find(({ name }) => `in:${name}` === among)?.slices ?? []);
}

/** A number of slices as a choice of the menu says it. */
const countedSlices = ({ slices, gone }) => `(${slices.length}${gone ? `, ${gone} not here` : ""})`;

/**
 * The tools of marking. `live`: the connection; `listed()`: the slices that the filter leaves; `choose(among)` filters
 * the list. Returns the `element`, `draw`, and `flip`, which marks the open slice or takes its mark away.
 */
function marking(model, live, { listed, choose }) {
  const bar = h("div", { class: "cw-group" }),
    menu = h("div", { class: "cw-group cw-among" }),
    name = h("input", { type: "text", class: "cw-search", maxlength: 80, "aria-label": "name of the selection" }),
    note = h("textarea", { class: "cw-search", rows: 2, "aria-label": "note on the selection" }),
    keep = h("button", { class: "cw-button", "data-key": "keep", text: "Keep" }),
    told = h("div", { class: "cw-note", role: "status" }),
    form = h("details", { class: "cw-keep" }, h("summary", { text: "Keep the marked slices" }), name, note, keep),
    element = h("div", { class: "cw-marks", hidden: !model.get("markable") }, bar, menu, form, told);
  name.placeholder = "name, such as: edge of the lung";
  note.placeholder = "note: what is to be seen";
  const mark = (marked) => put(model, { marked: [...new Set(marked)] });
  const flip = () => model.get("slice") && mark(toggled(model.get("marked"), model.get("slice")));
  const say = (words) => (told.textContent = words);
  keep.addEventListener("click", () => {
    if (!live.alive) return say("No kernel answers: run the cell again to keep a selection.");
    model.send({ keep: { name: name.value, note: note.value, slices: model.get("marked") } });
  });
  const drawBar = () => {
    const marked = model.get("marked"),
      isMarked = marked.includes(model.get("slice")),
      left = listed().map(({ id }) => id),
      more = left.filter((id) => !marked.includes(id)).length;
    const button = (key, text, title, onclick, more = {}) =>
      h("button", { class: "cw-button", "data-key": key, text, title, onclick, ...more });
    bar.replaceChildren(
      button("mark", isMarked ? "★ Marked" : "☆ Mark", "the open slice, S", flip, { "aria-pressed": isMarked }),
      button(
        "mark-listed",
        "all listed",
        `mark the ${left.length} slices of this list`,
        () => mark([...marked, ...left]),
        {
          disabled: !more,
          "aria-label": "mark all listed",
        },
      ),
      button("unmark", "none", "take all marks away", () => mark([]), {
        disabled: !marked.length,
        "aria-label": "take all marks away",
      }),
      h("span", { class: "cw-soft cw-marked-count", text: marked.length ? `${marked.length} marked` : "" }),
    );
    form.hidden = !marked.length;
  };
  const drawMenu = () => {
    const among = model.get("filter").among ?? "",
      selections = model.get("selections"),
      open = selections.find((one) => `in:${one.name}` === among),
      choice = (value, text) => h("option", { value, text, selected: value === among });
    menu.replaceChildren(
      h(
        "select",
        {
          class: "cw-select",
          "data-key": "among",
          "aria-label": "among which slices",
          onchange: (event) => choose(event.target.value),
        },
        choice("", "every slice"),
        choice("marked", `marked (${model.get("marked").length})`),
        ...selections.map((one) => choice(`in:${one.name}`, `${one.name} ${countedSlices(one)}`)),
      ),
      open
        ? h("button", {
            class: "cw-button",
            "data-key": "change",
            text: "change",
            title: "its slices become the marked ones, to add to and to keep again",
            disabled: !live.alive,
            onclick: () => model.send({ change: open.name }),
          })
        : "",
      open?.note ? h("span", { class: "cw-note", text: open.note }) : "",
    );
  };
  const draw = () =>
    keepFocus(element, () => {
      element.hidden = !model.get("markable");
      drawBar();
      drawMenu();
    });
  const hear = (message) => {
    if (message?.marks !== undefined) say(message.marks);
    if (message?.fields) {
      [name.value, note.value] = [message.fields.name, message.fields.note];
      form.open = true;
    }
  };
  const look = () => live.alive && model.get("markable") && model.send({ look: true }); // others may have kept some
  model.on("msg:custom", hear);
  element.addEventListener("pointerenter", look);
  return { element, draw, flip, stop: () => model.off("msg:custom", hear) };
}
