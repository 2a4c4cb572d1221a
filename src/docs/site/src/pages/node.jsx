// The page of a model, seed, source or exposure.

import { useMemo, useState } from 'preact/hooks';
import { reach } from '../data.js';
import { nodeScene } from '../graph/scene.js';
import { Graph } from '../graph/view.jsx';
import { Badge, Choice, Empty, Icon, Mark, NodeLink, Section, Tag, Tile } from '../parts/bits.jsx';
import { Freshness, RowsOverTime, Spark } from '../parts/charts.jsx';
import { ColumnTable } from '../parts/columns.jsx';
import { Markdown } from '../parts/markdown.jsx';
import { SqlTabs } from '../parts/sql.jsx';
import { Table } from '../parts/bits.jsx';
import { TestTable, UnitTestTable } from '../parts/tests.jsx';
import { href, nodeHref } from '../route.js';
import { age, count, plural, seconds, size, time } from '../words.js';

export function NodePage({ all, node }) {
  const { exposure } = node, tests = node.tests.length + node.unitTests.length;
  const sections = [['columns', 'Columns', node.columns.length], ['lineage', 'Lineage', true], ['tests', 'Tests', tests], ['sql', 'SQL', node.sql], ['versions', 'Versions', node.versions.length], ['files', 'Files', node.source], ['runs', 'Runs', node.history.length]].filter(([, , shown]) => shown);
  const jump = (event, id) => { event.preventDefault(); document.getElementById(id)?.scrollIntoView({ behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' }); };
  return <article class="page">
    <p class="crumbs"><span class="swatch" style={`--c:var(--${node.color})`} /><a href={href('lineage', '', { select: `layer:${node.layer}` })}>{node.layer}</a> / {node.kind}</p>
    <div class="title"><h1>{exposure?.label ?? node.short}</h1>{(node.status !== 'none' || node.sql) && <Badge status={node.status} />}</div>
    <Chips all={all} node={node} />
    {node.last?.status === 'error' && <p class="card message bad mono">{node.last.reason}</p>}
    {node.last?.status === 'blocked' && <p class="card message warn">{node.last.reason}</p>}
    {node.description ? <Markdown text={node.description} /> : <p class="dim">No description yet.</p>}
    <Tiles node={node} all={all} />
    {node.settings && <Settings settings={node.settings} />}
    <nav class="jumps" aria-label="On this page">{sections.map(([id, text, n]) => <a key={id} href={`#${id}`} onClick={event => jump(event, id)}>{text}{typeof n === 'number' && <span class="dim"> {count(n)}</span>}</a>)}</nav>
    {node.columns.length > 0 && <Section id="columns" title="Columns" aside={node.profiled && <span class="dim">profile of version {node.profiled.version}, {plural(node.profiled.rows, 'row')}</span>}><ColumnTable all={all} node={node} /></Section>}
    <NodeLineage all={all} node={node} />
    {tests > 0 && <Section id="tests" title="Tests"><NodeTests all={all} node={node} /></Section>}
    {node.sql && <Section id="sql" title="SQL"><SqlTabs key={node.at} node={node} all={all} /></Section>}
    {node.versions.length > 0 && <Section id="versions" title="Versions" aside={<span class="dim">newest first</span>}><Versions node={node} all={all} /></Section>}
    {node.source && <Section id="files" title="Files"><Files source={node.source} /></Section>}
    {node.history.length > 0 && <Section id="runs" title="Runs"><Runs node={node} all={all} /></Section>}
  </article>;
}

function Chips({ all, node }) {
  const group = all.groups.find(group => group.name === node.group), owner = node.owner ?? group?.owner;
  return <ul class="chips">
    {node.materialized && <li><Tag>{node.materialized}</Tag></li>}
    {node.exposure && <li><Tag>{node.exposure.type}</Tag></li>}
    {node.exposure?.maturity && <li><Tag>maturity {node.exposure.maturity}</Tag></li>}
    {node.source && <li><Tag>{node.source.format}</Tag></li>}
    {node.contract && <li><Tag kind="contract"><Icon name="check" size={12} />contract enforced</Tag></li>}
    {node.access && <li><Tag>{node.access}</Tag></li>}
    {node.group && <li><Tag>group {node.group}</Tag></li>}
    {node.tags.map(tag => <li key={tag}><a class="tag user" href={href('lineage', '', { tag })}>{tag}</a></li>)}
    <li class="dim">{owner ? <>owned by <b>{owner}</b>{node.exposure?.owner_email && <> · <a href={`mailto:${node.exposure.owner_email}`}>{node.exposure.owner_email}</a></>}</> : 'no owner'}</li>
    {node.exposure?.url && /^https?:/.test(node.exposure.url) && <li><a href={node.exposure.url} target="_blank" rel="noopener noreferrer">Open it <Icon name="open" size={13} /></a></li>}
  </ul>;
}

function Tiles({ node, all }) {
  const { table, source, freshness } = node, ok = node.tests.filter(test => test.status === 'pass').length, ran = node.tests.filter(test => test.last).length;
  const now = all.project.generated_at;
  return <div class="tiles">
    {table && <Tile label="Rows" value={count(table.rows)}><Spark values={node.versions.map(version => version.rows)} label={`Rows of the last ${plural(node.versions.length, 'version')}`} /></Tile>}
    {table && <Tile label="Size" value={size(table.bytes)} note={plural(table.files, 'file')} />}
    {table && <Tile label="Version" value={count(table.version)} note={table.at && `${age((now - table.at) / 1000)} old`} />}
    {source && <Tile label="Files" value={source.error ? 'not there' : count(source.files)} note={source.error ? undefined : size(source.bytes)} />}
    {source?.newest_at && <Tile label="Newest data" value={`${age((now - source.newest_at) / 1000)} ago`} note={`${time(source.newest_at)} UTC`} />}
    {freshness && <Tile label="Freshness" value={<Badge status={freshness.status}>{freshness.status === 'pass' ? 'fresh' : freshness.status}</Badge>} note={limits(freshness)}><Freshness fresh={freshness} /></Tile>}
    {node.built && <Tile label="Last build" value={seconds(node.built.seconds)} note={`${node.built.action}, ${time(all.runs[node.built.run].at)}`}><Spark values={node.history.filter(entry => entry.status === 'success').map(entry => entry.seconds)} label="Seconds of its builds" /></Tile>}
    {node.tests.length > 0 && <Tile label="Tests passed" value={ran ? `${ok} of ${ran}` : 'not run'} state={ran && ok < ran ? (node.status === 'warn' ? 'warn' : 'bad') : ''} note={ran < node.tests.length && ran ? `${node.tests.length - ran} did not run yet` : undefined} />}
  </div>;
}

const limits = fresh => [fresh.warn_after && `warns after ${age(fresh.warn_after)}`, fresh.error_after && `fails after ${age(fresh.error_after)}`].filter(Boolean).join(', ');

const Settings = ({ settings }) => <dl class="settings">{Object.entries(settings).map(([key, value]) => <div key={key}><dt>{key.replace(/_/g, ' ')}</dt><dd class="mono">{Array.isArray(value) ? value.join(', ') : typeof value === 'object' ? JSON.stringify(value) : String(value)}</dd></div>)}</dl>;

function NodeLineage({ all, node }) {
  const up = useMemo(() => reach(all.nodes, [node.at], 'parents'), [node]), down = useMemo(() => reach(all.nodes, [node.at], 'children'), [node]);
  const near = new Set([node.at, ...node.parents, ...node.children]), whole = new Set([...up, ...down]);
  const [wide, setWide] = useState(whole.size <= 14 ? 'all' : 'near');
  const scene = useMemo(() => nodeScene(all, wide === 'all' ? whole : near, 2.4), [node, wide]);
  const height = Math.max(150, Math.min(460, (scene.bottom - scene.top) + 70));
  const aside = <>{whole.size > near.size && <Choice label="How much" options={[['near', 'Neighbours'], ['all', `All ${count(whole.size - 1)} related`]]} value={wide} onchange={setWide} />}
    <a class="button" href={href('lineage', '', { select: `+${node.kind === 'exposure' ? `exposure:${node.short}` : node.name}+`, node: node.name })}>Open graph</a></>;
  const links = (title, list) => <div><h3>{title} <span class="dim">{count(list.length)}</span></h3>{list.length ? <ul>{list.map(at => <li key={at}><NodeLink node={all.nodes[at]} /></li>)}</ul> : <p class="dim">nothing</p>}</div>;
  return <Section id="lineage" title="Lineage" aside={aside}>
    <div class="card"><Graph key={node.at} scene={scene} height={height} current={node.at} selected={node.at} onselect={next => { if (next && next !== node) location.hash = nodeHref(next); }} onopen={next => { location.hash = nodeHref(next); }} label={`Lineage of ${node.name}`} /></div>
    <div class="two">{links('Reads', node.parents)}{links('Read by', [...new Set(node.children)])}</div>
  </Section>;
}

function NodeTests({ all, node }) {
  return <>
    {node.tests.length > 0 && <TestTable all={all} tests={node.tests} of={node} />}
    {node.unitTests.length > 0 && <UnitTestTable all={all} tests={node.unitTests} of={node} />}
  </>;
}

function Versions({ node, all }) {
  const rows = [...node.versions].reverse(), chart = RowsOverTime({ versions: node.versions });
  const columns = [
    { head: 'Version', right: true, cell: version => version.version }, { head: 'When (UTC)', cell: version => time(version.at) },
    { head: 'Operation', cell: version => version.operation },
    { head: 'Rows', right: true, cell: version => count(version.rows) },
    { head: 'Change', right: true, cell: version => <Change version={version} before={node.versions[node.versions.indexOf(version) - 1]} /> },
    { head: 'Files', right: true, cell: version => <>{count(version.files)} <span class="dim">+{version.added} −{version.removed}</span></> },
    { head: 'Tests passed', right: true, cell: version => version.passed },
    { head: 'Run', cell: version => version.run >= 0 && all.runs[version.run] ? <a href={href('health', all.runs[version.run].id)}>{all.runs[version.run].command}</a> : <span class="dim">–</span> },
  ];
  return <>{chart && <div class="card chart">{chart}</div>}<Table label="Versions" columns={columns} rows={rows} limit={12} keyOf={version => version.version} /></>;
}

function Change({ version, before }) {
  if (!before || before.rows == null || version.rows == null) return <span class="dim">–</span>;
  const by = version.rows - before.rows;
  return by === 0 ? <span class="dim">0</span> : <span>{by > 0 ? '+' : '−'}{count(Math.abs(by))}</span>;
}

function Files({ source }) {
  if (source.error) return <Empty title="The files cannot be listed">{source.error}</Empty>;
  const columns = [{ head: 'File', cell: ([path]) => <span class="mono">{path}</span>, sort: ([path]) => path }, { head: 'Size', right: true, cell: ([, bytes]) => size(bytes), sort: ([, bytes]) => bytes }, { head: 'Written (UTC)', cell: ([, , at]) => time(at), sort: ([, , at]) => at }];
  return <>
    <p class="dim"><span class="mono">{source.location}</span>{source.list && source.list.length < source.files ? `: the newest ${source.list.length} of ${count(source.files)}` : ''}</p>
    {source.list?.length > 0 && <Table label="Files" columns={columns} rows={source.list} limit={10} keyOf={([path]) => path} />}
  </>;
}

function Runs({ node, all }) {
  const columns = [
    { head: 'Status', cell: entry => <Badge status={entry.status} /> }, { head: 'When (UTC)', cell: entry => <a href={href('health', all.runs[entry.run].id)}>{time(all.runs[entry.run].at)}</a> },
    { head: 'What', cell: entry => entry.action || '–' }, { head: 'Rows', right: true, cell: entry => entry.status === 'success' && entry.rows != null ? count(entry.rows) : '–' },
    { head: 'Time', right: true, cell: entry => entry.status === 'success' || entry.status === 'error' ? seconds(entry.seconds) : '–' }, { head: 'Why', wide: true, cell: entry => entry.reason },
  ];
  return <Table label="Runs" columns={columns} rows={[...node.history].reverse()} limit={8} keyOf={entry => entry.run} />;
}
