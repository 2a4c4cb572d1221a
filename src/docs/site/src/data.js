// The document of DATA.md -> a catalogue: names for indices, links in both directions, the newest results of everything.

export const NODE_STATUS = ['success', 'skipped', 'error', 'blocked', 'cancelled'];
export const TEST_STATUS = ['pass', 'warn', 'fail', 'error'];
export const USE = ['copied', 'derived', 'masked', 'filter'];

/** The data inside the page. */
export async function read(element) {
  const raw = JSON.parse(element.textContent);
  return raw.deflate ? JSON.parse(await inflated(raw.deflate)) : raw;
}

async function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Response(stream).text();
}

export function catalogue(raw) {
  const nodes = raw.nodes.map((node, at) => readNode(raw, node, at));
  const byName = new Map(nodes.map(node => [node.name, node]));
  for (const node of nodes) for (const parent of node.parents) nodes[parent].children.push(node.at);
  const tests = (raw.tests ?? []).map((test, at) => ({ ...test, at, reads: test.reads ?? [], tags: test.tags ?? [], history: [], failure: null }));
  // A test of no table belongs to all that it reads.
  for (const test of tests) for (const at of test.node == null ? test.reads : [test.node]) nodes[at].tests.push(test);
  for (const test of raw.unit_tests ?? []) if (test.node != null) nodes[test.node].unitTests.push(test);
  const runs = (raw.runs ?? []).map((run, at) => readRun(raw, run, at, nodes, tests));
  for (const failure of raw.failures ?? []) tests[failure.test].failure = failure;
  for (const test of tests) Object.assign(test, last(test));
  for (const node of nodes) settle(node, runs);
  linkColumns(nodes);
  const all = { project: raw.project, nodes, byName, tests, unitTests: raw.unit_tests ?? [], runs, groups: raw.groups ?? [] };
  all.layers = layersOf(nodes);
  all.depths = depths(nodes);
  all.tags = [...new Set(nodes.flatMap(node => node.tags))].sort();
  return all;
}

function readNode(raw, node, at) {
  const [layer, short] = split(node.name);
  const columns = (node.columns ?? []).map((column, index) => ({ ...column, at: index, node: at, type: raw.texts[column.type] ?? '', tests: [], down: [], from: column.from ?? [] }));
  const versions = (node.versions ?? []).map(([version, when, operation, rows, files, added, removed, passed, run]) =>
    ({ version, at: when, operation: raw.texts[operation] ?? '', rows: rows < 0 ? null : rows, files, added, removed, passed, run }));
  return { tags: [], parents: [], filters: [], ...node, at, layer: node.kind === 'exposure' ? 'exposures' : layer, short, columns, versions, children: [], tests: [], unitTests: [], history: [], filtersDown: [] };
}

function split(name) {
  const dot = name.indexOf('.');
  return [name.slice(0, dot), name.slice(dot + 1)];
}

function readRun(raw, run, at, nodes, tests) {
  const text = index => index < 0 ? null : raw.texts[index];
  const [built, skipped, failed, blocked, tested, testsFailed, testsWarned] = run.counts;
  const result = { ...run, index: at, counts: { built, skipped, failed, blocked, tests: tested, testsFailed, testsWarned } };
  result.nodes = (run.nodes ?? []).map(([node, status, action, reason, start, seconds, rows, bytes, version, quarantined, files]) =>
    ({ node, run: at, status: NODE_STATUS[status], action: text(action), reason: text(reason), start, seconds, rows, bytes, version: version < 0 ? null : version, quarantined, files }));
  result.tests = (run.tests ?? []).map(([test, status, failures, message, proved, seconds]) =>
    ({ test, run: at, status: TEST_STATUS[status], failures: failures < 0 ? null : failures, message: text(message), proved: text(proved), seconds }));
  for (const entry of result.nodes) nodes[entry.node].history.push(entry);
  for (const entry of result.tests) tests[entry.test].history.push(entry);
  return result;
}

const last = test => ({ last: test.history.at(-1) ?? null, status: test.history.at(-1)?.status ?? 'none' });

/** What is the matter with a node: error, fail, stale, blocked, warn, ok, none. */
function settle(node) {
  node.last = node.history.at(-1) ?? null;
  node.built = node.history.findLast(entry => entry.status === 'success') ?? null;
  for (const test of node.tests) if (test.node === node.at && test.column != null) node.columns[test.column]?.tests.push(test);
  const worst = ['error', 'fail', 'warn', 'pass'].find(status => node.tests.some(test => test.status === status));
  const fresh = { error: 'stale', 'runtime error': 'stale', warn: 'warn', pass: 'ok' }[node.freshness?.status];
  const ran = { error: 'error', blocked: 'blocked', success: 'ok', skipped: 'ok' }[node.last?.status];
  const found = [ran, worst === 'pass' ? 'ok' : worst, fresh];
  node.status = STATUSES.find(status => found.includes(status)) ?? 'none';
}

/** All that can be the matter with a node, worst first. */
export const STATUSES = ['error', 'fail', 'stale', 'blocked', 'warn', 'ok', 'none'];

function linkColumns(nodes) {
  for (const node of nodes) {
    for (const column of node.columns) for (const [from, index, use] of column.from) nodes[from]?.columns[index]?.down.push([node.at, column.at, use]);
    for (const [from, index] of node.filters) nodes[from]?.columns[index] && nodes[from].filtersDown.push([index, node.at]);
  }
}

/** Steps from the sources, by the longest way. */
function depths(nodes) {
  const depth = new Array(nodes.length).fill(0), waits = nodes.map(node => node.parents.length);
  const ready = nodes.filter(node => !node.parents.length).map(node => node.at);
  for (const at of ready) {
    for (const child of nodes[at].children) {
      depth[child] = Math.max(depth[child], depth[at] + 1);
      if (--waits[child] === 0) ready.push(child);
    }
  }
  return depth;
}

/** Layers as data flows: by the mean depth of their nodes. Sources come first, exposures last. */
function layersOf(nodes) {
  const depth = depths(nodes), groups = new Map();
  for (const node of nodes) groups.get(node.layer)?.push(node) ?? groups.set(node.layer, [node]);
  const rank = list => list.every(node => node.kind === 'source') ? -1 : list[0].kind === 'exposure' ? 1e9 : list.reduce((sum, node) => sum + depth[node.at], 0) / list.length;
  let hue = 0;
  return [...groups].map(([name, list]) => ({ name, nodes: list.sort((a, b) => a.short.localeCompare(b.short)), rank: rank(list) }))
    .sort((a, b) => a.rank - b.rank || a.name.localeCompare(b.name))
    .map(layer => ({ ...layer, color: /^(bronze|silver|gold)$/.test(layer.name) ? layer.name : layer.name === 'exposures' ? 'exposure' : `hue${hue++ % 6}` }));
}

/** Everything within `steps` of the nodes, themselves included. */
export function reach(nodes, starts, key, steps = Infinity) {
  const seen = new Set(starts);
  let edge = [...starts];
  for (let step = 0; step < steps && edge.length; step++) {
    const next = [];
    for (const at of edge) for (const to of nodes[at][key]) if (!seen.has(to)) { seen.add(to); next.push(to); }
    edge = next;
  }
  return seen;
}

/** The lineage of a column: all columns it comes from and reaches, and the steps between them. */
export function columnLineage(all, node, column, withFilters) {
  const edges = new Map(), columns = new Set([`${node}:${column}`]);
  const add = (from, to, use) => edges.set(`${from}>${to}`, { from, to, use: USE[use] });
  const walk = (start, steps) => {
    const seen = new Set([start]), pending = [start];
    while (pending.length) {
      const at = pending.pop(), [n, c] = at.split(':').map(Number);
      for (const [to, use, edge] of steps(n, c)) {
        add(...edge, use);
        columns.add(to);
        // Beyond a filter there is no value of this column any more.
        if (use !== 3 && !seen.has(to)) { seen.add(to); pending.push(to); }
      }
    }
  };
  const up = (n, c) => {
    const own = `${n}:${c}`;
    const made = (all.nodes[n].columns[c]?.from ?? []).map(([a, b, use]) => [`${a}:${b}`, use, [`${a}:${b}`, own]]);
    const filters = withFilters ? all.nodes[n].filters.map(([a, b]) => [`${a}:${b}`, 3, [`${a}:${b}`, `${n}:*`]]) : [];
    return [...made, ...filters].filter(([to]) => to !== own);
  };
  const down = (n, c) => {
    const own = `${n}:${c}`;
    const made = (all.nodes[n].columns[c]?.down ?? []).map(([a, b, use]) => [`${a}:${b}`, use, [own, `${a}:${b}`]]);
    const filters = withFilters ? all.nodes[n].filtersDown.filter(([index]) => index === c).map(([, a]) => [`${a}:*`, 3, [own, `${a}:*`]]) : [];
    return [...made, ...filters].filter(([to]) => to !== own);
  };
  walk(`${node}:${column}`, up);
  walk(`${node}:${column}`, down);
  return { columns, edges: [...edges.values()] };
}
