// Light or dark: the system's scheme unless chosen otherwise here, and methods' colours in it.
const KEY = "attnprune.theme";
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : systemDark.matches;
}

// Called after every change; returns what ends that.
export function onThemeChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const notify = () => listeners.forEach((listener) => listener());
systemDark.addEventListener("change", notify);

function toggle() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    /* it lasts until the page is closed */
  }
  notify();
}

export function bindThemeButton(button) {
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", toggle);
  onThemeChange(show);
  show();
}

// Told apart with the common colour blindnesses too; names stand beside every use.
const METHOD_COLOURS = [
  { light: "#0b62c4", dark: "#6db3ff" },
  { light: "#b84300", dark: "#ff9d5c" },
  { light: "#00795a", dark: "#3fd0a4" },
  { light: "#a3307f", dark: "#f59ad2" },
  { light: "#7a5c00", dark: "#e3c04a" },
  { light: "#5b47b5", dark: "#b4a5ff" },
  { light: "#4d5966", dark: "#b6c2cf" },
  { light: "#9c1c2e", dark: "#ff8f9b" },
];

export function methodColour(index) {
  return METHOD_COLOURS[index % METHOD_COLOURS.length][isDark() ? "dark" : "light"];
}

// A small square of a method's colour that follows the scheme.
export function paintSwatch(node, index) {
  const { light, dark } = METHOD_COLOURS[index % METHOD_COLOURS.length];
  node.style.setProperty("--swatch", `light-dark(${light}, ${dark})`);
}

// What a canvas needs of the style sheet, as it is now.
export function canvasColours() {
  const probe = document.getElementById("colour-probe");
  const resolve = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const font = getComputedStyle(document.body).fontFamily;
  return { text: resolve("--muted"), grid: resolve("--grid"), font };
}
