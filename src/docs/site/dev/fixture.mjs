// Makes a page of an invented lake, to work on the site without one: node dev/fixture.mjs 100 /tmp/page.html
import { readFile, writeFile } from 'node:fs/promises';
import { deflateRawSync } from 'node:zlib';

let seed = 7;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
const below = limit => Math.floor(random() * limit);
const pick = list => list[below(list.length)];

const THINGS = ['orders', 'payments', 'users', 'sessions', 'refunds', 'products', 'invoices', 'events', 'courses', 'tickets', 'stores', 'shipments', 'prices', 'campaigns'];
const VERBS = ['daily', 'cleaned', 'enriched', 'by_country', 'by_channel', 'monthly', 'latest', 'history', 'joined', 'ranked', 'sessionized', 'attributed'];
const COLUMNS = [['id', 'bigint'], ['user_id', 'bigint'], ['amount', 'double'], ['currency', 'varchar'], ['happened_at', 'timestamp'], ['email', 'varchar'], ['channel', 'varchar'], ['n', 'bigint']];
const DAY = 86400e3, NOW = Date.UTC(2026, 10, 22, 6);

const texts = [], known = new Map();
function text(value) {
  if (!known.has(value)) { known.set(value, texts.length); texts.push(value); }
  return known.get(value);
}

/** An invented project of `count` models. */
export function project(count) {
  const layers = count < 30 ? ['silver', 'gold'] : ['staging', 'silver', 'gold', 'mart'];
  const nodes = [], tests = [];
  const sources = Math.max(2, Math.min(50, Math.round(count / 8)));
  for (let i = 0; i < sources; i++) nodes.push(source(i));
  for (let i = 0; i < count; i++) {
    const layer = layers[Math.min(layers.length - 1, Math.floor(i * layers.length / count))];
    const low = layer === layers[0] ? 0 : Math.max(0, nodes.length - Math.ceil(count / layers.length));
    const candidates = layer === layers[0] ? sources : nodes.length - low;
    const parents = [...new Set(Array.from({ length: 1 + below(3) }, () => low + below(candidates)))];
    nodes.push(model(layer, i, parents, nodes));
  }
  const end = nodes.length;
  for (let i = 0; i < Math.max(1, count / 50); i++) {
    nodes.push({ name: `exposure.board_${i}`, kind: 'exposure', path: 'models/exposures.yml', description: 'What the team looks at on Mondays.', owner: 'Ada', parents: [end - 1 - below(Math.min(end, 6))], columns: [], exposure: { type: 'dashboard', label: `Weekly board ${i}`, url: 'https://bi.example.org/boards/1', maturity: 'high', owner_email: 'ada@example.org' } });
  }
  nodes.forEach((node, at) => {
    if (node.kind === 'exposure') return;
    for (const [kind, column] of [['not_null', 0], ['unique', 0], ['accepted_values', 3]].slice(0, node.kind === 'source' ? 1 : 3)) {
      if (node.columns[column]) tests.push({ name: `${kind}_${node.name.split('.')[1]}_${node.columns[column].name}`, kind, node: at, column, severity: random() < 0.2 ? 'warn' : 'error', declared: `${node.path}:${8 + column}`, sql: `select * from "${node.name.replace('.', '"."')}" where ${node.columns[column].name} is null`, reads: [at] });
    }
  });
  const { runs, failures } = history(nodes, tests);
  return { format: 1, project: { name: 'shop', target: 'dev', root: 'data/lake', lake_version: '0.1.0', generated_at: NOW }, texts, nodes, tests, unit_tests: [{ name: 'cents_are_whole', node: sources, description: 'Rounding.', declared: 'models/silver/models.yml:40' }], runs, failures, groups: [{ name: 'finance', owner: 'Grace', email: 'grace@example.org', description: 'Money.' }] };
}

function source(i) {
  const thing = THINGS[i % THINGS.length] + (i < THINGS.length ? '' : '_' + i);
  return {
    name: `bronze.${thing}`, kind: 'source', path: 'sources.yml', description: `What the shop sends about ${thing}, one file a day.`, tags: ['daily'], parents: [],
    columns: COLUMNS.slice(0, 6).map(([name, type]) => ({ name, type: text(type), description: name === 'id' ? 'The number that the shop gives.' : undefined, sensitive: name === 'email' ? 'declared' : undefined })),
    source: { location: `data/bronze/${thing}/`, format: 'csv', files: 14 + i, bytes: 123456 * (i + 1), newest_at: NOW - below(3 * DAY), list: Array.from({ length: 14 }, (_, d) => [`2026-11-${String(21 - d).padStart(2, '0')}.csv`, 8000 + below(9000), NOW - d * DAY]) },
    freshness: i % 3 ? { status: ['pass', 'warn', 'error'][i % 4 % 3], max_loaded_at: NOW - [0.4, 1.3, 3][i % 4 % 3] * DAY, checked_at: NOW, warn_after: 86400, error_after: 2 * 86400 } : undefined,
  };
}

function model(layer, i, parents, nodes) {
  const thing = THINGS[i % THINGS.length], name = i < THINGS.length ? thing : `${thing}_${VERBS[Math.floor(i / THINGS.length) % VERBS.length]}${i < 160 ? '' : '_' + i}`;
  const rows = 100 + below(2e6), versions = [];
  for (let v = 0, count = 1 + below(14), at = NOW - count * DAY; v < count; v++) versions.push([v, at + v * DAY, text(v ? 'append' : 'create'), Math.round(rows * (0.4 + 0.6 * (v + 1) / count)), 3 + v, 1, 0, 3, -1]);
  const columns = COLUMNS.slice(0, 4 + below(5)).map(([column, type], at) => ({
    name: column, type: text(type), description: at % 3 === 0 ? `The **${column}** of the row.` : undefined, key: at === 0 || undefined,
    sensitive: column === 'email' ? `${nodes[parents[0]].name}.email` : undefined, constraints: at === 0 && layer === 'gold' ? ['not null', 'unique'] : undefined,
    from: parents.flatMap((parent, p) => { const found = nodes[parent].columns.findIndex(c => c.name === column); return found < 0 || p && at % 2 ? [] : [[parent, found, column === 'amount' ? 1 : 0]]; }),
    profile: profile(column, type, rows),
  }));
  const dialect = `{{ config(materialized='${layer === 'silver' ? 'incremental' : 'table'}') }}\n\n`;
  const body = (a, b) => `-- ${name}: one row for each ${thing}\nwith base as (\n    select id, user_id, amount, currency, happened_at\n    from ${a}\n    where amount >= 0\n)\nselect\n    base.*,\n    count(*) over (partition by user_id) as n\nfrom base${b ? `\njoin ${b} as other on other.id = base.id` : ''}\n`;
  const ref = at => at == null ? undefined : nodes[at].kind === 'source' ? `{{ source('${nodes[at].name.split('.').join("', '")}') }}` : `{{ ref('${nodes[at].name.split('.')[1]}') }}`;
  const quoted = at => at == null ? undefined : `"${nodes[at].name.replace('.', '"."')}"`;
  return {
    name: `${layer}.${name}`, kind: 'model', materialized: layer === 'silver' ? 'incremental' : i % 5 === 4 ? 'view' : 'table', path: `models/${layer}/${name}.sql`,
    description: i % 4 === 3 ? undefined : `One row for each of the ${thing}, **without duplicates**.\n\n- late rows count once\n- refunds are negative\n\n| field | meaning |\n| --- | --- |\n| \`n\` | how often |`,
    owner: i % 3 ? 'shop-data' : undefined, tags: [layer, `team_${i % 4}`], group: i % 6 === 0 ? 'finance' : undefined, contract: layer === 'gold' || undefined,
    settings: layer === 'silver' ? { incremental_strategy: 'merge', unique_key: ['id'] } : undefined, parents, columns, filters: [[parents[0], Math.min(2, nodes[parents[0]].columns.length - 1)]],
    sql: { raw: dialect + body(ref(parents[0]), ref(parents[1])), compiled: body(quoted(parents[0]), quoted(parents[1])) },
    ...(i % 5 === 4 && layer !== 'silver' ? {} : { table: { version: versions.at(-1)[0], rows: versions.at(-1)[3], bytes: rows * 21, files: 3 + versions.length, at: versions.at(-1)[1] }, versions, profiled: { version: versions.at(-1)[0], rows, at: NOW } }),
  };
}

function profile(name, type, rows) {
  const nulls = name === 'id' ? 0 : below(rows / 8);
  if (name === 'email') return { nulls, distinct: rows >> 1, masked: true };
  if (type === 'varchar') return { nulls, distinct: 4, exact: true, min: 'EUR', max: 'USD', lengths: [3, 3, 3], top: [['EUR', rows * 0.6 | 0], ['USD', rows * 0.3 | 0], ['GBP', rows * 0.08 | 0], ['CHF', rows * 0.02 | 0]] };
  if (type === 'timestamp') return { nulls, distinct: rows >> 1, min: '2024-01-01T00:00:00', max: '2026-11-21T22:14:03' };
  return { nulls, distinct: name === 'id' ? rows : rows >> 3, exact: name === 'id' || undefined, min: '0', max: String(rows), mean: rows / 2.3, quantiles: [rows * 0.05, rows * 0.2, rows * 0.42, rows * 0.7, rows * 0.93] };
}

function history(nodes, tests) {
  const runs = [], failures = [], models = nodes.map((node, at) => [node, at]).filter(([node]) => node.kind === 'model');
  const built = text('append'), view = text('view'), new_files = text('2 new files'), same = text('unchanged: silver.users is still at version 3'), none = text('no new files in bronze.orders');
  for (let r = 0; r < 20; r++) {
    const at = NOW - (20 - r) * DAY, lanes = [0, 0, 0, 0], ends = new Map(), bad = new Set(), list = [];
    for (const [node, index] of models) {
      const blocked = node.parents.some(parent => bad.has(parent));
      const skipped = !blocked && r > 0 && random() < 0.35;
      const status = blocked ? 3 : skipped ? 1 : random() < 0.01 * (r % 4) ? 2 : 0;
      if (status > 1) bad.add(index);
      const lane = lanes.indexOf(Math.min(...lanes)), start = Math.max(lanes[lane], ...node.parents.map(parent => ends.get(parent) ?? 0)), seconds = status === 0 || status === 2 ? 0.02 + random() ** 3 * 2 : 0.001;
      lanes[lane] = start + seconds;
      ends.set(index, start + seconds);
      list.push([index, status, status ? text('') : node.materialized === 'view' ? view : built, status === 2 ? text('division by zero in line 12') : status === 3 ? text(`${node.name} reads what failed`) : skipped ? pick([same, none]) : new_files, +start.toFixed(3), +seconds.toFixed(3), status ? 0 : below(90000), status ? 0 : below(3e6), status ? -1 : r, 0, status ? 0 : 2]);
    }
    const results = [];
    tests.forEach((test, t) => {
      const state = (t * 7 + r) % 61 === 0 ? (test.severity === 'warn' ? 1 : 2) : t % 29 === 0 ? 1 : 0;
      results.push([t, state, state ? 1 + below(99) : 0, state ? text(`${1 + below(99)} rows fail`) : -1, t % 11 === 0 && !state ? text('its query filters NULLs out') : -1, 0.01]);
      if (state && r > 17) failures.push({ test: t, run: r, at, rule: `${test.kind}`, rows: Array.from({ length: 3 }, (_, n) => ({ id: n + 17, user_id: null, email: '***', amount: 3.5 * n })), files: [['data/bronze/orders/2026-11-20.csv', 17]] });
    });
    const of = status => list.filter(node => node[1] === status).length;
    runs.push({ id: `0196f0aa-7c1f-7000-9000-${String(r).padStart(12, '0')}`, command: 'build', at, seconds: +Math.max(...lanes, 0.1).toFixed(2), status: of(2) ? 'error' : 'success', lake_version: '0.1.0', counts: [of(0), of(1), of(2), of(3), results.length, results.filter(x => x[1] > 1).length, results.filter(x => x[1] === 1).length], nodes: list, tests: results });
  }
  return { runs, failures };
}

/** The page with this data inside, as `lake docs generate` makes it. */
export function page(template, data) {
  let json = JSON.stringify(data);
  if (json.length > 256e3) json = JSON.stringify({ format: 1, deflate: deflateRawSync(json).toString('base64') });
  return template.replace('__LAKE_DATA__', () => json.replaceAll('<', '\\u003c'));
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const [count, out] = [Number(process.argv[2] ?? 100), process.argv[3] ?? '/tmp/lake-docs.html'];
  const html = page(await readFile(new URL('../dist/index.html', import.meta.url), 'utf8'), project(count));
  await writeFile(out, html);
  console.log(`${out}: ${Math.round(html.length / 1000)} kB`);
}
