// What several parts of the page look at: cells that tell their watchers when they change.

export function cell(value) {
  const watchers = new Set();
  return {
    get value() {
      return value;
    },
    set(next) {
      value = next;
      for (const watcher of [...watchers]) watcher(value);
    },
    // Calls watcher now and at every change; gives back what ends it.
    watch(watcher) {
      watchers.add(watcher);
      watcher(value);
      return () => watchers.delete(watcher);
    },
  };
}

export const online = cell(true); // does the server answer?
export const health = cell(null); // the last /health reply
export const corpusVersion = cell(0); // grows when documents appear or go
export const removed = cell(''); // the id of the document that was removed last

const CHANGES_MS = 1000;
let told = 0;
let changes = 0;

// How often the corpus has changed by now: what was asked before the last time is stale.
export const corpusChanges = () => changes;

// Watchers hear of one change in CHANGES_MS at most, however many documents come at once.
export function corpusChanged() {
  changes += 1;
  told ||= setTimeout(() => {
    told = 0;
    corpusVersion.set(corpusVersion.value + 1);
  }, CHANGES_MS);
}
