// The panel that tells how each file is doing: what runs now first, then what went wrong, what
// waits, and what is done.

import { announce, el, icon, iconButton } from './dom.js';
import * as jobs from './jobs.js';
import { documentPath } from './route.js';
import { virtualList } from './virtual.js';
import { bytes, count, duration, number } from './words.js';

const ROW_HEIGHT = 64; // as .virtual-row in activity.css
const CANCELS_AT_ONCE = 3;
const RANK = {
  uploading: 0, processing: 0, failed: 1, partial: 2, waiting: 3, queued: 3, completed: 4, known: 4,
  cancelled: 5,
};
const ICON = {
  failed: 'alert', partial: 'alert', completed: 'check', known: 'check', cancelled: 'close',
};
const READABLE = new Set(['completed', 'partial', 'known']);
const STAGES = { // those after which a page's number stands
  parsing: 'Reading', embedding_visual: 'Embedding', embedding_text: 'Embedding passages,',
};

let panel = null;
let fold = null; // the button that shows and hides the list

export function start(element) {
  const title = el('h2', { id: 'activity-title' });
  const bar = el('progress', { max: '1', 'aria-labelledby': 'activity-title' });
  const list = virtualList({
    rowHeight: ROW_HEIGHT, label: 'Files', key: (item) => item.number, draw: drawRow,
  });
  const stop = quietButton('Cancel all', cancelAll);
  const clear = quietButton('Clear finished', jobs.forgetEnded);
  const actions = el('div', { class: 'activity-actions' }, stop, clear);
  let wasOpen = 0;

  function refresh() {
    const items = jobs.all();
    const sum = tally(items);
    panel.hidden = items.length === 0;
    document.body.classList.toggle('has-activity', items.length > 0);
    title.textContent = headline(sum);
    bar.hidden = sum.open === 0;
    bar.value = sum.done / Math.max(1, items.length);
    stop.hidden = sum.open < 2;
    clear.hidden = sum.open === items.length;
    list.show(sortByRank(items));
    if ((wasOpen === 0) !== (sum.open === 0)) {
      announce(headline(sum));
      setFolded(isNarrow() || (sum.open === 0 && sum.failed === 0 && !isInUse()));
    }
    wasOpen = sum.open;
  }

  panel = element;
  fold = iconButton('down', 'Show or hide the list', () => setFolded(!panel.matches('.folded')));
  panel.append(el('header', {}, title, fold), bar, list.element, actions);
  setFolded(isNarrow());
  jobs.watch(refresh);
}

function quietButton(text, click) {
  return el('button', { type: 'button', class: 'button quiet', on: { click } }, text);
}

// Makes room for what the user turned to.
export function stepAside() {
  setFolded(true);
}

function setFolded(isFolded) {
  panel.classList.toggle('folded', isFolded);
  fold.setAttribute('aria-expanded', String(!isFolded));
}

const isInUse = () => panel.matches(':hover, :focus-within');
const isNarrow = () => matchMedia('(max-width: 40rem)').matches;

function tally(items) {
  const sum = { all: items.length, open: 0, failed: 0, done: 0 };
  for (const item of items) {
    if (!jobs.hasEnded(item)) {
      sum.open += 1;
      sum.done += shareDone(item);
    } else {
      sum.done += 1;
      if (item.state === 'failed') sum.failed += 1;
    }
  }
  return sum;
}

// Sending is a tenth of a file's way.
function shareDone(item) {
  if (item.state === 'uploading') return item.progress * 0.1;
  return item.state === 'queued' || item.state === 'processing' ? 0.1 + item.progress * 0.9 : 0;
}

function headline({ all, open, failed }) {
  const trouble = failed > 0 ? ` · ${number(failed)} failed` : '';
  if (open === 0) return `${count(all - failed, 'file')} done${trouble}`;
  return `Adding ${count(all, 'file')} · ${number(all - open)} done${trouble}`;
}

// Stable: within a rank, files stay in the order in which they came.
function sortByRank(items) {
  const ranks = [[], [], [], [], [], []];
  for (const item of items) ranks[RANK[item.state]].push(item);
  return ranks.flat();
}

function drawRow(item, row) {
  const isOpen = !jobs.hasEnded(item);
  const words = describe(item);
  const drawn = `${item.state}|${words}|${item.progress}`;
  if (row.dataset.drawn === drawn) return;
  const hadFocus = row.contains(document.activeElement);
  row.dataset.drawn = drawn;
  row.dataset.state = item.state;
  row.replaceChildren(...[
    el('span', { class: 'activity-mark' }, icon(ICON[item.state] ?? 'wait')),
    el('div', { class: 'activity-text' },
      READABLE.has(item.state)
        ? el('a', { class: 'activity-name', href: documentPath(item.docId, 1) }, item.name)
        : el('span', { class: 'activity-name' }, item.name),
      el('span', { class: 'activity-state', title: item.detail || words }, words),
      item.state === 'uploading' || item.state === 'processing' ? meter(item) : null),
    button(item, isOpen),
  ].filter((node) => node !== null));
  if (hadFocus) row.querySelector('button, a')?.focus();
}

function meter(item) {
  return el('progress', { max: '1', value: String(item.progress), 'aria-label': item.name });
}

function button(item, isOpen) {
  if (isOpen) {
    return iconButton('close', `Cancel ${item.name}`, () => attempt(item, jobs.cancel));
  }
  if (item.state === 'failed' || (item.state === 'cancelled' && (item.jobId || item.upload))) {
    return iconButton('retry', `Try ${item.name} again`, () => attempt(item, jobs.retry));
  }
  return null;
}

// The server may have been faster: then its answer is what the row shows.
async function attempt(item, action) {
  try {
    await action(item);
  } catch (error) {
    announce(error.message);
    item.detail = error.message;
    await jobs.refresh();
  }
}

async function cancelAll() {
  const open = jobs.all().filter((item) => !jobs.hasEnded(item)).reverse();
  await Promise.all(Array.from({ length: CANCELS_AT_ONCE }, async () => {
    while (open.length > 0) await attempt(open.shift(), jobs.cancel);
  }));
}

function describe(item) {
  switch (item.state) {
    case 'waiting': return item.why || `Waiting to be sent · ${bytes(item.size)}`;
    case 'uploading':
      return `Sending · ${Math.round(item.progress * 100)} % of ${bytes(item.size)}`;
    case 'queued': return item.attempts > 0 ? 'Waiting to be tried again' : 'Waiting its turn';
    case 'processing': return describeWork(item);
    case 'completed': return `Ready · ${count(item.pages, 'page')}`;
    case 'known': return 'Already here: the same file was added before';
    default: return item.why;
  }
}

function describeWork(item) {
  const doing = STAGES[item.stage];
  const otherwise = doing?.replace(',', '') ?? (item.stage === 'storing' ? 'Storing' : 'Starting');
  const what = doing !== undefined && item.pages > 0
    ? `${doing} page ${number(Math.max(1, item.page))} of ${number(item.pages)}`
    : `${otherwise}…`;
  return item.remaining > 0 ? `${what} · about ${duration(item.remaining)} left` : what;
}
