// The columns of a node: type, what is said of them, tests, and the profile with small charts.

import { columnHref, href, nodeHref } from '../route.js';
import { count, plural, short } from '../words.js';
import { Badge, ColumnLink, Icon, Sensitive, Table, Tag, tone } from './bits.jsx';
import { Common, Nulls, Quantiles } from './charts.jsx';
import { Line, Markdown } from './markdown.jsx';

const USES = ['copied', 'derived', 'masked'];

export function ColumnTable({ all, node }) {
  const rows = node.profiled?.rows, profiled = node.columns.some(column => column.profile);
  const columns = [
    { head: 'Name', cell: column => <span class="column-name"><ColumnLink node={node} column={column} />{column.key && <Icon name="key" size={13} label="part of the unique key" />}</span>, sort: column => column.name },
    { head: 'Type', cell: column => <span class="mono dim type">{column.type}</span>, sort: column => column.type },
    { head: 'Description', wide: true, cell: column => <>{column.sensitive && <Sensitive why={column.sensitive} />} {column.description && <Line text={column.description} />}</> },
    { head: 'Tests', cell: column => <TestMarks column={column} /> },
    ...profiled ? [
      { head: 'NULL', cell: column => column.profile && <Nulls nulls={column.profile.nulls} rows={rows} />, sort: column => column.profile?.nulls },
      ...node.columns.some(column => column.profile?.distinct != null) ? [{ head: 'Distinct', right: true, cell: column => distinct(column.profile), sort: column => column.profile?.distinct }] : [],
      { head: 'Values', cell: column => column.profile && <Values profile={column.profile} rows={rows} /> },
    ] : [],
  ];
  return <Table label="Columns" columns={columns} rows={node.columns} limit={80} keyOf={column => column.name} detail={column => () => <Detail all={all} node={node} column={column} rows={rows} />} />;
}

const distinct = profile => profile?.distinct == null ? <span class="dim">–</span> : <>{profile.exact ? '' : '~'}{short(profile.distinct)}</>;

/** Constraints, then tests that are not those constraints. */
function TestMarks({ column }) {
  if (!column.tests.length && !column.constraints) return null;
  return <span class="marks">{column.constraints?.map(text => <Tag key={text} kind="contract">{text}</Tag>)}
    {column.tests.filter(test => !test.contract).map(test => <a key={test.at} class={`tag test ${tone(test.status)}`} href={href('quality', test.name)} title={test.last?.message ?? test.name}><Badge status={test.status}>{test.kind}</Badge></a>)}</span>;
}

function Values({ profile, rows }) {
  if (profile.masked) return <span class="dim">masked</span>;
  if (profile.quantiles?.every(value => value != null)) return <span class="values"><Quantiles profile={profile} /><span class="ends"><span>{short(Number(profile.min ?? profile.quantiles[0]))}</span><span>{short(Number(profile.max ?? profile.quantiles[4]))}</span></span></span>;
  if (profile.top?.length) return <Bar top={profile.top} rows={rows} />;
  if (profile.min != null || profile.max != null) return <span class="range mono" title={`${profile.min} … ${profile.max}`}><span>{cut(profile.min)} … </span><span>{cut(profile.max)}</span></span>;
  return <span class="dim">–</span>;
}

/** A time without its `T`, and without midnight; any other value, cut. */
function cut(value) {
  if (value == null) return '?';
  const text = String(value), time = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)/.exec(text);
  if (time) return time[2] + time[3] === '00:00:00' ? time[1] : `${time[1]} ${time[2]}`;
  return text.length > 19 ? `${text.slice(0, 18)}…` : text;
}

/** The most common values as parts of one bar. */
function Bar({ top, rows }) {
  const shown = top.slice(0, 4);
  return <span class="values"><span class="parts" role="img" aria-label={shown.map(([value, n]) => `${value}: ${count(n)}`).join(', ')}>{shown.map(([value, n], at) => <i key={at} class={`part${at}`} style={`width:${n / (rows || 1) * 100}%`} title={`${value}: ${count(n)}`} />)}</span><span class="ends"><span>{cut(shown[0][0])}</span>{shown.length > 1 && <span>{plural(top.length, 'value')}{top.length === 10 ? ' and more' : ''}</span>}</span></span>;
}

function Detail({ all, node, column, rows }) {
  const { profile } = column, up = column.from.map(([at, index, use]) => [all.nodes[at], all.nodes[at]?.columns[index], USES[use]]), down = column.down.map(([at, index, use]) => [all.nodes[at], all.nodes[at]?.columns[index], USES[use]]);
  const facts = profile && !profile.masked ? [['least', profile.min], ['greatest', profile.max], ['mean', profile.mean == null ? null : short(profile.mean)], ['median', profile.quantiles?.[2] == null ? null : short(profile.quantiles[2])], ['length', profile.lengths && `${profile.lengths[0]} to ${profile.lengths[1]}, mean ${short(profile.lengths[2])}`]].filter(([, value]) => value != null) : [];
  return <div class="column-detail">
    {column.description && <Markdown text={column.description} />}
    {column.sensitive && <p class="dim">{column.sensitive === 'declared' ? 'Declared sensitive' : `Sensitive, from ${column.sensitive}`}: its values are masked.</p>}
    {facts.length > 0 && <dl class="facts">{facts.map(([label, value]) => <div key={label}><dt>{label}</dt><dd class="mono">{value}</dd></div>)}</dl>}
    {profile?.top?.length > 0 && <div><h3>Most common</h3><Common top={profile.top} rows={rows} /></div>}
    <div class="two">
      <div><h3>Comes from</h3><Steps list={up} /></div>
      <div><h3>Reaches</h3><Steps list={down} /></div>
    </div>
    <a class="button" href={columnHref(node, column)}>Column lineage</a>
  </div>;
}

const Steps = ({ list }) => list.length ? <ul>{list.map(([node, column, use], at) => node && <li key={at}>{column ? <a class="mono" href={columnHref(node, column)}>{node.name}.{column.name}</a> : <a href={nodeHref(node)}>{node.name}</a>} <span class="dim">{use}</span></li>)}</ul> : <p class="dim">nothing</p>;
