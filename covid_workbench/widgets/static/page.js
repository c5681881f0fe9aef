// A saved page: what the parts showed, with a stand-in for the kernel's side of their traits.
const told = JSON.parse(document.getElementById("told").textContent);
if (matchMedia("(prefers-color-scheme: dark)").matches) document.body.classList.add("theme-dark");

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

for (const { traits } of told.parts)
  for (const [name, value] of Object.entries(traits))
    if (value?.deflate) {
      const stream = new Blob([bytesOf(value.deflate)]).stream().pipeThrough(new DecompressionStream("deflate"));
      traits[name] = { base64: new Uint8Array(await new Response(stream).arrayBuffer()) };
    }

function stand(traits) {
  const values = {},
    heard = {};
  for (const [name, value] of Object.entries(traits))
    values[name] =
      value?.base64 === undefined ? value : new DataView(value.base64.buffer ?? bytesOf(value.base64).buffer);
  return {
    get: (name) => values[name],
    on: (event, run) => (heard[event] ??= []).push(run),
    off: (event, run) => {
      heard[event] = (heard[event] ?? []).filter((one) => one !== run);
    },
    save_changes() {},
    send() {},
    set(name, value) {
      if (JSON.stringify(values[name]) === JSON.stringify(value)) return;
      values[name] = value;
      for (const run of heard[`change:${name}`] ?? []) run();
    },
  };
}

const models = told.parts.map(({ traits }) => stand(traits));
for (const [a, name, b, other] of told.links) {
  models[a].on(`change:${name}`, () => models[b].set(other, models[a].get(name)));
  models[b].on(`change:${other}`, () => models[a].set(name, models[b].get(other)));
}
const modules = {};
for (const [kind, source] of Object.entries(told.modules))
  modules[kind] = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
told.parts.forEach(({ kind }, number) => {
  const el = document.querySelector(`[data-part="${number}"]`);
  modules[kind].default.render({ model: models[number], el });
});
