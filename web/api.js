// The one door to the server: calls, failures with the server's code and words, and the key.

import { online } from './state.js';

const KEY = 'docusearch.key';
let key = sessionStorage.getItem(KEY) ?? '';
let ask = null; // shows the key dialog; gives the key, or null
let asking = null; // the dialog now open
let declined = false; // it was closed without a key: background calls do not open it again

class CallError extends Error {
  constructor(status, code, message, retryAfter = 0) {
    super(message);
    this.status = status; // 0: the server did not answer
    this.code = code;
    this.retryAfter = retryAfter; // seconds
  }
}

export function onKeyNeeded(dialog) {
  ask = dialog;
}

export const hasKey = () => key !== '';

export function headers(more = {}) {
  return key === '' ? more : { Authorization: `Bearer ${key}`, ...more };
}

// Asks for the key; callers that need it at the same time share one dialog. refused: the key that
// the server did not take. True when there is another key to try.
export async function newKey(refused) {
  if (refused !== key) return true;
  if (declined) return false;
  asking ??= ask(refused !== '').finally(() => {
    asking = null;
  });
  const given = await asking;
  declined = given === null;
  if (declined) return false;
  key = given;
  sessionStorage.setItem(KEY, key);
  return true;
}

// fetch, with the key; asks for it where it is missing. more: further headers. Gives the response
// only when it is good.
export async function request(path, { method = 'GET', body, signal, more = {} } = {}) {
  for (;;) {
    const used = key;
    const type = body === undefined ? {} : { 'Content-Type': 'application/json' };
    let response;
    try {
      response = await fetch(path, {
        method, signal, headers: headers({ ...type, ...more }),
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      online.set(false);
      throw new CallError(0, 'unreachable', 'The server does not answer.');
    }
    if (response.ok) return response;
    if (response.status === 401 && await newKey(used)) continue;
    throw await failure(response);
  }
}

export async function call(path, options) {
  return (await request(path, options)).json();
}

async function failure(response) {
  let said = null;
  try {
    said = await response.json();
  } catch {
    // Not JSON: a proxy's page, perhaps. The status says enough.
  }
  return failureOf(response.status, said, response.headers.get('Retry-After'));
}

// said: the reply's JSON, if it had any. status 0: the connection broke.
export function failureOf(status, said, retryAfter) {
  if (status === 401) {
    return new CallError(401, 'key_required',
      'This server asks for its key. Load the page again to give it.');
  }
  if (status === 0) return new CallError(0, 'unreachable', 'The connection to the server broke.');
  return new CallError(status, said?.error?.code ?? `http_${status}`,
    said?.error?.message ?? said?.detail ?? `The server answered ${status}.`,
    Number(retryAfter) || 0);
}

// Opens a file of the server's in a new tab, or saves it where the key must be shown: a link cannot
// carry it, and a document from elsewhere must not run as a page of ours.
export async function openFile(path, filename) {
  const response = await request(path);
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement('a');
  link.href = url;
  link.download = filename;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
