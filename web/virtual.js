// A long list of which only the rows in sight are in the page. Rows have one fixed height.

import { el } from './dom.js';

const OVERSCAN = 4;

// draw(item, row) fills or refreshes a row's element; key(item) tells items apart.
export function virtualList({ rowHeight, label, key, draw }) {
  const inner = el('ul', { class: 'virtual-inner', 'aria-label': label });
  const outer = el('div', { class: 'virtual', tabindex: '0', role: 'group', 'aria-label': label },
    inner);
  const rows = new Map(); // key -> row in the page
  let items = [];

  function paint() {
    const first = Math.max(0, Math.floor(outer.scrollTop / rowHeight) - OVERSCAN);
    const shown = Math.ceil(outer.clientHeight / rowHeight) + 2 * OVERSCAN;
    const seen = new Set();
    inner.style.height = `${items.length * rowHeight}px`;
    for (let i = first; i < Math.min(items.length, first + shown); i += 1) {
      const id = key(items[i]);
      let row = rows.get(id);
      if (!row) {
        row = el('li', { class: 'virtual-row' });
        rows.set(id, row);
        inner.append(row);
      }
      seen.add(id);
      row.style.transform = `translateY(${i * rowHeight}px)`;
      row.setAttribute('aria-setsize', items.length);
      row.setAttribute('aria-posinset', i + 1);
      draw(items[i], row);
    }
    for (const [id, row] of rows) {
      if (seen.has(id)) continue;
      rows.delete(id);
      row.remove();
    }
  }

  outer.addEventListener('scroll', paint, { passive: true });
  new ResizeObserver(paint).observe(outer);
  return {
    element: outer,
    show(next) {
      items = next;
      paint();
    },
  };
}
