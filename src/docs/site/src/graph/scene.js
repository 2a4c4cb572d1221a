// What a graph shows: boxes for nodes, and edges between them, laid out.

import { columnLineage } from '../data.js';
import { clip, short } from '../words.js';
import { layout } from './layout.js';

export const BOX = { w: 204, h: 48, row: 24, head: 46 };

/** These nodes. Edges through nodes that are left out are drawn as bridges. */
export function nodeScene(all, ids, aspect) {
  const items = [...ids].map(at => ({ at, node: all.nodes[at], w: BOX.w, h: BOX.h, note: note(all.nodes[at]) }));
  const index = new Map(items.map((item, i) => [item.at, i])), edges = [];
  for (const item of items) {
    const seen = new Set(), pending = item.node.children.map(child => [child, false]);
    while (pending.length) {
      const [at, bridge] = pending.pop();
      if (seen.has(at)) continue;
      seen.add(at);
      if (index.has(at)) edges.push({ from: index.get(item.at), to: index.get(at), bridge });
      else for (const child of all.nodes[at].children) pending.push([child, true]);
    }
  }
  return finish({ items, edges: withoutDoubles(items, edges), columns: null }, aspect);
}

/** A bridge says nothing where another way says the same. */
function withoutDoubles(items, edges) {
  const direct = new Map(items.map((_, i) => [i, []]));
  for (const edge of edges) direct.get(edge.from).push(edge.to);
  return edges.filter(edge => !edge.bridge || !direct.get(edge.from).some(step => step !== edge.to && direct.get(step).includes(edge.to)));
}

function note(node) {
  const rows = node.table?.rows != null ? `${short(node.table.rows)} rows` : node.source?.files != null ? `${short(node.source.files)} ${node.source.files === 1 ? 'file' : 'files'}` : null;
  return [node.materialized ?? node.exposure?.type ?? node.kind, rows].filter(Boolean).join(' · ');
}

/** The lineage of a column: boxes show the columns that are part of it. */
export function columnScene(all, { node, column }, withFilters, aspect) {
  const { columns, edges: steps } = columnLineage(all, node.at, column.at, withFilters);
  const rows = new Map();
  for (const key of columns) {
    const [at, index] = key.split(':');
    const list = rows.get(Number(at)) ?? [];
    if (index !== '*') list.push(Number(index));
    rows.set(Number(at), list);
  }
  const items = [...rows].map(([at, list]) => ({ at, node: all.nodes[at], w: BOX.w + 14, h: BOX.head + Math.max(list.length, 0) * BOX.row + (list.length ? 8 : 0), rows: list.sort((a, b) => a - b).map(index => all.nodes[at].columns[index]), note: note(all.nodes[at]) }));
  const index = new Map(items.map((item, i) => [item.at, i]));
  const end = key => {
    const [at, c] = key.split(':'), i = index.get(Number(at)), item = items[i];
    const row = item.rows.findIndex(known => String(known.at) === c);
    return [i, row < 0 ? BOX.head / 2 - item.h / 2 : BOX.head + (row + 0.5) * BOX.row - item.h / 2];
  };
  const edges = steps.filter(step => columns.has(step.from)).map(step => {
    const [from, out] = end(step.from), [to, into] = end(step.to);
    return { from, to, out, in: into, use: step.use, keys: [step.from, step.to] };
  });
  return finish({ items, edges, columns: `${node.at}:${column.at}` }, aspect);
}

function finish(scene, aspect) {
  layout(scene.items, scene.edges, aspect);
  const { items } = scene;
  scene.byNode = new Map(items.map((item, i) => [item.at, i]));
  scene.before = items.map(() => []);
  scene.after = items.map(() => []);
  scene.edges.forEach(edge => { scene.after[edge.from].push(edge.to); scene.before[edge.to].push(edge.from); });
  const edge = (value, none) => items.length ? value : none;
  scene.left = edge(Math.min(...items.map(item => item.x - item.w / 2)), 0);
  scene.right = edge(Math.max(...items.map(item => item.x + item.w / 2)), 1);
  scene.top = edge(Math.min(...items.map(item => item.y - item.h / 2)), 0);
  scene.bottom = edge(Math.max(...items.map(item => item.y + item.h / 2)), 1);
  for (const item of items) item.title = clip(item.node.kind === 'exposure' ? item.node.exposure?.label ?? item.node.short : item.node.short, 60);
  return scene;
}

/** The items from which and to which data flows through one. */
export function related(scene, index) {
  const found = new Set([index]);
  for (const links of [scene.before, scene.after]) {
    const seen = new Set([index]), pending = [index];
    while (pending.length) for (const next of links[pending.pop()]) if (!seen.has(next)) { seen.add(next); pending.push(next); found.add(next); }
  }
  return found;
}

/** The item at a point, and its column there. */
export function hit(scene, x, y) {
  const index = scene.items.findIndex(item => Math.abs(x - item.x) <= item.w / 2 && Math.abs(y - item.y) <= item.h / 2);
  if (index < 0) return null;
  const item = scene.items[index], row = Math.floor((y - (item.y - item.h / 2) - BOX.head) / BOX.row);
  return { index, item, column: item.rows?.[row] ?? null };
}

/** The next item in a direction: along an edge, or the neighbour above or below. */
export function neighbour(scene, index, key) {
  const { items } = scene, own = items[index];
  const nearest = (list, distance) => list.reduce((best, at) => best == null || distance(items[at]) < distance(items[best]) ? at : best, null);
  if (key === 'ArrowLeft' || key === 'ArrowRight') return nearest(key === 'ArrowLeft' ? scene.before[index] : scene.after[index], item => Math.abs(item.y - own.y));
  const sign = key === 'ArrowUp' ? -1 : 1;
  const list = items.map((_, at) => at).filter(at => (items[at].y - own.y) * sign > 1);
  return nearest(list, item => Math.abs(item.y - own.y) + Math.abs(item.x - own.x) * 2);
}
