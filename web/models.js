// What /health says of the models, in words: the parts of the status line, the search modes that
// can act, and the dialog that tells how to get what is missing.

import { showAbout } from './dialog.js';
import { el } from './dom.js';
import { count } from './words.js';

const KINDS = { text: 'text model', visual: 'visual model' };
const STATES = {
  ready: 'ready', loading: 'loading', not_installed: 'not installed', failed: 'could not be loaded',
  off: 'turned off by the settings',
};

const modelOf = (reply, kind) => reply?.models.find((model) => model.kind === kind);

// Why a model cannot act; '' when it can.
function lack(model, kind) {
  switch (model?.state) {
    case 'ready': return '';
    case 'loading': return `the ${KINDS[kind]} is loading`;
    case 'failed': return `the ${KINDS[kind]} could not be loaded`;
    case 'off': return `no ${KINDS[kind]} chosen`;
    default: return `no ${KINDS[kind]} installed`;
  }
}

// Every search mode and, where it cannot act now, why; the first is the default.
export function searchModes(reply) {
  return [
    { mode: 'hybrid', why: '' },
    { mode: 'text', why: lack(modelOf(reply, 'text'), 'text') },
    { mode: 'visual', why: lack(modelOf(reply, 'visual'), 'visual') },
    { mode: 'lexical', why: '' },
  ];
}

const shortName = (name) => (name ?? '').split('/').filter((part) => part !== '').pop() ?? '';
const rate = (n) => (n >= 10 ? Math.round(n) : n.toPrecision(2));

function readyPart(model) {
  const speed = model.kind === 'visual' ? model.pages_per_second : model.passages_per_second;
  const things = model.kind === 'visual' ? 'pages/s' : 'passages/s';
  const working = model.waiting > 0 && speed > 0 ? ` · ${rate(speed)} ${things}` : '';
  return el('li', { class: 'models', title: `${KINDS[model.kind]} ${model.name}` },
    `${shortName(model.name)} ${model.precision}${working}`);
}

// Documents that were read before the model was there.
function withoutPart(model) {
  if (model.state !== 'ready' || !(model.without_vectors > 0)) return null;
  return el('li', {
    class: 'trouble', title: `The ${KINDS[model.kind]} does not find them. Add their files again.`,
  }, `${count(model.without_vectors, 'document')} not seen by the ${KINDS[model.kind]}`);
}

function modelPart(model, reply) {
  const name = shortName(model.name);
  if (model.state === 'ready') return readyPart(model);
  if (model.state === 'loading') return el('li', { class: 'models' }, `loading ${name}`);
  if (model.state === 'failed') {
    return el('li', { class: 'trouble', title: model.reason ?? '' },
      `${name} could not be loaded `, aboutButton('Why', reply));
  }
  return null;
}

function aboutButton(text, reply) {
  return el('button', {
    type: 'button', class: 'link', 'aria-haspopup': 'dialog', on: { click: () => show(reply) },
  }, text);
}

// The status line's parts: a model used for both kinds stands once.
export function modelParts(reply) {
  const text = modelOf(reply, 'text');
  const visual = modelOf(reply, 'visual');
  const isOne = text.state === visual.state && text.name === visual.name;
  const parts = (isOne ? [visual] : [visual, text]).map((model) => modelPart(model, reply));
  parts.push(...[visual, text].map(withoutPart));
  const acts = (model) => model.state === 'ready' || model.state === 'loading';
  if (!acts(text) && text.state !== 'failed') {
    const wordsOnly = acts(visual) ? '' : 'Words only: ';
    parts.push(el('li', { class: 'models' }, `${wordsOnly}${lack(text, 'text')} `,
      aboutButton(text.state === 'not_installed' ? 'How to get one' : 'About', reply)));
  }
  return parts.filter((part) => part !== null);
}

export function devicePart({ device }) {
  const facts = [device.kernels, device.processor, device.reason].filter((fact) => fact);
  return el('li', { title: facts.join(' · ') },
    device.requested === 'auto' || device.requested === device.used ? `device ${device.used}`
      : `device ${device.used}, not ${device.requested}`);
}

// ---- the dialog --------------------------------------------------------------------------------

function show(reply) {
  const models = [modelOf(reply, 'text'), modelOf(reply, 'visual')];
  const missing = models.filter((model) => model.state === 'not_installed');
  showAbout('Models',
    el('p', {}, 'A text model finds passages by their meaning, a visual model finds pages by their '
      + 'looks. Without them the search goes by words.'),
    el('dl', { class: 'models-list' }, models.map((model) => [
      el('dt', {}, `${KINDS[model.kind][0].toUpperCase()}${KINDS[model.kind].slice(1)}`),
      el('dd', {}, `${model.name ?? 'none'}: ${STATES[model.state] ?? model.state}`,
        model.state === 'failed' && model.reason ? el('p', { class: 'refused' }, model.reason)
          : null),
    ])),
    missing.length === 0 ? null : [
      el('p', {}, 'On the server, run:'),
      el('pre', { class: 'command' },
        missing.map((model) => `docusearch pull ${model.name}`).join('\n')),
      el('p', { class: 'quiet' }, 'Then start the server again.'),
    ]);
}
