// What ran when, and the way that decided how long it took.

import { useState } from 'preact/hooks';
import { nodeHref } from '../route.js';
import { clip, count, plural, seconds } from '../words.js';
import { Choice, Section, word } from './bits.jsx';

const ROW = 26, LEFT = 220, WIDTH = 1040, TOP = 24, SHOWN = 40;

/** Back from what ended last: each time the parent that ended last before it, through views and whatever else ran. */
export function criticalPath(all, entries) {
  const ran = new Map(entries.map(entry => [entry.node, entry])), end = entry => entry.start + entry.seconds;
  let at = entries.reduce((last, entry) => !last || end(entry) > end(last) ? entry : last, null);
  const path = [];
  while (at) {
    path.unshift(at);
    const seen = new Set(), pending = [...all.nodes[at.node].parents], before = [];
    while (pending.length) {
      const parent = pending.pop();
      if (seen.has(parent)) continue;
      seen.add(parent);
      // What did not run has no time; what it reads may have.
      if (ran.has(parent)) before.push(ran.get(parent)); else pending.push(...all.nodes[parent].parents);
    }
    at = before.reduce((last, entry) => !last || end(entry) > end(last) ? entry : last, null);
  }
  return path;
}

export function Gantt({ all, run }) {
  const [which, setWhich] = useState('all');
  const entries = run.nodes.filter(entry => (entry.status === 'success' || entry.status === 'error') && entry.action !== 'view').sort((a, b) => a.start - b.start || b.seconds - a.seconds);
  if (!entries.length) return null;
  const path = criticalPath(all, entries), critical = new Set(path.map(entry => entry.node)), busy = path.reduce((sum, entry) => sum + entry.seconds, 0);
  const many = entries.length > SHOWN;
  // Of many, those that took longest, and the critical path.
  const longest = new Set([...entries].sort((a, b) => b.seconds - a.seconds).slice(0, SHOWN));
  const shown = which === 'path' ? path : which === 'every' || !many ? entries : entries.filter(entry => longest.has(entry) || critical.has(entry.node));
  const to = Math.max(run.seconds, ...entries.map(entry => entry.start + entry.seconds)), x = at => LEFT + at / to * (WIDTH - LEFT - 64), height = TOP + shown.length * ROW + 8, step = nice(to / 6);
  const options = [['all', many ? `Longest ${SHOWN}` : `All ${count(entries.length)}`], ['path', `Critical path ${count(path.length)}`], ...many ? [['every', `All ${count(entries.length)}`]] : []];
  return <Section title="Timeline" aside={<Choice label="Which nodes" options={options} value={which} onchange={setWhich} />}>
    <p class="dim">The critical path, in colour: {path.length === 1 ? 'one node' : `${plural(path.length, 'node')} that wait for one another`}, {seconds(busy)} of {seconds(run.seconds)}.</p>
    <div class="card scroll gantt" tabIndex={0} role="group" aria-label="Timeline">
      <svg viewBox={`0 0 ${WIDTH} ${height}`} role="group" aria-label={`Timeline of ${plural(shown.length, 'node')}`} style={`min-width:720px`}>
        {Array.from({ length: Math.floor(to / step) + 1 }, (_, n) => n * step).map(at => <g key={at}><line class="grid" x1={x(at)} x2={x(at)} y1={TOP - 4} y2={height} /><text class="tick" x={x(at)} y={TOP - 9} text-anchor="middle">{Number(at.toPrecision(3))} s</text></g>)}
        {shown.map((entry, n) => {
          const node = all.nodes[entry.node], y = TOP + n * ROW, wide = Math.max(2.5, x(entry.start + entry.seconds) - x(entry.start)), on = critical.has(entry.node);
          return <a key={entry.node} href={nodeHref(node)}><title>{`${node.name}: ${entry.action || word(entry.status)}, ${seconds(entry.seconds)} from ${seconds(entry.start)} on${on ? ', on the critical path' : ''}, ${entry.reason ?? ''}`}</title>
            <rect class="hover" x="0" y={y} width={WIDTH} height={ROW} /><text class={`name ${on ? 'on' : ''}`} x={LEFT - 10} y={y + ROW / 2} dy=".35em" text-anchor="end">{clip(node.name, 32)}</text>
            <rect class={`span ${entry.status === 'error' ? 'bad' : on ? 'on' : ''}`} x={x(entry.start)} y={y + 5} width={wide} height={ROW - 10} rx="3" /><text class="time" x={x(entry.start) + wide + 6} y={y + ROW / 2} dy=".35em">{seconds(entry.seconds)}</text></a>;
        })}
      </svg>
    </div>
  </Section>;
}

/** 1, 2 or 5 times a power of ten. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return power * ([1, 2, 5].find(part => part * power >= value) ?? 10);
}
