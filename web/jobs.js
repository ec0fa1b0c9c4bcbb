// What is being added: one item a file, from the moment it is dropped here to its end on the server.
// Files sent from elsewhere appear as soon as the server tells of their job.
//
// An item's state: waiting, uploading (here); queued, processing (there); completed, partial, known,
// failed, cancelled (ended).

import { call } from './api.js';
import { corpusChanged } from './state.js';
import { reason } from './words.js';

const NOTIFY_MS = 80;
const ENDED = new Set(['completed', 'partial', 'known', 'failed', 'cancelled']);

const items = new Map(); // by the item's own number
const byJob = new Map(); // job id -> item
const watchers = new Set();
let nextNumber = 1;
let pending = 0;

export const hasEnded = (item) => ENDED.has(item.state);
export const all = () => items.values();

// Watchers are called at most once in NOTIFY_MS, however many items change.
export function watch(watcher) {
  watchers.add(watcher);
}

export function changed() {
  pending ||= setTimeout(() => {
    pending = 0;
    for (const watcher of watchers) watcher();
  }, NOTIFY_MS);
}

export function add(fields) {
  const item = {
    number: nextNumber++, name: '', size: 0, state: 'waiting', progress: 0, page: 0, pages: 0,
    stage: '', remaining: null, why: '', detail: '', docId: null, jobId: null, upload: null,
    ...fields,
  };
  items.set(item.number, item);
  changed();
  return item;
}

export function forgetEnded() {
  for (const item of [...items.values()]) {
    if (!hasEnded(item)) continue;
    items.delete(item.number);
    byJob.delete(item.jobId);
  }
  changed();
}

export function fail(item, code, text) {
  item.state = code === 'cancelled' ? 'cancelled' : 'failed';
  item.why = reason(code, text);
  item.detail = text ?? '';
  changed();
}

// The item's file is the server's now, under this job. Events may have been faster than the reply:
// then an item for the job is here already, and its news are taken over.
export function bind(item, jobId, docId) {
  const early = byJob.get(jobId);
  item.docId = docId;
  item.jobId = jobId;
  if (early && early !== item) {
    items.delete(early.number);
    for (const field of ['state', 'stage', 'progress', 'page', 'pages', 'why', 'detail']) {
      item[field] = early[field];
    }
  } else {
    item.state = 'queued';
    item.progress = 0;
  }
  byJob.set(jobId, item);
  changed();
}

// News of a job, from an event or a list. Jobs that ended before this page knew them are no news.
export function take(job) {
  let item = byJob.get(job.job_id);
  const ended = ['completed', 'failed', 'cancelled'].includes(job.state);
  if (!item) {
    if (ended) return;
    item = add({ name: job.filename, docId: job.doc_id, jobId: job.job_id });
    byJob.set(job.job_id, item);
  }
  const before = item.state;
  item.state = job.state === 'completed' && job.warning ? 'partial' : job.state;
  item.stage = job.stage ?? '';
  item.progress = job.progress ?? 0;
  item.page = job.page ?? 0;
  item.pages = job.pages ?? 0;
  item.remaining = job.estimated_remaining ?? null;
  item.attempts = job.attempts ?? 0;
  if (job.state === 'failed') fail(item, job.error?.code, job.error?.message);
  else item.why = item.state === 'partial' ? `Some of it could not be read: ${job.warning}` : '';
  if (before !== item.state && ended) corpusChanged();
  changed();
}

// Waiting and running jobs, so that a page opened now shows them too.
export async function refresh() {
  const open = [...byJob.values()].filter((item) => !hasEnded(item));
  const { jobs } = await call('/jobs?state=queued,processing&limit=1000');
  const seen = new Set(jobs.map((job) => job.job_id));
  jobs.reverse().forEach(take);
  const missed = open.filter((item) => !seen.has(item.jobId));
  for (const item of missed) take(await call(`/jobs/${item.jobId}`));
}

export async function cancel(item) {
  if (hasEnded(item)) return;
  if (item.upload) item.upload.cancel();
  else await call(`/jobs/${item.jobId}/cancel`, { method: 'POST' });
}

export async function retry(item) {
  if (item.upload) {
    item.upload.retry();
    return;
  }
  await call(`/jobs/${item.jobId}/retry`, { method: 'POST' });
  item.state = 'queued';
  item.why = '';
  changed();
}
