// The server's events, read with fetch: an EventSource could carry no key. A stream that ends is
// opened again with the last event's id; while none can be had, jobs are polled.

import { call, request } from './api.js';
import { online } from './state.js';

const POLL_MS = 2000;
const LONGEST_WAIT_MS = 15000;

let lastId = '';
let stream = null; // the AbortController of the stream now open

// onJob(job) for every change; onStart() whenever events may have been missed.
export function start(onJob, onStart) {
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) stream?.abort();
    else if (stream === null) run(onJob, onStart);
  });
  if (!document.hidden) run(onJob, onStart);
}

async function run(onJob, onStart) {
  const mine = new AbortController();
  let wait = 500;
  stream = mine;
  while (!mine.signal.aborted) {
    try {
      const accept = { Accept: 'text/event-stream', ...(lastId && { 'Last-Event-ID': lastId }) };
      const response = await request('/events', { signal: mine.signal, accept });
      online.set(true);
      onStart();
      await read(response.body, onJob, () => {
        wait = 500;
      });
    } catch {
      // Refused, cut or aborted: the loop's condition and the polling below are the answer.
    }
    if (mine.signal.aborted) break;
    await poll(onJob, wait, mine.signal);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
  if (stream === mine) stream = null;
}

// Looks at the jobs that are not done for about wait milliseconds.
async function poll(onJob, wait, signal) {
  const until = Date.now() + wait;
  do {
    await new Promise((resolve) => {
      setTimeout(resolve, Math.min(wait, POLL_MS));
    });
    if (signal.aborted || !online.value) continue;
    try {
      const { jobs } = await call('/jobs?limit=100', { signal });
      jobs.forEach(onJob);
    } catch {
      return;
    }
  } while (!signal.aborted && Date.now() < until);
}

// Takes a text/event-stream apart: fields up to an empty line are one event.
async function read(body, onJob, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let data = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith('id:')) lastId = line.slice(3).trim();
      else if (line.startsWith('data:')) data += line.slice(5);
      else if (line === '' && data !== '') {
        onEvent();
        onJob(JSON.parse(data));
        data = '';
      }
    }
  }
}
