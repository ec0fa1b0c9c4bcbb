// The documents: a list to look through, sort, narrow down and delete from.

import { call } from './api.js';
import { confirmDelete } from './dialog.js';
import { announce, el, icon, iconButton } from './dom.js';
import { picture } from './picture.js';
import { documentPath, documentsPath, go, replace } from './route.js';
import { corpusChanged, corpusVersion } from './state.js';
import { bytes, count, day, number, partly, reason } from './words.js';

const PER_PAGE = 50;
const TYPE_PAUSE_MS = 250;
const TYPES = [['', 'All types'], ['pdf', 'PDF'], ['office', 'Office'], ['text', 'Text'],
  ['images', 'Images']];
const SORTS = [['', 'Newest first'], ['oldest_first', 'Oldest first'], ['name_asc', 'Name A–Z'],
  ['name_desc', 'Name Z–A']];

export function show(view, route, restoreScroll) {
  const asked = {
    search: route.params.get('search') ?? '',
    sort: route.params.get('sort') ?? '',
    type: route.params.get('type') ?? '',
    page: Math.max(1, parseInt(route.params.get('page'), 10) || 1),
  };
  const abort = new AbortController();
  const body = el('div', { class: 'documents-body' });
  document.title = 'Documents · docusearch';
  if (view.dataset.view !== 'documents') {
    view.replaceChildren(el('section', { class: 'documents' },
      el('h1', {}, 'Documents'), filterForm(asked), body));
  } else {
    view.querySelector('.documents-body').replaceWith(body);
  }
  view.dataset.view = 'documents';
  const end = corpusVersion.watch(() => list(body, asked, abort.signal).then(() => {
    restoreScroll();
    restoreScroll = () => {};
  }));
  return (next) => {
    end();
    abort.abort();
    if (next !== 'documents') delete view.dataset.view;
  };
}

function filterForm(asked) {
  let timer = 0;
  const form = el('form', { class: 'filters', role: 'search' },
    el('div', { class: 'field' }, icon('search'), el('input', {
      type: 'search', name: 'search', value: asked.search, placeholder: 'Part of a name or title',
      'aria-label': 'Filter by name or title', autocomplete: 'off', spellcheck: 'false',
    })),
    select('type', 'Type', TYPES, asked.type), select('sort', 'Order', SORTS, asked.sort));
  const apply = (change) => {
    clearTimeout(timer);
    change(documentsPath({
      search: form.elements.search.value.trim(), type: form.elements.type.value,
      sort: form.elements.sort.value,
    }));
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    apply(replace);
  });
  form.elements.search.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(() => form.isConnected && apply(replace), TYPE_PAUSE_MS);
  });
  form.elements.type.addEventListener('change', () => apply(go));
  form.elements.sort.addEventListener('change', () => apply(go));
  return form;
}

function select(name, label, options, chosen) {
  return el('select', { name, 'aria-label': label }, options.map(([value, text]) => el('option', {
    value, selected: value === chosen,
  }, text)));
}

async function list(body, asked, signal) {
  const query = new URLSearchParams({
    limit: PER_PAGE, offset: (asked.page - 1) * PER_PAGE, sort_by: asked.sort || 'newest_first',
    ...(asked.search && { search: asked.search }),
    ...(asked.type && { file_type_group: asked.type }),
  });
  let reply;
  try {
    reply = await call(`/documents?${query}`, { signal });
  } catch (error) {
    if (error.name !== 'AbortError') {
      body.replaceChildren(el('p', { class: 'notice trouble', role: 'alert' }, error.message));
    }
    return;
  }
  const focused = body.querySelector(':focus')?.closest('li')?.dataset.id;
  body.replaceChildren(
    el('p', { class: 'summary', role: 'status' }, count(reply.total, 'document')),
    reply.total === 0 ? nothing(asked) : el('ul', {
      class: 'rows', on: { keydown: (event) => rowKey(event, reply.documents) },
    }, reply.documents.map(documentRow)),
    pager(asked, reply.total));
  if (focused) body.querySelector(`li[data-id="${CSS.escape(focused)}"] .row-link`)?.focus();
}

function nothing(asked) {
  const isFiltered = asked.search !== '' || asked.type !== '';
  return el('p', { class: 'notice' }, isFiltered ? 'No document has such a name and type.'
    : 'No documents yet. Drop files anywhere on this page, or use the Add button.');
}

function documentRow(row) {
  return el('li', { class: 'row', data: { id: row.doc_id } },
    el('div', { class: 'row-thumb' }, thumb(row)),
    el('div', { class: 'row-text' },
      el('a', { class: 'row-link', href: documentPath(row.doc_id, 1) }, row.filename),
      el('p', { class: 'row-facts' }, facts(row)),
      trouble(row)),
    iconButton('trash', `Delete ${row.filename}`, () => remove(row)));
}

function facts(row) {
  const pages = row.page_count > 0 ? count(row.page_count, 'page') : null;
  return [(row.format ?? '').toUpperCase(), pages, bytes(row.size_bytes ?? 0), day(row.date_added)]
    .filter((fact) => fact).join(' · ');
}

// Has it been read, all or most of it?
export const isReady = (row) => row.status === 'completed' || row.status === 'partial';

function trouble(row) {
  if (row.status === 'failed') {
    return el('p', { class: 'row-trouble failed' }, icon('alert'),
      `Not searchable. ${reason(row.error?.code, row.error?.message)}`);
  }
  if (row.warning) {
    return el('p', { class: 'row-trouble' }, icon('alert'), partly(row.warning));
  }
  return !isReady(row) ? el('p', { class: 'row-trouble waits' }, icon('wait'), 'Being read')
    : null;
}

function thumb(row) {
  if (!row.first_page_thumb) return formatTile(row.format ?? '');
  return el('div', { class: 'sheet' }, picture(row.first_page_thumb, ''));
}

// What stands where there is no picture.
export function formatTile(format) {
  return el('div', { class: 'tile', 'aria-hidden': 'true' }, icon('document'),
    el('span', {}, format.slice(0, 8)));
}

export function documentCard(row) {
  return el('li', { class: 'card' },
    el('div', { class: 'card-thumb' }, thumb(row)),
    el('a', { class: 'card-link', href: documentPath(row.doc_id, 1) }, row.filename),
    el('p', { class: 'card-facts' }, cardFacts(row)));
}

function cardFacts(row) {
  if (row.status === 'failed') return 'could not be read';
  return isReady(row) ? facts(row) : 'being read';
}

function pager(asked, total) {
  const last = Math.ceil(total / PER_PAGE);
  if (last < 2) return '';
  const link = (page, text, glyph) => (page < 1 || page > last ? el('span', {}) : el('a', {
    class: 'button', href: documentsPath({ ...asked, page: page === 1 ? '' : page }),
  }, glyph === 'left' ? icon(glyph) : null, text, glyph === 'right' ? icon(glyph) : null));
  return el('nav', { class: 'pager', 'aria-label': 'Pages of the list' },
    link(asked.page - 1, 'Previous', 'left'),
    el('span', {}, `${number(asked.page)} of ${number(last)}`),
    link(asked.page + 1, 'Next', 'right'));
}

// ---- deleting ---------------------------------------------------------------------------------

// Asks first. True when the document is gone.
export async function remove(row) {
  if (!await confirmDelete(row.filename)) return false;
  try {
    await call(`/documents/${row.doc_id}`, { method: 'DELETE' });
  } catch (error) {
    if (error.status !== 404) {
      announce(error.message);
      return false;
    }
  }
  announce(`${row.filename} deleted`);
  document.querySelector(`.row[data-id="${CSS.escape(row.doc_id)}"]`)?.remove();
  corpusChanged();
  return true;
}

async function rowKey(event, rows) {
  const item = event.target.closest('li.row');
  const items = [...item.parentElement.children];
  const at = items.indexOf(item);
  if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
    event.preventDefault();
    focusRow(items[at + (event.key === 'ArrowDown' ? 1 : -1)]);
  } else if (event.key === 'Delete') {
    event.preventDefault();
    if (await remove(rows.find((row) => row.doc_id === item.dataset.id))) {
      focusRow(items[at + 1] ?? items[at - 1]);
    }
  }
}

function focusRow(item) {
  item?.querySelector('.row-link').focus();
  item?.scrollIntoView({ block: 'nearest' });
}
