// Runs: how long, what when, which way decides, what was slow, what was skipped and why, and how fresh the sources are.

import { Gantt } from '../parts/gantt.jsx';
import { Badge, Empty, NodeLink, Section, Table, Tile } from '../parts/bits.jsx';
import { Bars, Freshness, Spark } from '../parts/charts.jsx';
import { href } from '../route.js';
import { age, count, percent, plural, seconds, size, time } from '../words.js';

export function HealthPage({ all, wanted }) {
  const { runs } = all;
  if (!runs.length) return <div class="page"><h1>Health</h1><Empty title="No run yet">`lake build` makes the tables, and keeps what happened in `_lake.runs` and `_lake.node_results` of the lake.</Empty><Sources all={all} /></div>;
  const at = Math.max(-1, runs.findIndex(run => run.id === wanted)), run = runs[at < 0 ? runs.length - 1 : at];
  return <div class="page">
    <h1>Health</h1>
    <div class="card chart runs-chart"><Bars label="Runs, oldest first: choose one" selected={run.index} onselect={index => { location.hash = href('health', runs[index].id); }}
      bars={runs.map(run => ({ value: run.seconds, kind: run.status, title: `${time(run.at)} ${run.command}: ${run.status}, ${seconds(run.seconds)}, ${run.counts.built} built, ${run.counts.skipped} skipped` }))} /></div>
    <RunSection all={all} run={run} key={run.id} />
    <Slowest all={all} />
    <Sources all={all} />
  </div>;
}

function RunSection({ all, run }) {
  const { built, skipped, failed, blocked, tests, testsFailed, testsWarned } = run.counts, worked = run.nodes.filter(entry => entry.status === 'success');
  const sum = key => worked.reduce((total, entry) => total + (entry[key] ?? 0), 0), bad = run.nodes.filter(entry => entry.status === 'error' || entry.status === 'blocked');
  return <>
    <Section title={<>{run.command}, {time(run.at)} UTC</>} aside={<><Badge status={run.status} /><span class="dim mono run-id">{run.id}</span><Step all={all} run={run} by={-1}>Older</Step><Step all={all} run={run} by={1}>Newer</Step></>}>
      <div class="tiles">
        <Tile label="Time" value={seconds(run.seconds)} note={`lake ${run.lake_version}`} />
        <Tile label="Nodes" value={`${count(built)} built`} note={[`${count(skipped)} skipped`, failed && `${count(failed)} failed`, blocked && `${count(blocked)} blocked`].filter(Boolean).join(', ')} state={failed ? 'bad' : ''} />
        <Tile label="Tests" value={tests ? `${count(tests - testsFailed - testsWarned)} of ${count(tests)} pass` : 'none'} note={[testsFailed && `${count(testsFailed)} failed`, testsWarned && `${count(testsWarned)} warned`].filter(Boolean).join(', ')} state={testsFailed ? 'bad' : testsWarned ? 'warn' : ''} />
        <Tile label="Written" value={`${count(sum('rows'))} rows`} note={sum('files') ? `${size(sum('bytes'))}, from ${plural(sum('files'), 'file')}` : size(sum('bytes'))} />
        {sum('quarantined') > 0 && <Tile label="Left out" value={plural(sum('quarantined'), 'row')} note="in quarantine" state="warn" />}
      </div>
    </Section>
    {bad.length > 0 && <Section title="What failed"><Table label="What failed" rows={bad} keyOf={entry => entry.node} columns={[{ head: 'Status', cell: entry => <Badge status={entry.status} /> }, { head: 'Node', cell: entry => <NodeLink node={all.nodes[entry.node]} /> }, { head: 'Why', wide: true, cell: entry => <span class="mono pre">{entry.reason}</span> }]} /></Section>}
    <Gantt all={all} run={run} />
    <Skips all={all} run={run} />
  </>;
}

function Step({ all, run, by, children }) {
  const next = all.runs[run.index + by];
  return next ? <a class="button" href={href('health', next.id)}>{children}</a> : <span class="button off" aria-hidden="true">{children}</span>;
}

/** A reason without the names in it, so that equal ones are counted together. */
function kindOf(reason) {
  const known = [[/^no new files/, 'no new files'], [/^unchanged/, 'its inputs are unchanged'], [/^nothing .*changed/, 'nothing that it reads changed']];
  return known.find(([test]) => test.test(reason))?.[1] ?? reason.replace(/\b[\w]+\.[\w.]+\b/g, '…').replace(/\d[\d,]*/g, 'n');
}

function Skips({ all, run }) {
  const groups = new Map();
  for (const entry of run.nodes.filter(entry => entry.status === 'skipped')) {
    const kind = kindOf(entry.reason ?? '');
    groups.set(kind, [...groups.get(kind) ?? [], entry]);
  }
  if (!groups.size) return null;
  const rows = [...groups].sort((a, b) => b[1].length - a[1].length), whole = rows.reduce((sum, [, list]) => sum + list.length, 0);
  return <Section title="Skipped, and why"><Table label="Skipped, and why" rows={rows} keyOf={([kind]) => kind} columns={[
    { head: 'Why', wide: true, cell: ([kind]) => kind }, { head: 'Nodes', right: true, cell: ([, list]) => count(list.length) }, { head: 'Part', right: true, cell: ([, list]) => percent(list.length, whole) }]}
    detail={([, list]) => () => <ul class="reasons">{list.slice(0, 200).map(entry => <li key={entry.node}><NodeLink node={all.nodes[entry.node]} /> <span class="dim">{entry.reason}</span></li>)}</ul>} /></Section>;
}

function Slowest({ all }) {
  const rows = all.nodes.map(node => {
    const builds = node.history.filter(entry => entry.status === 'success' && entry.action !== 'view');
    if (!builds.length) return null;
    const sum = key => builds.reduce((total, entry) => total + (entry[key] ?? 0), 0), total = sum('seconds');
    return { node, builds, total, mean: total / builds.length, last: builds.at(-1), rows: sum('rows'), bytes: sum('bytes') };
  }).filter(Boolean).sort((a, b) => b.mean - a.mean);
  if (!rows.length) return null;
  return <Section title="Slowest nodes" aside={<span class="dim">of {plural(all.runs.length, 'run')}</span>}><Table label="Slowest nodes" rows={rows} limit={12} keyOf={row => row.node.name} start={[2, -1]} columns={[
    { head: 'Node', cell: row => <NodeLink node={row.node} />, sort: row => row.node.name }, { head: 'Builds', right: true, cell: row => count(row.builds.length), sort: row => row.builds.length },
    { head: 'Mean', right: true, cell: row => seconds(row.mean), sort: row => row.mean }, { head: 'Last', right: true, cell: row => seconds(row.last.seconds), sort: row => row.last.seconds },
    { head: 'Over time', cell: row => <Spark values={row.builds.map(entry => entry.seconds)} width={96} height={24} label={`${plural(row.builds.length, 'build')}, the last took ${seconds(row.last.seconds)}`} /> },
    { head: 'Rows written', right: true, cell: row => count(row.rows), sort: row => row.rows }, { head: 'Bytes written', right: true, cell: row => size(row.bytes), sort: row => row.bytes },
    { head: 'Rows a second', right: true, cell: row => row.total > 0 && row.rows ? count(Math.round(row.rows / row.total)) : '–', sort: row => row.rows / row.total }]} /></Section>;
}

function Sources({ all }) {
  const rows = all.nodes.filter(node => node.kind === 'source' && (node.freshness || node.source));
  if (!rows.length) return null;
  const old = node => (node.freshness?.max_loaded_at ?? node.source?.newest_at) == null ? null : ((node.freshness?.checked_at ?? all.project.generated_at) - (node.freshness?.max_loaded_at ?? node.source.newest_at)) / 1000;
  return <Section title="Sources"><Table label="Sources" rows={rows} limit={30} keyOf={node => node.name} columns={[
    { head: 'Source', cell: node => <NodeLink node={node} />, sort: node => node.name },
    { head: 'Freshness', cell: node => node.freshness ? <Badge status={node.freshness.status}>{node.freshness.status === 'pass' ? 'fresh' : node.freshness.status}</Badge> : <span class="dim">no limit</span>, sort: node => ['error', 'runtime error', 'warn', 'pass'].indexOf(node.freshness?.status ?? '') },
    { head: 'Newest data', right: true, cell: node => old(node) == null ? '–' : `${age(old(node))} ago`, sort: old },
    { head: 'Against its limits', cell: node => node.freshness && <Freshness fresh={node.freshness} /> },
    { head: 'Warns after', right: true, cell: node => node.freshness?.warn_after ? age(node.freshness.warn_after) : '–', sort: node => node.freshness?.warn_after },
    { head: 'Fails after', right: true, cell: node => node.freshness?.error_after ? age(node.freshness.error_after) : '–', sort: node => node.freshness?.error_after },
    { head: 'Files', right: true, cell: node => node.source?.error ? <span title={node.source.error}>not listed</span> : count(node.source?.files), sort: node => node.source?.files }, { head: 'Size', right: true, cell: node => size(node.source?.bytes), sort: node => node.source?.bytes }]} /></Section>;
}
