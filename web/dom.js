// Building elements. Strings become text nodes, so nothing from a document is ever read as HTML.

const SVG = 'http://www.w3.org/2000/svg';

// Attributes: `on` holds listeners, `data` the dataset, true an empty attribute; null, undefined
// and false are left out.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === 'data') {
      Object.assign(node.dataset, value);
    } else {
      node.setAttribute(name, value === true ? '' : value);
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, click, extra = {}) {
  return el('button', {
    type: 'button', class: 'icon-button', 'aria-label': label, title: label, on: { click },
    ...extra,
  }, icon(name));
}

let announcement = 0;

// Says something to screen readers without moving the focus.
export function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => {
    document.getElementById('announce').textContent = text;
  }, 150);
}

// May a key pressed here be taken for a shortcut?
export function isTyping(target) {
  return target.matches?.('input, textarea, select, [contenteditable]') ?? false;
}
