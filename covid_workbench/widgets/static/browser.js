// All slices at a glance: one line a patient, one bar a slice, as high as the model is sure, dark where it is wrong.
const ROW = 46;

/** The slices that a filter leaves, in the order asked for; `among`: a set of ids, or null for any. */
function filtered(slices, filter, order, among = null) {
  const text = (filter.text ?? "").trim().toLowerCase(),
    wrong = (one) => judgement(one) === "wrong";
  const fits =
    {
      right: (one) => judgement(one) === "right",
      wrong: (one) => wrong(one),
      disagree: (one) => new Set(one.said).size > 1,
    }[filter.kind] ??
    (filter.kind?.startsWith("pattern:")
      ? (one) =>
          one.label &&
          one.judged !== false &&
          `pattern:${one.said.map((said) => (said === one.label ? "1" : "0")).join("")}` === filter.kind
      : () => true);
  const left = slices.filter(
    (one) =>
      fits(one) &&
      (!among || among.has(one.id)) &&
      (!filter.label || one.label === filter.label) &&
      (!text || `${one.id} ${one.patient}`.toLowerCase().includes(text)) &&
      (one.p === null || (one.p >= (filter.low ?? 0) && one.p <= (filter.high ?? 1))),
  );
  if (order === "least sure first") return [...left].sort((a, b) => (a.p ?? 1) - (b.p ?? 1));
  if (order === "most wrong first") {
    const count = {};
    for (const one of left) count[one.patient] = (count[one.patient] ?? 0) + (wrong(one) ? 1 : 0);
    return left
      .map((one, at) => [one, at])
      .sort(([a, i], [b, j]) => count[b.patient] - count[a.patient] || i - j)
      .map(([one]) => one);
  }
  return left;
}

/** The slices that were picked elsewhere; all where none were. */
function picked(model) {
  const ids = model.get("picked");
  if (!ids) return model.get("slices");
  const wanted = new Set(ids);
  return model.get("slices").filter(({ id }) => wanted.has(id));
}

/** A button that shows all slices again, with what was picked. */
function unpick(model) {
  return h("button", {
    class: "cw-button",
    "data-key": "unpick",
    "data-unpick": "",
    title: "show all slices again",
    text: `${model.get("picked_words")} ✕`,
    onclick: () => put(model, { picked: null, picked_words: "" }),
  });
}

function render({ model, el }) {
  el.classList.add("cw");
  let left = [],
    patients = [];
  const tools = h("div", { class: "cw-tools" }),
    count = h("div", { class: "cw-note cw-count" }),
    view = h("div", {
      class: "cw-patients",
      tabindex: 0,
      role: "listbox",
      "aria-label": `${model.get("noun")}s by patient`,
      "data-key": "patients",
    }),
    space = h("div", { class: "cw-space" }),
    live = connection(model, () => {
      marks.draw();
      opening();
      drawAnswering();
    }),
    marks = marking(model, live, { listed: () => left, choose: (among) => set({ among }) }),
    answering = h("div", {}),
    key = h("span", {});
  view.append(space);
  el.append(
    h(
      "div",
      { class: "cw-card cw-browser" },
      h("div", { class: "cw-tools" }, tools, marks.element),
      count,
      answering,
      view,
      h(
        "div",
        { class: "cw-note" },
        key,
        h("span", { text: `[ ] ${model.get("noun")}, { } patient, w next wrong, j disagreement` }),
      ),
    ),
  );
  const wrong = (one) => judgement(one) === "wrong",
    drawAnswering = () => keepFocus(answering, () => answering.replaceChildren(answeringLine(model, live)));
  /** What is shown is dim while it is not what the list and the reader have chosen. */
  const opening = () => {
    const root = el.closest(".cw-explorer") ?? el,
      waits = live.alive && Boolean(model.get("opened")) && model.get("opened") !== model.get("slice");
    root.toggleAttribute("data-opening", waits);
    root.setAttribute("aria-busy", waits);
  };
  const titleOf = (one) => {
    const label = one.label ? `, labelled ${one.label}` : "",
      said = one.said[0] ? `, ${one.said[0]} ${one.p?.toFixed(2)}` : "";
    return one.id + label + (said || ", not answered") + (wrong(one) ? " ✗" : "");
  };
  // without a kernel there is no other slice to show
  const go = (slice) => {
    if (live.alive) put(model, { slice });
  };
  const set = (changes) => put(model, { filter: { ...model.get("filter"), ...changes } });
  const drawTools = () =>
    keepFocus(tools, () => {
      const slices = model.get("slices"),
        filter = model.get("filter"),
        labels = [...new Set(slices.map(({ label }) => label))].filter(Boolean).sort(),
        known = slices.some(({ said }) => said.length),
        labelled = labels.length > 0,
        runs = Math.max(0, ...slices.map(({ said }) => said.length));
      const kinds = ["all", "right", "wrong", ...(runs > 1 ? ["disagree"] : [])],
        numbers = {
          wrong: filtered(picked(model), { ...filter, kind: "wrong" }, "", amongOf(model)).length,
          disagree: filtered(picked(model), { ...filter, kind: "disagree" }, "", amongOf(model)).length,
        };
      const stacked = ["unjudged", "right", "wrong"],
        bins = Array.from({ length: 16 }, () => [0, 0, 0]);
      for (const one of slices)
        if (one.p !== null) bins[Math.min(15, Math.floor(one.p * 16))][stacked.indexOf(judgement(one))]++;
      const most = Math.max(1, ...bins.map(([a, b, c]) => a + b + c)),
        range = (name, value) =>
          h("input", {
            type: "range",
            min: 0,
            max: 1,
            step: 0.01,
            value,
            "data-key": name,
            "aria-label": `${name === "low" ? "least" : "most"} confidence`,
            onchange: (event) =>
              set(
                name === "low"
                  ? { low: Math.min(Number(event.target.value), filter.high ?? 1) }
                  : { high: Math.max(Number(event.target.value), filter.low ?? 0) },
              ),
          });
      tools.replaceChildren(
        h("input", {
          type: "search",
          class: "cw-search",
          placeholder: `patient or ${model.get("noun")}`,
          value: filter.text ?? "",
          "data-key": "search",
          "aria-label": `find a patient or ${model.get("noun")}`,
          oninput: (event) => set({ text: event.target.value }),
        }),
        h(
          "span",
          { class: "cw-group" },
          h(
            "select",
            {
              class: "cw-select",
              "data-key": "label",
              "aria-label": "class",
              disabled: !labelled,
              onchange: (event) => set({ label: event.target.value }),
            },
            h("option", { value: "", text: "every class" }),
            ...labels.map((name) => h("option", { value: name, text: name, selected: filter.label === name })),
          ),
          h(
            "select",
            {
              class: "cw-select",
              "data-key": "order",
              "aria-label": "order",
              onchange: (event) => put(model, { browser_order: event.target.value }),
            },
            ...["as stored", "least sure first", "most wrong first"].map((one) =>
              h("option", { value: one, text: one, selected: one === model.get("browser_order") }),
            ),
          ),
        ),
        h(
          "span",
          { class: "cw-group cw-joined", role: "radiogroup", "aria-label": `which ${model.get("noun")}s` },
          ...kinds.map((kind) =>
            h("button", {
              class: "cw-button",
              role: "radio",
              "aria-checked": (filter.kind ?? "all") === kind,
              "data-key": `kind-${kind}`,
              "data-kind": kind,
              disabled: kind !== "all" && (!known || (!labelled && kind !== "disagree")),
              title: known ? null : `the run has no predictions for these ${model.get("noun")}s`,
              text: kind + (numbers[kind] ? ` ${numbers[kind]}` : ""),
              onclick: () => set({ kind }),
            }),
          ),
        ),
        known
          ? h(
              "div",
              { class: "cw-hist" },
              h("span", {
                class: "cw-soft cw-small",
                text: `confidence ${(filter.low ?? 0).toFixed(2)} – ${(filter.high ?? 1).toFixed(2)}`,
              }),
              h(
                "svg",
                { viewBox: "0 0 160 30", preserveAspectRatio: "none", "aria-hidden": "true" },
                ...bins.flatMap((counts, n) =>
                  counts.map((count, at) =>
                    count === 0
                      ? null
                      : h("rect", {
                          x: n * 10 + 0.5,
                          width: 9,
                          y: 30 - (28 * counts.slice(at).reduce((sum, one) => sum + one, 0)) / most,
                          height: (28 * count) / most,
                          class: `cw-${stacked[at]}`,
                        }),
                  ),
                ),
              ),
              h("span", { class: "cw-ranges" }, range("low", filter.low ?? 0), range("high", filter.high ?? 1)),
            )
          : "",
      );
    });
  const sift = () => {
    left = filtered(picked(model), model.get("filter"), model.get("browser_order"), amongOf(model));
    const byPatient = new Map();
    for (const one of left) {
      if (!byPatient.has(one.patient)) byPatient.set(one.patient, []);
      byPatient.get(one.patient).push(one);
    }
    patients = [...byPatient];
    const slices = model.get("slices"),
      noun = model.get("noun");
    const of_all = left.length < slices.length ? ` of ${slices.length}` : "";
    count.textContent = left.length
      ? `${left.length}${of_all} ${noun}s, ${patients.length} patients`
      : `No ${noun} is left by this filter.`;
    if (model.get("picked")) count.append(unpick(model));
    space.style.height = `${patients.length * ROW}px`;
    marks.draw();
    drawRows();
  };
  const drawRows = () => {
    // only the patients that can be seen exist
    const from = Math.max(0, Math.floor(view.scrollTop / ROW) - 2),
      to = Math.min(patients.length, Math.ceil((view.scrollTop + (view.clientHeight || 400)) / ROW) + 2),
      now = model.get("slice"),
      marked = new Set(model.get("marked"));
    space.replaceChildren(
      ...patients.slice(from, to).map(([patient, own], number) => {
        const labels = [...new Set(own.map(({ label }) => label))].filter(Boolean),
          bad = own.filter(wrong).length;
        return h(
          "div",
          {
            class: "cw-patient" + (own.some(({ id }) => id === now) ? " chosen" : ""),
            style: `top:${(from + number) * ROW}px`,
            "data-patient": patient,
          },
          h(
            "div",
            {},
            h("b", { text: patient }),
            h("span", {
              class: "cw-soft",
              text: (labels.length > 1 ? "several classes" : (labels[0] ?? "no label")) + (bad ? `, ${bad} wrong` : ""),
            }),
          ),
          h(
            "div",
            { class: "cw-bars" },
            ...own.map((one) =>
              h(
                "span",
                {
                  class:
                    `cw-slice ${judgement(one)}` +
                    (one.id === now ? " now" : "") +
                    (marked.has(one.id) ? " marked" : ""),
                  role: "option",
                  "aria-selected": one.id === now,
                  "data-slice": one.id,
                  title: titleOf(one) + (marked.has(one.id) ? ", marked" : ""),
                  ...onPress(() => go(one.id)),
                },
                h("i", { style: `height:${one.p === null ? 50 : 10 + 90 * one.p}%` }),
              ),
            ),
          ),
        );
      }),
    );
  };
  const reveal = () => {
    const row = patients.findIndex(([, own]) => own.some(({ id }) => id === model.get("slice")));
    if (row >= 0 && (row * ROW < view.scrollTop || (row + 1) * ROW > view.scrollTop + view.clientHeight))
      view.scrollTop = row * ROW - view.clientHeight / 2;
    drawRows();
  };
  /** The next slice of those left that `fits`, in either direction, around the end. */
  const step = (forward, fits = () => true) => {
    const order = patients.flatMap(([, own]) => own),
      at = order.findIndex(({ id }) => id === model.get("slice"));
    for (let n = 1; n <= order.length; n++) {
      const one =
        order[((((at < 0 ? (forward > 0 ? -1 : 0) : at) + n * forward) % order.length) + order.length) % order.length];
      if (fits(one)) return go(one.id);
    }
  };
  const patient = (forward) => {
    const at = patients.findIndex(([, own]) => own.some(({ id }) => id === model.get("slice"))),
      next = patients[(at + forward + patients.length) % patients.length];
    if (next) go(next[1][0].id);
  };
  const keys = (event, chord) => {
    if (chord || event.ctrlKey || event.metaKey || event.altKey) return false;
    const act = {
      "[": () => step(-1),
      "]": () => step(1),
      "{": () => patient(-1),
      "}": () => patient(1),
      w: () => step(1, wrong),
      W: () => step(-1, wrong),
      j: () => step(1, ({ said }) => new Set(said).size > 1),
      k: () => step(-1, ({ said }) => new Set(said).size > 1),
      ...(model.get("markable") ? { s: marks.flip } : {}),
    }[event.key];
    act?.();
    return Boolean(act);
  };
  const stepped = (event) => (el.closest(".cw-explorer") ?? el).contains(event.target) && step(event.detail);
  document.addEventListener("cw-step", stepped);
  view.addEventListener("scroll", drawRows);
  // answers arrive while the reader presses: what is pressed must not be drawn anew before it is let go
  let pressed = false,
    late = false;
  const redraw = () => {
    late = pressed;
    if (pressed) return;
    drawTools();
    sift();
  };
  const released = () =>
    setTimeout(() => {
      pressed = false;
      if (late) redraw();
    });
  el.addEventListener("pointerdown", () => (pressed = true));
  document.addEventListener("pointerup", released);
  document.addEventListener("pointercancel", released);
  let seen = false;
  const watch = new ResizeObserver(() => {
    if (!seen && view.clientHeight) {
      seen = true;
      reveal();
    } else drawRows();
  });
  watch.observe(view);
  const stops = [
    live.stop,
    explorerKeys(el, keys),
    marks.stop,
    onChange(
      model,
      ["slices", "filter", "browser_order", "marked", "selections", "markable", "picked", "picked_words"],
      redraw,
    ),
    () => ["pointerup", "pointercancel"].forEach((name) => document.removeEventListener(name, released)),
    onChange(model, ["slice"], () => {
      marks.draw();
      reveal();
    }),
    onChange(model, ["answering"], drawAnswering),
    onChange(model, ["slices"], () => key.replaceChildren(judgementKey(model.get("slices")))),
    onChange(model, ["slice", "opened"], opening),
    () => watch.disconnect(),
    () => document.removeEventListener("cw-step", stepped),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
