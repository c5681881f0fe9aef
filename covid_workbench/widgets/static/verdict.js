// The answer and how it arises: positive minus negative logits, then probabilities; before and after where something
// was changed.
/** The largest of 1, 2, 5, 10, ... up to `reach`. */
function roundBelow(reach) {
  const power = 10 ** Math.floor(Math.log10(reach));
  return Number(([5, 2, 1].find((one) => one * power <= reach * (1 + 1e-9)) * power).toPrecision(1));
}

/** The end of the logits' scale: it grows on a slice where it must, and what was before stays in its place. */
const reaches = new WeakMap();
function reachOf(before, numbers) {
  const reach = Math.max(1e-6, reaches.get(before) ?? 0, ...numbers.flat(2).map(Math.abs));
  reaches.set(before, reach);
  return reach;
}

/** An answer before and after a change, with digits that tell them apart; else what the logit changed by. */
function changeWords(classes, was, best, then, now, change) {
  const words = (digits) => [
    `${classes[was]} ${then[was].toFixed(digits)}`,
    `${classes[best]} ${now[best].toFixed(digits)}`,
  ];
  const digits = [2, 3, 4].find((one) => words(one)[0] !== words(one)[1]);
  if (digits) return words(digits).join(" → ");
  const shown = [2, 3, 4].find((one) => Number(Math.abs(change).toFixed(one))) ?? 6;
  return words(2).join(" → ") + (Math.abs(change) < 5e-7 ? ", unchanged" : `, logit ${signed(change, shown)}`);
}

function render({ model, el }) {
  el.classList.add("cw");
  const box = h("div", { class: "cw-verdict" }),
    said = h("div", { class: "cw-live", "aria-live": "polite" });
  el.append(box, said);
  const live = connection(model);
  const shares = (logits) => {
    if (model.get("link") === "sigmoid") return logits.map((value) => 1 / (1 + Math.exp(-value)));
    const powers = logits.map((value) => Math.exp(value - Math.max(...logits))),
      sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((value) => value / sum);
  };
  const draw = () =>
    keepFocus(el, () => {
      const { classes, logits, branches } = model.get("answer"),
        before = model.get("before"),
        truth = model.get("truth"),
        colours = model.get("colours");
      box.classList.toggle("cw-busy", model.get("busy"));
      if (!classes) {
        box.replaceChildren(h("p", { class: "cw-note cw-empty", text: model.get("note") }));
        return;
      }
      const changed = before.logits && before.logits.some((value, at) => value !== logits[at]),
        now = shares(logits),
        then = changed ? shares(before.logits) : now,
        topOf = (list) => list.indexOf(Math.max(...list));
      const best = topOf(logits),
        was = topOf(changed ? before.logits : logits),
        second = topOf(logits.map((value, at) => (at === best ? -Infinity : value)));
      const judged = (top) => (!truth ? "no label" : truth === classes[top] ? "✓ right" : "✗ wrong"),
        right = judged(best),
        asRead = judged(was) === right ? "" : `, before: ${judged(was)}`,
        margin = `margin ${signed(logits[best] - logits[second])} over ${classes[second]}`;
      const reach = reachOf(before, [branches, logits, before.branches ?? [], before.logits ?? []]),
        at = (value) => 100 + (92 * value) / reach,
        tick = roundBelow(reach);
      const diamond = (value, kind) => h("path", { d: `M${at(value)} 2l5 6l-5 6l-5 -6Z`, class: kind });
      const rows = classes.map((name, number) => {
        const two = branches.length === 2,
          [positive, negative] = branches.map((one) => one[number]),
          logit = logits[number].toFixed(2);
        const rect = (from, to, y, kind) =>
          h("rect", {
            x: Math.min(at(from), at(to)),
            width: Math.max(0.5, Math.abs(at(from) - at(to))),
            y,
            height: 6,
            class: kind,
          });
        return h(
          "div",
          { class: "cw-class" + (number === best ? " best" : ""), "data-class": name },
          h("span", {
            class: "cw-name",
            text: name,
            title: name,
            style: colours[name] ? `box-shadow:-5px 0 0 -1px ${colours[name]}` : null,
          }),
          h(
            "svg",
            {
              viewBox: "0 0 200 16",
              preserveAspectRatio: "none",
              role: "img",
              "aria-label": two
                ? `positive ${positive.toFixed(2)} minus negative ${negative.toFixed(2)} is ${logit}`
                : `logit ${logit}`,
            },
            ...[-tick, tick].map((value) =>
              h("line", { x1: at(value), x2: at(value), y1: 0, y2: 16, class: "cw-tick" }),
            ),
            h("line", { x1: 100, x2: 100, y1: 0, y2: 16, class: "cw-zero" }),
            rect(0, two ? positive : logits[number], two ? 1 : 5, two ? "cw-positive" : "cw-single"),
            two ? rect(positive, logits[number], 9, "cw-negative") : null,
            changed ? diamond(before.logits[number], "cw-before") : null,
            diamond(logits[number], "cw-logit"),
          ),
          h("i", { class: "cw-logit-value", text: signed(logits[number]) }),
          h(
            "span",
            { class: "cw-share" },
            h("span", { style: `width:${(100 * now[number]).toFixed(1)}%` }),
            changed ? h("u", { style: `left:${(100 * then[number]).toFixed(1)}%` }) : null,
          ),
          h("b", { class: "cw-probability", text: now[number].toFixed(3) }),
        );
      });
      const words = changed
        ? changeWords(classes, was, best, then, now, logits[best] - before.logits[best])
        : classes[best];
      box.replaceChildren(
        h(
          "div",
          { class: "cw-words" },
          h("span", { class: "cw-soft", text: changed ? "what-if" : "the model says" }),
          h("b", { class: "cw-said" + (changed ? " changed" : ""), text: words }),
          changed ? null : h("b", { text: `p ${now[best].toFixed(2)}` }),
          h("span", {}, h("b", { text: right }), truth ? `, labelled ${truth}${asRead}` : ""),
          h("span", { class: "cw-soft", text: margin }),
        ),
        h(
          "div",
          {
            class: "cw-classes",
            style: `--cw-name:${2 + Math.min(24, Math.max(...classes.map((name) => name.length)))}ch`,
          },
          h(
            "div",
            { class: "cw-class cw-soft" },
            h("span"),
            branches.length === 2
              ? h(
                  "span",
                  {},
                  "logit = ",
                  h("b", { class: "cw-blue", text: "positive" }),
                  " − ",
                  h("b", { class: "cw-orange", text: "negative" }),
                  changed ? "  ◇ before" : "",
                )
              : h("span", { text: `logit${changed ? "  ◇ before" : ""}` }),
            h("span"),
            h(
              "select",
              {
                class: "cw-select",
                "data-key": "link",
                "aria-label": "probability",
                title: "trained with one sigmoid a class, predicts by the largest logit",
                onchange: (event) => put(model, { link: event.target.value }),
              },
              ...["softmax", "sigmoid"].map((one) =>
                h("option", { value: one, text: one, selected: one === model.get("link") }),
              ),
            ),
          ),
          ...rows,
          h(
            "div",
            { class: "cw-class cw-soft cw-numbers", "aria-hidden": true },
            h("span"),
            h(
              "span",
              {},
              ...[-tick, 0, tick].map((value) =>
                h("i", { style: `left:${(at(value) / 2).toFixed(1)}%`, text: value < 0 ? `−${-value}` : value }),
              ),
            ),
          ),
        ),
        ...(model.get("note") ? [h("p", { class: "cw-note cw-empty", text: model.get("note") })] : []),
      );
      said.textContent = changed ? `what-if: ${words}` : `${classes[best]} ${now[best].toFixed(2)}, ${right}`;
    });
  const stops = [live.stop, onChange(model, ["answer", "before", "truth", "note", "link", "busy", "colours"], draw)];
  return () => stops.forEach((stop) => stop());
}

export default { render };
