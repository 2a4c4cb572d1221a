// Opens a page of the documentation site in a real browser, does what a scenario says, and prints what it saw as JSON:
// node browse.mjs CHROMIUM URL SCENARIO [ARGUMENT]. Everything that went wrong on the way is in `trouble`.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.cwd(), 'package.json'));
const { chromium } = require('playwright-core');
const [executablePath, url, scenario, argument] = process.argv.slice(2);

const trouble = [], requests = [];

async function open(browser, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1366, height: 860 }, ...options });
  page.on('console', message => ['error', 'warning'].includes(message.type()) && trouble.push(`console: ${message.text()}`));
  page.on('pageerror', error => trouble.push(`error: ${error.stack}`));
  page.on('request', request => requests.push(request.url()));
  await page.goto(url);
  // A page that does not come says in its console why.
  await page.waitForSelector('.site', { timeout: 20000 }).catch(error => { throw new Error(`${trouble.join('\n')}\n${error.message}`); });
  return page;
}

/** Goes somewhere as a click on a link does, and waits until it is drawn. */
async function go(page, hash) {
  await page.evaluate(to => { location.hash = to; }, hash);
  await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
  return page.evaluate(() => ({ title: document.title, tooLong: document.documentElement.scrollHeight - innerHeight, heading: document.querySelector('main h1')?.textContent.trim() ?? '', text: document.querySelector('main').innerText }));
}

const graph = page => page.$eval('.stage canvas', canvas => ({ nodes: Number(canvas.dataset.nodes), edges: Number(canvas.dataset.edges) }));

/** Rows of the list view: a node, what it reads, what reads it. */
const listed = page => page.$$eval('.list-view tbody tr', rows => rows.map(row => {
  const names = cell => [...cell.querySelectorAll('a.node-link')].map(link => decodeURIComponent(link.getAttribute('href')).replace(/^#\/(\w+)\//, (_, kind) => kind === 'exposure' ? 'exposure.' : ''));
  const cells = [...row.cells];
  return { node: names(cells[0])[0], reads: names(cells.at(-2)), readBy: names(cells.at(-1)) };
}));

const scenarios = {
  /** Every page that `argument` lists. */
  async pages(browser) {
    const page = await open(browser), seen = {};
    for (const hash of JSON.parse(argument)) seen[hash] = await go(page, hash);
    return seen;
  },

  /** The pages that `argument` lists, looked through by axe in both themes. */
  async accessibility(browser) {
    const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8'), found = [];
    for (const colorScheme of ['light', 'dark']) {
      // The policy of the page lets nothing in; the checker is not part of the page.
      const page = await open(browser, { colorScheme, bypassCSP: true });
      await page.evaluate(axe);
      for (const hash of JSON.parse(argument)) {
        await go(page, hash);
        // What can be opened is looked at open.
        for (const button of await page.$$('button[aria-expanded=false]:not(.menu)')) await button.click();
        const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
        for (const { id, nodes } of violations) found.push(`${colorScheme} ${hash}: ${id}: ${nodes.slice(0, 3).map(node => `${node.html.slice(0, 160)} ${node.any.map(check => check.message).join('; ').slice(0, 200)}`).join(' | ')}`);
      }
    }
    return found;
  },

  async graph(browser) {
    const page = await open(browser);
    await go(page, '#/lineage');
    const whole = await graph(page);
    await page.getByRole('button', { name: 'List', exact: true }).click();
    const more = page.getByRole('button', { name: /^Show all/ });
    if (await more.count()) await more.click();
    return { whole, list: await listed(page) };
  },

  /** Focus by typing, filters by layer, tag and status. */
  async focus(browser) {
    const page = await open(browser), seen = {};
    await go(page, '#/lineage');
    const box = page.getByLabel('Select nodes');
    for (const text of JSON.parse(argument)) {
      await box.fill(text);
      await box.press('Enter');
      await page.waitForTimeout(50);
      seen[text] = await page.$('.stage canvas') ? await graph(page) : (await page.innerText('.stage')).trim();
    }
    await box.fill('');
    await page.getByRole('group', { name: 'Layers' }).getByRole('button').first().click();
    seen.withoutFirstLayer = { ...await graph(page), hash: new URL(page.url()).hash };
    for (const [label, value] of [['Tag', 'gold'], ['Status', 'error']]) {
      await go(page, '#/');
      await go(page, '#/lineage');
      await page.getByLabel(label, { exact: true }).selectOption(value);
      await page.waitForTimeout(50);
      seen[label] = { ...await graph(page), hash: new URL(page.url()).hash };
    }
    return seen;
  },

  /** `/`, a word, Enter. */
  async search(browser) {
    const page = await open(browser), seen = [];
    for (const word of JSON.parse(argument)) {
      await page.keyboard.press('/');
      await page.keyboard.type(word);
      await page.waitForSelector('#hits li');
      const first = await page.innerText('#hits li:first-child'), count = await page.innerText('.found');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('ArrowUp');
      await page.keyboard.press('Enter');
      await page.waitForTimeout(50);
      seen.push({ first, count, hash: decodeURIComponent(new URL(page.url()).hash), open: await page.isVisible('#hits') });
    }
    await page.keyboard.press('/');
    await page.keyboard.type('x');
    await page.keyboard.press('Escape');
    seen.push({ open: await page.isVisible('#hits') });
    return seen;
  },

  /** The graph by the keyboard: what is announced after each key. */
  async keyboard(browser) {
    const page = await open(browser), said = [];
    await go(page, '#/lineage');
    await page.focus('.stage canvas');
    for (const key of JSON.parse(argument)) {
      await page.keyboard.press(key);
      await page.waitForTimeout(60);
      said.push({ key, said: await page.$eval('.graph [role=status]', status => status.textContent).catch(() => ''), hash: decodeURIComponent(new URL(page.url()).hash) });
    }
    return said;
  },

  /** A click on a node, then on one of its columns in the panel, then on another in the graph. */
  async columns(browser) {
    const page = await open(browser), { node, column } = JSON.parse(argument);
    await go(page, `#/lineage?node=${node}`);
    await page.locator('.panel').getByRole('link', { name: column, exact: true }).click();
    await page.waitForTimeout(80);
    const first = { ...await graph(page), hash: decodeURIComponent(new URL(page.url()).hash) };
    await page.getByLabel('filters and joins').check();
    await page.waitForTimeout(80);
    const filters = await graph(page);
    await page.getByRole('button', { name: 'List', exact: true }).click();
    return { first, filters, list: await listed(page), columns: await page.$$eval('.list-view tbody a.mono', links => links.map(link => decodeURIComponent(link.getAttribute('href')))) };
  },

  /** How long it takes until a large page is there, and until its graph is. */
  async large(browser) {
    const page = await open(browser);
    await go(page, '#/lineage');
    const whole = await graph(page), canvas = await page.$('.stage canvas');
    const picture = () => page.waitForTimeout(150).then(() => canvas.evaluate(of => of.toDataURL()));
    const pictures = [await picture()];
    const box = await canvas.boundingBox();
    await page.mouse.move(box.x + 400, box.y + 300);
    for (let at = 0; at < 5; at++) await page.mouse.wheel(0, -240);
    pictures.push(await picture());
    await page.mouse.down();
    for (let at = 0; at < 10; at++) await page.mouse.move(box.x + 400 + at * 12, box.y + 300 + at * 5);
    await page.mouse.up();
    pictures.push(await picture());
    await go(page, argument);
    return { whole, pictures: new Set(pictures).size, heading: await page.textContent('main h1') };
  },

  /** What stands beside the text of a page: the catalogue, the theme, charts, tabs. */
  async look(browser) {
    const page = await open(browser, { colorScheme: 'light' });
    const background = () => page.waitForTimeout(100).then(() => page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    const themes = [await background()];
    await page.getByRole('button', { name: 'Dark theme' }).click();
    themes.push(await background());
    await page.getByRole('button', { name: 'Light theme' }).click();
    themes.push(await background());
    const tree = [await page.innerText('nav.tree')];
    await page.getByLabel('Filter the catalogue').fill('progress');
    tree.push(await page.innerText('nav.tree'));
    await go(page, argument);
    const charts = await page.$$eval('main [role=img]', all => all.map(chart => chart.getAttribute('aria-label')));
    const sql = {};
    for (const name of ['Template', 'Compiled']) {
      await page.getByRole('button', { name, exact: true }).click();
      sql[name] = await page.locator('.code').last().innerText();
    }
    return { themes, tree, charts, sql };
  },

  /** A page that is served: it comes again when another one is made. */
  async live(browser) {
    const page = await open(browser), before = await go(page, argument);
    console.log(JSON.stringify({ ready: true, before }));
    await page.waitForEvent('load', { timeout: 120000 });
    await page.waitForSelector('main h1');
    return { before, after: await page.evaluate(() => ({ hash: location.hash, text: document.querySelector('main').innerText })) };
  },
};

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
try {
  const seen = await scenarios[scenario](browser);
  console.log(JSON.stringify({ seen, trouble, requests: [...new Set(requests)] }));
} finally {
  await browser.close();
}
