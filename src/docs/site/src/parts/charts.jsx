// Small charts in SVG. Each has its numbers as text for those who do not see it.

import { count, day, percent, seconds, short, time } from '../words.js';
import { word } from './bits.jsx';

/** A line over time; the area below is filled. */
export function Spark({ values, width = 120, height = 30, label }) {
  const known = values.filter(value => value != null);
  if (known.length < 2) return null;
  const low = Math.min(...known), high = Math.max(...known), span = high - low || 1;
  const points = values.map((value, at) => value == null ? null : [2 + at * (width - 4) / (values.length - 1), height - 3 - (value - low) / span * (height - 6)]).filter(Boolean);
  const path = points.map(([x, y], at) => `${at ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
  const [lastX, lastY] = points.at(-1);
  return <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
    <path class="area" d={`${path}L${lastX.toFixed(1)} ${height}L2 ${height}Z`} /><path class="line" d={path} /><circle cx={lastX} cy={lastY} r="2.4" />
  </svg>;
}

/** Results, oldest first, as a row of ticks. */
export function Ticks({ entries, total = 20, title }) {
  const shown = entries.slice(-total);
  const text = shown.length ? `${title ?? 'History'}, oldest first: ${shown.map(entry => word(entry.status)).join(', ')}` : 'No history';
  return <span class="ticks" role="img" aria-label={text}>{shown.map((entry, at) => <i key={at} class={`s-${entry.status}`} title={entry.title} />)}</span>;
}

/** Parts of a whole, as one bar: [[class, number, word]]. */
export function Stack({ parts, label }) {
  const shown = parts.filter(([, n]) => n > 0), whole = shown.reduce((sum, [, n]) => sum + n, 0);
  return <div class="stack-box"><div class="stack" role="img" aria-label={label ?? shown.map(([, n, text]) => `${count(n)} ${text}`).join(', ')}>
    {shown.map(([kind, n]) => <i key={kind} class={`s-${kind}`} style={`flex:${n / whole}`} />)}</div>
    <div class="legend">{shown.map(([kind, n, text]) => <span key={kind}><i class={`s-${kind}`} />{count(n)} {text}</span>)}</div></div>;
}

/** A ring of parts, with a number in it. */
export function Ring({ parts, value, label, size = 92 }) {
  const whole = parts.reduce((sum, [, n]) => sum + n, 0) || 1, radius = 38, round = 2 * Math.PI * radius;
  let before = 0;
  return <svg class="ring" width={size} height={size} viewBox="0 0 100 100" role="img" aria-label={label}>
    <circle class="rail" cx="50" cy="50" r={radius} />
    {parts.filter(([, n]) => n > 0).map(([kind, n]) => {
      const dash = <circle key={kind} class={`s-${kind}`} cx="50" cy="50" r={radius} stroke-dasharray={`${Math.max(1.5, n / whole * round - 1.5)} ${round}`} stroke-dashoffset={-before / whole * round} transform="rotate(-90 50 50)" />;
      before += n;
      return dash;
    })}
    <text class={String(value).length > 3 ? 'long' : ''} x="50" y="50" dy=".36em" text-anchor="middle">{value}</text>
  </svg>;
}

/** Bars over time, each a button: { at, value, kind, title }. */
export function Bars({ bars, selected, onselect, height = 120, format = seconds, label }) {
  const high = Math.max(...bars.map(bar => bar.value), 1e-9);
  return <div class="bars" role="group" aria-label={label} style={`height:${height}px`}>
    <span class="axis top">{format(high)}</span><span class="axis">0</span>
    {bars.map((bar, at) => <button key={at} type="button" aria-pressed={selected === at} aria-label={bar.title} title={bar.title} onClick={() => onselect(at)}>
      <i class={`s-${bar.kind}`} style={`height:${Math.max(2, bar.value / high * 100)}%`} /></button>)}
  </div>;
}

/** Where the numbers of a column lie: 5 % to 95 %, the middle half, the median. */
export function Quantiles({ profile, width = 150 }) {
  const [p05, p25, p50, p75, p95] = profile.quantiles, low = Number(profile.min ?? p05), high = Number(profile.max ?? p95);
  const from = Number.isFinite(low) ? low : p05, to = Number.isFinite(high) ? high : p95, x = value => 3 + (value - from) / ((to - from) || 1) * (width - 6);
  return <svg class="box-plot" width={width} height="18" viewBox={`0 0 ${width} 18`} role="img" aria-label={`5 % below ${short(p05)}, 25 % below ${short(p25)}, median ${short(p50)}, 75 % below ${short(p75)}, 95 % below ${short(p95)}`}>
    <line class="thin" x1="3" x2={width - 3} y1="9" y2="9" /><line x1={x(p05)} x2={x(p95)} y1="9" y2="9" />
    <rect x={x(p25)} width={Math.max(1.5, x(p75) - x(p25))} y="4" height="10" rx="2" /><line class="median" x1={x(p50)} x2={x(p50)} y1="3" y2="15" />
  </svg>;
}

/** Common values, with how often each is there. */
export function Common({ top, rows }) {
  const most = Math.max(...top.map(([, n]) => n), 1);
  return <ul class="common">{top.map(([value, n], at) => <li key={at}><span class="mono" title={value}>{value === '' ? '(empty)' : value}</span><i style={`--part:${n / most}`} /><span class="dim">{percent(n, rows)}</span></li>)}</ul>;
}

/** The part of a column that is NULL. */
export const Nulls = ({ nulls, rows }) => nulls == null ? <span class="dim">–</span> : <span class="nulls" title={`${count(nulls)} of ${count(rows)} rows`}><i><b style={`width:${rows ? nulls / rows * 100 : 0}%`} /></i>{percent(nulls, rows)}</span>;

/** Rows of a table, version by version, as a chart with axes. */
export function RowsOverTime({ versions, width = 640, height = 180 }) {
  const known = versions.filter(version => version.rows != null && version.at != null);
  if (known.length < 2) return null;
  const from = known[0].at, to = known.at(-1).at, high = Math.max(...known.map(version => version.rows), 1), left = 54, bottom = 22;
  const x = at => left + (at - from) / ((to - from) || 1) * (width - left - 12), y = rows => height - bottom - rows / high * (height - bottom - 12);
  const steps = known.map((version, at) => at ? `H${x(version.at).toFixed(1)}V${y(version.rows).toFixed(1)}` : `M${x(version.at).toFixed(1)} ${y(version.rows).toFixed(1)}`).join('');
  return <svg class="rows-chart" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`Rows: from ${count(known[0].rows)} at version ${known[0].version} to ${count(known.at(-1).rows)} at version ${known.at(-1).version}`}>
    {[0, 0.5, 1].map(part => <g key={part}><line class="grid" x1={left} x2={width - 12} y1={y(high * part)} y2={y(high * part)} /><text x={left - 8} y={y(high * part)} dy=".32em" text-anchor="end">{short(Math.round(high * part))}</text></g>)}
    <path class="area" d={`${steps}V${height - bottom}H${x(from)}Z`} /><path class="line" d={steps} />
    {known.map(version => <circle key={version.version} cx={x(version.at)} cy={y(version.rows)} r="3.2"><title>{`version ${version.version}, ${time(version.at)}: ${count(version.rows)} rows`}</title></circle>)}
    <text x={left} y={height - 5}>{day(from) === day(to) ? time(from).slice(11) : day(from)}</text><text x={width - 12} y={height - 5} text-anchor="end">{day(from) === day(to) ? time(to).slice(11) : day(to)}</text>
  </svg>;
}

/** How old the newest data is, beside its limits. */
export function Freshness({ fresh, now }) {
  if (fresh.max_loaded_at == null) return <span class="dim">{fresh.error ?? 'no data'}</span>;
  const old = (fresh.checked_at - fresh.max_loaded_at) / 1000, end = Math.max(old, (fresh.error_after ?? fresh.warn_after ?? old) * 1.25, 1);
  const mark = (limit, kind, text) => limit != null && <i class={`limit ${kind}`} style={`left:${limit / end * 100}%`} title={`${text} after ${seconds(limit)}`} />;
  return <span class="fresh" role="img" aria-label={`${Math.round(old / 360) / 10} hours old`}><span class={`fill ${fresh.status === 'pass' ? 'ok' : fresh.status === 'warn' ? 'warn' : 'bad'}`} style={`width:${old / end * 100}%`} />{mark(fresh.warn_after, 'warn', 'warns')}{mark(fresh.error_after, 'bad', 'fails')}</span>;
}
