// The server's events, read with fetch: an EventSource could carry no key. A stream that ends is
// opened again with the last event's id; while none can be had, jobs are polled.

import { call, request } from './api.js';
import { online } from './state.js';

const POLL_MS = 2000;
const SHORTEST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;

let lastId = '';
let stream = null; // the AbortController of the stream now open

// told.job(job) for every change of a job, told.document(change) when one came or went,
// told.start() whenever events may have been missed. A page out of sight listens to nothing:
// browsers allow few connections to one server, whatever the number of tabs.
export function start(told) {
  const listen = () => {
    if (document.hidden) stream?.abort();
    else if (stream === null || stream.signal.aborted) run(told);
  };
  document.addEventListener('visibilitychange', listen);
  listen();
}

async function run(told) {
  const mine = new AbortController();
  let wait = SHORTEST_WAIT_MS;
  stream = mine;
  while (!mine.signal.aborted) {
    try {
      const more = { Accept: 'text/event-stream', ...(lastId && { 'Last-Event-ID': lastId }) };
      const response = await request('/events', { signal: mine.signal, more });
      online.set(true);
      told.start();
      await read(response.body, (name, data) => {
        wait = SHORTEST_WAIT_MS;
        if (name === 'progress') told.job(data);
        else if (name === 'document') told.document(data);
        else if (name === 'reset') told.start();
      });
    } catch {
      // Refused, cut or aborted: the loop's condition and the polling below are the answer.
    }
    if (mine.signal.aborted) break;
    await poll(told, wait, mine.signal);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
  if (stream === mine) stream = null;
}

// Looks at the jobs that are not done for about wait milliseconds.
async function poll(told, wait, signal) {
  const until = Date.now() + wait;
  do {
    await new Promise((resolve) => {
      setTimeout(resolve, Math.min(wait, POLL_MS));
    });
    if (signal.aborted || !online.value) continue;
    try {
      const { jobs } = await call('/jobs?limit=100', { signal });
      jobs.forEach(told.job);
    } catch {
      return;
    }
  } while (!signal.aborted && Date.now() < until);
}

// Takes a text/event-stream apart: fields up to an empty line are one event.
async function read(body, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let name = '';
  let data = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith('id:')) lastId = line.slice(3).trim();
      else if (line.startsWith('event:')) name = line.slice(6).trim();
      else if (line.startsWith('data:')) data += line.slice(5);
      else if (line === '') {
        if (data !== '') onEvent(name, JSON.parse(data));
        name = '';
        data = '';
      }
    }
  }
}
