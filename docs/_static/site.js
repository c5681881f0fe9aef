// Saved pages inside this one tell their height and are told whether it is dark.
const frames = () => document.querySelectorAll("iframe.saved");

function isDark() {
  const theme = document.body.dataset.theme;
  return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
}

function tellTheme() {
  for (const frame of frames()) frame.contentWindow?.postMessage({ dark: isDark() }, "*");
}

addEventListener("message", (event) => {
  for (const frame of frames())
    if (frame.contentWindow === event.source && event.data?.height) {
      frame.style.height = `${Math.ceil(event.data.height)}px`;
      frame.contentWindow.postMessage({ dark: isDark() }, "*");
    }
});
addEventListener("DOMContentLoaded", () => {
  new MutationObserver(tellTheme).observe(document.body, { attributeFilter: ["data-theme"] });
});
