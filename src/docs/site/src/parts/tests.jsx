// Tests with their last result, history, and the rows that failed.

import { columnHref } from '../route.js';
import { count, plural, seconds, time } from '../words.js';
import { Badge, NodeLink, Table, Tag } from './bits.jsx';
import { Ticks } from './charts.jsx';
import { Code } from './sql.jsx';

const RANK = { error: 0, fail: 1, warn: 2, none: 3, pass: 4 };
export const worstFirst = (a, b) => (RANK[a.status] ?? 3) - (RANK[b.status] ?? 3) || (b.last?.failures ?? 0) - (a.last?.failures ?? 0) || a.name.localeCompare(b.name);

export function TestTable({ all, tests, of, limit = 40, open }) {
  const node = test => test.node == null ? null : all.nodes[test.node];
  const columns = [
    { head: 'Status', cell: test => <Badge status={test.status} />, sort: test => RANK[test.status] ?? 3 },
    { head: 'Test', wide: true, cell: test => <><span class="mono">{test.name}</span>{test.last?.message && test.status !== 'pass' && <span class="block dim">{test.last.message}</span>}{test.last?.proved && <span class="block dim">proved: {test.last.proved}</span>}</>, sort: test => test.name },
    ...of ? [] : [{ head: 'Node', cell: test => node(test) ? <NodeLink node={node(test)} /> : <span class="dim">singular</span>, sort: test => node(test)?.name ?? '' }],
    { head: 'Column', cell: test => test.column != null && node(test)?.columns[test.column] ? <a class="mono" href={columnHref(node(test), node(test).columns[test.column])}>{node(test).columns[test.column].name}</a> : <span class="dim">–</span>, sort: test => node(test)?.columns[test.column]?.name ?? '' },
    { head: 'Severity', cell: test => <span class={test.severity === 'warn' ? '' : 'dim'}>{test.severity}</span>, sort: test => test.severity },
    { head: 'Failing rows', right: true, cell: test => test.last ? (test.last.failures ? count(test.last.failures) : <span class="dim">0</span>) : <span class="dim">–</span>, sort: test => test.last?.failures },
    { head: 'History', cell: test => <Ticks entries={titled(all, test)} /> },
  ];
  return <Table label="Tests" columns={columns} rows={[...tests].sort(worstFirst)} limit={limit} keyOf={test => test.name} openKey={open} detail={test => () => <TestDetail all={all} test={test} />} />;
}

/** Unit tests with how they ended when they last ran; one that passed runs again when something about it changes. */
export function UnitTestTable({ all, tests, of, limit = 20 }) {
  const status = test => test.last?.status ?? 'none', subject = test => test.macro ?? (test.node == null ? '' : all.nodes[test.node].name);
  const columns = [
    { head: 'Status', cell: test => <Badge status={status(test)} />, sort: test => RANK[status(test)] ?? 3 },
    { head: 'Unit test', wide: true, cell: test => <><span class="mono">{test.name}</span>{test.description && <span class="block dim">{test.description}</span>}{test.last?.message && status(test) !== 'pass' && <span class="block dim">{test.last.message}</span>}</>, sort: test => test.name },
    ...of ? [] : [{ head: 'Of', cell: test => test.node == null ? <span class="mono">{subject(test)}</span> : <NodeLink node={all.nodes[test.node]} />, sort: subject }],
    { head: 'Declared in', cell: test => <span class="mono dim">{test.declared}</span>, sort: test => test.declared },
    { head: 'Last run', cell: test => <span class="dim">{test.last ? time(test.last.at) : '–'}</span>, sort: test => test.last?.at },
  ];
  const rows = [...tests].sort((a, b) => (RANK[status(a)] ?? 3) - (RANK[status(b)] ?? 3) || a.name.localeCompare(b.name));
  return <Table label="Unit tests" columns={columns} rows={rows} limit={limit} keyOf={test => test.name} />;
}

const titled = (all, test) => test.history.map(entry => ({ status: entry.status, title: `${time(all.runs[entry.run].at)}: ${entry.status}${entry.failures ? `, ${plural(entry.failures, 'row')}` : ''}` }));

function TestDetail({ all, test }) {
  const { last, failure } = test, run = last && all.runs[last.run];
  const facts = [['kind', test.kind], ['declared in', test.declared], ['owner', test.owner], ['last run', run && `${time(run.at)} UTC, ${seconds(last.seconds)}`], ['reads', test.reads.map(at => all.nodes[at].name).join(', ')]].filter(([, value]) => value);
  return <div class="test-detail">
    {test.description && <p>{test.description}</p>}
    <dl class="facts">{facts.map(([label, value]) => <div key={label}><dt>{label}</dt><dd class="mono">{value}</dd></div>)}</dl>
    {test.tags.length > 0 && <p class="chips">{test.tags.map(tag => <Tag key={tag} kind="user">{tag}</Tag>)}</p>}
    {test.contract && <p class="dim">A promise of the contract: it gates every publish.</p>}
    {failure && <FailingRows failure={failure} all={all} own={test.column == null ? null : all.nodes[test.node]?.columns[test.column]?.name} />}
    {test.sql && <><h3>Query of the failing rows</h3><Code text={test.sql} all={all} label="Query of the failing rows" /></>}
  </div>;
}

/** `own` is the column that the test is about: a NULL there is not written down. */
function FailingRows({ failure, all, own }) {
  const names = [...new Set([own, ...failure.rows.flatMap(row => Object.keys(row))])].filter(name => name != null), run = all.runs[failure.run];
  const show = value => value == null ? <span class="dim">NULL</span> : typeof value === 'object' ? JSON.stringify(value) : String(value);
  return <><h3>Rows that failed <span class="dim">{failure.rule}, {time(run?.at ?? failure.at)} UTC</span></h3>
    <div class="scroll card rows" tabIndex={0} role="group" aria-label="Rows that failed"><table><thead><tr>{names.map(name => <th key={name}>{name}</th>)}{failure.files?.length > 0 && <th>file</th>}</tr></thead>
      <tbody>{failure.rows.map((row, at) => <tr key={at}>{names.map(name => <td key={name} class="mono">{show(row[name])}</td>)}{failure.files?.length > 0 && <td class="mono dim">{failure.files[at]?.filter(part => part != null).join(':')}</td>}</tr>)}</tbody></table></div></>;
}
