// Small helpers for the page's elements.

/** Makes an element: `h('button.chip', { onclick }, 'text', child)`. */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split('.');
  const element = document.createElement(tag || 'div');
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'html') element.innerHTML = value; // Only pictures of our own; never text from data.
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** The element with this id; a missing one is a mistake of the page. */
export function at(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element #${id}`);
  return element;
}

const whole = new Intl.NumberFormat('en');

/** A whole number with separators. */
export const count = (value) => whole.format(Math.round(value));

/** Bytes in the unit that reads best. */
export function bytes(value) {
  if (value < 1000) return `${value} B`;
  return value < 1e6 ? `${(value / 1000).toFixed(1)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

/** How long ago, in words. */
export function ago(time_ms, now_ms = Date.now()) {
  const seconds = Math.max(0, Math.round((now_ms - time_ms) / 1000));
  if (seconds < 5) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 86_400 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} d ago`;
}

/** Whether the person asked for less motion. */
export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
