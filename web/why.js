// Why a page was found by its looks: where on it each word of the question fits, as a heat map and
// as boxes over its picture.

import { call } from './api.js';
import { announce, el } from './dom.js';
import { boxLayer } from './marks.js';
import { picture } from './picture.js';

const ALL = -1; // the words together

let shown = false; // kept from page to page
let chosen = ALL;
let chosenFor = ''; // the question that it was chosen in

export const whyIsShown = () => shown;

export function toggleWhy() {
  shown = !shown;
}

// Was this page, as a hit of the question, found by the visual model?
export const hasWhy = (hit) => Boolean(hit?.parts?.visual);

// The bar of words and the maps over the sheet; both are emptied where they are not wanted.
export async function showWhy(bar, sheet, { info, place, signal }) {
  const path = `/documents/${info.doc_id}/pages/${place.page}`;
  const key = `${path}?${place.q}`;
  if (bar.dataset.shows === key && sheet.querySelector('.why')) return;
  hideWhy(bar, sheet);
  bar.dataset.shows = key;
  bar.hidden = false;
  bar.replaceChildren(el('p', { class: 'quiet' }, 'Looking…'));
  let page;
  try {
    page = await call(`${path}/explain?query=${encodeURIComponent(place.q)}`, { signal });
  } catch (error) {
    if (error.name === 'AbortError' || bar.dataset.shows !== key) return;
    bar.replaceChildren(el('p', { class: 'notice' }, reasonOf(error)));
    return;
  }
  if (bar.dataset.shows !== key || !sheet.isConnected) return; // another page by now
  if (page.words.length === 0) {
    bar.replaceChildren(el('p', { class: 'notice' }, 'The question has no word to look for.'));
    return;
  }
  if (chosenFor !== place.q || chosen >= page.words.length) chosen = ALL;
  chosenFor = place.q;
  fill(bar, sheet, page, `${path}/heatmap.png?query=${encodeURIComponent(place.q)}`);
}

export function hideWhy(bar, sheet) {
  delete bar.dataset.shows;
  bar.hidden = true;
  bar.replaceChildren();
  sheet?.classList.remove('explained');
  sheet?.querySelectorAll('.why').forEach((layer) => layer.remove());
}

function reasonOf(error) {
  switch (error.code) {
    case 'no_patches': return 'This server keeps no places of pages (INDEX_FULL_VECTORS=false).';
    case 'no_vectors': return 'The visual model has not seen this page.';
    default: return error.message;
  }
}

// ---- words and maps ------------------------------------------------------------------------------

function fill(bar, sheet, page, mapPath) {
  const layers = new Map(); // word -> its layer
  const look = (word) => {
    if (!layers.has(word)) {
      layers.set(word, layerOf(word, page, mapPath));
      sheet.append(layers.get(word));
    }
    for (const [each, layer] of layers) layer.hidden = each !== word;
  };
  const chips = [ALL, ...page.words.keys()].map((word) => chipOf(word, page));
  const mark = () => chips.forEach((chip) => {
    chip.setAttribute('aria-pressed', String(Number(chip.dataset.word) === chosen));
  });
  const wordOf = (event) => {
    const chip = event.target.closest('.chip');
    return chip ? Number(chip.dataset.word) : null;
  };
  const group = el('div', { class: 'chips', role: 'group', 'aria-label': 'Words of the question' },
    chips);
  for (const kind of ['pointerover', 'focusin']) {
    group.addEventListener(kind, (event) => {
      if (wordOf(event) !== null) look(wordOf(event));
    });
  }
  for (const kind of ['pointerleave', 'focusout']) {
    group.addEventListener(kind, () => look(chosen));
  }
  group.addEventListener('click', (event) => {
    if (wordOf(event) === null) return;
    chosen = chosen === wordOf(event) ? ALL : wordOf(event);
    mark();
    look(chosen);
    announce(`${nameOf(chosen, page)}: ${placesOf(boxesOf(chosen, page))}`);
  });
  bar.replaceChildren(group, el('p', { class: 'quiet' },
    'The darker a place, the better it fits; the boxes hold the best places.'));
  sheet.classList.add('explained');
  mark();
  look(chosen);
}

const boxesOf = (word, page) => (word === ALL ? page : page.words[word]).boxes;
const nameOf = (word, page) => (word === ALL ? 'All words' : page.words[word].text);

function chipOf(word, page) {
  const places = placesOf(boxesOf(word, page));
  return el('button', {
    type: 'button', class: 'chip', data: { word }, title: `Fits best ${places}`,
    'aria-label': `${nameOf(word, page)}, fits best ${places}`,
  }, nameOf(word, page));
}

function layerOf(word, page, mapPath) {
  const map = picture(word === ALL ? mapPath : `${mapPath}&word=${word}`, '');
  map.classList.add('heat');
  return el('div', { class: 'why', 'aria-hidden': 'true', data: { word } }, map,
    boxLayer(boxesOf(word, page), 'places'));
}

// Where boxes lie, in words: "at the top left and in the middle".
function placesOf(boxes) {
  const names = new Set(boxes.map(([x0, y0, x1, y1]) => {
    const row = ['top', '', 'bottom'][Math.min(2, Math.floor((y0 + y1) * 1.5))];
    const column = ['left', '', 'right'][Math.min(2, Math.floor((x0 + x1) * 1.5))];
    if (row === '' && column === '') return 'in the middle';
    return `at the ${[row, column].filter((part) => part !== '').join(' ')}`;
  }));
  return names.size === 0 ? 'nowhere' : [...names].join(' and ');
}
