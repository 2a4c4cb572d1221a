// The first page: how the lake is, what needs somebody, how data flows.

import { useMemo } from 'preact/hooks';
import { STATUSES } from '../data.js';
import { nodeScene } from '../graph/scene.js';
import { Graph } from '../graph/view.jsx';
import { Badge, Empty, NodeLink, Section, Table, Tile } from '../parts/bits.jsx';
import { Bars, Ring, Stack } from '../parts/charts.jsx';
import { href, nodeHref } from '../route.js';
import { age, clip, count, plural, seconds, size, time } from '../words.js';

/** More nodes than this are no picture for a first look. */
const SMALL = 40;

export function OverviewPage({ all }) {
  const { project, nodes, runs } = all, run = runs.at(-1), of = kind => nodes.filter(node => node.kind === kind).length;
  if (!nodes.length) return <div class="page"><h1>{project.name}</h1><Empty title="No models yet">Add a SQL file below models/ and generate this page again.</Empty></div>;
  const kinds = [[of('source'), 'source'], [of('seed'), 'seed'], [of('model'), 'model'], [of('exposure'), 'exposure']].filter(([n]) => n);
  return <div class="page">
    <div class="title"><h1>{project.name}</h1></div>
    <p class="dim">{kinds.map(([n, noun]) => plural(n, noun)).join(', ')} · target <b>{project.target}</b> in <span class="mono">{project.root}</span> · made {time(project.generated_at)} UTC by lake {project.lake_version}</p>
    {project.problems && <ul class="problems">{project.problems.map(text => <li key={text}>{text}</li>)}</ul>}
    <div class="tiles large">
      {run ? <RunTile run={run} now={project.generated_at} /> : <Tile label="Last run" value="none yet" note="`lake build` makes the tables" />}
      <TestTile all={all} />
      <StoredTile nodes={nodes} />
      <CareTile all={all} />
    </div>
    <Flow all={all} />
    <Attention all={all} />
    {runs.length > 1 && <Section title="Runs" aside={<a class="button" href={href('health')}>Health</a>}><div class="card chart"><Bars label="Runs, oldest first" height={96} selected={-1} onselect={at => { location.hash = href('health', runs[at].id); }}
      bars={runs.map(run => ({ value: run.seconds, kind: run.status === 'success' ? 'success' : 'error', title: `${time(run.at)} ${run.command}: ${run.status}, ${seconds(run.seconds)}, ${run.counts.built} built` }))} /></div></Section>}
    {nodes.length <= SMALL && <Small all={all} />}
  </div>;
}

function RunTile({ run, now }) {
  const { built, skipped, failed, blocked } = run.counts;
  return <Tile label="Last run" value={<Badge status={run.status} />} note={`${run.command}, ${age((now - run.at) / 1000)} ago, took ${seconds(run.seconds)}`} href={href('health', run.id)}>
    <Stack parts={[['success', built, 'built'], ['skipped', skipped, 'skipped'], ['error', failed, 'failed'], ['blocked', blocked, 'blocked']]} /></Tile>;
}

function TestTile({ all }) {
  const n = status => all.tests.filter(test => test.status === status).length, passed = n('pass'), ran = all.tests.length - n('none');
  if (!all.tests.length) return <Tile label="Tests" value="none" note="`data_tests:` of a column guard what is published" />;
  const parts = [['pass', passed, 'pass'], ['warn', n('warn'), 'warn'], ['fail', n('fail') + n('error'), 'fail'], ['none', n('none'), 'not run']];
  return <Tile label="Tests" href={href('quality')} value={<span class="with-ring"><Ring parts={parts} value={ran ? `${Math.floor(passed / ran * 100)}%` : '–'} label={`${passed} of ${ran} tests pass`} /><Stack parts={parts} /></span>} />;
}

function StoredTile({ nodes }) {
  const stored = nodes.filter(node => node.table), sum = key => stored.reduce((total, node) => total + (node.table[key] ?? 0), 0);
  if (!stored.length) return <Tile label="Stored" value="nothing yet" note="no table is published" />;
  const largest = [...stored].sort((a, b) => (b.table.bytes ?? 0) - (a.table.bytes ?? 0))[0];
  return <Tile label="Stored" value={`${count(sum('rows'))} rows`} note={<>{size(sum('bytes'))} in {plural(stored.length, 'table')}; the largest is {largest.name} with {size(largest.table.bytes)}</>} />;
}

function CareTile({ all }) {
  const models = all.nodes.filter(node => node.kind === 'model'), part = test => models.filter(test).length;
  const bars = [['described', part(node => node.description)], ['tested', part(node => node.tests.length)], ['owned', part(node => node.owner || node.group)]];
  return <Tile label="Care" value={plural(models.length, 'model')}>
    <ul class="care">{bars.map(([text, n]) => <li key={text}><span>{text}</span><i><b style={`width:${models.length ? n / models.length * 100 : 0}%`} /></i><span>{count(n)}</span></li>)}</ul></Tile>;
}

/** Layers as data flows. */
function Flow({ all }) {
  return <ol class="flow" aria-label="Layers">{all.layers.map(layer => {
    const bad = layer.nodes.filter(node => !['ok', 'none'].includes(node.status)), rows = layer.nodes.reduce((sum, node) => sum + (node.table?.rows ?? 0), 0);
    return <li key={layer.name}><a href={href('lineage', '', { select: `layer:${layer.name}` })} style={`--c:var(--${layer.color})`}>
      <b>{layer.name}</b><span>{plural(layer.nodes.length, layer.nodes.every(node => node.kind === 'source') ? 'source' : layer.nodes[0].kind === 'exposure' ? 'exposure' : 'model')}</span>
      <span class="dim">{rows ? `${count(rows)} rows` : '\u00a0'}</span>{bad.length > 0 && <span class="flow-bad"><Badge status={STATUSES.find(status => bad.some(node => node.status === status))}>{bad.length}</Badge></span>}</a></li>;
  })}</ol>;
}

function Attention({ all }) {
  const wrong = all.nodes.filter(node => !['ok', 'none'].includes(node.status)).sort((a, b) => STATUSES.indexOf(a.status) - STATUSES.indexOf(b.status) || a.at - b.at);
  const why = node => node.last?.status === 'error' || node.status === 'blocked' ? node.last.reason : node.status === 'stale' ? node.freshness?.error ?? `newest data is ${age((node.freshness.checked_at - node.freshness.max_loaded_at) / 1000)} old`
    : node.tests.filter(test => ['error', 'fail', 'warn'].includes(test.status)).map(test => test.name).join(', ') || `newest data is ${node.freshness ? age((node.freshness.checked_at - node.freshness.max_loaded_at) / 1000) : ''} old`;
  const columns = [{ head: 'Status', cell: node => <Badge status={node.status} /> }, { head: 'Node', cell: node => <NodeLink node={node} /> }, { head: 'Why', wide: true, cell: node => clip(why(node) ?? '', 180) }, { head: 'Owner', cell: node => node.owner ?? <span class="dim">–</span> }];
  if (!all.runs.length && !wrong.length) return null;
  return <Section title="Needs attention">{wrong.length ? <Table label="Needs attention" columns={columns} rows={wrong} limit={8} keyOf={node => node.name} /> : <p class="card calm"><Badge status="ok">All is well</Badge> Nothing failed, warned or became stale.</p>}</Section>;
}

function Small({ all }) {
  const scene = useMemo(() => nodeScene(all, all.nodes.map(node => node.at), 2.2), [all]);
  return <Section title="Lineage" aside={<a class="button" href={href('lineage')}>Open graph</a>}><div class="card"><Graph scene={scene} height={Math.max(180, Math.min(460, scene.bottom - scene.top + 70))} label="Lineage" selected={null} onselect={node => { if (node) location.hash = nodeHref(node); }} onopen={node => { location.hash = nodeHref(node); }} /></div></Section>;
}
