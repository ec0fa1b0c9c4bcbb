// The search: box, filters, results. Without a query, what is there and how to begin.

import { call } from './api.js';
import { announce, el, icon } from './dom.js';
import { boxKind, boxLayer, markedText } from './marks.js';
import { documentCard, formatTile } from './documents.js';
import { searchModes } from './models.js';
import { picture } from './picture.js';
import { documentPath, go, searchPath } from './route.js';
import { corpusChanges, corpusVersion, health, removed } from './state.js';
import { count, reason } from './words.js';

const FIRST_RESULTS = 20;
const MOST_RESULTS = 100;
const RECENT = 10;
const MODE_NAMES = {
  hybrid: 'Everything', text: 'By meaning', visual: 'By looks', lexical: 'By words',
};
const TYPES = [['', 'All'], ['pdf', 'PDF'], ['office', 'Office'], ['text', 'Text'],
  ['images', 'Images']];

let last = null; // the last reply and what was asked, so that going back is instant
let opened = ''; // the address of the result last opened, which has the focus after going back

export function show(view, route, restoreScroll) {
  const asked = {
    q: (route.params.get('q') ?? '').trim(),
    mode: route.params.get('mode') ?? '',
    type: route.params.get('type') ?? '',
  };
  const abort = new AbortController();
  const body = el('div', { class: 'search-body' });
  const form = searchForm(asked);
  const ends = [() => abort.abort(), health.watch((reply) => fillModes(form, asked, reply))];
  document.title = asked.q === '' ? 'docusearch' : `${asked.q} · docusearch`;
  view.replaceChildren(el('section', { class: asked.q === '' ? 'search home' : 'search' },
    el('h1', { class: asked.q === '' ? '' : 'unseen' },
      asked.q === '' ? 'What are you looking for?' : 'Search'), form, body));
  if (asked.q === '') {
    last = null;
    form.elements.q.focus({ preventScroll: true });
    ends.push(corpusVersion.watch(() => showStart(body, abort.signal)));
  } else {
    find(body, asked, FIRST_RESULTS, abort.signal).then(restoreScroll);
    ends.push(removed.watch((id) => markRemoved(body, id)));
  }
  body.addEventListener('click', (event) => {
    const link = event.target.closest('.hit-link');
    if (link) opened = link.getAttribute('href');
  });
  body.addEventListener('keydown', (event) => moveBetween(event, body, form.elements.q));
  form.elements.q.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown') {
      event.preventDefault();
      body.querySelector('.hit-link, .card-link')?.focus();
    }
  });
  return () => ends.forEach((end) => end());
}

function searchForm(asked) {
  const input = el('input', {
    type: 'search', name: 'q', value: asked.q, maxlength: '1000', autocomplete: 'off',
    autocapitalize: 'off', spellcheck: 'false', enterkeyhint: 'search', id: 'q',
    placeholder: 'Words, or a "phrase in quotes"', 'aria-label': 'Search the documents',
    'aria-keyshortcuts': '/',
  });
  const form = el('form', { class: 'search-form', role: 'search' },
    el('div', { class: 'search-line' }, icon('search'), input,
      el('select', { name: 'mode', 'aria-label': 'How to search' }),
      el('button', { class: 'button primary', type: 'submit' }, icon('search'),
        el('span', {}, 'Search'))));
  if (asked.q !== '') form.append(typeFilter(asked));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const chosen = form.elements.mode.value;
    const mode = chosen === 'hybrid' ? '' : chosen;
    go(searchPath({ q: input.value.trim(), mode, type: asked.type }));
    document.getElementById('q')?.focus();
  });
  form.elements.mode.addEventListener('change', () => form.requestSubmit());
  return form;
}

// A mode that cannot act says why, and stays where the address names it.
function fillModes(form, asked, reply) {
  const select = form.elements.mode;
  const options = searchModes(reply).map(({ mode, why }) => el('option', {
    value: mode, selected: mode === asked.mode, disabled: why !== '', title: why || null,
  }, why === '' ? MODE_NAMES[mode] : `${MODE_NAMES[mode]} (${why})`));
  const drawn = options.map((option) => option.outerHTML).join();
  if (select.dataset.drawn === drawn) return; // an open list stays open
  select.dataset.drawn = drawn;
  select.replaceChildren(...options);
}

function typeFilter(asked) {
  return el('div', { class: 'chips', role: 'group', 'aria-label': 'Type of document' },
    TYPES.map(([type, name]) => el('a', {
      class: 'chip', href: searchPath({ ...asked, type }),
      'aria-current': type === asked.type && 'true',
    }, name)));
}

// ---- results ----------------------------------------------------------------------------------

async function find(body, asked, nResults, signal) {
  const wanted = JSON.stringify([asked, nResults, corpusChanges()]);
  if (last?.wanted === wanted) {
    showReply(body, asked, nResults, last.reply, signal);
    return;
  }
  body.classList.add('busy');
  try {
    const reply = await call('/search', {
      method: 'POST', signal,
      body: {
        query: asked.q, n_results: nResults, search_mode: asked.mode || 'hybrid',
        ...(asked.type && { filters: { format: [asked.type] } }),
      },
    });
    last = { wanted, reply };
    showReply(body, asked, nResults, reply, signal);
  } catch (error) {
    if (error.name === 'AbortError') return;
    body.replaceChildren(searchTrouble(error, asked));
  } finally {
    body.classList.remove('busy');
  }
}

// By words needs no vectors, and goes on without ChromaDB.
function searchTrouble({ code, message }, asked) {
  const words = code !== 'backend_unavailable' || asked.mode === 'lexical' ? null
    : [' Until it does, ', el('a', { href: searchPath({ ...asked, mode: 'lexical' }) },
      'search by words'), '.'];
  return el('p', { class: 'notice trouble', role: 'alert' }, reason(code, message), words);
}

function showReply(body, asked, nResults, reply, signal) {
  const { results } = reply;
  const summary = results.length === 0 ? 'Nothing found'
    : `${count(results.length, 'page')} found`;
  const missing = Object.values(reply.stages ?? {}).map((stage) => stage.unavailable)
    .filter((why) => why);
  announce(summary);
  body.replaceChildren(
    el('p', { class: 'summary' }, summary,
      el('span', { class: 'quiet' }, ` in ${Math.max(1, Math.round(reply.search_time_ms))} ms`),
      missing.length === 0 ? null
        : el('span', { class: 'quiet' }, ` · left out: ${missing.join('; ')}`)),
    results.length === 0 ? nothingFound(asked) : el('ol', { class: 'hits' },
      results.map((result) => hitCard(result, asked))));
  if (document.activeElement === document.body) {
    body.querySelector(`.hit-link[href="${CSS.escape(opened)}"]`)?.focus({ preventScroll: true });
  }
  if (results.length === nResults && nResults < MOST_RESULTS) {
    body.append(el('button', {
      type: 'button', class: 'button more',
      on: { click: () => showMore(body, asked, results.length, signal) },
    }, 'Show more'));
  }
}

async function showMore(body, asked, nShown, signal) {
  await find(body, asked, MOST_RESULTS, signal);
  body.querySelectorAll('.hit-link')[nShown]?.focus();
}

function nothingFound(asked) {
  return el('div', { class: 'notice' },
    el('p', {}, 'No page matches. Fewer or other words may help; a word cut short with a star, as '
      + 'in ', el('code', {}, 'turbin*'), ', finds its longer forms.'),
    asked.type === '' ? null : el('p', {},
      el('a', { href: searchPath({ ...asked, type: '' }) }, 'Search all types of documents')));
}

function hitCard(result, asked) {
  const page = result.page_num || 1;
  const params = { q: asked.q, mode: asked.mode };
  const place = [result.page_num > 0 ? `Page ${result.page_num}` : null,
    result.heading_path || null].filter((text) => text !== null);
  return el('li', { class: 'hit', data: { document: result.doc_id } },
    el('div', { class: 'hit-thumb' }, thumb(result)),
    el('div', { class: 'hit-text' },
      el('h2', {}, el('a', { class: 'hit-link', href: documentPath(result.doc_id, page, params) },
        result.filename)),
      el('p', { class: 'hit-place' }, place.join(' · ')),
      passage(result),
      el('p', {
        class: 'hit-score', title: 'How well it matches; compares results of one search only',
      }, scoreText(result.score))));
}

// Its answers stay where they are: a list that moves under the reader's hand helps nobody.
function markRemoved(body, docId) {
  for (const hit of body.querySelectorAll('.hit:not(.gone)')) {
    if (hit.dataset.document !== docId) continue;
    hit.classList.add('gone');
    hit.querySelector('.hit-place').textContent = 'This document was removed.';
  }
}

// A page may be found by its meaning or its looks alone: then no word is marked, and a page without
// text has no passage.
function passage(result) {
  if (!result.text_preview) {
    return el('p', { class: 'hit-passage quiet' }, 'Found by its looks; it has no text.');
  }
  return el('p', { class: 'hit-passage' }, markedText(result.text_preview, result.highlights));
}

const scoreText = (score) => (score === 0 || Math.abs(score) >= 1 ? score.toFixed(2)
  : score.toPrecision(2));

function thumb(result) {
  if (!result.thumb_url) return formatTile(result.metadata.format);
  return el('div', { class: 'sheet' },
    picture(result.thumb_url, '', { width: result.page_width, height: result.page_height }),
    boxLayer(result.boxes, boxKind(result)));
}

// ---- no query ---------------------------------------------------------------------------------

async function showStart(body, signal) {
  let reply;
  try {
    reply = await call(`/documents?limit=${RECENT}&sort_by=newest_first`, { signal });
  } catch (error) {
    if (error.name !== 'AbortError') {
      body.replaceChildren(el('p', { class: 'notice trouble', role: 'alert' }, error.message));
    }
    return;
  }
  body.replaceChildren(reply.total === 0 ? welcome() : el('section', { class: 'recent' },
    el('h2', {}, 'Newest documents'),
    el('ul', { class: 'cards' }, reply.documents.map((row) => documentCard(row)))));
}

function welcome() {
  return el('section', { class: 'welcome' },
    el('h2', {}, 'Nothing here yet'),
    el('ol', {},
      el('li', {}, el('strong', {}, 'Add documents. '),
        'Drop files or whole folders anywhere on this page, or use the Add button: PDF, Word, '
        + 'PowerPoint, Excel, web pages, Markdown, text, pictures and scans.'),
      el('li', {}, el('strong', {}, 'Wait a moment. '),
        'Each page is read as you watch; what is read can be searched at once.'),
      el('li', {}, el('strong', {}, 'Ask. '),
        'The answer is the page, with the words you looked for marked on it.')),
    el('p', {}, el('button', {
      type: 'button', class: 'button primary large',
      on: { click: () => document.getElementById('files').click() },
    }, icon('upload'), 'Choose files')),
    el('p', { class: 'quiet' }, 'Everything stays on this server.'));
}

// ---- keyboard ---------------------------------------------------------------------------------

function moveBetween(event, body, input) {
  if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
  const links = [...body.querySelectorAll('.hit-link, .card-link')];
  const at = links.indexOf(document.activeElement);
  if (at < 0) return;
  event.preventDefault();
  const to = at + (event.key === 'ArrowDown' ? 1 : -1);
  if (to < 0) input.focus();
  else links[to]?.focus();
  links[to]?.closest('li').scrollIntoView({ block: 'nearest' });
}
