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

  // Keeps the page's order that of the list, for the Tab key; a moved row keeps its focus.
  function placeAt(row, index) {
    if (inner.children[index] === row) return;
    const focused = row.contains(document.activeElement) ? document.activeElement : null;
    inner.insertBefore(row, inner.children[index] ?? null);
    focused?.focus({ preventScroll: true });
  }

  function paint() {
    const first = Math.max(0, Math.floor(outer.scrollTop / rowHeight) - OVERSCAN);
    const shown = Math.ceil(outer.clientHeight / rowHeight) + 2 * OVERSCAN;
    const inSight = items.slice(first, first + shown);
    const wanted = new Set(inSight.map(key));
    inner.style.height = `${items.length * rowHeight}px`;
    for (const [id, row] of rows) {
      if (wanted.has(id)) continue;
      rows.delete(id);
      row.remove();
    }
    inSight.forEach((item, index) => {
      const row = rows.get(key(item)) ?? el('li', { class: 'virtual-row' });
      rows.set(key(item), row);
      placeAt(row, index);
      row.style.transform = `translateY(${(first + index) * rowHeight}px)`;
      row.setAttribute('aria-setsize', items.length);
      row.setAttribute('aria-posinset', first + index + 1);
      draw(item, row);
    });
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
