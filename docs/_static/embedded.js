// In a saved page that another page shows: tell it the height, take light or dark from it.
const tellHeight = () => parent.postMessage({ height: document.documentElement.getBoundingClientRect().height }, "*");
new ResizeObserver(tellHeight).observe(document.documentElement);
addEventListener("load", tellHeight);
addEventListener("message", (event) => {
  if (typeof event.data?.dark === "boolean") document.body.classList.toggle("theme-dark", event.data.dark);
});
