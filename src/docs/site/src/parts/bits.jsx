// Small things that every page is made of.

import { useId, useState } from 'preact/hooks';
import { columnHref, nodeHref } from '../route.js';
import { count } from '../words.js';

/** Tone, sign and word of everything that can be the matter. */
export const STATE = {
  error: ['bad', 'cross', 'error'], fail: ['bad', 'cross', 'fail'], stale: ['bad', 'clock', 'stale'], blocked: ['warn', 'block', 'blocked'],
  warn: ['warn', 'bang', 'warn'], pass: ['ok', 'check', 'pass'], ok: ['ok', 'check', 'fine'], success: ['ok', 'check', 'success'],
  skipped: ['quiet', 'skip', 'skipped'], cancelled: ['quiet', 'block', 'cancelled'], none: ['quiet', 'dot', 'not run'], 'runtime error': ['bad', 'cross', 'error'],
};
export const tone = status => (STATE[status] ?? STATE.none)[0];
export const word = status => (STATE[status] ?? STATE.none)[2];

const PATHS = {
  check: 'M3.5 8.5l3 3 6-7', cross: 'M4 4l8 8M12 4l-8 8', bang: 'M8 3v6M8 12.4v.1', skip: 'M4 8h8', block: 'M4.2 4.2l7.6 7.6M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11',
  clock: 'M8 4.5V8l2.5 1.5M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11', dot: 'M8 5.5a2.5 2.5 0 1 1 0 5a2.5 2.5 0 1 1 0-5',
  lock: 'M5 7V5.5a3 3 0 0 1 6 0V7M4 7h8v6H4z', key: 'M9.5 6.5a3 3 0 1 1 3 3 3 3 0 0 1-3-3zM9.8 8.4L4 14M6 12l1.5 1.5', search: 'M7 3a4 4 0 1 1 0 8a4 4 0 1 1 0-8M10 10l3.5 3.5',
  sun: 'M8 5.2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 1 1 0-5.6M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9', moon: 'M13 9.6A5.4 5.4 0 1 1 6.4 3a4.3 4.3 0 0 0 6.6 6.6z',
  menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11', open: 'M6 3.5H3.5v9h9V10M9 3.5h3.5V7M12.3 3.7L7.5 8.5', copy: 'M5.5 5.5h7v7h-7zM10 5.5v-2H3.5V10h2', chevron: 'M6 4l4 4-4 4', graph: 'M3 3h3.5v3.5H3zM9.5 9.5H13V13H9.5zM9.5 3H13v3.5H9.5zM6.5 4.8h3M4.8 6.5v4.7h4.7',
};
export const Icon = ({ name, size = 16, label }) => <svg class="icon" width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round" role={label ? 'img' : undefined} aria-label={label} aria-hidden={label ? undefined : 'true'}><path d={PATHS[name]} /></svg>;

export function Badge({ status, children }) {
  const [kind, sign, text] = STATE[status] ?? STATE.none;
  return <span class={`badge ${kind}`}><Icon name={sign} size={13} />{children ?? text}</span>;
}

/** The shape tells the kind, the colour the layer. */
export const Mark = ({ node, color }) => <span class={`mark ${node.kind}`} style={`--c:var(--${color ?? node.color})`} title={node.kind} />;

export const NodeLink = ({ node, full = true }) => <a class="node-link" href={nodeHref(node)}><Mark node={node} />{full && node.kind !== 'exposure' ? <span><span class="dim">{node.layer}.</span>{node.short}</span> : node.short}</a>;

export const ColumnLink = ({ node, column, full }) => <a class="mono" href={columnHref(node, column)}>{full && `${node.name}.`}{column.name}</a>;

export const Tag = ({ children, kind }) => <span class={`tag ${kind ?? ''}`}>{children}</span>;

export const Sensitive = ({ why }) => <span class="tag sensitive" title={why === 'declared' ? 'Declared sensitive: its values are masked' : `Sensitive, from ${why}: its values are masked`}><Icon name="lock" size={12} />sensitive</span>;

export function Tile({ label, value, note, href, children, state }) {
  const content = <><span class="tile-label">{label}</span><span class={`tile-value ${state ?? ''}`}>{value}</span>{note && <span class="tile-note">{note}</span>}{children}</>;
  return href ? <a class="tile" href={href}>{content}</a> : <div class="tile">{content}</div>;
}

export function Section({ id, title, aside, children }) {
  const own = useId();
  return <section id={id} aria-labelledby={own}><div class="section-head"><h2 id={own}>{title}</h2>{aside}</div>{children}</section>;
}

export const Empty = ({ title, children }) => <div class="card empty"><b>{title}</b><p>{children}</p></div>;

/** Buttons of which one is pressed. */
export function Choice({ label, options, value, onchange }) {
  return <div class="choice" role="group" aria-label={label}>{options.map(([key, text]) =>
    <button key={key} type="button" aria-pressed={key === value} onClick={() => onchange(key)}>{text}</button>)}</div>;
}

/**
 * A table whose columns are `{ head, cell, sort, right, wide }`: `sort` gives what a row is ordered by. It shows the first rows, and all on request.
 * `detail` may say more of a row that is opened.
 */
export function Table({ label, columns, rows, limit = 50, start, detail, keyOf, openKey }) {
  const [order, setOrder] = useState(start ?? null), [all, setAll] = useState(false), [open, setOpen] = useState(() => new Set(openKey == null ? [] : [openKey]));
  const by = order && columns[order[0]].sort;
  const sorted = by ? [...rows].sort((a, b) => compare(by(a), by(b)) * order[1]) : rows;
  const shown = all ? sorted : sorted.slice(0, limit);
  const turn = at => setOrder([at, order?.[0] === at ? -order[1] : columns[at].right ? -1 : 1]);
  const toggle = key => setOpen(before => { const next = new Set(before); next.delete(key) || next.add(key); return next; });
  return <div class="card scroll" tabIndex={0} role="group" aria-label={label}>
    <table>
      <thead><tr>{detail && <th class="opener"><span class="hidden">Details</span></th>}{columns.map((column, at) =>
        <th key={at} class={column.right ? 'right' : ''} aria-sort={order?.[0] === at ? (order[1] > 0 ? 'ascending' : 'descending') : undefined}>
          {column.sort ? <button type="button" class="sort" onClick={() => turn(at)}>{column.head}<span aria-hidden="true">{order?.[0] === at ? (order[1] > 0 ? ' ↑' : ' ↓') : ''}</span></button> : column.head}</th>)}</tr></thead>
      <tbody>{shown.map((row, at) => {
        const key = keyOf?.(row) ?? at, isOpen = open.has(key), more = detail?.(row);
        return [<tr key={key} class={isOpen ? 'is-open' : ''}>
          {detail && <td class="opener">{more && <button type="button" class="ghost" aria-expanded={isOpen} aria-label={`Details of ${key}`} onClick={() => toggle(key)}><Icon name="chevron" size={14} /></button>}</td>}
          {columns.map((column, c) => <td key={c} class={`${column.right ? 'right' : ''} ${column.wide ? 'wide' : ''}`}>{column.cell(row)}</td>)}</tr>,
        isOpen && more && <tr key={`${key} open`} class="detail"><td colSpan={columns.length + 1}>{more()}</td></tr>];
      })}</tbody>
    </table>
    {!all && sorted.length > limit && <button type="button" class="more" onClick={() => setAll(true)}>Show all {count(sorted.length)}</button>}
  </div>;
}

function compare(a, b) {
  if (a == null || b == null) return (a == null) - (b == null);
  return typeof a === 'string' ? a.localeCompare(b) : a - b;
}
