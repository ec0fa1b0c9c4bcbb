// A page as it is shown: its picture with the found words marked on it, or its text.

import { call, hasKey, request } from './api.js';
import { isReady } from './documents.js';
import { el } from './dom.js';
import { boxKind, boxLayer, markWords, markedWords } from './marks.js';
import { picture } from './picture.js';

const ZOOMS = [0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4];
const TO_WIDTH = ZOOMS.indexOf(1);
const HEADING = { title: 'h2', heading: 'h3' };

let zoom = TO_WIDTH; // both are kept from document to document
let textShown = false;

export const zoomPercent = () => ZOOMS[zoom] * 100;
export const zoomEnds = () => ({ smallest: zoom === 0, largest: zoom === ZOOMS.length - 1 });
export const textIsShown = () => textShown;

// by 0: back to the width.
export function zoomBy(by) {
  zoom = by === 0 ? TO_WIDTH : Math.min(ZOOMS.length - 1, Math.max(0, zoom + by));
}

export function toggleText() {
  textShown = !textShown;
}

const pictureOf = (info, page) => info.pages?.[page - 1]?.image_url;
export const hasPicture = ({ info, place }) => Boolean(pictureOf(info, place.page));

// open as viewer.js keeps it.
export function showPage(box, open) {
  if (!isReady(open.info)) box.replaceChildren();
  else if (open.info.worker) showElsewhere(box, open.info);
  else if (textShown || !hasPicture(open)) showText(box, open);
  else showPicture(box, open);
}

// Another worker read it: what is here serves to find it.
function showElsewhere(box, { worker }) {
  box.replaceChildren(el('p', { class: 'notice' }, `Its files are with ${worker}.`));
}

function showPicture(box, { info, place, hits }) {
  const facts = info.pages[place.page - 1];
  const hit = hits.find((result) => result.page_num === place.page);
  const shown = box.querySelector('.sheet');
  if (shown?.dataset.path === facts.image_url) {
    shown.style.setProperty('--zoom', ZOOMS[zoom]);
    return;
  }
  const image = picture(facts.image_url, `Page ${place.page} of ${info.filename}`, facts);
  const sheet = el('div', { class: 'sheet page', data: { path: facts.image_url } }, image,
    boxLayer(hit?.boxes, boxKind(hit)));
  const next = pictureOf(info, place.page + 1);
  sheet.style.setProperty('--zoom', ZOOMS[zoom]);
  box.replaceChildren(sheet);
  box.scrollTo(0, 0);
  image.addEventListener('load', () => {
    if (next && !hasKey()) new Image().src = next;
  }, { once: true });
  showFirstBox(sheet);
}

function showFirstBox(sheet) {
  const first = sheet.querySelector('.box');
  if (!first) return;
  const { top, bottom } = first.getBoundingClientRect();
  const isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  if (top >= 0 && bottom <= innerHeight - 40) return;
  const behavior = isCalm ? 'auto' : 'smooth';
  first.scrollIntoView({ block: 'center', inline: 'nearest', behavior });
}

async function showText(box, { info, place, hits, signal }) {
  const words = markedWords(hits);
  const path = `/documents/${info.doc_id}`;
  try {
    const text = info.page_count > 0
      ? pageText(await call(`${path}/pages/${place.page}`, { signal }), words)
      : plainText(await (await request(`${path}/markdown`, { signal })).text(), words);
    box.replaceChildren(text);
    text.querySelector('mark')?.scrollIntoView({ block: 'center' });
  } catch (error) {
    if (error.name !== 'AbortError') {
      box.replaceChildren(el('p', { class: 'notice trouble' }, error.message));
    }
  }
}

// ---- text --------------------------------------------------------------------------------------

function pageText(page, words) {
  const elements = page.elements.filter((element) => element.text !== '');
  return el('div', { class: 'page-text' }, elements.length === 0
    ? el('p', { class: 'notice' }, 'There is no text on this page.')
    : elements.map((element) => elementNode(element, words)));
}

function plainText(text, words) {
  return el('pre', { class: 'page-text plain' }, markWords(text, words));
}

function elementNode(element, words) {
  const { kind, text } = element;
  if (kind === 'table' && element.cells?.length > 0) return tableNode(element.cells, words);
  if (HEADING[kind]) return el(HEADING[kind], {}, markWords(text, words));
  if (kind === 'code') return el('pre', {}, markWords(text, words));
  if (kind === 'list_item') return el('p', { class: 'list-item' }, markWords(text, words));
  return el('p', { class: kind }, markWords(text, words));
}

function tableNode(cells, words) {
  const rows = new Map();
  for (const cell of cells) {
    if (!rows.has(cell.row)) rows.set(cell.row, []);
    rows.get(cell.row).push(el(cell.header ? 'th' : 'td', {
      rowspan: cell.row_span > 1 && String(cell.row_span),
      colspan: cell.col_span > 1 && String(cell.col_span),
    }, markWords(cell.text, words)));
  }
  return el('div', { class: 'table' },
    el('table', {}, [...rows.values()].map((row) => el('tr', {}, row))));
}
