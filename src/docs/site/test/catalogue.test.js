import assert from 'node:assert/strict';
import { test } from 'node:test';
import { project } from '../dev/fixture.mjs';
import { catalogue, columnLineage } from '../src/data.js';
import { columnScene, neighbour, nodeScene, related } from '../src/graph/scene.js';
import { select } from '../src/select.js';

/** bronze.a -> silver.b (view) -> gold.c -> exposure.d, and silver.e beside them. */
function small() {
  const column = (name, from) => ({ name, type: 0, from });
  return catalogue({
    format: 1, project: { name: 'x', generated_at: 0 }, texts: ['bigint', 'append', 'because'],
    nodes: [
      { name: 'bronze.a', kind: 'source', columns: [column('id'), column('secret')] },
      { name: 'silver.b', kind: 'model', materialized: 'view', path: 'models/silver/b.sql', tags: ['night'], parents: [0], columns: [column('id', [[0, 0, 0]]), column('masked', [[0, 1, 2]])], filters: [[0, 1]] },
      { name: 'gold.c', kind: 'model', materialized: 'table', path: 'models/gold/c.sql', owner: 'ada', parents: [1], columns: [column('n', [[1, 0, 1]])] },
      { name: 'exposure.d', kind: 'exposure', parents: [2], columns: [] },
      { name: 'silver.e', kind: 'model', materialized: 'table', path: 'models/silver/e.sql', parents: [0], columns: [] },
    ],
    tests: [{ name: 't', kind: 'not_null', node: 2, column: 0, severity: 'warn' }, { name: 'both', kind: 'singular', reads: [1, 4], severity: 'error' }],
    runs: [
      { id: 'r0', command: 'build', at: 0, seconds: 1, status: 'success', counts: [2, 0, 0, 0, 1, 0, 0], nodes: [[2, 0, 1, 2, 0, 1, 5, 50, 0, 0, 1]], tests: [[0, 0, 0, -1, -1, 0]] },
      { id: 'r1', command: 'build', at: 9, seconds: 1, status: 'success', counts: [0, 1, 0, 0, 1, 0, 1], nodes: [[2, 1, 1, 2, 0, 0, 0, 0, -1, 0, 0]], tests: [[0, 1, 3, 2, -1, 0]] },
    ],
  });
}
const names = (all, set) => [...set].map(at => all.nodes[at].name).sort().join(' ');

test('links go both ways, and layers stand as data flows', () => {
  const all = small();
  assert.deepEqual(all.nodes[0].children, [1, 4]);
  assert.deepEqual(all.layers.map(layer => layer.name), ['bronze', 'silver', 'gold', 'exposures']);
});

test('the worst of the last results is what is the matter', () => {
  const all = small();
  assert.equal(all.nodes[2].status, 'warn');
  assert.equal(all.nodes[2].columns[0].tests[0].last.message, 'because');
  assert.equal(all.nodes[2].built.run, 0);
  assert.equal(all.nodes[4].status, 'none');
  assert.deepEqual([all.nodes[1].tests[0].name, all.nodes[4].tests[0].name], ['both', 'both']);
});

test('selections have the grammar of the command line', () => {
  const all = small(), means = text => names(all, select(all, text).nodes ?? []);
  assert.equal(means('c'), 'gold.c');
  assert.equal(means('+c'), 'bronze.a gold.c silver.b');
  assert.equal(means('1+c'), 'gold.c silver.b');
  assert.equal(means('b+1'), 'gold.c silver.b');
  assert.equal(means('@b'), 'bronze.a exposure.d gold.c silver.b');
  assert.equal(means('silver.*'), 'silver.b silver.e');
  assert.equal(means('tag:night owner:ada'), 'gold.c silver.b');
  assert.equal(means('silver,config.materialized:table'), 'silver.e');
  assert.equal(means('path:models/gold'), 'gold.c');
  assert.equal(means('+exposure:d'), 'bronze.a exposure.d gold.c silver.b');
  assert.deepEqual(select(all, 'nope').unknown, ['nope']);
  assert.equal(select(all, ' ').nodes, null);
});

test('a column has its way up and down, with filters on request', () => {
  const all = small(), of = (node, column, filters) => columnLineage(all, node, column, filters);
  assert.deepEqual([...of(2, 0).columns].sort(), ['0:0', '1:0', '2:0']);
  assert.deepEqual(of(0, 0).edges, [{ from: '0:0', to: '1:0', use: 'copied' }, { from: '1:0', to: '2:0', use: 'derived' }]);
  assert.deepEqual(of(0, 1).edges.map(edge => edge.use), ['masked']);
  assert.deepEqual(of(0, 1, true).edges.map(edge => edge.use).sort(), ['filter', 'masked']);
  const scene = columnScene(all, { node: all.nodes[0], column: all.nodes[0].columns[1] }, true);
  assert.deepEqual([scene.items.length, scene.edges.length], [2, 2]);
});

test('hidden nodes leave a bridge', () => {
  const all = small(), scene = nodeScene(all, [0, 2, 3]);
  assert.deepEqual(scene.edges.map(({ from, to, bridge }) => [from, to, bridge]), [[0, 1, true], [1, 2, false]]);
  assert.deepEqual([...related(scene, 1)].sort(), [0, 1, 2]);
  assert.equal(neighbour(scene, 0, 'ArrowRight'), 1);
  assert.equal(neighbour(scene, 0, 'ArrowLeft'), null);
});

test('an invented lake of every size is a catalogue', () => {
  for (const n of [1, 8, 100, 1000]) {
    const all = catalogue(project(n)), scene = nodeScene(all, all.nodes.map(node => node.at));
    assert.equal(scene.items.length, all.nodes.length);
    assert.equal(scene.edges.length, all.nodes.reduce((sum, node) => sum + node.parents.length, 0));
  }
});
