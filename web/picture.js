// Pictures from the server. With a key they are fetched and shown as blobs, since an <img> cannot
// carry it; without one the browser does it all.

import { hasKey, request } from './api.js';
import { el } from './dom.js';

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    near.unobserve(entry.target);
    fill(entry.target);
  }
}, { rootMargin: '300px' });

// An <img> that loads when it comes near the screen, and takes its place before: width and height
// give the shape where it is known.
export function picture(path, alt, { width = 0, height = 0 } = {}) {
  const image = el('img', { alt, class: 'picture', draggable: 'false', decoding: 'async' });
  if (width > 0 && height > 0) image.style.aspectRatio = `${width} / ${height}`;
  image.addEventListener('load', () => {
    image.style.aspectRatio = '';
    image.classList.add('loaded');
  });
  image.addEventListener('error', () => image.classList.add('missing'));
  image.dataset.path = path;
  near.observe(image);
  return image;
}

async function fill(image) {
  if (!hasKey()) {
    image.src = image.dataset.path;
    return;
  }
  try {
    const url = URL.createObjectURL(await (await request(image.dataset.path)).blob());
    image.addEventListener('load', () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
  } catch {
    image.classList.add('missing');
  }
}
