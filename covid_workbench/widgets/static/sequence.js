// What the two lists of a sequence share, that of regions and that of slices: the choice of an order, the head of the
// effects, a row's switch, what off means, and rows that are dragged to another rank.

/** Radio buttons for the orders of a sequence. `keys`: letter -> order; `titles`: order -> its name for people. */
function orderChoice(model, { label, keys, titles, still, ask }) {
  const order = model.get("order"),
    names = [...model.get("orders"), ...(order === "custom" ? ["custom"] : [])];
  return h(
    "span",
    { class: "cw-group cw-joined", role: "radiogroup", "aria-label": label },
    ...names.map((name) => {
      const letter = Object.keys(keys).find((one) => keys[one] === name);
      return h("button", {
        class: "cw-button",
        role: "radio",
        "aria-checked": order === name,
        "data-order": name,
        "data-key": `order-${name}`,
        disabled: still,
        title: letter ? `o then ${letter}` : null,
        text: titles[name] ?? name,
        onclick: () => name !== "custom" && ask(name),
      });
    }),
  );
}

/** The head of the column of effects, with the choice of their class. */
function effectHead(model, still, title) {
  const chosen = model.get("effect_class"),
    classes = model.get("classes");
  return h(
    "span",
    { role: "columnheader", title },
    "effect on ",
    still || !classes.length
      ? chosen
      : h(
          "select",
          {
            class: "cw-select",
            "data-key": "class",
            "aria-label": "class of the effect",
            onchange: (event) => put(model, { effect_class: event.target.value }),
          },
          ...classes.map((name) => h("option", { value: name, text: name, selected: name === chosen })),
        ),
  );
}

/** The switch of a row of `what`; the `last` one on stays on. Readers hear `name`, and that it is on or off. */
function rowSwitch(what, name, { isOff, last, still, flip }, attributes) {
  const own = (act) => (event) => {
    event.stopPropagation(); // the row is not chosen
    act(event);
  };
  const { onpointerdown, onclick } = onPress(flip);
  return h("button", {
    class: "cw-switch",
    role: "switch",
    "aria-checked": !isOff,
    "aria-label": `${what} ${name}`,
    disabled: last || still,
    title: last
      ? `the last ${what} stays on`
      : still
        ? "needs the running notebook"
        : isOff
          ? "switch on"
          : "switch off",
    onpointerdown: own(onpointerdown),
    onclick: own(onclick),
    ...attributes,
  });
}

/** What off means, to choose. `help`: mode -> words; `words` follow the choice. */
function offChoice(model, help, still, words) {
  const mode = model.get("off_mode"),
    held = heldBy(model)?.modes,
    modes = Object.keys(help).filter((one) => !held || one === mode || held.includes(one));
  return h(
    "label",
    { class: "cw-group", title: help[mode] },
    "off means ",
    h(
      "select",
      {
        class: "cw-select",
        "data-off-mode": true,
        "data-key": "mode",
        disabled: still,
        onchange: (event) => put(model, { off_mode: event.target.value }),
      },
      ...modes.map((one) => h("option", { value: one, text: one, title: help[one], selected: one === mode })),
    ),
    ` ${words}`,
  );
}

/**
 * Rows with `data-movable` that are dragged to another rank: a mouse takes them anywhere, a finger, which may want to
 * scroll, by the grip. `rankOf(row)` counts from 0, `move(from, to)` hears where one was dropped; Escape lets go.
 */
function draggedRows(rows, rowAt, rankOf, move) {
  let drag = null; // of which pointer, from which rank, and where it was pressed
  const under = ({ clientX, clientY }) => {
    const target = document.elementFromPoint(clientX, clientY),
      row = rows.contains(target) ? rowAt({ target }) : null;
    return row && rankOf(row) >= 0 ? row : null;
  };
  const show = (row) => {
    rows.querySelector(".drop")?.classList.remove("drop");
    row?.classList.add("drop");
  };
  const end = () => {
    if (drag?.moved && rows.hasPointerCapture(drag.pointer)) rows.releasePointerCapture(drag.pointer);
    drag = null;
    show(null);
    rows.classList.remove("dragging");
    window.removeEventListener("keydown", letGo, true);
  };
  const letGo = (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopImmediatePropagation();
    end();
  };
  rows.addEventListener("pointerdown", (event) => {
    const row = rowAt(event),
      held = event.pointerType === "mouse" ? !event.target.closest("button, select") : event.target.closest(".cw-grip");
    if (drag || event.button !== 0 || !held || !row?.hasAttribute("data-movable")) return;
    drag = { pointer: event.pointerId, from: rankOf(row), x: event.clientX, y: event.clientY, moved: false };
  });
  rows.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drag?.pointer) return;
    if (event.pointerType === "mouse" && !(event.buttons & 1)) return end(); // let go elsewhere
    if (!drag.moved) {
      if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 5) return;
      drag.moved = true;
      rows.setPointerCapture(event.pointerId);
      rows.classList.add("dragging");
      window.addEventListener("keydown", letGo, true);
    }
    const { top, bottom } = rows.getBoundingClientRect();
    if (event.clientY < top + 20) rows.scrollTop -= 10;
    else if (event.clientY > bottom - 20) rows.scrollTop += 10;
    show(under(event));
  });
  rows.addEventListener("pointerup", (event) => {
    if (event.pointerId !== drag?.pointer) return;
    const { from, moved } = drag,
      row = moved && under(event);
    end();
    if (row && rankOf(row) !== from) move(from, rankOf(row));
  });
  rows.addEventListener("pointercancel", (event) => event.pointerId === drag?.pointer && end());
}

/** The letter `o` begins a command of two keys. */
function beginOrder(root) {
  root.dataset.chord = "o";
  setTimeout(() => delete root.dataset.chord, 1500);
}
