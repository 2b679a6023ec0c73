// Building DOM nodes. Data only ever goes in as text or attribute, never as markup.

// el("td", {class: "number", title: "…", onclick: f}, "text", node, …); null children are left out.
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

// A symbol of index.html's sprite; decoration only: the words stand beside it.
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

// Sets the text only where it differs, so that nothing is laid out or announced anew for nothing.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// The nodes of a <template> of index.html, and its parts by data-part.
export function fromTemplate(id) {
  const root = document.getElementById(id).content.cloneNode(true);
  const parts = {};
  for (const node of root.querySelectorAll("[data-part]")) parts[node.dataset.part] = node;
  return { root, parts };
}

// Makes `children` the children of `parent`, moving few of them: what has the focus keeps it.
export function reconcile(parent, children) {
  let next = parent.firstChild;
  for (const child of children) {
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
  }
  while (next) {
    const following = next.nextSibling;
    next.remove();
    next = following;
  }
}
