// Over all slices: a figure of each slice on an axis, a strip for each group, and where runs part. A bar or a pattern
// filters the slices, a dot opens one.
const MOST = 24; // dots of a bar, beyond which it is drawn as one

const many = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const fixed = (value) => (value === null ? "undefined" : value.toFixed(2).replace("-", "−"));
const withEnds = ([value, low, high]) =>
  fixed(value) +
  (value === null ? "" : low === null || high === null ? " [no interval]" : ` [${fixed(low)}, ${fixed(high)}]`);

/** Arrow keys move the focus among the buttons of a row, Home and End to its ends. */
function arrows(event) {
  const all = [...event.currentTarget.querySelectorAll("button")],
    at = all.indexOf(document.activeElement),
    steps = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 };
  if (at < 0 || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  const next = all[Math.max(0, Math.min(all.length - 1, steps[event.key]))];
  all.forEach((one) => (one.tabIndex = one === next ? 0 : -1));
  next.focus();
}

function render({ model, el }) {
  el.classList.add("cw");
  const box = h("section", { class: "cw-card cws-statistics", "aria-label": "statistics over all slices" });
  el.append(box);
  let draw = () => {};
  const live = connection(model, () => draw());
  const open = (id) => model.send({ open: id });
  const told = () => model.get("told"),
    place = (value) => (100 * (value - told().ends[0])) / (told().ends[1] - told().ends[0]),
    at = (value) => `${Math.min(100, Math.max(0, place(value))).toFixed(2)}%`;
  const pick = (wanted) => {
    const same = JSON.stringify(Object.entries(wanted).sort());
    put(model, { picked: same === JSON.stringify(Object.entries(model.get("picked")).sort()) ? {} : wanted });
  };
  const isPicked = (wanted) => Object.entries(wanted).every(([name, value]) => model.get("picked")[name] === value);

  const select = ({ name, label, options, value }) =>
    h(
      "label",
      { class: "cw-group" },
      h("span", { class: "cw-soft", text: label }),
      h(
        "select",
        {
          class: "cw-select",
          "data-key": `choice-${name}`,
          "data-choice": name,
          disabled: !live.alive,
          onchange: (event) => put(model, { choice: { ...told().choice, [name]: event.target.value }, picked: {} }),
        },
        ...options.map(([one, words]) => h("option", { value: one, text: words, selected: one === value })),
      ),
    );

  const dot = ([id, value, passed, said]) =>
    h("span", {
      class:
        "cws-dot" + (passed ? " passed" : "") + (said ? ` ${said}` : "") + (id === model.get("slice") ? " now" : ""),
      "data-slice": id,
      title: `${id}: ${fixed(value)}${said ? `, ${said}` : ", no label"}${passed ? "" : ", may be chance"}`,
    });
  const column = (run, group, bin, most, dotted, first) => {
    const wanted = { run, group, low: bin.low, high: bin.high },
      words = `${group}: ${fixed(bin.low)} to ${fixed(bin.high)}, ${bin.count} slice${bin.count > 1 ? "s" : ""}`;
    return h(
      "button",
      {
        class: "cws-column" + (isPicked(wanted) ? " chosen" : ""),
        style: `left:${at(bin.low)};width:${(place(bin.high) - place(bin.low)).toFixed(2)}%`,
        "data-key": `bar-${run}-${group}-${bin.low}`,
        "data-bar": bin.low,
        "aria-label": words,
        "aria-pressed": isPicked(wanted),
        title: dotted ? null : words,
        tabindex: first ? 0 : -1,
        ...onPress((event) => {
          const slice = event.target.dataset?.slice;
          if (slice) open(slice);
          else pick(wanted);
        }),
      },
      ...(dotted
        ? bin.slices.map(dot)
        : [h("span", { class: "cws-whole", style: `height:${((100 * bin.count) / most).toFixed(1)}%` })]),
    );
  };

  /** The mean of a strip with its interval, on what chance gives. */
  const meanRow = ({ mean, chance }) => {
    const [value, low, high] = mean,
      parts = [];
    if (chance) {
      const width = place(chance[1]) - place(chance[0]);
      parts.push(
        h("span", { class: "cws-chance", style: `left:${at(chance[0])};width:max(2px,${width.toFixed(2)}%)` }),
      );
    }
    if (low !== null && high !== null)
      parts.push(
        h("span", { class: "cws-ends", style: `left:${at(low)};width:${(place(high) - place(low)).toFixed(2)}%` }),
      );
    if (value !== null) parts.push(h("span", { class: "cws-mean", style: `left:${at(value)}` }));
    return h("div", { class: "cws-mean-row", "aria-hidden": "true" }, ...parts);
  };
  const strip = (run, letter, own) => {
    const most = Math.max(0, ...own.bins.map(({ count }) => count)),
      dotted = most <= MOST && own.bins.every(({ slices }) => slices.length),
      count = `${many(own.slices, "slice")}, ${many(own.patients, "patient")}`,
      without = own.undefined ? `, ${own.undefined} without` : "",
      said = own.mean[0] === null ? "no figure" : `mean ${withEnds(own.mean)}`;
    return h(
      "div",
      { class: "cws-strip", "data-group": own.group, "data-run": run },
      h(
        "div",
        { class: "cws-strip-name" },
        h("b", { text: own.group }),
        h("span", { class: "cw-soft", text: count + without }),
        h("span", { text: said }),
      ),
      h(
        "div",
        { class: "cws-strip-plot" },
        h(
          "div",
          {
            class: "cws-columns",
            role: "group",
            "aria-label": `${letter ? letter + ", " : ""}${own.group}: ${count}, ${said}`,
            onkeydown: arrows,
          },
          told().ends[0] < 0 ? h("span", { class: "cws-zero", style: `left:${at(0)}` }) : "",
          own.level === null
            ? ""
            : h("span", {
                class: "cws-level",
                style: `left:${at(own.level)}`,
                title: `by chance a slice with this many regions passes ${fixed(own.level)} in 5 of 100 cases`,
              }),
          ...own.bins.map((bin, number) => column(run, own.group, bin, most, dotted, number === 0)),
        ),
        meanRow(own),
      ),
    );
  };
  const axis = () => {
    const [low, high] = told().ends;
    return h(
      "div",
      { class: "cws-strip cws-strip-axis", "aria-hidden": "true" },
      h("div", { class: "cws-strip-name" }),
      h(
        "div",
        { class: "cws-ticks" },
        ...[0, 0.25, 0.5, 0.75, 1].map((share) =>
          h("span", { style: `left:${100 * share}%`, text: fixed(low + share * (high - low)) }),
        ),
      ),
    );
  };
  const key = () => {
    const dotted = told().runs.some(({ strips }) =>
      strips.some(({ bins }) => bins.some(({ slices }) => slices.length)),
    );
    const sign = (kind, words) => h("span", {}, h("i", { class: kind }), ` ${words}`);
    return h(
      "div",
      { class: "cw-note" },
      ...(dotted
        ? [
            sign("cws-dot passed right", "right"),
            sign("cws-dot passed wrong", "wrong"),
            sign("cws-dot passed", "no label"),
          ]
        : []),
      ...(dotted && told().ranked ? [sign("cws-dot right", "hollow: the slice may be chance")] : []),
      told().ranked ? sign("cws-level-key", "5 % level of a slice") : "",
      sign("cws-mean-key", "mean, 95 % interval over patients"),
      told().runs.some(({ strips }) => strips.some(({ chance }) => chance))
        ? sign("cws-chance-key", "the mean by chance")
        : "",
      h("span", {
        text: live.alive ? "a bar filters the slices, a dot opens one" : "another figure needs the notebook",
      }),
    );
  };
  const oneRun = ({ letter, name, sample, findings, strips }, run) =>
    h(
      "div",
      { class: "cws-told-run", "data-run": run },
      letter ? h("div", {}, h("b", { class: "cw-letter", text: letter }), " ", h("b", { text: name })) : "",
      ...findings.map((words) => h("p", { class: "cws-finding", text: words })),
      ...strips.map((own) => strip(run, letter, own)),
      strips.length ? axis() : "",
      h("p", { class: "cw-note cws-sample", text: sample }),
    );

  const patterns = () => {
    const most = Math.max(1, ...told().patterns.map(({ count }) => count)),
      letters = told().runs.map(({ letter }) => letter);
    return h(
      "div",
      { class: "cws-parting" },
      h("b", { text: "Where the runs part" }),
      ...told().parted.map((words) => h("p", { class: "cws-finding", text: words[0].toUpperCase() + words.slice(1) })),
      h("p", { class: "cw-soft cw-small", text: `beside a pattern: mean ${told().axis} there` }),
      ...told().patterns.map(({ pattern, words, count, means }) =>
        h(
          "button",
          {
            class: "cws-pattern" + (isPicked({ pattern }) ? " chosen" : ""),
            "data-key": `pattern-${pattern}`,
            "data-pattern": pattern,
            "aria-pressed": isPicked({ pattern }),
            ...onPress(() => pick({ pattern })),
          },
          h("b", { text: count }),
          h("span", {}, words, h("i", { class: "cws-share", style: `width:${((100 * count) / most).toFixed(1)}%` })),
          h("span", {
            class: "cw-soft",
            text: means
              .map(([mean, of], run) => (of ? `${letters[run]} ${fixed(mean)} (${of})` : ""))
              .filter(Boolean)
              .join("  "),
          }),
        ),
      ),
    );
  };
  const pair = ({ letters, words, points, of }) => {
    const kinds = (pattern) => {
        const right = [...letters].filter((letter) => pattern["ABC".indexOf(letter)] === "1").length;
        return pattern ? ["wrong", "some", "right"][right] : "unknown";
      },
      sorted = [...points].sort((a, b) => a[1] - b[1]),
      drawn = points.length < of ? `, ${points.length} of them drawn` : "";
    return h(
      "figure",
      { class: "cws-pair-figure" },
      h("figcaption", { class: "cws-finding", text: words }),
      h(
        "div",
        {
          class: "cws-square",
          role: "group",
          "aria-label": `${told().axis}: ${letters[0]} to the right, ${letters[1]} up; ${of} slices`,
          onkeydown: arrows,
        },
        h("span", { class: "cws-same" }),
        ...sorted.map(([id, one, two, pattern], number) =>
          h("button", {
            class: `cws-point ${kinds(pattern)}${id === model.get("slice") ? " now" : ""}`,
            style: `left:${at(one)};bottom:${at(two)}`,
            "data-key": `point-${letters}-${id}`,
            "data-slice": id,
            tabindex: number ? -1 : 0,
            title: `${id}: ${letters[0]} ${fixed(one)}, ${letters[1]} ${fixed(two)}`,
            "aria-label": `${id}: ${letters[0]} ${fixed(one)}, ${letters[1]} ${fixed(two)}`,
            ...onPress(() => open(id)),
          }),
        ),
      ),
      h("p", {
        class: "cw-note",
        text: `${letters[0]} → right, ${letters[1]} ↑ up: ${of} slices${drawn}, ${told().ends.map(fixed).join(" to ")}`,
      }),
      h(
        "p",
        { class: "cw-note" },
        ...[
          ["right", "both right"],
          ["some", "one right"],
          ["wrong", "both wrong"],
          ["unknown", "not known"],
        ].map(([kind, text]) => h("span", {}, h("i", { class: `cws-point cws-sign ${kind}` }), ` ${text}`)),
      ),
    );
  };

  draw = () =>
    keepFocus(box, () => {
      const all = told();
      if (!all.runs) return box.replaceChildren(h("b", { text: "Over all slices" }));
      box.replaceChildren(
        h(
          "div",
          { class: "cw-title" },
          h("b", { text: `Over all slices: ${all.question}` }),
          h("span", { class: "cw-soft", text: ` ${all.axis}` }),
        ),
        h("div", { class: "cw-controls" }, ...all.choices.map(select)),
        ...all.runs.map(oneRun),
        key(),
        all.patterns.length || all.pairs.length
          ? h("div", { class: "cws-several" }, all.patterns.length ? patterns() : "", ...all.pairs.map(pair))
          : "",
      );
    });
  const stops = [live.stop, ownKeys(el), onChange(model, ["told", "picked", "slice"], draw)];
  return () => stops.forEach((stop) => stop());
}

export default { render };
