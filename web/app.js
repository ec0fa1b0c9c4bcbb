// Starts the parts of the page and lets the address choose the view.

import { onKeyNeeded } from './api.js';
import * as activity from './activity.js';
import { askKey, showShortcuts } from './dialog.js';
import * as documents from './documents.js';
import { announce, icon, isTyping } from './dom.js';
import * as drop from './drop.js';
import * as events from './events.js';
import * as jobs from './jobs.js';
import * as route from './route.js';
import * as search from './search.js';
import { corpusChanged, removed } from './state.js';
import * as status from './status.js';
import { learnFormats } from './upload.js';
import * as viewer from './viewer.js';

const VIEWS = { search, documents, document: viewer };
const THEMES = ['auto', 'light', 'dark'];

const byId = (id) => document.getElementById(id);
let leave = () => {};

function showRoute(to, restoreScroll) {
  if (to.view === 'document' || !jobs.all().some((item) => !jobs.hasEnded(item))) {
    activity.stepAside();
  }
  leave(to.view);
  leave = VIEWS[to.view].show(byId('view'), to, restoreScroll);
  for (const link of document.querySelectorAll('[data-nav]')) {
    const isHere = link.dataset.nav === to.view;
    if (isHere) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

function startTheme(button) {
  const root = document.documentElement;
  const label = () => {
    const { theme } = root.dataset;
    const name = { auto: 'as the system', light: 'light', dark: 'dark' }[theme];
    button.replaceChildren(icon(theme));
    button.title = `Colours: ${name}`;
    button.setAttribute('aria-label', `Colours: ${name}. Change`);
  };
  button.addEventListener('click', () => {
    root.dataset.theme = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
    localStorage.setItem('docusearch.theme', root.dataset.theme);
    label();
  });
  label();
}

function startKeys() {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape' && isTyping(event.target)) {
      event.target.blur();
    } else if (!isTyping(event.target) && !document.querySelector('dialog[open]')) {
      if (event.key === '/') {
        event.preventDefault();
        focusSearch();
      } else if (event.key === '?') {
        showShortcuts();
      } else if (event.key === 'ArrowDown' && isNowhere(document.activeElement)) {
        focusFirst(event);
      }
    }
  });
  byId('help').addEventListener('click', showShortcuts);
}

const isNowhere = (element) => element === document.body || element === byId('view');

function focusFirst(event) {
  const first = byId('view').querySelector('.hit-link, .card-link, .row-link');
  if (!first) return;
  event.preventDefault();
  first.focus();
}

function focusSearch() {
  if (!byId('q')) route.go(route.searchPath({}));
  byId('q').focus();
  byId('q').select();
}

onKeyNeeded(askKey);
startTheme(byId('theme'));
startKeys();
activity.start(byId('activity'));
status.start(byId('status'), byId('banner'));
drop.start();
route.start(showRoute);
learnFormats().catch((error) => announce(error.message));
events.start({
  job: jobs.take,
  document(change) {
    if (change.action === 'removed') {
      jobs.forgetDocument(change.doc_id);
      removed.set(change.doc_id);
    }
    corpusChanged();
  },
  start() {
    corpusChanged();
    jobs.refresh().catch((error) => announce(error.message));
  },
});
