// The affinity matrix: one row of weights a slot, and the slot's weight in the sum, W v. Both are constants of the run.
function render({ model, el }) {
  el.classList.add("cw");
  const box = h("div", { class: "cw-card cw-affinity" });
  el.append(box);
  const live = connection(model);
  const heat = (row, most) => {
    const canvas = document.createElement("canvas"),
      image = new ImageData(row.length, 1);
    [canvas.width, canvas.height] = [row.length, 1];
    row.forEach((value, at) =>
      image.data.set(
        [
          ...between(["#FF8A1F", "#D9D9D6", "#1E9BFF"], 0.5 + value / most / 2)
            .match(/\d+/g)
            .map(Number),
          255,
        ],
        4 * at,
      ),
    );
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas.toDataURL();
  };
  const draw = () => {
    const matrix = model.get("matrix"),
      slots = model.get("slots"),
      weights = model.get("weights")[0] ?? [],
      regions = Object.fromEntries(model.get("regions").map((one) => [one.id, one]));
    el.hidden = !matrix.length;
    if (el.hidden) return;
    const most = Math.max(1e-9, ...matrix.flat().map(Math.abs)),
      end = Math.max(1e-9, ...weights.map(Math.abs));
    const scale = `orange −${most.toFixed(2)}, blue +${most.toFixed(2)}`;
    box.replaceChildren(
      h(
        "div",
        { class: "cw-title" },
        h("b", { text: "Affinity matrix" }),
        h("span", {
          class: "cw-soft",
          text: ` ${matrix.length} slots × ${matrix[0].length} affinities; ${scale}`,
        }),
      ),
      ...matrix.map((row, place) => {
        const id = slots[place],
          region = regions[id],
          range = `from ${Math.min(...row).toFixed(2)} to ${Math.max(...row).toFixed(2)}`;
        return h(
          "div",
          {
            class:
              "cw-affine" +
              (model.get("selected").includes(id) ? " selected" : "") +
              (model.get("hovered") === id ? " hovered" : ""),
            "data-region": id,
            ...onPress(() => id !== undefined && put(model, { selected: [id] })),
            onmouseenter: () => put(model, { hovered: id ?? null }),
            onmouseleave: () => put(model, { hovered: null }),
          },
          h("b", { text: place + 1 }),
          h("span", { text: region ? region.score.toFixed(2) : "" }),
          h("img", {
            src: heat(row, most),
            alt: `slot ${place + 1}: ${row.length} weights ${range}`,
          }),
          weights.length
            ? h("span", { class: "cw-cell" }, signedBar(weights[place], end), h("i", { text: signed(weights[place]) }))
            : null,
        );
      }),
      h("p", {
        class: "cw-note",
        text:
          "Left: rank and score of the region; right: weight of the slot, W·v. The weights are learned constants: " +
          "the same on every slice, only the regions in the slots change.",
      }),
    );
  };
  const stops = [live.stop, onChange(model, ["matrix", "slots", "weights", "regions", "selected", "hovered"], draw)];
  return () => stops.forEach((stop) => stop());
}

export default { render };
