// The lineage graph: all nodes, a selection, or the way of one column.

import { useMemo, useState } from 'preact/hooks';
import { reach, STATUSES } from '../data.js';
import { Graph } from '../graph/view.jsx';
import { columnScene, nodeScene } from '../graph/scene.js';
import { Badge, Choice, ColumnLink, Icon, Mark, NodeLink, Sensitive, STATE, Table, Tag, word } from '../parts/bits.jsx';
import { Line } from '../parts/markdown.jsx';
import { columnHref, href, nodeHref, replaceQuery } from '../route.js';
import { select } from '../select.js';
import { count, plural } from '../words.js';

const list = text => (text ?? '').split(',').filter(Boolean);

export function LineagePage({ all, query, column }) {
  const [text, setText] = useState(query.get('select') ?? ''), [layers, setLayers] = useState(() => list(query.get('layers')));
  const [tag, setTag] = useState(query.get('tag') ?? ''), [status, setStatus] = useState(query.get('status') ?? '');
  const [selected, setSelected] = useState(() => all.byName.get(query.get('node'))?.at ?? null), [view, setView] = useState('graph'), [filters, setFilters] = useState(false);
  // Another address of this page, from a link or the history, is another selection.
  const [seen, setSeen] = useState(query);
  if (seen !== query) {
    setSeen(query);
    setText(query.get('select') ?? '');
    setLayers(list(query.get('layers')));
    setTag(query.get('tag') ?? '');
    setStatus(query.get('status') ?? '');
    setSelected(all.byName.get(query.get('node'))?.at ?? null);
  }
  const found = useMemo(() => select(all, text), [all, text]);
  const ids = useMemo(() => all.nodes.filter(node => (!found.nodes || found.nodes.has(node.at)) && !layers.includes(node.layer) && (!tag || node.tags.includes(tag)) && (!status || node.status === status)).map(node => node.at), [all, found, layers, tag, status]);
  const aspect = Math.max(1.2, (innerWidth - 280) / Math.max(300, innerHeight - 150));
  const scene = useMemo(() => column ? columnScene(all, column, filters, aspect) : nodeScene(all, ids, aspect), [all, column, filters, ids]);
  const node = selected == null ? null : all.nodes[selected];

  const remember = changes => !column && replaceQuery({ select: text, layers: layers.join(','), tag, status, node: node?.name, ...changes });
  const focus = wanted => { setText(wanted); remember({ select: wanted }); };
  const onselect = next => { setSelected(next?.at ?? null); remember({ node: next?.name }); };
  const toggle = name => { const next = layers.includes(name) ? layers.filter(layer => layer !== name) : [...layers, name]; setLayers(next); remember({ layers: next.join(',') }); };
  const about = { text, found, layers, toggle, tag, status, focus, setTag: value => { setTag(value); remember({ tag: value }); }, setStatus: value => { setStatus(value); remember({ status: value }); } };
  return <div class="lineage">
    <div class="toolbar">
      {column ? <ColumnBar column={column} filters={filters} setFilters={setFilters} /> : <NodeBar all={all} {...about} />}
      <span class="dim summary" role="status">{plural(scene.items.length, 'node')}, {plural(scene.edges.length, 'edge')}{!column && scene.edges.some(edge => edge.bridge) ? '; dashed edges pass hidden nodes' : ''}</span>
      <Choice label="View" options={[['graph', 'Graph'], ['list', 'List']]} value={view} onchange={setView} />
    </div>
    <div class="stage">
      {!scene.items.length ? <div class="nothing"><b>Nothing to show</b><p>{found.unknown.length ? `Nothing is called ${found.unknown.join(', ')}.` : 'All nodes are filtered out.'}</p></div>
        : view === 'list' ? <EdgeList scene={scene} />
          : <Graph scene={scene} whole selected={selected} current={column?.node.at ?? selected} onselect={onselect} onopen={open => { location.hash = nodeHref(open); }} oncolumn={(of, picked) => { location.hash = columnHref(of, picked); }}
            label={column ? `Lineage of column ${column.node.name}.${column.column.name}` : `Lineage of ${plural(scene.items.length, 'node')}`} />}
      {node && view === 'graph' && scene.byNode.has(node.at) && <Panel all={all} node={node} column={column} onclose={() => onselect(null)} onfocus={column ? null : focus} />}
      {column && view === 'graph' && <Legend />}
    </div>
  </div>;
}

function NodeBar({ all, text, found, layers, toggle, tag, setTag, status, setStatus, focus }) {
  const [draft, setDraft] = useState(text), [known, setKnown] = useState(text);
  if (known !== text) { setKnown(text); setDraft(text); }
  const wrong = found.unknown.length > 0, statuses = STATUSES.filter(status => all.nodes.some(node => node.status === status));
  return <>
    <h1 class="hidden">Lineage</h1>
    <form class={`focus ${wrong ? 'wrong' : ''}`} onSubmit={event => { event.preventDefault(); focus(draft); }}>
      <Icon name="graph" size={15} />
      <input type="text" list="node-names" aria-label="Select nodes" placeholder="Select: +model+, tag:x, silver.*" spellcheck={false} value={draft} aria-invalid={wrong}
        onInput={event => { setDraft(event.currentTarget.value); if (!event.currentTarget.value || all.byName.has(event.currentTarget.value.replace(/^\d*\+|\+\d*$/g, ''))) focus(event.currentTarget.value); }} />
      {text && <button type="button" class="ghost" aria-label="Show all nodes" onClick={() => focus('')}><Icon name="cross" size={12} /></button>}
      <datalist id="node-names">{all.nodes.length <= 3000 && all.nodes.map(node => <option key={node.at} value={`+${node.name}+`} />)}</datalist>
    </form>
    <div class="layers" role="group" aria-label="Layers">{all.layers.map(layer => <button key={layer.name} type="button" class="layer" aria-pressed={!layers.includes(layer.name)} onClick={() => toggle(layer.name)}><span class="swatch" style={`--c:var(--${layer.color})`} />{layer.name}<span class="dim">{count(layer.nodes.length)}</span></button>)}</div>
    {all.tags.length > 0 && <select aria-label="Tag" value={tag} onChange={event => setTag(event.currentTarget.value)}><option value="">All tags</option>{all.tags.map(name => <option key={name} value={name}>{name}</option>)}</select>}
    {statuses.length > 1 && <select aria-label="Status" value={status} onChange={event => setStatus(event.currentTarget.value)}><option value="">Any status</option>{statuses.map(name => <option key={name} value={name}>{word(name)}</option>)}</select>}
  </>;
}

function ColumnBar({ column: { node, column }, filters, setFilters }) {
  return <>
    <h1 class="column-title"><NodeLink node={node} /><span class="dim">.</span><span class="mono">{column.name}</span><span class="dim type">{column.type}</span></h1>
    <label class="check"><input type="checkbox" checked={filters} onChange={event => setFilters(event.currentTarget.checked)} /> filters and joins</label>
    <a class="button" href={href('lineage', '', { select: `+${node.name}+`, node: node.name })}>Whole nodes</a>
  </>;
}

const Legend = () => <ul class="uses" aria-label="Edges"><li><i class="copied" />copied</li><li><i class="derived" />derived</li><li><i class="masked" />masked</li><li><i class="filter" />filter, join or key</li></ul>;

function Panel({ all, node, column, onclose, onfocus }) {
  const up = reach(all.nodes, [node.at], 'parents').size - 1, down = reach(all.nodes, [node.at], 'children').size - 1;
  const own = node.kind === 'exposure' ? `exposure:${node.short}` : node.name;
  return <aside class="panel" aria-label={node.name}>
    <div class="panel-head"><Mark node={node} /><a href={nodeHref(node)}><b>{node.short}</b></a><button type="button" class="ghost" aria-label="Close" onClick={onclose}><Icon name="cross" size={13} /></button></div>
    <p class="chips"><Badge status={node.status} /><Tag>{node.layer}</Tag><Tag>{node.materialized ?? node.kind}</Tag>{node.tags.filter(tag => tag !== node.layer).slice(0, 4).map(tag => <Tag key={tag} kind="user">{tag}</Tag>)}</p>
    {node.description && <p class="about"><Line text={node.description} /></p>}
    {node.last?.status === 'error' && <p class="message bad mono">{node.last.reason}</p>}
    <p class="dim">{plural(up, 'node')} above, {plural(down, 'node')} below</p>
    <div class="actions"><a class="button primary" href={nodeHref(node)}>Open</a>{onfocus && <><button type="button" onClick={() => onfocus(`+${own}+`)}>Focus</button><button type="button" onClick={() => onfocus(`1+${own}+1`)}>Neighbours</button></>}</div>
    {node.columns.length > 0 && <><h2>Columns</h2><ul class="columns">{node.columns.map(known => <li key={known.at} class={column?.column === known ? 'on' : ''}><ColumnLink node={node} column={known} />{known.sensitive && <Icon name="lock" size={12} label="sensitive" />}<span class="dim">{known.type}</span></li>)}</ul></>}
  </aside>;
}

function EdgeList({ scene }) {
  const links = (item, list) => list.map((at, n) => <span key={n}>{n > 0 && ', '}<NodeLink node={scene.items[at].node} /></span>);
  const columns = [
    { head: 'Node', cell: item => <NodeLink node={item.node} />, sort: item => item.node.name },
    { head: 'Kind', cell: item => item.node.materialized ?? item.node.kind, sort: item => item.node.materialized ?? item.node.kind },
    { head: 'Status', cell: item => <Badge status={item.node.status} />, sort: item => Object.keys(STATE).indexOf(item.node.status) },
    ...scene.columns ? [{ head: 'Columns', wide: true, cell: item => item.rows.map((column, n) => <span key={n}>{n > 0 && ', '}<ColumnLink node={item.node} column={column} />{column.sensitive && <Sensitive why={column.sensitive} />}</span>) }] : [],
    { head: 'Reads', wide: true, cell: item => links(item, unique(scene.before[scene.byNode.get(item.at)])) },
    { head: 'Read by', wide: true, cell: item => links(item, unique(scene.after[scene.byNode.get(item.at)])) },
  ];
  return <div class="list-view"><Table label="Nodes of the graph" columns={columns} rows={scene.items} limit={200} keyOf={item => item.node.name} /></div>;
}

const unique = values => [...new Set(values)];
