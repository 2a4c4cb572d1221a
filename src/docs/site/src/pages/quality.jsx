// All tests: how they ended, over time, by node, and the rows that failed.

import { useMemo, useState } from 'preact/hooks';
import { Badge, Choice, Empty, NodeLink, Section, Tag, Tile, word } from '../parts/bits.jsx';
import { Ring, Stack } from '../parts/charts.jsx';
import { TestTable, UnitTestTable } from '../parts/tests.jsx';
import { href } from '../route.js';
import { count, day, plural, time } from '../words.js';

const ORDER = ['error', 'fail', 'warn', 'pass', 'none'];

export function QualityPage({ all, wanted }) {
  const [status, setStatus] = useState(''), [layer, setLayer] = useState(''), [text, setText] = useState('');
  const named = all.tests.find(test => test.name === wanted);
  if (!all.tests.length) return <div class="page"><h1>Quality</h1><Empty title="No tests yet">Add `data_tests: [not_null, unique]` to the columns of a model. `lake test suggest MODEL` writes tests that the table passes today.</Empty></div>;
  const n = key => all.tests.filter(test => test.status === key).length, low = text.trim().toLowerCase();
  const shown = all.tests.filter(test => (!status || test.status === status) && (!layer || layerOf(all, test) === layer) && (!low || `${test.name} ${test.kind} ${test.node == null ? '' : all.nodes[test.node].name} ${test.owner ?? ''}`.toLowerCase().includes(low)));
  const parts = [['pass', n('pass'), 'pass'], ['warn', n('warn'), 'warn'], ['fail', n('fail'), 'fail'], ['error', n('error'), 'error'], ['none', n('none'), 'not run']];
  const proved = all.tests.filter(test => test.last?.proved).length, tested = all.nodes.filter(node => node.kind === 'model' && node.tests.length), models = all.nodes.filter(node => node.kind === 'model');
  return <div class="page">
    <h1>Quality</h1>
    <div class="tiles large">
      <Tile label="Tests" value={<span class="with-ring"><Ring parts={parts} value={count(all.tests.length)} label={plural(all.tests.length, 'test')} /><Stack parts={parts} /></span>} />
      <Tile label="Failing rows" value={count(all.tests.reduce((sum, test) => sum + (test.last?.failures ?? 0), 0))} note="in the last result of each test" />
      <Tile label="Proved" value={count(proved)} note="true by the query or the log: no row was read for them" />
      <Tile label="Models with tests" value={`${count(tested.length)} of ${count(models.length)}`} note={all.unitTests.length ? unitNote(all.unitTests) : undefined} />
    </div>
    {all.runs.length > 1 && <History all={all} />}
    {named && <Section title={<span class="mono">{named.name}</span>} aside={<a class="button" href={href('quality')}>All tests</a>}><TestTable all={all} tests={[named]} open={named.name} /></Section>}
    <Section title={named ? 'All tests' : 'Tests'} aside={<span class="dim" role="status">{count(shown.length)} shown</span>}>
      <div class="filters">
        <Choice label="Status" options={[['', `All ${count(all.tests.length)}`], ...ORDER.filter(key => n(key)).map(key => [key, `${word(key)} ${count(n(key))}`])]} value={status} onchange={setStatus} />
        <select aria-label="Layer" value={layer} onChange={event => setLayer(event.currentTarget.value)}><option value="">All layers</option>{all.layers.filter(known => known.nodes.some(node => node.tests.length)).map(known => <option key={known.name} value={known.name}>{known.name}</option>)}</select>
        <input type="text" aria-label="Filter tests" placeholder="Filter by name, kind, node, owner" value={text} onInput={event => setText(event.currentTarget.value)} />
      </div>
      {shown.length ? <TestTable key={`${status} ${layer} ${low}`} all={all} tests={shown} /> : <Empty title="No such test">Take a filter away.</Empty>}
    </Section>
    {all.unitTests.length > 0 && <Section title="Unit tests"><UnitTestTable all={all} tests={all.unitTests} /></Section>}
    {all.runs.length > 1 && <Trend all={all} />}
  </div>;
}

const unitNote = tests => {
  const failed = tests.filter(test => ['fail', 'error'].includes(test.last?.status)).length;
  return `${plural(tests.length, 'unit test')}${failed ? `, ${count(failed)} failed` : ''}`;
};

const layerOf = (all, test) => test.node == null ? '' : all.nodes[test.node].layer;

/** All results of each run as one column. */
function History({ all }) {
  const runs = all.runs.filter(run => run.tests.length), high = Math.max(...runs.map(run => run.tests.length), 1);
  if (runs.length < 2) return null;
  const kinds = ['error', 'fail', 'warn', 'pass'];
  return <Section title="History" aside={<span class="dim">{day(runs[0].at)} to {day(runs.at(-1).at)}</span>}><div class="card chart"><div class="columns-chart" role="group" aria-label="Results of each run, oldest first">{runs.map(run => {
    const n = status => run.tests.filter(test => test.status === status).length, title = `${time(run.at)}: ${kinds.filter(n).map(kind => `${n(kind)} ${word(kind)}`).join(', ')}`;
    return <a key={run.id} href={href('health', run.id)} title={title} aria-label={title} style={`height:${Math.max(6, run.tests.length / high * 100)}%`}>{kinds.filter(n).map(kind => <i key={kind} class={`s-${kind}`} style={`flex:${n(kind)}`} />)}</a>;
  })}</div></div></Section>;
}

/** Nodes by runs: the worst result of each. Nodes that were ever in trouble come first. */
function Trend({ all }) {
  const [whole, setWhole] = useState(false), runs = all.runs.filter(run => run.tests.length).slice(-30);
  const rows = useMemo(() => {
    const place = new Map(runs.map((run, at) => [run.index, at]));
    return all.nodes.filter(node => node.tests.some(test => test.history.length)).map(node => {
      const cells = runs.map(() => null);
      for (const test of node.tests) for (const entry of test.history) {
        const at = place.get(entry.run);
        if (at == null) continue;
        const cell = cells[at] ??= { status: 'pass', n: 0, failing: 0 };
        cell.n++;
        if (entry.status !== 'pass') cell.failing++;
        if (ORDER.indexOf(entry.status) < ORDER.indexOf(cell.status)) cell.status = entry.status;
      }
      return { node, cells, trouble: cells.reduce((sum, cell) => sum + (cell && cell.status !== 'pass' ? (cell.status === 'warn' ? 1 : 5) : 0), 0) };
    }).sort((a, b) => b.trouble - a.trouble || a.node.at - b.node.at);
  }, [all]);
  const shown = whole ? rows : rows.slice(0, 25);
  return <Section title="Trend by node" aside={<span class="dim">{plural(runs.length, 'run')}, oldest first</span>}><div class="card scroll trend" tabIndex={0} role="group" aria-label="Trend by node"><table><tbody>{shown.map(({ node, cells }) => <tr key={node.at}><th scope="row"><NodeLink node={node} /></th>
    <td><span class="heat" role="img" aria-label={cells.map(cell => cell ? word(cell.status) : 'not run').join(', ')}>{cells.map((cell, at) => <i key={at} class={cell ? `s-${cell.status}` : 's-empty'} title={`${time(runs[at].at)}: ${cell ? `${cell.n - cell.failing} of ${cell.n} pass` : 'not tested'}`} />)}</span></td>
    <td class="right"><Badge status={cells.findLast(Boolean)?.status ?? 'none'} /></td></tr>)}</tbody></table>{!whole && rows.length > shown.length && <button type="button" class="more" onClick={() => setWhole(true)}>Show all {count(rows.length)}</button>}</div></Section>;
}
