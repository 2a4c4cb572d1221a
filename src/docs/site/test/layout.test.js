import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layout } from '../src/graph/layout.js';

const box = (w = 200, h = 48) => ({ w, h });

/** A graph of `n` items in which each reads up to three of the `near` ones before it. */
function random(n, seed = 1, near = 60) {
  const next = limit => { seed = (seed * 16807) % 2147483647; return seed % limit; };
  const items = Array.from({ length: n }, () => box(200, 40 + next(60))), edges = [];
  for (let to = 1; to < n; to++) for (const from of new Set(Array.from({ length: 1 + next(3) }, () => Math.max(0, to - 1 - next(Math.min(to, near)))))) edges.push({ from, to });
  return { items, edges };
}

function overlaps(items) {
  let found = 0;
  items.forEach((a, i) => items.slice(i + 1).forEach(b => {
    if (Math.abs(a.x - b.x) < (a.w + b.w) / 2 && Math.abs(a.y - b.y) < (a.h + b.h) / 2 - 0.01) found++;
  }));
  return found;
}

for (const n of [1, 2, 10, 60, 300, 1000]) {
  test(`${n} items stand apart, and edges go from left to right`, () => {
    const { items, edges } = random(n, n + 7);
    layout(items, edges, 1.7);
    assert.ok(items.every(item => Number.isFinite(item.x) && Number.isFinite(item.y)));
    assert.equal(overlaps(items), 0);
    for (const { from, to, points } of edges) {
      assert.ok(items[from].x + items[from].w / 2 < items[to].x - items[to].w / 2, `${from} stands before ${to}`);
      assert.deepEqual([points[0][0], points.at(-1)[0]], [items[from].x + items[from].w / 2, items[to].x - items[to].w / 2]);
    }
  });
}

test('the same graph is laid out the same', () => {
  const [a, b] = [random(120), random(120)];
  layout(a.items, a.edges);
  layout(b.items, b.edges);
  assert.deepEqual(a.items, b.items);
});

test('a graph of many items has about the shape of the screen', () => {
  const { items, edges } = random(1000, 3, 600);
  layout(items, edges, 1.7);
  const extent = key => Math.max(...items.map(item => item[key])) - Math.min(...items.map(item => item[key]));
  const aspect = extent('x') / extent('y');
  assert.ok(aspect > 1 && aspect < 3.4, `${aspect}`);
});

test('a chain is a straight line', () => {
  const items = [box(), box(), box(), box()], edges = [0, 1, 2].map(from => ({ from, to: from + 1 }));
  layout(items, edges);
  assert.equal(new Set(items.map(item => Math.round(item.y))).size, 1);
});

test('two chains that cross in the list do not cross on the screen', () => {
  const items = Array.from({ length: 4 }, () => box()), edges = [{ from: 0, to: 3 }, { from: 1, to: 2 }];
  layout(items, edges);
  assert.ok((items[0].y - items[1].y) * (items[3].y - items[2].y) > 0);
});

test('nothing, and items without edges', () => {
  layout([], []);
  const items = Array.from({ length: 90 }, () => box());
  layout(items, []);
  assert.equal(overlaps(items), 0);
});
