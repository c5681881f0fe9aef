// Attention along the body, and below it the effect of leaving each slice out: a bar at the place of every slice that
// was read, the feet on the left. A click opens a slice, a double click switches it, Shift-drag switches a range.
const [LEFT, RIGHT, TOP, HIGH, GAP, LOW, STRIP] = [60, 12, 16, 92, 26, 62, 10]; // LEFT at least: it fits the figures
const CHARACTER = 7; // pixels of a figure, at most

/** Places between two ends that were read, switched over: off if any is on, else on; one slice stays on. */
function offRange(model, from, to) {
  const read = model.get("reading"),
    off = model.get("off"),
    part = read.filter((place) => place >= Math.min(from, to) && place <= Math.max(from, to)),
    next = part.some((place) => !off.includes(place))
      ? [...new Set([...off, ...part])]
      : off.filter((place) => !part.includes(place));
  return read.some((place) => !next.includes(place)) ? next : off;
}

const AGREEMENT = {
  chance: "attention is not shown to agree with effect: ρ may be chance",
  ties: "attention agrees with effect only by figures that look alike",
  against: "attention goes to slices that matter less",
  partly: "attention partly agrees with effect",
  agrees: "attention agrees with effect",
};

/** How attention agrees with effect, by the rule of `Agreement.verdict`; null where nothing is known. */
function agreementWords({ verdict, rho, reach }) {
  return verdict in AGREEMENT ? `${AGREEMENT[verdict]} (Spearman ρ ${signed(rho)}, chance ±${reach.toFixed(2)})` : null;
}

function render({ model, el }) {
  el.classList.add("cw");
  const title = h("div", { class: "cw-title" }),
    plot = h("svg", { class: "cw-curve", role: "img", tabindex: 0 }),
    foot = h("div", { class: "cw-note" });
  el.append(h("div", { class: "cw-card cw-curve-card" }, title, plot, foot));
  const drawAll = () => draw(),
    live = connection(model, drawAll);
  let drag = null;
  const mostEffect = () => Math.max(0, ...Object.values(model.get("effects")).map(Math.abs)),
    effectEnd = () => (mostEffect() ? signedFigure(mostEffect()) : "");
  const geometry = () => {
    const depth = model.get("slices").length,
      wide = Math.max(200, plot.clientWidth || 800),
      left = Math.max(LEFT, 10 + CHARACTER * effectEnd().length),
      step = (wide - left - RIGHT) / Math.max(1, depth);
    return { depth, wide, left, step, x: (place) => left + (place + 0.5) * step };
  };
  const placeAt = (event) => {
    const { depth, left, step } = geometry(),
      at = (event.clientX - plot.getBoundingClientRect().left - left) / step;
    return Math.min(depth - 1, Math.max(0, Math.floor(at)));
  };
  const nearest = (place) => {
    const read = model.get("reading");
    return read.length ? read.reduce((a, b) => (Math.abs(b - place) < Math.abs(a - place) ? b : a)) : null;
  };

  const label = (x, y, words, more = {}) => h("text", { x, y, text: words, ...more });
  const bars = (values, zero, room, kind, style) => {
    const { step, x } = geometry(),
      wide = Math.max(1.5, Math.min(16, 0.8 * step));
    return Object.entries(values).map(([place, value]) => {
      const tall = Math.max(0.75, Math.abs(value) * room);
      return h(
        "rect",
        {
          x: x(Number(place)) - wide / 2,
          width: wide,
          y: value < 0 ? zero : zero - tall,
          height: tall,
          class: style(Number(place), value),
          "data-bar": place,
        },
        h("title", { text: `slice ${place}: ${kind === "effect" ? signedFigure(value) : value.toFixed(3)}` }),
      );
    });
  };
  const attentionPanel = (base) => {
    const attention = model.get("attention"),
      { wide, left } = geometry(),
      values = Object.values(attention),
      end = scaleEnd(values),
      even = values.length ? 1 / values.length : 0;
    if (!values.length)
      return [label(left, base - HIGH / 2, "no attention in this model's answer", { class: "cw-axis-words" })];
    const y = base - (HIGH * even) / end;
    return [
      ...bars(attention, base, HIGH / end, "attention", (_, value) =>
        value > even ? "cw-bar-attention above" : "cw-bar-attention",
      ),
      h("line", { x1: left, x2: wide - RIGHT, y1: y, y2: y, class: "cw-even" }),
      label(wide - RIGHT, y - 3, `1/${values.length}`, { class: "cw-axis-words", "text-anchor": "end" }),
      label(left - 6, base - HIGH + 8, end, { class: "cw-axis-words", "text-anchor": "end" }),
      label(left - 6, base, "0", { class: "cw-axis-words", "text-anchor": "end" }),
    ];
  };
  const effectPanel = (zero) => {
    const most = mostEffect() || 1,
      half = LOW / 2,
      { left } = geometry(),
      end = (y, text) => label(left - 6, y, text, { class: "cw-axis-words", "text-anchor": "end" });
    return [
      ...bars(model.get("effects"), zero, half / most, "effect", (_, value) =>
        value < 0 ? "cw-bar-effect against" : "cw-bar-effect",
      ),
      end(zero - half + 8, effectEnd()),
      end(zero + half, effectEnd().replace("+", "−")),
    ];
  };
  const truthStrip = (top) => {
    const { step, x } = geometry(),
      slices = model.get("slices");
    return slices.flatMap(({ lesion }, place) =>
      lesion
        ? [
            h("rect", {
              x: x(place) - step / 2,
              width: Math.max(1, step) + 0.5,
              y: top,
              height: STRIP,
              class: "cw-lesion",
            }),
          ]
        : [],
    );
  };
  const draw = () => {
    const { depth, wide, left, step, x } = geometry(),
      base = TOP + HIGH,
      zero = base + GAP + LOW / 2,
      strip = zero + LOW / 2 + 8,
      tall = strip + STRIP + 16,
      off = model.get("off"),
      slices = model.get("slices"),
      place = model.get("place"),
      known = slices.some(({ lesion }) => lesion !== null),
      name = model.get("effect_class"),
      ends = model.get("directions").includes("H") ? ["feet", "head"] : ["first slice", "last slice"];
    plot.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
    plot.style.height = `${tall}px`;
    const axis = (y) => h("line", { x1: left, x2: wide - RIGHT, y1: y, y2: y, class: "cw-base" });
    const words = (y, text) => label(left, y, text, { class: "cw-axis-words strong" });
    const span = drag?.moved ? [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)] : null;
    plot.replaceChildren(
      h("rect", { x: 0, y: 0, width: wide, height: tall, class: "cw-hit-all" }),
      ...(depth
        ? [
            h("rect", {
              x: x(place) - step / 2,
              width: Math.max(2, step),
              y: TOP - 4,
              height: strip + STRIP - TOP + 8,
              class: "cw-here",
            }),
          ]
        : []),
      ...(span
        ? [
            h("rect", {
              x: x(span[0]) - step / 2,
              width: (span[1] - span[0] + 1) * step,
              y: TOP,
              height: strip - TOP,
              class: "cw-range",
            }),
          ]
        : []),
      ...attentionPanel(base),
      axis(base),
      words(TOP - 5, "attention"),
      ...effectPanel(zero),
      axis(zero),
      words(base + 18, `effect on ${name}: what its log-odds lose without the slice`),
      ...off.map((one) =>
        h("path", { d: `M${x(one) - 4} ${base - 8}l8 8m0 -8l-8 8`, class: "cw-off-mark", "data-off": one }),
      ),
      ...truthStrip(strip),
      label(left - 6, strip + 9, "lesion", { class: "cw-axis-words", "text-anchor": "end" }),
      ...(known ? [] : [label(left, strip + 9, "not known: no masks", { class: "cw-axis-words" })]),
      label(left, tall - 2, ends[0], { class: "cw-axis-words" }),
      label(wide - RIGHT, tall - 2, ends[1], { class: "cw-axis-words", "text-anchor": "end" }),
    );
    drawWords();
  };
  const drawWords = () => {
    const attention = Object.entries(model.get("attention")),
      even = attention.length ? 1 / attention.length : 0,
      above = attention.filter(([, value]) => value > even),
      effects = model.get("effects"),
      [top] = [...attention].sort((a, b) => b[1] - a[1]),
      [strongest] = Object.entries(effects).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])),
      agrees = agreementWords(model.get("agreement"));
    const told = top
      ? `Slice ${top[0]} is looked at most (${top[1].toFixed(2)})` +
        (strongest ? `; slice ${strongest[0]} matters most (${signedFigure(strongest[1])})` : "")
      : strongest
        ? `Slice ${strongest[0]} matters most (${signedFigure(strongest[1])})`
        : "";
    title.replaceChildren(
      h("b", { text: "Slices along the body" }),
      h("span", { class: "cw-soft", text: told ? `  ${told}` : "" }),
    );
    foot.replaceChildren(
      ...(attention.length
        ? [h("span", { text: `${above.length} of ${attention.length} slices weigh more than 1/${attention.length}` })]
        : []),
      ...(agrees && attention.length ? [h("span", { class: "cw-rho", text: agrees })] : []),
      h("span", { text: "click: open; double click: off or on; Shift-drag: a range" }),
    );
    plot.setAttribute("aria-label", `attention and effect of the slices along the body. ${told}`);
  };

  plot.addEventListener("pointerdown", (event) => {
    if (!model.get("slices").length) return;
    plot.focus({ preventScroll: true });
    const place = placeAt(event);
    drag = { from: place, to: place, range: event.shiftKey, moved: false };
    if (!event.shiftKey) put(model, { place });
    try {
      plot.setPointerCapture(event.pointerId);
    } catch {
      /* a pointer that is gone already */
    }
  });
  plot.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const place = placeAt(event);
    if (drag.range) {
      drag.moved ||= place !== drag.from;
      drag.to = place;
      draw();
    } else if (place !== model.get("place")) put(model, { place });
  });
  plot.addEventListener("pointerup", () => {
    const was = drag;
    drag = null;
    if (was?.range && asks()) put(model, { off: offRange(model, was.from, was.to) });
    else if (was?.range) draw();
  });
  plot.addEventListener("dblclick", (event) => {
    const place = nearest(placeAt(event));
    if (place !== null && asks()) put(model, { off: offRange(model, place, place), place });
  });
  const asks = () => live.alive && !model.get("frozen");
  const watch = new ResizeObserver(() => draw());
  watch.observe(plot);
  const stops = [
    live.stop,
    () => watch.disconnect(),
    onChange(
      model,
      ["slices", "attention", "effects", "effect_class", "off", "place", "reading", "agreement", "directions"],
      draw,
    ),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
