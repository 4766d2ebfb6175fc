// Elements of the page.

export const byId = (id) => document.getElementById(id);

/** Make an element. Properties are set on it; those under `data` and `aria` become data-… and aria-… attributes. */
export function make(tag, { data = {}, aria = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...children);
  return element;
}
