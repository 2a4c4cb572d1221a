// The search of the top bar: models, columns, tests, tags, owners, descriptions; words may be cut short or mistyped.

import MiniSearch from 'minisearch';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { columnHref, href, nodeHref } from '../route.js';
import { clip, count } from '../words.js';
import { Icon, Mark } from './bits.jsx';

const SHOWN = 30;

/** Everything that can be found; a name is cut where it has dots, lines and capitals. */
function documents(all) {
  const found = [];
  for (const node of all.nodes) {
    found.push({ id: `n${node.at}`, rank: 3, name: node.name, words: parts(node.name), about: [node.description, node.exposure?.label].join(' '), more: [...node.tags, node.owner, node.group, node.materialized, node.path].filter(Boolean).join(' ') });
    for (const column of node.columns) found.push({ id: `c${node.at}:${column.at}`, rank: 2, name: column.name, words: parts(column.name), about: column.description ?? '', more: '' });
  }
  for (const test of all.tests) found.push({ id: `t${test.at}`, rank: 1, name: test.name, words: parts(test.name), about: test.description ?? '', more: [test.kind, ...test.tags].join(' ') });
  return found;
}

const parts = name => name.replace(/([a-z])([A-Z])/g, '$1 $2').split(/[^\p{L}\p{N}]+/u).join(' ');

export function makeIndex(all) {
  const docs = documents(all), ranks = new Map(docs.map(doc => [doc.id, doc.rank]));
  const index = new MiniSearch({
    fields: ['name', 'words', 'about', 'more'], idField: 'id',
    tokenize: text => text.split(/[^\p{L}\p{N}_]+/u),
    searchOptions: { prefix: true, fuzzy: term => term.length > 6 ? 0.25 : term.length > 4 ? 0.2 : 0, combineWith: 'AND', boost: { name: 6, words: 4, more: 1.5 } },
  });
  index.addAll(docs);
  return text => {
    const wanted = text.trim().toLowerCase();
    return index.search(text, { boostDocument: id => [1, 1, 1.3, 2][ranks.get(id)] })
      .map(hit => ({ hit, item: item(all, hit.id) }))
      // What is called so stands before what only begins so.
      .sort((a, b) => (b.item.title.toLowerCase() === wanted) - (a.item.title.toLowerCase() === wanted) || b.hit.score - a.hit.score)
      .map(({ item }) => item);
  };
}

function item(all, id) {
  const [n, c] = id.slice(1).split(':').map(Number);
  if (id[0] === 't') {
    const test = all.tests[n];
    return { kind: 'test', title: test.name, about: `test${test.node == null ? '' : ` of ${all.nodes[test.node].name}`}`, href: href('quality', test.name) };
  }
  const node = all.nodes[n];
  if (id[0] === 'n') return { kind: node.kind, node, title: node.short, before: node.kind === 'exposure' ? '' : `${node.layer}.`, about: node.description ?? node.exposure?.label ?? node.kind, href: nodeHref(node) };
  const column = node.columns[c];
  return { kind: 'column', node, title: column.name, about: `column of ${node.name}${column.description ? `: ${column.description}` : ''}`, href: columnHref(node, column) };
}

export function Search({ all }) {
  const [text, setText] = useState(''), [open, setOpen] = useState(false), [active, setActive] = useState(0);
  const input = useRef(), list = useRef(), index = useRef();
  // The index costs a moment in large projects: it is made when somebody comes here.
  const ready = () => index.current ??= makeIndex(all);
  const found = useMemo(() => text.trim() ? ready()(text) : [], [text, all]), hits = found.slice(0, SHOWN);

  useEffect(() => {
    const onkey = event => {
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      const wanted = event.key === '/' && !typing || event.key.toLowerCase() === 'k' && (event.metaKey || event.ctrlKey);
      if (!wanted || event.altKey) return;
      event.preventDefault();
      input.current.focus();
      input.current.select();
    };
    addEventListener('keydown', onkey);
    return () => removeEventListener('keydown', onkey);
  }, []);
  useEffect(() => { list.current?.children[active]?.scrollIntoView({ block: 'nearest' }); }, [active]);

  const go = hit => {
    location.hash = hit.href;
    setOpen(false);
    setText('');
    input.current.blur();
  };
  const keys = {
    ArrowDown: () => setActive((active + 1) % Math.max(1, hits.length)), ArrowUp: () => setActive((active + hits.length - 1) % Math.max(1, hits.length)),
    Enter: () => hits[active] && go(hits[active]), Escape: () => { setOpen(false); input.current.blur(); },
  };
  const onkey = event => {
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  };
  const shown = open && text.trim() !== '';
  return <div class="search" role="search">
    <Icon name="search" />
    <input ref={input} type="text" role="combobox" aria-label="Search models, columns and tests" aria-expanded={shown} aria-controls="hits" aria-autocomplete="list"
      aria-activedescendant={shown && hits.length ? `hit${active}` : undefined} placeholder="Search models, columns, tests …" autocomplete="off" spellcheck={false} value={text}
      onInput={event => { setText(event.currentTarget.value); setActive(0); setOpen(true); }} onFocus={() => { ready(); setOpen(true); }} onBlur={() => setOpen(false)} onKeyDown={onkey} />
    <kbd aria-hidden="true">/</kbd>
    <div class="hits" hidden={!shown}>
      <ul id="hits" role="listbox" aria-label="Found" ref={list}>{hits.map((hit, at) => <li key={at} id={`hit${at}`} role="option" aria-selected={at === active}
        onMouseDown={event => event.preventDefault()} onMouseMove={() => at !== active && setActive(at)} onClick={() => go(hit)}>
        {hit.node && hit.kind !== 'column' ? <Mark node={hit.node} /> : <span class={`mark ${hit.kind}`} aria-hidden="true" />}
        <span class="hit"><b><span class="dim">{hit.before}</span>{hit.title}</b><span class="dim">{clip(hit.about.replace(/\s+/g, ' '), 150)}</span></span><span class="kind">{hit.kind}</span></li>)}</ul>
      <p class="found" role="status">{shown && (found.length ? `${count(found.length)} found` : 'Nothing is called so')}</p>
    </div>
  </div>;
}
