// The answer and how it arises: positive minus negative logits, then probabilities; before and after where something was changed.
function render({ model, el }) {
  el.classList.add("cw");
  const box = h("div", { class: "cw-verdict" }), said = h("div", { class: "cw-live", "aria-live": "polite" });
  el.append(box, said);
  const draw = () => {
    const { classes, logits, branches, probabilities } = model.get("answer"), before = model.get("before"), truth = model.get("truth"), changed = before.logits && before.logits.some((value, at) => value !== logits[at]);
    if (!classes) {
      box.replaceChildren(h("p", { class: "cw-note", text: model.get("note") }));
      return;
    }
    const best = probabilities.indexOf(Math.max(...probabilities)), right = truth ? (truth === classes[best] ? "✓ right" : `✗ it is ${truth}`) : "no label";
    const was = changed ? before.probabilities.indexOf(Math.max(...before.probabilities)) : best;
    const words = changed ? `${classes[was]} ${before.probabilities[was].toFixed(2)} → ${classes[best]} ${probabilities[best].toFixed(2)}` : `${classes[best]} ${probabilities[best].toFixed(2)}`;
    const reach = Math.max(1e-6, ...branches.flat().map(Math.abs), ...logits.map(Math.abs), ...(before.logits ?? []).map(Math.abs)), at = (value) => 50 + (46 * value) / reach;
    const rows = classes.map((name, number) => {
      const [positive, negative] = branches.map((one) => one[number]), two = branches.length === 2, from = two ? positive : 0;
      return h("div", { class: "cw-class" + (number === best ? " best" : ""), "data-class": name }, h("span", { text: name }),
        h("svg", { viewBox: "0 0 100 14", preserveAspectRatio: "none", role: "img", "aria-label": `logit ${logits[number].toFixed(2)}` },
          h("line", { x1: 50, x2: 50, y1: 0, y2: 14, class: "cw-zero" }),
          h("rect", { x: Math.min(50, at(positive)), width: Math.abs(at(positive) - 50), y: 1, height: 5, class: "cw-positive" }),
          two ? h("rect", { x: Math.min(at(from), at(logits[number])), width: Math.abs(at(from) - at(logits[number])), y: 8, height: 5, class: "cw-negative" }) : null,
          changed ? h("path", { d: `M${at(before.logits[number])} 3l2 4l-2 4l-2 -4Z`, class: "cw-before" }) : null,
          h("path", { d: `M${at(logits[number])} 3l2 4l-2 4l-2 -4Z`, class: "cw-logit" })),
        h("i", { class: "cw-logit-value", text: logits[number].toFixed(2) }), h("b", { class: "cw-probability", text: probabilities[number].toFixed(3) }));
    });
    box.replaceChildren(h("div", { class: "cw-words" }, h("b", { text: words }), h("span", { text: ` ${right}${changed ? " · what-if" : ""}` })), ...rows,
      h("p", { class: "cw-note", text: branches.length === 2 ? "blue: positive branch, orange: minus the negative branch; ◆ logit. Right: softmax." : "bar: logit. Right: softmax." }));
    said.textContent = changed ? `what-if: ${words}` : words;
  };
  ready(model);
  return onChange(model, ["answer", "before", "truth", "note"], draw);
}

export default { render };
