// The address: #/search?q=…, #/documents?…, #/doc/ID/PAGE?q=…. The page is what its address says,
// so links can be shared and the back button works.

export function parse(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter((part) => part !== '').map(decodePart);
  const params = new URLSearchParams(query);
  if (parts[0] === 'doc' && parts[1]) {
    const page = Math.max(1, parseInt(parts[2], 10) || 1);
    return { view: 'document', id: parts[1], page, params };
  }
  if (parts[0] === 'documents') return { view: 'documents', params };
  return { view: 'search', params };
}

function decodePart(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function withParams(path, params) {
  const set = Object.entries(params).filter(([, value]) => value !== '' && value !== undefined
    && value !== null);
  const query = new URLSearchParams(set).toString();
  return query === '' ? path : `${path}?${query}`;
}

export const searchPath = (params) => withParams('#/search', params);
export const documentsPath = (params) => withParams('#/documents', params);
export const documentPath = (id, page, params = {}) => withParams(`#/doc/${id}/${page}`, params);

const scrolls = new Map(); // history entry -> how far down it was left
const hashes = new Map(); // history entry -> its address
let entry = history.state?.entry ?? 0;
let show = () => {};

// show(route, restoreScroll) is called now and whenever the address changes.
export function start(showRoute) {
  show = showRoute;
  history.scrollRestoration = 'manual';
  history.replaceState({ entry }, '');
  hashes.set(entry, location.hash);
  addEventListener('popstate', () => {
    const known = history.state?.entry !== undefined;
    if (known) entry = history.state.entry;
    else history.replaceState({ entry: ++entry }, '');
    hashes.set(entry, location.hash);
    show(parse(location.hash), () => scrollTo(0, known ? scrolls.get(entry) ?? 0 : 0));
  });
  addEventListener('scroll', () => scrolls.set(entry, scrollY), { passive: true });
  document.addEventListener('click', followLink);
  show(parse(location.hash), () => {});
}

function followLink(event) {
  const link = event.target.closest('a[href^="#/"]');
  if (!link || event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.getAttribute('href'));
}

export function go(hash) {
  if (hash === location.hash) return;
  entry += 1;
  history.pushState({ entry }, '', hash);
  hashes.set(entry, hash);
  scrolls.delete(entry);
  show(parse(hash), () => scrollTo(0, 0));
}

// The same place under another address: turning pages leaves no trail in the history.
export function replace(hash) {
  history.replaceState({ entry }, '', hash);
  hashes.set(entry, hash);
  show(parse(hash), () => {});
}

// From a document to the list it was opened from, as it was left; to hash where there is none.
export function back(hash) {
  const before = hashes.get(entry - 1);
  if (before === undefined || parse(before).view === 'document') go(hash);
  else history.back();
}
