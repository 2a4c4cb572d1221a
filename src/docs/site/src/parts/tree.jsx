// The catalogue at the side: layers as data flows, folders where a layer is large.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { nodeHref } from '../route.js';
import { count } from '../words.js';
import { Icon, Mark, STATE } from './bits.jsx';

/** From so many nodes on a layer is shown by folders. */
const LARGE = 60;

export function Tree({ all, current }) {
  const [filter, setFilter] = useState('');
  const wanted = filter.trim().toLowerCase(), box = useRef();
  const layers = useMemo(() => all.layers.map(layer => ({ ...layer, shown: wanted ? layer.nodes.filter(node => node.name.toLowerCase().includes(wanted)) : layer.nodes })), [all, wanted]);
  useEffect(() => { box.current?.querySelector('[aria-current=page]')?.scrollIntoView({ block: 'nearest' }); }, [current]);
  return <nav class="tree" aria-label="Catalogue" ref={box}>
    <input class="filter" type="text" aria-label="Filter the catalogue" placeholder="Filter" value={filter} onInput={event => setFilter(event.currentTarget.value)} spellcheck={false} />
    {layers.filter(layer => layer.shown.length).map(layer => <Branch key={layer.name} layer={layer} current={current} all={all} open={wanted !== '' || all.nodes.length <= 150} />)}
    {layers.every(layer => !layer.shown.length) && <p class="dim">Nothing is called so.</p>}
  </nav>;
}

function Branch({ layer, current, all, open }) {
  const holds = layer.shown.some(node => node.at === current), folders = layer.shown.length > LARGE ? grouped(layer.shown) : null;
  return <details open={open || holds}>
    <summary><Icon name="chevron" size={12} /><span class="swatch" style={`--c:var(--${layer.color})`} />{layer.name}<span class="dim">{count(layer.shown.length)}</span></summary>
    {folders && folders.length > 1 ? folders.map(([name, nodes]) => <details key={name} class="folder" open={nodes.some(node => node.at === current)}>
      <summary><Icon name="chevron" size={12} />{name}<span class="dim">{count(nodes.length)}</span></summary><Leaves nodes={nodes} current={current} /></details>) : <Leaves nodes={layer.shown} current={current} />}
  </details>;
}

const Leaves = ({ nodes, current }) => <ul>{nodes.map(node => <li key={node.at}><a href={nodeHref(node)} aria-current={node.at === current ? 'page' : undefined} title={node.name}>
  <Mark node={node} /><span>{node.short}</span>{!['ok', 'none'].includes(node.status) && <span class={`sign ${STATE[node.status][0]}`}><Icon name={STATE[node.status][1]} size={13} label={STATE[node.status][2]} /></span>}</a></li>)}</ul>;

/** By the last folder of the path; else by the first letters. */
function grouped(nodes) {
  const groups = new Map();
  for (const node of nodes) {
    const folders = (node.path ?? '').split('/').slice(2, -1), name = folders.length ? folders.join('/') : node.short[0];
    groups.set(name, [...groups.get(name) ?? [], node]);
  }
  return [...groups].sort(([a], [b]) => a.localeCompare(b));
}
