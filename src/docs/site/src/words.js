// Numbers, sizes and times as people read them.

export const count = value => value == null ? '–' : value.toLocaleString('en-US');
export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? '' : 's'}`;

/** 1,234,567 -> 1.2M. */
export function short(value) {
  if (value == null) return '–';
  const size = Math.abs(value);
  if (size < 1) return Number(value.toPrecision(2)).toString();
  if (size < 10000) return Number(value.toFixed(size < 100 ? 2 : 0)).toLocaleString('en-US');
  for (const [unit, suffix] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) if (size >= unit) return `${Number((value / unit).toPrecision(3))}${suffix}`;
}

export function size(bytes) {
  if (bytes == null) return '–';
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; unit++) bytes /= 1000;
  return `${Number(bytes.toPrecision(3))} ${['B', 'kB', 'MB', 'GB', 'TB'][unit]}`;
}

export function seconds(value) {
  if (value == null) return '–';
  if (value < 0.0095) return '<0.01 s';
  if (value < 10) return `${value.toFixed(2)} s`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round(value % 3600 / 60)} min`;
}

/** 93,784 s -> 1 day 2 hours. */
export function age(value) {
  value = Math.max(0, value);
  const parts = [[86400, 'day', Infinity], [3600, 'hour', 24], [60, 'minute', 60]]
    .map(([unit, noun, wrap]) => [Math.floor(value / unit) % wrap, noun]).filter(([n]) => n > 0).slice(0, 2);
  return parts.length ? parts.map(([n, noun]) => plural(n, noun)).join(' ') : plural(Math.round(value), 'second');
}

export function time(at) {
  return at == null ? '–' : new Date(at).toISOString().slice(0, 16).replace('T', ' ');
}

export const day = at => new Date(at).toISOString().slice(0, 10);
export const percent = (part, whole) => whole ? `${part && part / whole < 0.001 ? '<0.1' : Number((part / whole * 100).toFixed(1))} %` : '–';
export const clip = (text, max) => text.length > max ? text.slice(0, max - 1) + '…' : text;
