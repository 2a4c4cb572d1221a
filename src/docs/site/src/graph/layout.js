// A layered layout, left to right: ranks by the longest way, order by barycentres, places by least squares.
//
// Items have `w` and `h`; edges `from` and `to` (indices of items), and `out` and `in`: how far below the middle of its item
// an end is. Afterwards items have `x` and `y` (their middle), edges have `points`.

const GAP = { x: 58, y: 16, thin: 10 };
/** A column with more items is broken into several, side by side. */
const TALL = 36;
/** With more bends than this, edges go straight over what stands between. */
const BENDS = 6000;

export function layout(items, edges, aspect = 1.7) {
  const rank = ranks(items.length, edges), columns = [];
  items.forEach((item, at) => (columns[rank[at]] ??= []).push(at));
  const full = columns.map(column => column ?? []);
  const bends = edges.reduce((sum, edge) => sum + Math.max(0, rank[edge.to] - rank[edge.from] - 1), 0);
  const tall = Math.max(0, ...full.map(column => column.length)) > TALL;
  return tall || bends > BENDS ? blocks(items, edges, full, aspect) : flow(items, edges, rank, full.length);
}

/** The longest way from an item without parents; those go as near to their children as they can. */
function ranks(n, edges) {
  const outgoing = Array.from({ length: n }, () => []), waits = new Array(n).fill(0), rank = new Array(n).fill(0);
  for (const { from, to } of edges) { outgoing[from].push(to); waits[to]++; }
  const first = waits.map((w, at) => w ? -1 : at).filter(at => at >= 0), ready = [...first];
  for (const at of ready) for (const to of outgoing[at]) {
    rank[to] = Math.max(rank[to], rank[at] + 1);
    if (--waits[to] === 0) ready.push(to);
  }
  for (const at of first) if (outgoing[at].length) rank[at] = Math.max(0, Math.min(...outgoing[at].map(to => rank[to])) - 1);
  return rank;
}

/** Items with a bend for each rank that an edge passes. */
function flow(items, edges, rank, height) {
  const points = items.map((item, at) => ({ w: item.w, h: item.h, rank: rank[at], real: true }));
  const links = [], chains = edges.map(edge => {
    const chain = [edge.from];
    for (let r = rank[edge.from] + 1; r < rank[edge.to]; r++) chain.push(points.push({ w: 0, h: GAP.thin, rank: r, real: false }) - 1);
    chain.push(edge.to);
    chain.slice(1).forEach((to, at) => links.push({ from: chain[at], to, out: at ? 0 : edge.out ?? 0, in: at === chain.length - 2 ? edge.in ?? 0 : 0 }));
    return chain;
  });
  const before = points.map(() => []), after = points.map(() => []);
  links.forEach(link => { after[link.from].push(link); before[link.to].push(link); });
  const columns = order(points, before, after, height);
  place(points, columns, before, after);
  let x = 0;
  for (const column of columns) {
    const width = Math.max(0, ...column.map(at => points[at].w));
    for (const at of column) points[at].x = x + width / 2;
    x += width + GAP.x + Math.min(60, column.length);
  }
  items.forEach((item, at) => { item.x = points[at].x; item.y = points[at].y; });
  edges.forEach((edge, at) => {
    const inner = chains[at].slice(1, -1).map(bend => [points[bend].x, points[bend].y]);
    edge.points = ends(items, edge, inner);
  });
}

const ends = (items, edge, inner) => {
  const from = items[edge.from], to = items[edge.to];
  return [[from.x + from.w / 2, from.y + (edge.out ?? 0)], ...inner, [to.x - to.w / 2, to.y + (edge.in ?? 0)]];
};

/** The order within each column: neighbours near one another, few crossings. */
function order(points, before, after, height) {
  const columns = Array.from({ length: height }, () => []), seen = new Array(points.length).fill(false);
  // What hangs together stands together at the start.
  for (let start = 0; start < points.length; start++) {
    const pending = [start];
    while (pending.length) {
      const at = pending.pop();
      if (seen[at]) continue;
      seen[at] = true;
      columns[points[at].rank].push(at);
      for (const link of after[at]) pending.push(link.to);
      for (const link of before[at]) pending.push(link.from);
    }
  }
  const position = new Array(points.length).fill(0);
  const number = column => column.forEach((at, index) => { position[at] = index; });
  columns.forEach(number);
  let best = columns.map(column => [...column]), fewest = crossings(columns, after, position);
  const sweeps = points.length > 1500 ? 8 : 24;
  for (let sweep = 0; sweep < sweeps && fewest > 0; sweep++) {
    const down = sweep % 2 === 0, list = down ? columns.slice(1) : columns.slice(0, -1).reverse();
    for (const column of list) {
      const centre = new Map(column.map(at => {
        const near = down ? before[at].map(link => position[link.from]) : after[at].map(link => position[link.to]);
        return [at, near.length ? near.reduce((a, b) => a + b, 0) / near.length : position[at]];
      }));
      column.sort((a, b) => centre.get(a) - centre.get(b) || position[a] - position[b]);
      number(column);
    }
    const found = crossings(columns, after, position);
    if (found < fewest) { fewest = found; best = columns.map(column => [...column]); }
  }
  return best;
}

/** How many links cross, column by column: inversions, counted in a tree of sums. */
function crossings(columns, after, position) {
  let total = 0;
  for (let c = 0; c + 1 < columns.length; c++) {
    const width = columns[c + 1].length, tree = new Array(width + 1).fill(0);
    let passed = 0;
    for (const at of columns[c]) {
      const ends = after[at].map(link => position[link.to]).sort((a, b) => a - b);
      for (const end of ends) {
        let below = 0;
        for (let i = end + 1; i > 0; i -= i & -i) below += tree[i];
        total += passed - below;
      }
      for (const end of ends) { passed++; for (let i = end + 1; i <= width; i += i & -i) tree[i]++; }
    }
  }
  return total;
}

/** Heights: each point as near to the mean of its neighbours as the order lets it. */
function place(points, columns, before, after) {
  for (const column of columns) {
    let y = 0;
    for (const at of column) { points[at].y = y + points[at].h / 2; y += points[at].h + gap(points[at]); }
    for (const at of column) points[at].y -= y / 2;
  }
  const mean = (at, down, up) => {
    let sum = 0, weight = 0;
    const add = (other, offset) => {
      const heavy = points[at].real || points[other].real ? 1 : 4;
      sum += (points[other].y + offset) * heavy;
      weight += heavy;
    };
    if (down) for (const link of before[at]) add(link.from, link.out - link.in);
    if (up) for (const link of after[at]) add(link.to, link.in - link.out);
    return weight ? [sum / weight, weight] : [points[at].y, 0.2];
  };
  for (let pass = 0; pass < 10; pass++) {
    const last = pass >= 8, list = pass % 2 ? [...columns].reverse() : columns;
    for (const column of list) settle(points, column, column.map(at => mean(at, last || pass % 2 === 0, last || pass % 2 === 1)));
  }
  const top = Math.min(...points.map(point => point.y - point.h / 2));
  for (const point of points) point.y -= top;
}

const gap = point => point.real ? GAP.y : GAP.thin / 2;

/** Wanted heights under a fixed order: isotonic regression, by pooling what stands in each other's way. */
function settle(points, column, wanted) {
  const pools = [], offsets = [];
  let offset = 0;
  column.forEach((at, index) => {
    if (index) { const above = points[column[index - 1]]; offset += (above.h + points[at].h) / 2 + Math.max(gap(above), gap(points[at])); }
    offsets.push(offset);
    let pool = { sum: (wanted[index][0] - offset) * wanted[index][1], weight: wanted[index][1], size: 1 };
    while (pools.length && pools.at(-1).sum / pools.at(-1).weight > pool.sum / pool.weight) {
      const above = pools.pop();
      pool = { sum: pool.sum + above.sum, weight: pool.weight + above.weight, size: pool.size + above.size };
    }
    pools.push(pool);
  });
  let index = 0;
  for (const pool of pools) for (let i = 0; i < pool.size; i++, index++) points[column[index]].y = pool.sum / pool.weight + offsets[index];
}

/** Many items: a map. Each rank is a block of columns, its items ordered by where their neighbours are. */
function blocks(items, edges, columns, aspect) {
  const before = items.map(() => []), after = items.map(() => []);
  edges.forEach(({ from, to }) => { after[from].push(to); before[to].push(from); });
  const part = new Array(items.length).fill(0);
  const number = column => column.forEach((at, index) => { part[at] = (index + 0.5) / column.length; });
  columns.forEach(number);
  for (let sweep = 0; sweep < 16; sweep++) {
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      const wanted = new Map(column.map(at => {
        const near = [...before[at], ...after[at]];
        return [at, near.length ? near.reduce((sum, other) => sum + part[other], 0) / near.length : part[at]];
      }));
      column.sort((a, b) => wanted.get(a) - wanted.get(b) || part[a] - part[b]);
      number(column);
    }
  }
  const w = Math.max(...items.map(item => item.w)) + 22, h = Math.max(...items.map(item => item.h)) + 14, between = GAP.x * 2;
  const width = rows => columns.reduce((sum, column) => sum + Math.ceil(column.length / rows) * w + between, 0);
  let rows = 1;
  while (rows < items.length && width(rows) > aspect * rows * h) rows++;
  let x = 0;
  for (const column of columns) {
    const wide = Math.ceil(column.length / rows), tall = Math.ceil(column.length / Math.max(1, wide)), top = (rows - tall) * h / 2;
    column.forEach((at, index) => { items[at].x = x + (index % wide + 0.5) * w; items[at].y = top + (Math.floor(index / wide) + 0.5) * h; });
    x += wide * w + between;
  }
  for (const edge of edges) edge.points = ends(items, edge, []);
}

/** The curve of an edge: level where it begins, bends and ends. */
export function curve(path, points) {
  path.moveTo(...points[0]);
  for (let at = 1; at < points.length; at++) {
    const [ax, ay] = points[at - 1], [bx, by] = points[at], pull = Math.max(18, Math.abs(bx - ax) * 0.5);
    path.bezierCurveTo(ax + pull, ay, bx - pull, by, bx, by);
  }
}
