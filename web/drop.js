// Ways for files to come in: dropped anywhere on the page, pasted, or chosen with the button.

import { addDrop, addFiles, addFolder } from './upload.js';

const byId = (id) => document.getElementById(id);

export function start() {
  startDrop();
  startMenu();
  for (const [id, take] of [['files', addFiles], ['folder', addFolder]]) {
    byId(id).addEventListener('change', (event) => {
      take(event.target.files);
      event.target.value = '';
    });
  }
}

function startDrop() {
  const veil = byId('drop');
  let depth = 0; // dragenter and dragleave come for every element on the way
  const carriesFiles = (event) => event.dataTransfer?.types.includes('Files');
  const handlers = {
    dragenter() {
      depth += 1;
      veil.hidden = false;
    },
    dragover(event) {
      event.dataTransfer.dropEffect = 'copy';
    },
    dragleave() {
      depth -= 1;
      veil.hidden = depth <= 0;
    },
    drop(event) {
      depth = 0;
      veil.hidden = true;
      addDrop(event.dataTransfer);
    },
  };
  for (const [name, handler] of Object.entries(handlers)) {
    addEventListener(name, (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      handler(event);
    });
  }
  addEventListener('paste', (event) => {
    if (event.clipboardData.files.length > 0) addFiles(event.clipboardData.files);
  });
}

function startMenu() {
  const button = byId('add');
  const menu = byId('add-menu');
  const setOpen = (isOpen) => {
    menu.hidden = !isOpen;
    button.setAttribute('aria-expanded', String(isOpen));
  };
  button.addEventListener('click', () => {
    setOpen(menu.hidden);
    if (!menu.hidden) byId('pick-files').focus();
  });
  menu.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      byId(event.target.id === 'pick-files' ? 'pick-folder' : 'pick-files').focus();
    } else if (event.key === 'Escape') {
      event.stopPropagation();
      setOpen(false);
      button.focus();
    }
  });
  document.addEventListener('click', (event) => {
    if (!menu.contains(event.target) && !button.contains(event.target)) setOpen(false);
  });
  for (const [id, input] of [['pick-files', 'files'], ['pick-folder', 'folder']]) {
    byId(id).addEventListener('click', () => {
      setOpen(false);
      button.focus();
      byId(input).click();
    });
  }
}
