// Where in the site: `#/page/name?key=value`.

import { useEffect, useState } from 'preact/hooks';

export function parse(hash) {
  const [path, query = ''] = hash.replace(/^#?\/?/, '').split('?');
  const [page = '', ...rest] = path.split('/').map(decode);
  return { page, name: rest.join('/'), query: new URLSearchParams(query) };
}

function decode(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

export function href(page, name, query) {
  const set = Object.entries(query ?? {}).filter(([, value]) => value);
  const search = set.length ? `?${new URLSearchParams(set)}` : '';
  return `#/${page}${name ? '/' + encodeURIComponent(name) : ''}${search}`;
}

export const nodeHref = node => href(node.kind, node.kind === 'exposure' ? node.short : node.name);
export const columnHref = (node, column) => href('column', `${node.name}.${column.name}`);

/** Changes the query of this page without a step in the history. */
export function replaceQuery(query) {
  const { page, name } = parse(location.hash);
  const to = href(page, name, query);
  if (to !== location.hash) history.replaceState(history.state, '', to);
}

export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const change = () => setRoute(parse(location.hash));
    addEventListener('hashchange', change);
    return () => removeEventListener('hashchange', change);
  }, []);
  return route;
}
