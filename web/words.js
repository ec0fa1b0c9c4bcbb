// Numbers, times and failures in words.

const integers = new Intl.NumberFormat('en');

export function count(n, one, many = `${one}s`) {
  return `${integers.format(n)} ${n === 1 ? one : many}`;
}

export function number(n) {
  return integers.format(n);
}

export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1000;
    unit += 1;
  }
  return `${n >= 10 || unit === 0 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function day(timestamp) {
  const date = new Date(timestamp);
  if (Number.isNaN(date.getTime())) return '';
  const today = new Date();
  if (date.toDateString() === today.toDateString()) {
    return `today ${date.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })}`;
  }
  const year = date.getFullYear() === today.getFullYear() ? undefined : 'numeric';
  return date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year });
}

const REASONS = {
  password_required: 'It is protected by a password.',
  corrupt: 'The file is damaged and could not be read.',
  no_pages: 'It has no pages.',
  too_many_pages: 'It has more pages than this server takes.',
  archive_limit: 'It unpacks to far more than its size: refused for safety.',
  forbidden_xml: 'It contains XML that is refused for safety.',
  unsupported: 'This kind of file cannot be read.',
  unsupported_type: 'This kind of file cannot be read.',
  empty_file: 'The file is empty.',
  timeout: 'Reading it took too long.',
  image_limit: 'A picture in it is too large.',
  parser_crash: 'The reader stopped while reading it.',
  out_of_memory: 'Reading it took too much memory.',
  parser_protocol: 'The reader gave an answer that makes no sense.',
  converter_missing: 'LibreOffice, which reads this kind of file, is not installed on the server.',
  cancelled: 'Cancelled.',
  storage_error: 'The server could not write to its disk.',
  disk_full: 'The server’s disk is full.',
  too_large: 'It is larger than this server takes.',
  queue_full: 'The server’s queue is full.',
  backend_unavailable: 'ChromaDB, which has the vectors, does not answer.',
  original_missing: 'Its original is missing from the server’s disk.',
};

export function partly(warning) {
  return `Some of it could not be read: ${warning}`;
}

// A failure in plain words; the server's own text where there is no better.
export function reason(code, text) {
  return REASONS[code] ?? (text || 'It failed for a reason the server did not give.');
}
