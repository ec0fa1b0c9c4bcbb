// What /health says: the line at the foot of the page, and the banner when the server is away.

import { call } from './api.js';
import { el } from './dom.js';
import { corpusVersion, health, online } from './state.js';
import { count, number } from './words.js';

const CALM_MS = 15000;
const SHORTEST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 15000;
const BANNER_AFTER_MS = 800; // one broken connection is not yet an absent server

let timer = 0;
let retry = SHORTEST_RETRY_MS;
let awaySince = 0;

export function start(footer, banner) {
  health.watch((reply) => footer.replaceChildren(...(reply ? describe(reply) : [])));
  online.watch((isOnline) => {
    if (isOnline) {
      awaySince = 0;
      retry = SHORTEST_RETRY_MS;
      banner.hidden = true;
    } else if (awaySince === 0) {
      awaySince = Date.now();
      schedule(0, banner);
    }
  });
  corpusVersion.watch(() => schedule(300, banner));
  addEventListener('online', () => schedule(0, banner));
}

function schedule(wait, banner) {
  clearTimeout(timer);
  timer = setTimeout(() => look(banner), wait);
}

async function look(banner) {
  try {
    health.set(await call('/health'));
    if (!online.value) online.set(true);
    schedule(CALM_MS, banner);
  } catch (error) {
    if (error.status > 0 && !online.value) online.set(true);
    schedule(error.status > 0 ? CALM_MS : retry, banner);
    if (error.status === 0) showAway(banner);
  }
}

function showAway(banner) {
  if (Date.now() - awaySince >= BANNER_AFTER_MS && banner.hidden) {
    banner.replaceChildren(
      el('span', {}, 'The server does not answer. What you see may be old; it goes on by itself when '
        + 'the server is back.'),
      el('button', { type: 'button', class: 'button', on: { click: () => schedule(0, banner) } },
        'Try now'));
    banner.hidden = false;
  }
  retry = Math.min(retry * 1.5, LONGEST_RETRY_MS);
}

const readyModels = (reply) => (reply.models ?? []).filter((model) => model.state === 'ready');

// The search modes that make sense with the models there are; the first is the default.
export function searchModes(reply) {
  const kinds = new Set(readyModels(reply ?? {}).map((model) => model.kind));
  if (kinds.size === 0) return ['hybrid'];
  return ['hybrid', kinds.has('text') ? 'text' : null, kinds.has('visual') ? 'visual' : null,
    'lexical'].filter((mode) => mode !== null);
}

function describe(reply) {
  const waits = (reply.queue?.queued ?? 0) + (reply.queue?.processing ?? 0);
  const parts = [
    part(`${count(reply.documents ?? 0, 'document')}, ${count(reply.pages ?? 0, 'page')}`),
    part(waits === 0 ? 'queue empty' : `${number(waits)} in the queue`),
    part(describeModels(reply), 'models'),
    part(`device ${reply.device?.in_use ?? 'cpu'}`),
    part(`sandbox ${reply.sandbox?.level || 'none'}`, reply.sandbox?.self_test_passed === false
      ? 'trouble' : ''),
    part(`docusearch ${reply.version ?? ''}`),
  ];
  if (reply.status !== 'healthy') {
    parts.unshift(part(`${reply.status}${reply.reason ? `: ${reply.reason}` : ''}`, 'trouble'));
  }
  return [el('ul', {}, parts)];
}

function part(text, kind = '') {
  return el('li', { class: kind || null }, text);
}

function describeModels(reply) {
  const models = reply.models ?? [];
  const loading = models.filter((model) => model.state === 'loading');
  const ready = readyModels(reply);
  if (loading.length > 0) return `loading ${loading.map((model) => model.name).join(', ')}`;
  if (ready.length === 0) return 'no model installed: search is lexical';
  return ready.map((model) => `${model.name} (${model.precision})`).join(', ');
}
