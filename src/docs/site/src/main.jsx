// The site: top bar, catalogue, and the page that the address names.

import './style.css';
import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { catalogue, read } from './data.js';
import { href, useRoute } from './route.js';
import { Icon, STATE, word } from './parts/bits.jsx';
import { Search } from './parts/search.jsx';
import { Tree } from './parts/tree.jsx';
import { plural, time } from './words.js';
import { HealthPage } from './pages/health.jsx';
import { LineagePage } from './pages/lineage.jsx';
import { NodePage } from './pages/node.jsx';
import { OverviewPage } from './pages/overview.jsx';
import { QualityPage } from './pages/quality.jsx';

const VIEWS = [['', 'Overview'], ['lineage', 'Lineage'], ['quality', 'Quality'], ['health', 'Health']];
const KINDS = ['model', 'seed', 'source', 'exposure'];

/** The page of a route: its title, its content, the node and the view that it belongs to. */
function pageOf(all, route) {
  const { page, name, query } = route;
  const node = KINDS.includes(page) && (all.byName.get(name) ?? all.byName.get(`exposure.${name}`) ?? all.byName.get(`export.${name}`));
  if (node) return { title: node.short, content: <NodePage key={node.at} all={all} node={node} />, node: node.at };
  if (page === 'column') {
    const found = columnOf(all, name);
    if (found) return { title: name, content: <LineagePage key="lineage" all={all} query={query} column={found} />, node: found.node.at, view: 'lineage', wide: true };
  }
  if (page === 'lineage') return { title: 'Lineage', content: <LineagePage key="lineage" all={all} query={query} />, view: 'lineage', wide: true };
  if (page === 'quality') return { title: 'Quality', content: <QualityPage key={`quality ${name}`} all={all} wanted={name} query={query} />, view: 'quality' };
  if (page === 'health') return { title: 'Health', content: <HealthPage all={all} wanted={name} />, view: 'health' };
  if (page === '') return { title: 'Overview', content: <OverviewPage all={all} />, view: '' };
  return { title: 'Not found', content: <div class="page"><h1>Not found</h1><p>There is no “{[page, name].filter(Boolean).join('/')}” here. <a href="#/">Back to the overview</a></p></div> };
}

/** `silver.views.user_id`. */
function columnOf(all, name) {
  const dot = name.indexOf('.', name.indexOf('.') + 1), node = all.byName.get(name.slice(0, dot));
  const column = node?.columns.find(column => column.name === name.slice(dot + 1));
  return column && { node, column };
}

function Site({ all }) {
  const route = useRoute(), main = useRef(), [menu, setMenu] = useState(false), first = useRef(true);
  const trouble = useServer(all), { title, content, node, view, wide } = pageOf(all, route), place = `${route.page}/${route.name}`;
  useEffect(() => {
    document.title = `${title} · ${all.project.name}`;
    setMenu(false);
    // At the start the focus stays with the browser.
    if (first.current) { first.current = false; if (all.project.live) scrollBack(main.current); return; }
    main.current.scrollTop = 0;
    main.current.focus({ preventScroll: true });
  }, [place]);
  const skip = event => { event.preventDefault(); main.current.focus(); };
  return <div class={`site ${menu ? 'with-menu' : ''} ${wide ? 'wide' : ''}`}>
    <a class="skip" href="#main" onClick={skip}>Skip to content</a>
    <header>
      <button type="button" class="ghost menu" aria-label="Catalogue" aria-expanded={menu} onClick={() => setMenu(!menu)}><Icon name="menu" /></button>
      <a class="brand" href="#/" aria-label={`${all.project.name}: overview`}><Logo /><span>{all.project.name}</span></a>
      <Search all={all} />
      <nav class="views" aria-label="Views">{VIEWS.map(([key, text]) => <a key={key} href={href(key)} aria-current={view === key ? 'page' : undefined}>{text}</a>)}</nav>
      <LastRun all={all} />
      <Theme />
    </header>
    <Tree all={all} current={node ?? -1} />
    <main id="main" ref={main} tabIndex={-1}>{trouble && <p class="trouble" role="alert">{trouble}</p>}{content}</main>
  </div>;
}

const Logo = () => <svg width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linecap="round" aria-hidden="true"><path d="M3 7q4.5-5 9 0t9 0" opacity=".45" /><path d="M3 12.5q4.5-5 9 0t9 0" opacity=".75" /><path d="M3 18q4.5-5 9 0t9 0" /></svg>;

function LastRun({ all }) {
  const run = all.runs.at(-1);
  if (!run) return null;
  const [kind, sign] = STATE[run.status] ?? STATE.none;
  return <a class={`last-run ${kind}`} href={href('health')} title={`Last ${run.command}: ${time(run.at)} UTC, ${plural(run.counts.built, 'node')} built`}><Icon name={sign} size={14} /><span class="last-run-text">{run.command} {word(run.status)}</span></a>;
}

const darkAtFirst = () => { try { return localStorage.getItem('lake-theme'); } catch { return null; } };
const prefersDark = () => matchMedia('(prefers-color-scheme: dark)').matches;

function Theme() {
  const [theme, setTheme] = useState(darkAtFirst);
  const dark = theme ? theme === 'dark' : prefersDark();
  useEffect(() => {
    document.documentElement.style.colorScheme = theme ?? '';
    dispatchEvent(new Event('lake-theme'));
    // Pages of files may have no storage.
    try { theme && localStorage.setItem('lake-theme', theme); } catch { /* the choice holds until the page is closed */ }
  }, [theme]);
  return <button type="button" class="ghost" aria-label={dark ? 'Light theme' : 'Dark theme'} title={dark ? 'Light theme' : 'Dark theme'} onClick={() => setTheme(dark ? 'light' : 'dark')}><Icon name={dark ? 'sun' : 'moon'} /></button>;
}

/** `lake docs serve` says which page is the newest, and why there is none. */
function useServer(all) {
  const [trouble, setTrouble] = useState(null);
  useEffect(() => {
    if (!all.project.live) return;
    const events = new EventSource('events');
    events.addEventListener('page', event => {
      setTrouble(null);
      if (event.data === String(all.project.generated_at)) return;
      // The page that comes stands where this one stood.
      try { sessionStorage.setItem('lake-scroll', JSON.stringify([location.hash, document.querySelector('main').scrollTop])); } catch { /* it begins at its top */ }
      location.reload();
    });
    events.addEventListener('trouble', event => setTrouble(event.data));
    return () => events.close();
  }, []);
  return trouble;
}

/** Back to where the page stood before it was loaded again. */
function scrollBack(main) {
  try {
    const [hash, top] = JSON.parse(sessionStorage.getItem('lake-scroll') ?? '[]');
    sessionStorage.removeItem('lake-scroll');
    if (hash === location.hash) main.scrollTop = top;
  } catch { /* nothing is kept */ }
}

async function start() {
  const element = document.getElementById('lake-data'), app = document.getElementById('app');
  try {
    const all = catalogue(await read(element));
    for (const layer of all.layers) for (const node of layer.nodes) node.color = layer.color;
    element.remove();
    render(<Site all={all} />, app);
  } catch (error) {
    app.textContent = `This page cannot be shown: ${error.message}`;
    throw error;
  }
}

start();
