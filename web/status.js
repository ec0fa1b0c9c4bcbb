// What /health says: the line at the foot of the page, and the banner when the server is away.

import { call } from './api.js';
import { el } from './dom.js';
import { devicePart, modelParts } from './models.js';
import { corpusVersion, health, online } from './state.js';
import { count, number } from './words.js';

const CALM_MS = 15000;
const BUSY_MS = 3000; // while documents are taken in
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
  health.watch((reply) => {
    const line = reply ? describe(reply) : null;
    if (line === null) footer.replaceChildren();
    else if (footer.innerHTML !== line.outerHTML) footer.replaceChildren(line); // focus stays
  });
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
    const reply = await call('/health');
    const isBusy = reply.queue.running > 0
      || reply.models.some((model) => model.state === 'loading');
    health.set(reply);
    if (!online.value) online.set(true);
    schedule(isBusy ? BUSY_MS : CALM_MS);
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

function describe(reply) {
  const waits = reply.queue.waiting + reply.queue.running;
  const parts = [
    part(`${count(reply.documents.total, 'document')}, ${count(reply.documents.pages, 'page')}`),
    part(waits === 0 ? 'queue empty' : `${number(waits)} in the queue`),
    ...modelParts(reply),
    devicePart(reply),
    part(`sandbox ${reply.sandbox.level || 'none'}`,
      reply.sandbox.self_test_passed ? '' : 'trouble'),
    part(`docusearch ${reply.version}`),
  ];
  if (reply.status !== 'healthy') {
    const why = reply.store.reason ? `: ${reply.store.reason}` : '';
    parts.unshift(part(`${reply.status}${why}`, 'trouble'));
  }
  return el('ul', {}, parts);
}

function part(text, kind = '') {
  return el('li', { class: kind || null }, text);
}
