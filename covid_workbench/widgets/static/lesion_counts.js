// What became of the lesions of a slice: plain data in, plain data out.
// Python counts the same in widgets/lesion_matching.py, and a test compares the two.

/**
 * The true lesion that each prediction takes, or -1: in the order of scores, each takes the free lesion with the
 * highest IoU that reaches `threshold`. Python's `greedy_matches`.
 */
function greedy(iou, scores, threshold) {
  const takes = scores.map(() => -1),
    taken = new Set();
  for (const one of scores.map((_, number) => number).sort((a, b) => scores[b] - scores[a] || a - b)) {
    iou[one].forEach((value, lesion) => {
      if (!taken.has(lesion) && value >= threshold && (takes[one] < 0 || value > iou[one][takes[one]]))
        takes[one] = lesion;
    });
    if (takes[one] >= 0) taken.add(takes[one]);
  }
  return takes;
}

const memory = new WeakMap();

/**
 * Which prediction takes which lesion on a slice, before the score filters; null without truth.
 * `iou` is 0 between different classes where the reading has classes.
 */
function matched(entry, threshold, reading) {
  const known = memory.get(entry),
    key = `${threshold} ${reading}`,
    read = entry.readings[reading];
  if (!read) return null;
  if (known?.key === key) return known;
  const iou = read.iou.map((row, one) =>
    row.map((value, lesion) =>
      reading === "classes" && entry.found[one].name !== read.truth[lesion].name ? 0 : value,
    ),
  );
  const made = {
    key,
    iou,
    takes: greedy(
      iou,
      entry.found.map(({ score }) => score),
      threshold,
    ),
  };
  memory.set(entry, made);
  return made;
}

/** Counts of a slice; null without truth. */
function tally(entry, score, threshold, reading) {
  const made = matched(entry, threshold, reading),
    ious = [];
  let wrong = 0;
  if (!made) return null;
  entry.found.forEach((one, number) => {
    if (one.score < score) return;
    if (made.takes[number] < 0) wrong++;
    else ious.push(made.iou[number][made.takes[number]]);
  });
  return { matched: ious.length, missed: entry.readings[reading].truth.length - ious.length, false: wrong, ious };
}

/** Counts of the slices of a volume that were read. */
function sums(entries, score, threshold, reading) {
  const all = { slices: 0, matched: 0, missed: 0, false: 0, ious: [] };
  for (const entry of entries) {
    const one = entry.read ? tally(entry, score, threshold, reading) : null;
    if (!one) continue;
    all.slices++;
    for (const name of ["matched", "missed", "false"]) all[name] += one[name];
    all.ious.push(...one.ious);
  }
  const share = (part, whole) => (whole ? part / whole : null);
  return {
    ...all,
    precision: share(all.matched, all.matched + all.false),
    recall: share(all.matched, all.matched + all.missed),
    mean_iou: share(
      all.ious.reduce((a, b) => a + b, 0),
      all.ious.length,
    ),
  };
}

/**
 * Every lesion of a slice with its outcome, truth first: T1 is the largest, F1 the surest false one.
 * Without truth all predictions are P1, P2, …, neither right nor wrong.
 */
function lesionRows(entry, score, threshold, reading) {
  const made = matched(entry, threshold, reading),
    shown = entry.found.map((one, number) => ({ ...one, number })).filter((one) => one.score >= score);
  if (!made)
    return shown.map((one, place) => ({
      ...one,
      id: `p${one.number}`,
      label: `P${place + 1}`,
      outcome: "found",
      iou: 0,
      pair: null,
    }));
  const { takes, iou } = made,
    raw = entry.readings[reading].iou,
    truth = entry.readings[reading].truth,
    best = (values, of) => values.reduce((top, one) => (of(one) > (top === null ? 0 : of(top)) ? one : top), null);
  const there = truth.map((lesion, number) => {
    const by = takes.indexOf(number),
      hit = by >= 0 && entry.found[by].score >= score ? entry.found[by] : null,
      near = hit ? null : best(shown, (one) => iou[one.number][number]);
    const pair = hit ?? near,
      later = !hit && by >= 0 ? entry.found[by].score : null;
    return {
      ...lesion,
      id: `t${number}`,
      label: `T${number + 1}`,
      outcome: hit ? "matched" : "missed",
      pair,
      iou: pair ? iou[hit ? by : near.number][number] : 0,
      score: pair ? pair.score : null,
      later,
      pairId: hit ? `p${by}` : null,
    };
  });
  const wrong = shown
    .filter((one) => takes[one.number] < 0)
    .map((one, place) => {
      const on = best(
          truth.map((_, number) => number),
          (number) => raw[one.number][number],
        ),
        overlap = on === null ? 0 : raw[one.number][on];
      const why =
        on === null
          ? "no lesion underneath"
          : overlap >= threshold && iou[one.number][on] === 0
            ? `lies on T${on + 1}, another class`
            : overlap >= threshold
              ? `T${on + 1} has a surer one`
              : `overlaps T${on + 1}`;
      return { ...one, id: `p${one.number}`, label: `F${place + 1}`, outcome: "false", iou: overlap, why };
    });
  return [...there, ...wrong];
}

/** What is worth knowing about a slice, in a sentence or two. */
function told(entry, rows, threshold) {
  if (entry.error) return `This slice cannot be shown: ${entry.error}`;
  if (!entry.read) return "The detector has not read this slice yet.";
  const of = (outcome) => rows.filter((row) => row.outcome === outcome),
    missed = of("missed"),
    wrong = of("false"),
    names = (list) =>
      list
        .map(({ label }) => label)
        .slice(0, 4)
        .join(", ")
        .replace(/, ([^,]*)$/, " and $1") + (list.length > 4 ? ` and ${list.length - 4} more` : "");
  if (rows.some(({ outcome }) => outcome === "found") || !Object.keys(entry.readings).length)
    return "There is no true mask for this slice: predictions only, neither right nor wrong.";
  if (!rows.length) return "There is no lesion here, and none was predicted.";
  const off = missed.filter(({ iou }) => iou > 0.1).sort((a, b) => b.iou - a.iou)[0],
    later = missed.filter(({ later }) => later !== null).sort((a, b) => b.later - a.later)[0],
    lone = missed.filter(({ iou }) => iou === 0),
    parts = [];
  if (off && off.iou < threshold && off.pair)
    parts.push(
      `${off.label} is found, but in the wrong place or extent: IoU ${off.iou.toFixed(2)}. ` +
        "It counts as missed, and its prediction as false.",
    );
  if (later)
    parts.push(`${later.label} would be matched at score ${(Math.floor(later.later * 100) / 100).toFixed(2)}.`);
  if (!parts.length && lone.length) parts.push(`No prediction touches ${names(lone)}.`);
  if (!missed.length && !wrong.length)
    parts.push(
      rows.length > 1
        ? `All ${rows.length} lesions are matched and nothing is false.`
        : "The one lesion is matched and nothing is false.",
    );
  else if (!missed.length && !of("matched").length)
    parts.push(`There is no lesion here; ${names(wrong)} ${wrong.length > 1 ? "are" : "is"} false.`);
  else if (!missed.length)
    parts.push(`Every lesion is matched; ${names(wrong)} ${wrong.length > 1 ? "are" : "is"} false.`);
  else if (!parts.length) parts.push(`No prediction fits ${names(missed)}.`);
  const weak =
    entry.found.length -
    new Set(
      rows
        .map(({ id }) => id)
        .filter((id) => id[0] === "p")
        .concat(rows.map(({ pairId }) => pairId).filter(Boolean)),
    ).size;
  if (missed.length && weak === entry.found.length && weak)
    parts.push(`${weak} prediction${weak > 1 ? "s" : ""} here scored lower.`);
  return parts.join(" ");
}
