// What was found: marked in text, and drawn over a page's picture.

import { el } from './dom.js';

const MOST_BOXES = 500;

// Ranges are [start, end) in Unicode code points.
export function markedText(text, ranges) {
  const points = Array.from(text);
  const nodes = [];
  let at = 0;
  for (const [start, end] of ranges ?? []) {
    if (start < at || end <= start || end > points.length) continue;
    nodes.push(points.slice(at, start).join(''));
    nodes.push(el('mark', {}, points.slice(start, end).join('')));
    at = end;
  }
  nodes.push(points.slice(at).join(''));
  return nodes.filter((node) => node !== '');
}

// The distinct words that were marked, lower case.
export function markedWords(results) {
  const words = new Set();
  for (const result of results) {
    const points = Array.from(result.text_preview ?? '');
    for (const [start, end] of result.highlights ?? []) {
      words.add(points.slice(start, end).join('').toLowerCase());
    }
  }
  return words;
}

// text with each of these words marked.
export function markWords(text, words) {
  if (words.size === 0) return [text];
  return text.split(/([\p{L}\p{N}\p{M}_]+)/u)
    .filter((part) => part !== '')
    .map((part) => (words.has(part.toLowerCase()) ? el('mark', {}, part) : part));
}

export const boxKind = (hit) => (hit?.box_kind === 'patches' ? 'places' : 'words');

// A layer to lie over a picture; boxes are 0..1 of it, from the top left. kind: 'words' marks them
// like a pen; 'places' frames them, as parts of the picture that are no words.
export function boxLayer(boxes, kind = 'words') {
  const layer = el('div', { class: `boxes ${kind}`, 'aria-hidden': 'true' });
  for (const [x0, y0, x1, y1] of (boxes ?? []).slice(0, MOST_BOXES)) {
    const box = el('span', { class: 'box' });
    box.style.left = `${x0 * 100}%`;
    box.style.top = `${y0 * 100}%`;
    box.style.width = `${(x1 - x0) * 100}%`;
    box.style.height = `${(y1 - y0) * 100}%`;
    layer.append(box);
  }
  return layer;
}
