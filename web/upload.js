// Sending files: a queue of any length, three at once. What is dropped may be folders in folders;
// they are walked as the browser gives them, so that thousands of files do not freeze the page.

import { failureOf, headers, newKey, call } from './api.js';
import * as jobs from './jobs.js';
import { online } from './state.js';
import { announce } from './dom.js';
import { count } from './words.js';

const AT_ONCE = 3;
const SLICE = 100; // files taken in without a pause
const BUSY_WAIT_S = 5;

const waiting = []; // items, first come first
let running = 0;
let extensions = null; // Set of those the server takes; null until known

export async function learnFormats() {
  const formats = await call('/config/supported-formats');
  extensions = new Set(formats.extensions.map((name) => name.replace(/^\./, '').toLowerCase()));
}

function isTaken(name) {
  return extensions === null || extensions.has(name.split('.').pop().toLowerCase());
}

// Files that somebody chose one by one are all sent: the server looks into them. Of a folder, only
// the kinds it takes. The browser looks at the disk for each file's size, so a pause is made now
// and then.
export async function addFiles(files) {
  for (const [i, file] of [...files].entries()) {
    enqueue(file);
    next();
    if (i % SLICE === SLICE - 1) await pause(0);
  }
}

export function addFolder(files) {
  const wanted = [...files].filter((file) => !isHidden(file.webkitRelativePath));
  const taken = wanted.filter((file) => isTaken(file.name));
  addFiles(taken);
  tellSkipped(taken.length, wanted.length - taken.length);
}

function isHidden(path) {
  return path.split('/').some((part) => part.startsWith('.'));
}

function tellSkipped(nTaken, nSkipped) {
  const skipped = nSkipped === 0 ? '' : `; ${count(nSkipped, 'file')} of other kinds left out`;
  announce(`${count(nTaken, 'file')} added${skipped}`);
  if (nSkipped > 0) {
    jobs.add({
      name: count(nSkipped, 'file'), state: 'cancelled',
      why: 'Left out: kinds that cannot be read.',
    });
  }
}

// The entries must be taken from the event before the first await: it empties them.
export async function addDrop(dataTransfer) {
  const entries = [...dataTransfer.items].filter((item) => item.kind === 'file')
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile()).filter((entry) => entry !== null);
  const tally = { taken: 0, skipped: 0 };
  for (const entry of entries) {
    if (entry instanceof File) addFiles([entry]);
    else if (entry.isFile) addFiles([await fileOf(entry)]);
    else await walk(entry, tally);
  }
  if (tally.taken + tally.skipped > 0) tellSkipped(tally.taken, tally.skipped);
}

function fileOf(entry) {
  return new Promise((resolve, reject) => {
    entry.file(resolve, reject);
  });
}

async function walk(folder, tally) {
  const reader = folder.createReader();
  for (;;) {
    const entries = await new Promise((resolve, reject) => {
      reader.readEntries(resolve, reject);
    });
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (entry.name.startsWith('.')) continue;
      if (entry.isDirectory) {
        await walk(entry, tally);
      } else if (isTaken(entry.name)) {
        tally.taken += 1;
        addFiles([await fileOf(entry)]);
      } else {
        tally.skipped += 1;
      }
    }
  }
}

function enqueue(file) {
  const item = jobs.add({ name: file.name, size: file.size });
  item.upload = {
    file,
    transfer: null,
    cancel() {
      if (item.state === 'uploading') this.transfer?.abort();
      jobs.fail(item, 'cancelled');
    },
    retry() {
      item.state = 'waiting';
      item.why = '';
      jobs.changed();
      waiting.push(item);
      next();
    },
  };
  waiting.push(item);
}

function next() {
  while (running < AT_ONCE && waiting.length > 0) {
    const item = waiting.shift();
    if (item.state !== 'waiting') continue;
    running += 1;
    send(item).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function send(item) {
  for (;;) {
    try {
      await whenOnline();
      if (item.state === 'cancelled') return;
      accepted(item, await transfer(item));
      return;
    } catch (error) {
      if (item.state === 'cancelled') return;
      if (!await worthAnother(item, error)) {
        jobs.fail(item, error.code, error.message);
        return;
      }
    }
  }
}

// A server that is full or away is waited for; a key is asked for; the rest is final.
async function worthAnother(item, error) {
  item.state = 'waiting';
  item.progress = 0;
  if (error.status === 401) return newKey(error.usedKey);
  if (error.status === 429 || (error.status === 503 && error.code !== 'storage_error')) {
    item.why = 'The server is busy; waiting.';
    jobs.changed();
    await pause(error.retryAfter || BUSY_WAIT_S);
    return true;
  }
  if (error.status === 0) {
    item.why = 'The connection broke; waiting.';
    jobs.changed();
    item.breaks = (item.breaks ?? 0) + 1;
    await pause(1);
    return item.breaks < 5;
  }
  return false;
}

const pause = (seconds) => new Promise((resolve) => {
  setTimeout(resolve, seconds * 1000);
});

function whenOnline() {
  return new Promise((resolve) => {
    const end = online.watch((isOnline) => {
      if (!isOnline) return;
      resolve();
      queueMicrotask(() => end());
    });
  });
}

function accepted(item, reply) {
  const { doc_id: docId, job_id: jobId, status } = reply.documents[0];
  item.upload = null;
  item.progress = 1;
  if (status === 'queued' || status === 'processing') {
    jobs.bind(item, jobId, docId);
    return;
  }
  item.docId = docId;
  item.state = 'known';
  jobs.changed();
}

// XMLHttpRequest, since fetch tells nothing of what has been sent so far.
function transfer(item) {
  const { upload } = item;
  const form = new FormData();
  const request = new XMLHttpRequest();
  form.append('file', upload.file, upload.file.name);
  upload.transfer = request;
  item.state = 'uploading';
  item.why = '';
  jobs.changed();
  return new Promise((resolve, reject) => {
    const used = headers();
    request.open('POST', '/documents');
    request.responseType = 'json';
    for (const [name, value] of Object.entries(used)) request.setRequestHeader(name, value);
    request.upload.addEventListener('progress', (event) => {
      item.progress = event.total > 0 ? event.loaded / event.total : 0;
      jobs.changed();
    });
    request.addEventListener('load', () => {
      if (request.status < 300) {
        resolve(request.response);
        return;
      }
      const error = failureOf(request.status, request.response,
        request.getResponseHeader('Retry-After'));
      error.usedKey = (used.Authorization ?? '').replace('Bearer ', '');
      reject(error);
    });
    for (const name of ['error', 'abort']) {
      request.addEventListener(name, () => reject(failureOf(0, null)));
    }
    request.send(form);
  });
}
