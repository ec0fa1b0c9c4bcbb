// What /health says: the line at the foot of the page, and the banner when the server is away.

import { call } from './api.js';
import { el } from './dom.js';
import { corpusVersion, health, online } from './state.js';
import { count, number } from './words.js';

const CALM_MS = 15000;
const SHORTEST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 15000;
const BANNER_AFTER_MS = 800; // one broken connection is not yet an absent server

let footer = null;
let banner = null;
let timer = 0;
let retry = SHORTEST_RETRY_MS;
let awaySince = 0;

export function start(statusLine, awayBanner) {
  footer = statusLine;
  banner = awayBanner;
  health.watch((reply) => footer.replaceChildren(...(reply ? describe(reply) : [])));
  online.watch((isOnline) => {
    if (isOnline) {
      awaySince = 0;
      retry = SHORTEST_RETRY_MS;
      banner.hidden = true;
    } else if (awaySince === 0) {
      awaySince = Date.now();
      schedule(0);
    }
  });
  corpusVersion.watch(() => schedule(300));
  addEventListener('online', () => schedule(0));
}

function schedule(wait) {
  clearTimeout(timer);
  timer = setTimeout(() => look(), wait);
}

async function look() {
  try {
    health.set(await call('/health'));
    if (!online.value) online.set(true);
    schedule(CALM_MS);
  } catch (error) {
    schedule(retry);
    if (error.status === 0) {
      showAway();
    } else {
      footer.replaceChildren(el('p', {}, 'The server is starting.'));
      online.set(true);
    }
  }
}

function showAway() {
  if (Date.now() - awaySince >= BANNER_AFTER_MS && banner.hidden) {
    banner.replaceChildren(
      el('span', {}, 'The server does not answer. What you see may be old; it goes on by itself '
        + 'when the server is back.'),
      el('button', { type: 'button', class: 'button', on: { click: () => schedule(0) } },
        'Try now'));
    banner.hidden = false;
  }
  retry = Math.min(retry * 1.5, LONGEST_RETRY_MS);
}

const readyModels = (reply) => reply.models.filter((model) => model.state === 'ready');

// The search modes that make sense with the models there are; the first is the default.
export function searchModes(reply) {
  const kinds = new Set((reply ? readyModels(reply) : []).map((model) => model.kind));
  if (kinds.size === 0) return ['hybrid'];
  return ['hybrid', kinds.has('text') ? 'text' : null, kinds.has('visual') ? 'visual' : null,
    'lexical'].filter((mode) => mode !== null);
}

function describe(reply) {
  const waits = reply.queue.waiting + reply.queue.running;
  const parts = [
    part(`${count(reply.documents.total, 'document')}, ${count(reply.documents.pages, 'page')}`),
    part(waits === 0 ? 'queue empty' : `${number(waits)} in the queue`),
    part(describeModels(reply), 'models'),
    part(`device ${reply.device.used}`),
    part(`sandbox ${reply.sandbox.level || 'none'}`,
      reply.sandbox.self_test_passed ? '' : 'trouble'),
    part(`docusearch ${reply.version}`),
  ];
  if (reply.status !== 'healthy') {
    const why = reply.store.reason ? `: ${reply.store.reason}` : '';
    parts.unshift(part(`${reply.status}${why}`, 'trouble'));
  }
  return [el('ul', {}, parts)];
}

function part(text, kind = '') {
  return el('li', { class: kind || null }, text);
}

function describeModels(reply) {
  const loading = reply.models.filter((model) => model.state === 'loading');
  const ready = readyModels(reply);
  if (loading.length > 0) return `loading ${loading.map((model) => model.name).join(', ')}`;
  if (ready.length === 0) return 'no model installed: search is lexical';
  return ready.map((model) => `${model.name} (${model.precision})`).join(', ');
}
