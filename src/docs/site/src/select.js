// The selection grammar of `lake` for the graph: names, globs, `+a`, `a+`, `2+a+1`, `@a`, `tag:`, `path:`, unions by spaces, intersections by commas.

import { reach } from './data.js';

/** The nodes that a selection means, or what is wrong with it. An empty one means all. */
export function select(all, text) {
  const words = text.trim().split(/\s+/).filter(Boolean);
  if (!words.length) return { nodes: null, unknown: [] };
  const found = new Set(), unknown = [];
  for (const word of words) {
    const parts = word.split(',').filter(Boolean).map(part => one(all, part));
    const both = parts.reduce((a, b) => new Set([...a].filter(at => b.has(at))), parts[0] ?? new Set());
    if (!both.size) unknown.push(word);
    for (const at of both) found.add(at);
  }
  return { nodes: found, unknown };
}

function one(all, part) {
  const [, at, up, upSteps, name, down, downSteps] = /^(@?)((\d*)\+)?(.*?)(\+(\d*))?$/.exec(part);
  const starts = matching(all, name), found = new Set(starts);
  const add = more => more.forEach(node => found.add(node));
  if (up != null) add(reach(all.nodes, starts, 'parents', upSteps ? Number(upSteps) : Infinity));
  if (down != null) add(reach(all.nodes, starts, 'children', downSteps ? Number(downSteps) : Infinity));
  if (at) add(reach(all.nodes, reach(all.nodes, starts, 'children'), 'parents'));
  return found;
}

function matching(all, name) {
  const colon = /^(tag|path|source|exposure|config\.materialized|owner|group|status|layer):(.+)$/.exec(name);
  const glob = colon ? colon[2] : name, like = globbed(glob);
  const value = {
    tag: node => node.tags.some(tag => like.test(tag)),
    path: node => like.test(node.path ?? '') || (node.path ?? '').startsWith(glob.replace(/\/?$/, '/')),
    source: node => node.kind === 'source' && (like.test(node.name) || node.layer === glob),
    exposure: node => node.kind === 'exposure' && like.test(node.short),
    'config.materialized': node => like.test(node.materialized ?? ''),
    owner: node => like.test(node.owner ?? ''),
    group: node => like.test(node.group ?? ''),
    status: node => node.status === glob,
    layer: node => node.layer === glob,
  }[colon?.[1]] ?? (node => like.test(node.name) || /^(model|seed)$/.test(node.kind) && like.test(node.short) || node.layer === glob);
  return all.nodes.filter(value).map(node => node.at);
}

function globbed(text) {
  const parts = text.split(/([*?])/).map(part => part === '*' ? '.*' : part === '?' ? '.' : part.replace(/[.+^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('')}$`);
}
