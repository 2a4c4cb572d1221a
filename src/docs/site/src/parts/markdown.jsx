// Markdown of descriptions, as elements: HTML in it stays visible text, and no picture is loaded.

const BLOCK = { item: /^(\s*)(?:[-*+]|(\d+)[.)])\s+/, fence: /^\s*(```|~~~)/, heading: /^(#{1,6})\s+(.*)/, quote: /^\s*>\s?/, rule: /^\s*([-*_])(\s*\1){2,}\s*$/, row: /^\s*\|.*\|\s*$/ };

export const Markdown = ({ text }) => <div class="markdown">{blocks(text.split(/\r?\n/))}</div>;

/** The first sentence, for one line. */
export const Line = ({ text }) => <>{inline((text ?? '').split(/\n\s*\n/)[0].replace(/\s+/g, ' '))}</>;

function blocks(lines) {
  const out = [];
  for (let i = 0; i < lines.length;) {
    const line = lines[i], key = i;
    const take = test => { const from = i; while (i < lines.length && test(lines[i], i - from)) i++; return lines.slice(from, i); };
    if (!line.trim()) { i++; continue; }
    if (BLOCK.fence.test(line)) {
      i++;
      out.push(<pre key={key}><code>{take(text => !BLOCK.fence.test(text)).join('\n')}</code></pre>);
      i++;
    } else if (BLOCK.rule.test(line)) { i++; out.push(<hr key={key} />); }
    else if (BLOCK.heading.test(line)) {
      const [, marks, title] = BLOCK.heading.exec(line), Heading = `h${Math.min(6, marks.length + 1)}`;
      i++;
      out.push(<Heading key={key}>{inline(title)}</Heading>);
    } else if (BLOCK.quote.test(line)) out.push(<blockquote key={key}>{blocks(take(text => BLOCK.quote.test(text)).map(text => text.replace(BLOCK.quote, '')))}</blockquote>);
    else if (BLOCK.row.test(line) && /^\s*\|?[\s:|-]+\|?\s*$/.test(lines[i + 1] ?? '')) out.push(table(take(text => BLOCK.row.test(text)), key));
    else if (BLOCK.item.test(line)) out.push(list(take((text, n) => n === 0 || text.trim() && (BLOCK.item.test(text) || /^\s+/.test(text))), key));
    else out.push(<p key={key}>{inline(take((text, n) => n === 0 || text.trim() && !Object.values(BLOCK).some(block => block.test(text))).join(' '))}</p>);
  }
  return out;
}

function list(lines, key) {
  const [, indent, number] = BLOCK.item.exec(lines[0]), items = [];
  for (const line of lines) {
    const found = BLOCK.item.exec(line);
    if (found && found[1].length <= indent.length) items.push([line.replace(BLOCK.item, '')]);
    else items.at(-1).push(line.slice(Math.min(indent.length + 2, line.search(/\S/))));
  }
  const List = number ? 'ol' : 'ul';
  return <List key={key}>{items.map((item, at) => {
    const nested = item.findIndex((line, n) => n > 0 && BLOCK.item.test(line)), text = nested < 0 ? item : item.slice(0, nested);
    return <li key={at}>{inline(text.join(' '))}{nested > 0 && list(item.slice(nested), 0)}</li>;
  })}</List>;
}

function table(lines, key) {
  const cells = line => line.trim().replace(/^\||\|$/g, '').split('|').map(cell => cell.trim());
  const [head, , ...rows] = lines.map(cells);
  return <table key={key}><thead><tr>{head.map((cell, at) => <th key={at}>{inline(cell)}</th>)}</tr></thead>
    <tbody>{rows.map((row, at) => <tr key={at}>{row.map((cell, c) => <td key={c}>{inline(cell)}</td>)}</tr>)}</tbody></table>;
}

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|(?<!\w)_([^_\s][^_]*)_(?!\w)|\[([^\]]+)\]\(((?:[^()\s]|\([^()\s]*\))+)\)|(https?:\/\/[^\s<>")\]]+)/g;

function inline(text) {
  const out = [];
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    const [all, code, bold, star, underscore, label, url, bare] = match;
    const element = code ? <code>{code}</code> : bold ? <strong>{inline(bold)}</strong> : star || underscore ? <em>{inline(star || underscore)}</em> : link(label ?? bare, url ?? bare);
    if (match.index > last) out.push(text.slice(last, match.index));
    out.push(element);
    last = match.index + all.length;
  }
  return [...out, text.slice(last)];
}

/** Other schemes could run code. */
const link = (label, url) => /^(https?:\/\/|mailto:|#\/)/i.test(url) ? <a href={url} rel="noopener noreferrer" target={url[0] === '#' ? undefined : '_blank'}>{label}</a> : label;
