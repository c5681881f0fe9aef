// Links to a view: the end of an address holds its state. Python puts common.js before this and header.js after it.
const COPIED = "The link is copied. Opened on this server, it shows this view after the notebook has run.";

/** The end of an address that holds a view, as it stands there; empty without one. */
const viewIn = (address) => address.split("#cw=")[1] ?? "";

/** Put words on the clipboard; false where the browser lets nobody. */
async function onClipboard(words) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch {
    const area = h("textarea", { style: "position:fixed;opacity:0" }); // a page without https has no other way
    area.value = words;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/**
 * Copies links to the view of a header and follows those in the address: each once a model, whether the page was opened
 * with it or it was pasted later, the same again and others in between.
 */
function viewLinks(model, el, live, say) {
  const address = (state) => `${location.origin}${location.pathname}#cw=${encodeURIComponent(state)}`,
    give = async (state, words) => say((await onClipboard(address(state))) ? words : address(state));
  let waiting = 0;
  const copy = () => {
    clearTimeout(waiting);
    waiting = 0;
    if (!live.alive) return give(model.get("state_text"), COPIED);
    model.send({ tell: "state" }); // as it is after all that was changed before
    waiting = setTimeout(() => {
      waiting = 0;
      give(
        model.get("state_text"),
        "The kernel is busy: the link is copied as the view was when it last answered. Copy it again later.",
      );
    }, 3000);
  };
  const hear = (message) => {
    if (message?.state === undefined || !waiting) return;
    clearTimeout(waiting);
    waiting = 0;
    give(message.state, COPIED);
  };
  const follow = ({ state, at }) => {
    const id = `${performance.timeOrigin} ${at} ${state}`;
    if (!state || model.get("link_read") === id) return;
    put(model, { link_read: id }); // the reader's own steps count from here
    model.send({ act: "open", state: `#cw=${state}` });
  };
  /** The address without the view, so that the same link can be pasted again. */
  const forget = () => {
    if (viewIn(location.href)) history.replaceState(history.state, "", location.href.split("#cw=")[0]);
  };
  const moved = ({ newURL, timeStamp }) => {
    const state = viewIn(newURL);
    if (!state || el.closest(".lm-mod-hidden")) return;
    window.cwLink = { state, at: timeStamp };
    follow(window.cwLink);
    forget();
    if (el.getBoundingClientRect().top < 0) el.scrollIntoView(); // what cannot be shown is said here
  };
  // JupyterLab drops the end of its address while it loads; the first navigation still has it
  const opened = performance.getEntriesByType("navigation")[0];
  window.cwLink ??= { state: viewIn(location.href) || viewIn(opened?.name ?? ""), at: 0 };
  const again = opened?.type === "reload" && model.get("link_read").endsWith(` ${window.cwLink.state}`);
  if (!again) follow(window.cwLink);
  forget();
  model.on("msg:custom", hear);
  window.addEventListener("hashchange", moved);
  const stop = () => {
    clearTimeout(waiting);
    model.off("msg:custom", hear);
    window.removeEventListener("hashchange", moved);
  };
  return { copy, stop };
}
