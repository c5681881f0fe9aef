// What is known of a slice, and how far the runs have come that answer slices in the background.

/** right, wrong, unjudged (an answer without a label that it could be held against), or unknown (no answer yet). */
function judgement(one) {
  if (one.said[0] === undefined) return "unknown";
  if (!one.label || one.judged === false) return "unjudged";
  return one.said[0] === one.label ? "right" : "wrong";
}

const JUDGED = { right: "right", wrong: "wrong", unjudged: "no known label", unknown: "not answered" };

/** The key of the colours that `slices` need. */
function judgementKey(slices) {
  const there = new Set(slices.map(judgement));
  return h(
    "span",
    { class: "cw-key" },
    ...Object.entries(JUDGED)
      .filter(([name]) => there.has(name) || name === "right" || name === "wrong")
      .map(([name, words]) => h("span", {}, h("i", { class: `cw-swatch ${name}` }), ` ${words} `)),
    there.size > 1 || !there.has("unknown") ? h("span", { text: "height: p" }) : "",
  );
}

/** A line that says how many slices are answered, with a button to stop and to go on; nothing where all were known. */
function answeringLine(model, live) {
  const { done, total, failed, state, why } = model.get("answering") ?? {};
  if (!total) return "";
  const left = total - done - failed,
    working = state === "working",
    noun = model.get("noun");
  const lost = failed ? `, ${failed} cannot be read` : "",
    words =
      state === "done"
        ? `${done} ${noun}s answered here${lost}`
        : `${done} of ${total} ${noun}s answered${lost}${working ? "" : left ? ", stopped" : ""}`;
  const button = (text, act, title) =>
    h("button", { class: "cw-button", text, title, "data-key": "answering", onclick: () => model.send({ act }) });
  return h(
    "div",
    { class: "cw-answering", title: why || null },
    state === "done" ? "" : h("progress", { max: total, value: done + failed, "aria-label": `${noun}s answered` }),
    h("span", { class: "cw-small", role: "status", text: words }),
    live.alive && working ? button("stop", "stop", `answer no other ${noun} in the background`) : "",
    live.alive && !working && left ? button("go on", "go on", `answer the other ${left} in the background`) : "",
  );
}
