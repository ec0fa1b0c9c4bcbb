// Questions to the user (confirm, the key) and things to read (the keyboard's shortcuts). All are <dialog>s, so Esc
// closes them and the focus comes back to where it was.

import { el } from './dom.js';

// Resolves to the dialog's returnValue, '' when it was closed otherwise.
function show(dialog) {
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
  });
}

export async function confirmDelete(filename) {
  const answer = await show(el('dialog', { class: 'dialog', 'aria-labelledby': 'dialog-title' },
    el('form', { method: 'dialog' },
      el('h2', { id: 'dialog-title' }, 'Delete this document?'),
      el('p', { class: 'dialog-name' }, filename),
      el('p', {}, 'Its pages, its text and the copy kept on the server go. This cannot be undone.'),
      el('div', { class: 'dialog-buttons' },
        el('button', { class: 'button', value: '', autofocus: true }, 'Keep it'),
        el('button', { class: 'button danger', value: 'delete' }, 'Delete')))));
  return answer === 'delete';
}

// Gives the key typed, or null.
export async function askKey(wasRefused) {
  const input = el('input', {
    id: 'key', type: 'password', required: true, autofocus: true, autocomplete: 'off',
    spellcheck: 'false', 'aria-describedby': 'key-about',
  });
  const answer = await show(el('dialog', { class: 'dialog', 'aria-labelledby': 'dialog-title' },
    el('form', { method: 'dialog' },
      el('h2', { id: 'dialog-title' }, 'This server asks for its key'),
      wasRefused ? el('p', { class: 'refused', role: 'alert' }, 'That key was not taken.') : null,
      el('p', { id: 'key-about' },
        'It is the one in the server’s API_KEY setting. It is kept until this tab is closed.'),
      el('label', { for: 'key' }, 'API key'),
      input,
      el('div', { class: 'dialog-buttons' },
        el('button', {
          type: 'button', class: 'button',
          on: { click: (event) => event.target.closest('dialog').close('') },
        }, 'Cancel'),
        el('button', { class: 'button primary', value: 'key' }, 'Use it')))));
  return answer === 'key' ? input.value : null;
}

const SHORTCUTS = [
  ['/', 'Search'],
  ['↑ ↓', 'Move through results or documents'],
  ['Enter', 'Open'],
  ['← →', 'Previous and next page of a document'],
  ['+ − 0', 'Zoom in, out, to the width'],
  ['t', 'Picture or text of a page'],
  ['w', 'Why this page: where the question fits it'],
  ['Delete', 'Delete a document (asks first)'],
  ['Esc', 'Back, or close'],
  ['?', 'This list'],
];

export function showShortcuts() {
  const rows = SHORTCUTS.map(([keys, what]) => [
    el('dt', {}, keys.split(' ').map((key) => el('kbd', {}, key))),
    el('dd', {}, what),
  ]);
  showAbout('Keyboard', el('dl', { class: 'shortcuts' }, rows));
}

export function showAbout(title, ...content) {
  show(el('dialog', { class: 'dialog', 'aria-labelledby': 'dialog-title' },
    el('form', { method: 'dialog' },
      el('h2', { id: 'dialog-title' }, title),
      ...content,
      el('div', { class: 'dialog-buttons' },
        el('button', { class: 'button', autofocus: true }, 'Close')))));
}
