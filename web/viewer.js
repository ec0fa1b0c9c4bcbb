// One document: its pages, what was found in it, and where its files are. sheet.js shows the page.

import { call, hasKey, openFile } from './api.js';
import { isReady, remove } from './documents.js';
import { announce, el, icon, iconButton, isTyping } from './dom.js';
import { markedText } from './marks.js';
import { back, documentPath, documentsPath, replace, searchPath } from './route.js';
import {
  hasPicture, showPage, textIsShown, toggleText, zoomBy, zoomEnds, zoomPercent,
} from './sheet.js';
import { corpusVersion, removed } from './state.js';
import { hasWhy, hideWhy, showWhy, toggleWhy, whyIsShown } from './why.js';
import { count, partly, reason } from './words.js';

const MOST_HITS = 100;
const BEST_WITHOUT_WORDS = 5; // every page is near a question somehow: only the nearest are shown

// The document in the view: place (id, page, q, mode), info and hits of the server's, and signal,
// which ends with the view. null while none is.
let open = null;

export function show(view, route, restoreScroll) {
  const abort = new AbortController();
  const place = {
    id: route.id, page: route.page, q: (route.params.get('q') ?? '').trim(),
    mode: route.params.get('mode') ?? '',
  };
  const fill = () => load(view, place, abort.signal).then((isNew) => {
    if (isNew) restoreScroll();
  }, (error) => {
    if (!abort.signal.aborted) showAbsent(view, error);
  });
  const end = corpusVersion.watch(() => {
    if (open?.place !== place || isReady(open.info) || open.info.status === 'failed') return;
    open = null;
    fill();
  });
  const endRemoved = removed.watch((id) => {
    if (open?.place !== place || id !== place.id) return;
    open = null;
    fill();
  });
  document.addEventListener('keydown', pressed);
  fill();
  return (next) => {
    end();
    endRemoved();
    abort.abort();
    document.removeEventListener('keydown', pressed);
    if (next !== 'document') open = null;
  };
}

async function load(view, place, signal) {
  const isNew = open === null || open.place.id !== place.id || open.place.q !== place.q;
  if (isNew) {
    const [info, hits] = await Promise.all([
      call(`/documents/${encodeURIComponent(place.id)}`, { signal }), findHits(place, signal),
    ]);
    open = { info, hits };
  }
  place.page = Math.min(place.page, Math.max(1, open.info.page_count));
  Object.assign(open, { place, signal, view });
  if (isNew) frame();
  turned();
  return isNew;
}

async function findHits({ id, q, mode }, signal) {
  if (q === '') return [];
  const ask = (how) => call('/search', {
    method: 'POST', signal,
    body: { query: q, n_results: MOST_HITS, search_mode: how, filters: { doc_id: [id] } },
  });
  const reply = await ask(mode || 'hybrid').catch((error) => {
    if (error.code !== 'backend_unavailable' || mode === 'lexical') throw error;
    return ask('lexical'); // the document is to be read all the same
  });
  return reply.results.filter((hit) => hit.highlights.length > 0 || hit.rank <= BEST_WITHOUT_WORDS)
    .sort((a, b) => a.page_num - b.page_num);
}

function showAbsent(view, error) {
  const isGone = error.status === 404;
  open = null;
  view.replaceChildren(el('section', { class: 'documents' },
    el('h1', {}, isGone ? 'This document is not here' : 'It could not be opened'),
    el('p', { class: 'notice' }, isGone ? 'It may have been deleted since this link was made.'
      : error.message),
    el('p', {}, el('a', { class: 'button', href: documentsPath({}) }, 'See all documents'))));
}

// ---- the frame: what stays while pages turn ----------------------------------------------------

function frame() {
  const { info, view } = open;
  view.replaceChildren(el('article', { class: 'viewer' },
    el('header', { class: 'viewer-head' },
      backLink(),
      el('div', { class: 'viewer-title' },
        el('h1', { tabindex: '-1' }, info.filename),
        el('p', {}, [info.title, info.author].filter((fact) => fact).join(' · '))),
      el('div', { class: 'viewer-links' },
        info.worker ? null : [fileLink('original', 'Original', 'download'),
          fileLink('markdown', 'Markdown', 'text')],
        iconButton('trash', `Delete ${info.filename}`, removeOpen))),
    trouble(info),
    el('div', { class: 'viewer-main' },
      hitsPanel(),
      el('div', { class: 'viewer-body' },
        el('div', { class: 'viewer-tools', role: 'toolbar', 'aria-label': 'Page' }),
        el('div', { class: 'viewer-why', hidden: true }),
        el('div', {
          class: 'viewer-page', tabindex: '0', role: 'region', 'aria-label': 'The page',
        })))));
  document.title = `${info.filename} · docusearch`;
  view.querySelector('h1').focus({ preventScroll: true });
}

function backPath() {
  const { q, mode } = open.place;
  return q === '' ? documentsPath({}) : searchPath({ q, mode });
}

function backLink() {
  const name = open.place.q === '' ? 'To the documents' : 'To the results';
  const click = (event) => {
    event.preventDefault();
    back(backPath());
  };
  return el('a', {
    class: 'icon-button', href: backPath(), 'aria-label': name, title: `${name} (Esc)`,
    on: { click },
  }, icon('back'));
}

function fileLink(kind, name, glyph) {
  const { info } = open;
  const path = `/documents/${info.doc_id}/${kind}`;
  const saved = kind === 'markdown' ? `${info.filename}.md` : info.filename;
  const click = (event) => {
    if (!hasKey()) return;
    event.preventDefault();
    openFile(path, saved).catch((error) => announce(error.message));
  };
  return el('a', {
    class: 'button quiet', href: path, title: name, target: '_blank', rel: 'noopener',
    on: { click },
  }, icon(glyph), el('span', {}, name));
}

function trouble(info) {
  if (info.status === 'failed') {
    return el('p', { class: 'notice trouble' },
      `Not searchable. ${reason(info.error?.code, info.error?.message)}`);
  }
  if (!isReady(info)) return el('p', { class: 'notice' }, 'It is still being read.');
  return info.warning ? el('p', { class: 'notice' }, partly(info.warning)) : null;
}

function hitsPanel() {
  const { hits, place } = open;
  const form = el('form', { class: 'field', role: 'search' }, icon('search'), el('input', {
    type: 'search', name: 'q', id: 'q', value: place.q, maxlength: '1000', autocomplete: 'off',
    spellcheck: 'false', placeholder: 'Find in this document',
    'aria-label': 'Find in this document', 'aria-keyshortcuts': '/',
  }));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const q = form.elements.q.value.trim();
    replace(documentPath(place.id, open.place.page, { q, mode: place.mode }));
  });
  return el('aside', { class: 'viewer-hits', 'aria-label': 'Found in this document' }, form,
    place.q === '' ? null : el('p', { class: 'summary' }, hits.length === 0
      ? 'Nothing found in this document' : `Found on ${count(hits.length, 'page')}`),
    hits.length === 0 ? null : el('ol', {}, hits.map(hitLink)));
}

function hitLink(hit) {
  const { place } = open;
  const page = hit.page_num || 1;
  return el('li', {}, el('a', {
    href: documentPath(place.id, page, { q: place.q, mode: place.mode }), data: { page },
    on: { click: turnByLink },
  },
  el('strong', {}, hit.page_num > 0 ? `Page ${hit.page_num}` : 'In the text'),
  el('span', {}, markedText(hit.text_preview ?? '', hit.highlights))));
}

// Pages turn in place: the history keeps one entry a document, not one a page.
function turnByLink(event) {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  replace(event.currentTarget.getAttribute('href'));
}

// ---- turning pages -----------------------------------------------------------------------------

function turned() {
  const { info, place, view } = open;
  const isWide = matchMedia('(min-width: 60rem)').matches;
  for (const link of view.querySelectorAll('.viewer-hits a')) {
    const isHere = Number(link.dataset.page) === place.page;
    if (isHere) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
    if (isHere && isWide) link.scrollIntoView({ block: 'nearest' });
  }
  if (info.page_count > 0) announce(`Page ${place.page} of ${info.page_count}`);
  draw();
}

function draw() {
  const page = open.view.querySelector('.viewer-page');
  const why = open.view.querySelector('.viewer-why');
  drawTools(open.view.querySelector('.viewer-tools'));
  showPage(page, open);
  const sheet = page.querySelector('.sheet');
  if (whyIsShown() && canTellWhy()) showWhy(why, sheet, open);
  else hideWhy(why, sheet);
}

const hitHere = () => open.hits.find((hit) => hit.page_num === open.place.page);
const canTellWhy = () => hasWhy(hitHere()) && hasPicture(open) && !textIsShown();

function drawTools(bar) {
  const { info, place } = open;
  const last = info.page_count;
  const focused = bar.contains(document.activeElement) ? document.activeElement.dataset.tool : null;
  const ends = zoomEnds();
  bar.hidden = last < 1;
  bar.replaceChildren(
    el('div', { class: 'tool-group' },
      tool('left', 'Previous page (←)', 'previous', place.page <= 1, () => turn(place.page - 1)),
      jumpForm(),
      tool('right', 'Next page (→)', 'next', place.page >= last, () => turn(place.page + 1))),
    hasPicture(open) && !textIsShown() ? el('div', { class: 'tool-group' },
      tool('minus', 'Smaller (−)', 'smaller', ends.smallest, () => redrawAfter(zoomBy, -1)),
      el('button', {
        type: 'button', class: 'zoom', title: 'To the width (0)', data: { tool: 'width' },
        on: { click: () => redrawAfter(zoomBy, 0) },
      }, `${zoomPercent()} %`),
      tool('plus', 'Larger (+)', 'larger', ends.largest, () => redrawAfter(zoomBy, 1))) : '',
    canTellWhy() ? el('button', {
      type: 'button', class: 'button quiet', title: 'Where the question fits this page (w)',
      data: { tool: 'why' }, 'aria-pressed': String(whyIsShown()),
      on: { click: () => redrawAfter(toggleWhy) },
    }, icon('why'), 'Why this page') : '',
    hasPicture(open) ? el('button', {
      type: 'button', class: 'button quiet', title: 'Picture or text (t)', data: { tool: 'text' },
      on: { click: () => redrawAfter(toggleText) },
    }, icon(textIsShown() ? 'picture' : 'text'), textIsShown() ? 'Picture' : 'Text') : '');
  if (focused) bar.querySelector(`[data-tool="${focused}"]`)?.focus();
}

function redrawAfter(change, by) {
  change(by);
  draw();
}

function tool(glyph, label, name, isOff, click) {
  return iconButton(glyph, label, click, { disabled: isOff, 'data-tool': name });
}

function jumpForm() {
  const input = el('input', {
    type: 'text', inputmode: 'numeric', value: String(open.place.page), 'aria-label': 'Page number',
    maxlength: '6', data: { tool: 'number' }, on: { focus: (event) => event.target.select() },
  });
  const form = el('form', { class: 'jump' }, input, el('span', {}, `of ${open.info.page_count}`));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    turn(parseInt(input.value, 10));
  });
  return form;
}

function turn(page) {
  const { id, q, mode } = open.place;
  if (!(page >= 1 && page <= open.info.page_count) || page === open.place.page) {
    draw();
    return;
  }
  replace(documentPath(id, page, { q, mode }));
}

async function removeOpen() {
  const path = backPath();
  if (await remove(open.info)) back(path);
}

function pressed(event) {
  if (open === null || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)
      || document.querySelector('dialog[open]')) return;
  const box = open.view.querySelector('.viewer-page');
  const canScroll = event.target === box && box.scrollWidth > box.clientWidth;
  const press = (name) => open.view.querySelector(`[data-tool="${name}"]`)?.click();
  switch (event.key) {
    case 'ArrowLeft':
    case 'ArrowRight':
      if (canScroll) return;
      press(event.key === 'ArrowLeft' ? 'previous' : 'next');
      break;
    case '+': case '=': press('larger'); break;
    case '-': press('smaller'); break;
    case '0': press('width'); break;
    case 't': press('text'); break;
    case 'w': press('why'); break;
    case 'Delete': removeOpen(); break;
    case 'Escape': back(backPath()); break;
    default: return;
  }
  event.preventDefault();
}
