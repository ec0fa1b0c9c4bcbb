// What is being added: one item a file, from the moment it is dropped here to its end on the
// server. Files sent from elsewhere appear as soon as the server tells of their job.
//
// An item's state: waiting, uploading (here); queued, processing (there); completed, partial,
// known, failed, cancelled (ended).

import { call } from './api.js';
import { corpusChanged } from './state.js';
import { partly, reason } from './words.js';

const NOTIFY_MS = 80;
const ENDED = new Set(['completed', 'partial', 'known', 'failed', 'cancelled']);

const items = new Map(); // by the item's own number
const byJob = new Map(); // job id -> item
const early = new Map(); // job id -> the latest news of a job that no item is bound to yet
const watchers = new Set();
let nextNumber = 1;
let pending = 0;

export const hasEnded = (item) => ENDED.has(item.state);
export const all = () => [...items.values()];

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
  for (const item of all()) {
    if (hasEnded(item)) forget(item);
  }
  changed();
}

// The document is deleted: there is nothing to tell of its file any more.
export function forgetDocument(docId) {
  for (const item of all()) {
    if (item.docId === docId) forget(item);
  }
  changed();
}

function forget(item) {
  items.delete(item.number);
  byJob.delete(item.jobId);
}

export function fail(item, code, text) {
  item.state = code === 'cancelled' ? 'cancelled' : 'failed';
  item.why = reason(code, text);
  item.detail = text ?? '';
  changed();
}

// The item's file is the server's now, under this job.
export function bind(item, jobId, docId) {
  const news = early.get(jobId);
  early.delete(jobId);
  byJob.set(jobId, item);
  Object.assign(item, { state: 'queued', progress: 0, jobId, docId });
  if (news) take(news);
  changed();
}

// Is this job's file being sent from here? Events may be faster than the reply that names the job.
function isOnItsWay(job) {
  return all().some((item) => item.state === 'uploading' && item.name === job.filename);
}

// News of a job, from an event or a list. Jobs that ended before this page knew them are no news.
export function take(job) {
  let item = byJob.get(job.job_id);
  const ended = ['completed', 'failed', 'cancelled'].includes(job.state);
  if (!item) {
    if (isOnItsWay(job)) {
      early.set(job.job_id, job);
      return;
    }
    early.delete(job.job_id);
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
  else item.why = item.state === 'partial' ? partly(job.warning) : '';
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
  for (const item of missed) {
    try {
      take(await call(`/jobs/${item.jobId}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      forget(item);
    }
  }
  changed();
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
