// SQL with colours; `ref` and `source` lead to what they name.

import { useState } from 'preact/hooks';
import { nodeHref } from '../route.js';
import { Choice, Icon } from './bits.jsx';

const WORDS = new Set(('select from where group by order having limit offset join left right inner outer full cross semi anti lateral on using as and or not in is null true false ' +
  'case when then else end union all distinct with recursive over partition rows range between preceding following unbounded current row like ilike exists except intersect ' +
  'cast try_cast interval asc desc nulls first last qualify filter values unnest').split(' '));
const TOKEN = /(--[^\n]*|\/\*[^]*?(?:\*\/|$)|\{#[^]*?(?:#\}|$))|(\{\{[^]*?(?:\}\}|$)|\{%[^]*?(?:%\}|$))|('(?:[^']|'')*(?:'|$))|(\b\d+(?:\.\d+)?\b)|"[^"]*"|\w+/g;
const CALL = /\b(ref|source)\(\s*(['"])([^'"]+)\2(?:\s*,\s*(['"])([^'"]+)\4)?/g;

function pieces(text, all) {
  const out = [];
  let last = 0;
  const put = (from, to, element) => {
    if (from > last) out.push(text.slice(last, from));
    out.push(element);
    last = to;
  };
  for (const match of text.matchAll(TOKEN)) {
    const [token, comment, template, string, number] = match, end = match.index + token.length;
    const kind = comment ? 'comment' : template ? 'template' : string ? 'string' : number ? 'number' : WORDS.has(token.toLowerCase()) && 'keyword';
    if (kind) put(match.index, end, <span class={kind}>{template ? calls(token, all) : token}</span>);
  }
  return [...out, text.slice(last)];
}

function calls(text, all) {
  const out = [];
  let last = 0;
  for (const match of text.matchAll(CALL)) {
    const [, kind, , first, , second] = match;
    const name = second ? `${first}.${second}` : first;
    const node = all.byName.get(name) ?? all.nodes.find(node => kind === 'ref' && node.short === first && node.kind !== 'source');
    if (!node) continue;
    out.push(text.slice(last, match.index), <a href={nodeHref(node)}>{match[0]}</a>);
    last = match.index + match[0].length;
  }
  return [...out, text.slice(last)];
}

export function Code({ text, all, label }) {
  const lines = text.replace(/\n+$/, '').split('\n').length;
  return <div class="code scroll" tabIndex={0} role="group" aria-label={label ?? 'SQL'}>
    <pre class="lines" aria-hidden="true">{Array.from({ length: lines }, (_, at) => at + 1).join('\n')}</pre>
    <pre><code>{pieces(text.replace(/\n+$/, ''), all)}</code></pre>
  </div>;
}

export function SqlTabs({ node, all }) {
  const tabs = [['raw', 'Template'], ['compiled', 'Compiled'], ['incremental', 'Compiled, incremental run']].filter(([key]) => node.sql[key]);
  const [tab, setTab] = useState(tabs[0][0]), [copied, setCopied] = useState(false), text = node.sql[tab] ?? node.sql[tabs[0][0]];
  const copy = async () => {
    // Some browsers keep the clipboard from pages of files.
    try { await navigator.clipboard.writeText(text); setCopied(true); setTimeout(() => setCopied(false), 1200); } catch { setCopied(false); }
  };
  return <div class="card sql">
    <div class="bar"><Choice label="Which SQL" options={tabs} value={tab} onchange={setTab} /><span class="dim mono path">{node.path}</span>
      <button type="button" class="ghost" onClick={copy}><Icon name="copy" size={14} /> {copied ? 'Copied' : 'Copy'}</button></div>
    <Code text={text} all={all} />
  </div>;
}
