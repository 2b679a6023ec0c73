// Before the first paint: the colour scheme that was chosen here last, if any.
(() => {
  try {
    const theme = localStorage.getItem("attnprune.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    /* no storage: the system's scheme */
  }
})();
