// What a saved page answers by itself: the rows of its tables. Python puts common.js before this.

/** A number of half precision from its 16 bits. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1,
    power = (bits >> 10) & 31,
    part = bits & 1023;
  return power ? sign * 2 ** (power - 25) * (1024 + part) : sign * 2 ** -24 * part;
}

/** `count` numbers of a row of a table. */
const rowOf = (held, row, count) => Array.from({ length: count }, (_, at) => half(held[row * count + at]));

/** A list cut into lists of `size`. */
const cut = (list, size) =>
  Array.from({ length: Math.round(list.length / size) }, (_, at) => list.slice(at * size, (at + 1) * size));

const LEAST = 4, // regions, below which ranks say nothing
  DRAWS = 2000,
  STRONG = 0.6; // ρ, from which attention agrees and not only partly

const centred = (values) => ranksOf(values).map((rank) => rank - (values.length + 1) / 2),
  product = (one, two) => one.reduce((sum, value, at) => sum + value * two[at], 0),
  flat = (values) => new Set(values).size < 2;

/** Spearman's ρ, ties by their mean rank; null for fewer than four values or where one is constant. */
function spearman(x, y) {
  if (x.length < LEAST || flat(x) || flat(y)) return null;
  const [a, b] = [centred(x), centred(y)];
  return product(a, b) / Math.sqrt(product(a, a) * product(b, b));
}

/** An integer mixed into another, as Python does it in evaluation.agreement. */
function mixed(number) {
  let x = number >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0;
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0;
  return (x ^ (x >>> 16)) >>> 0;
}

const orders = {};

/** The random orders of so many regions, the same as Python's. */
function drawnOrders(count) {
  const drawn = (draw) => {
    const numbers = Array.from({ length: count }, (_, at) => mixed(draw * count + at + 1));
    return numbers.map((_, at) => at).sort((a, b) => numbers[a] - numbers[b] || a - b);
  };
  return (orders[count] ??= Array.from({ length: DRAWS }, (_, draw) => drawn(draw)));
}

/** What the size of ρ stays within in 95 of 100 random orders; null where ρ is. */
function reachOf(x, y) {
  if (spearman(x, y) === null) return null;
  const [a, b] = [x, y].map((values) => centred(values).sort((one, two) => one - two)),
    size = Math.sqrt(product(a, a) * product(b, b));
  const found = drawnOrders(x.length).map((order) =>
    Math.abs(b.reduce((sum, value, at) => sum + value * a[order[at]], 0)),
  );
  return found.sort((one, two) => one - two)[Math.ceil(0.95 * DRAWS) - 1] / size;
}

/** Sizes in whole thousandths of the largest. */
const alikeIn = (sizes) => {
  const most = Math.max(1e-300, ...sizes);
  return sizes.map((size) => Math.floor((size / most) * 1000 + 0.5));
};

function verdictIn({ regions, rho, reach, tied, tied_reach, flat }) {
  if (regions < LEAST || rho === null) return flat ? "flat" : "few";
  if (Math.abs(rho) <= reach + 1e-9) return "chance";
  if (tied === null || Math.abs(tied) <= tied_reach + 1e-9 || tied * rho < 0) return "ties";
  return rho < 0 ? "against" : rho >= STRONG ? "agrees" : "partly";
}

/** How the sizes of attention and of effects agree: an `Agreement` of Python as plain values. */
function agreementIn(attention, effects) {
  const sizes = [attention, effects].map((values) => values.map(Math.abs)),
    tied = sizes.map(alikeIn),
    several = attention.length >= LEAST,
    groups = tied[0].map((value) => tied[0].filter((other) => other === value).length);
  const found = {
    regions: attention.length,
    rho: spearman(...sizes),
    reach: reachOf(...sizes),
    tied: spearman(...tied),
    tied_reach: reachOf(...tied),
    alike: Math.max(0, ...groups),
    flat: several ? (["attention", "effects"].find((_, at) => flat(sizes[at])) ?? "") : "",
  };
  return { ...found, verdict: verdictIn(found) };
}

/** The answer of one run to what is `off`, from the table of that mode: traits of its parts. */
function answerTo(held, mode, off, effectClass) {
  const table = held.tables[mode],
    { players } = table,
    { classes } = held.whole,
    count = classes.length,
    row = players.reduce((sum, id, at) => sum + (off.includes(id) ? 0 : 2 ** at), 0),
    whole = row === 2 ** players.length - 1,
    candidates = table.slots.slice(table.fixed ? 0 : row * held.beta, table.fixed ? held.beta : (row + 1) * held.beta),
    slots = [...candidates].map((candidate) => held.ids[candidate]),
    present = [...new Set(slots)].filter((id) => !off.includes(id)),
    known = whole || table.weights !== null || held.heads === 0;
  const logits = whole ? held.whole.logits : rowOf(table.logits, row, count),
    branches = whole
      ? held.whole.branches
      : table.branches
        ? cut(rowOf(table.branches, row, table.branches.length / 2 ** players.length), count)
        : [logits],
    weights =
      whole || (!known && table.fixed)
        ? held.whole.weights
        : known
          ? cut(rowOf(table.weights ?? [], row, held.heads * held.beta), held.beta)
          : [];
  const powers = logits.map((value) => Math.exp(value - Math.max(...logits))),
    sum = powers.reduce((a, b) => a + b, 0),
    number = classes.indexOf(effectClass),
    logit = (at) => half(table.logits[at * count + number]),
    effects = {};
  if (present.length > 1)
    for (const [at, id] of players.entries()) if (present.includes(id)) effects[id] = logit(row) - logit(row - 2 ** at);
  return {
    answer: { classes, logits, branches, probabilities: powers.map((value) => value / sum) },
    slots,
    weights,
    known,
    effects,
    agreement: known ? agreementOf(slots, weights, effects) : {},
  };
}

/** Branch -> how the size of its attention, summed over a region's slots, agrees with that of the effects. */
function agreementOf(slots, weights, effects) {
  const ids = Object.keys(effects).map(Number),
    names = weights.length === 2 ? ["positive", "negative"] : weights.map(() => "attention"),
    size = (branch, id) => Math.abs(slots.reduce((sum, one, at) => sum + (one === id ? weights[branch][at] : 0), 0));
  return Object.fromEntries(
    names.map((name, branch) => [
      name,
      agreementIn(
        ids.map((id) => size(branch, id)),
        ids.map((id) => effects[id]),
      ),
    ]),
  );
}

/**
 * Regions by how differently runs use them, as `share_rows` of Python gives them: of each run the effects and slots.
 * `iou`: region -> overlap of the regions paired in it.
 */
function shareRows(runs, iou) {
  const size = ({ effects }) => Object.values(effects).reduce((sum, value) => sum + Math.abs(value), 0) || 1,
    ids = [...new Set(runs.flatMap(({ effects }) => Object.keys(effects).map(Number)))].sort((a, b) => a - b);
  const ranks = ({ slots }, id) => slots.flatMap((one, place) => (one === id ? [place + 1] : [])).join("·") || null;
  return ids
    .map((id) => {
      const shares = runs.map((run) => (id in run.effects ? run.effects[id] / size(run) : null)),
        there = shares.filter((share) => share !== null),
        [low, high] = [Math.min(...there), Math.max(...there)];
      return {
        id,
        labels: runs.map((run) => ranks(run, id)),
        iou: there.length > 1 ? (iou[id] ?? null) : null,
        shares,
        gap: there.length > 1 ? high - low : Math.abs(low),
        opposite: low < -0.02 && high > 0.02,
      };
    })
    .sort((a, b) => b.gap - a.gap);
}

/** Let the parts of a run answer by a table: `held()` is what the page holds of the slice that is open. */
function answering(models, held) {
  const of = (name) => models[held().parts[name]];
  const set = (names, traits) => {
    for (const name of names) for (const [trait, value] of Object.entries(traits)) of(name)?.set(trait, value);
  };
  return () => {
    const own = held(),
      panel = of("panel"),
      [mode, off] = [panel.get("off_mode"), panel.get("off")];
    if (!own.tables) return;
    if (!own.tables[mode]) return panel.set("note", own.whys[mode] ?? "");
    const effectClass = panel.get("effect_class"),
      found = answerTo(own, mode, off, effectClass),
      { slots, weights, effects } = found,
      about = ["canvas", "panel", "inspector", "agreement", "affinity"],
      as = own.saved.off_mode === mode && String([...own.saved.off].sort()) === String([...off].sort());
    set(about, { slots, weights, effects, effect_class: effectClass, off, all: [...new Set([...slots, ...off])] });
    const stale =
      "The weights are those of the whole answer: this page holds answers to what is off, not their weights.";
    set(["panel"], { note: [own.note, found.known ? "" : stale].filter(Boolean).join(" ") });
    const byMode = Object.keys(own.tables).map((one) => [
      one,
      one === mode ? found.agreement : answerTo(own, one, off, effectClass).agreement,
    ]);
    set(["agreement"], {
      found: Object.fromEntries(byMode),
      refused: own.whys,
      off_mode: mode,
      weights: found.known ? weights : [],
    });
    set(["verdict"], { answer: found.answer });
    set(["orders"], {
      effect_class: effectClass,
      results: as ? own.saved.orders : {},
      empty_note: as
        ? ""
        : "Other orders are held for the question as it was saved; asking anew needs the running notebook.",
    });
  };
}
