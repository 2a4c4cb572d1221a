// Draws a scene on a canvas. Far out, boxes are blocks of colour; nearer, names; near, everything.

import { BOX } from './scene.js';
import { curve } from './layout.js';

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const NAMES = ['bg', 'panel', 'raised', 'line', 'strong', 'text', 'muted', 'accent', 'soft', 'ok', 'warn', 'bad', 'bronze', 'silver', 'gold', 'exposure', 'warn-fill', 'bad-fill', 'hue0', 'hue1', 'hue2', 'hue3', 'hue4', 'hue5'];
const TONE = { error: 'bad', fail: 'bad', stale: 'bad', blocked: 'warn', warn: 'warn', ok: 'ok' };

/** The colours of the theme as a canvas understands them. */
export function readColors(element) {
  const probe = element.appendChild(document.createElement('span')), colors = {};
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    colors[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return colors;
}

/** The edges of a scene as paths, made once. */
export function pathsOf(scene) {
  const path = edge => { const made = new Path2D(); curve(made, edge.points); return made; };
  const all = new Path2D(), bridges = new Path2D();
  for (const edge of scene.edges) {
    edge.path = path(edge);
    (edge.bridge ? bridges : all).addPath(edge.path);
  }
  return { all, bridges };
}

/** `state`: view {x, y, k}, selected and hovered item, lit (a set of items, or null), column keys that are lit. */
export function draw(context, scene, paths, state, colors, size) {
  const { view, lit } = state, ratio = size.ratio, k = view.k;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, size.width, size.height);
  dots(context, view, colors, size);
  context.setTransform(ratio * k, 0, 0, ratio * k, view.x * ratio, view.y * ratio);
  edges(context, scene, paths, state, colors, k);
  const area = { left: -view.x / k, top: -view.y / k, right: (size.width - view.x) / k, bottom: (size.height - view.y) / k };
  const level = scene.columns ? 'near' : k < 0.26 ? 'far' : k < 0.52 ? 'middle' : 'near';
  scene.items.forEach((item, index) => {
    if (item.x + item.w / 2 < area.left || item.x - item.w / 2 > area.right || item.y + item.h / 2 < area.top || item.y - item.h / 2 > area.bottom) return;
    context.globalAlpha = lit && !lit.has(index) ? 0.22 : 1;
    const look = { selected: state.selected === index, hovered: state.hovered === index, k, state };
    if (level === 'far') block(context, item, look, colors);
    else box(context, item, look, colors, level);
  });
  context.globalAlpha = 1;
}

function dots(context, view, colors, size) {
  const step = 26 * Math.max(0.6, Math.min(1.6, view.k)), radius = 0.8;
  context.fillStyle = colors.line;
  const startX = ((view.x % step) + step) % step, startY = ((view.y % step) + step) % step;
  for (let x = startX; x < size.width; x += step) for (let y = startY; y < size.height; y += step) context.fillRect(x - radius, y - radius, radius * 2, radius * 2);
}

function edges(context, scene, paths, state, colors, k) {
  const { lit } = state, many = scene.edges.length > 400;
  context.lineCap = 'round';
  if (scene.columns) return columnEdges(context, scene, state, colors, k);
  context.globalAlpha = lit ? 0.14 : many ? 0.5 : 0.95;
  context.strokeStyle = colors.strong;
  context.lineWidth = (many ? 1 : 1.3) / Math.max(k, 0.22);
  context.stroke(paths.all);
  context.setLineDash([5 / k, 4 / k]);
  context.stroke(paths.bridges);
  context.setLineDash([]);
  if (!lit) { context.globalAlpha = 1; return; }
  context.globalAlpha = 1;
  context.strokeStyle = colors.accent;
  context.lineWidth = 2 / Math.max(k, 0.16);
  for (const edge of scene.edges) if (lit.has(edge.from) && lit.has(edge.to)) {
    context.setLineDash(edge.bridge ? [5 / k, 4 / k] : []);
    context.stroke(edge.path);
  }
  context.setLineDash([]);
}

const DASHES = { copied: [], derived: [7, 4], masked: [2, 3], filter: [1.5, 5] };

function columnEdges(context, scene, state, colors, k) {
  for (const edge of scene.edges) {
    const on = !state.keys || state.keys.has(edge.keys[0]) && state.keys.has(edge.keys[1]);
    context.globalAlpha = on ? 1 : 0.15;
    context.strokeStyle = edge.use === 'filter' ? colors.muted : edge.use === 'masked' ? colors.warn : colors.accent;
    context.lineWidth = (edge.use === 'copied' ? 2 : 1.7) / Math.max(k, 0.4);
    context.setLineDash(DASHES[edge.use].map(part => part / Math.max(k, 0.4)));
    context.stroke(edge.path);
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function shape(context, item, radius, grow = 0) {
  context.beginPath();
  const { w, h, node } = item;
  const round = node.kind === 'source' ? [radius * 2.2, radius, radius, radius * 2.2] : node.kind === 'exposure' ? radius * 2.4 : radius;
  context.roundRect(item.x - w / 2 - grow, item.y - h / 2 - grow, w + grow * 2, h + grow * 2, round);
}

function block(context, item, { selected, hovered, k }, colors) {
  const kind = TONE[item.node.status];
  shape(context, item, 8);
  context.fillStyle = kind === 'bad' ? colors['bad-fill'] : colors[item.node.color] ?? colors.silver;
  context.fill();
  // What warns keeps the colour of its layer, with a piece of another one at its end.
  if (kind === 'warn') {
    context.fillStyle = colors.panel;
    context.fillRect(item.x + item.w * 0.2, item.y - item.h / 2, item.w * 0.3, item.h);
    context.fillStyle = colors['warn-fill'];
    context.fillRect(item.x + item.w * 0.25, item.y - item.h / 2, item.w * 0.25, item.h);
  }
  if (selected || hovered) { shape(context, item, 8, 3 / k); context.strokeStyle = colors.accent; context.lineWidth = 3 / k; context.stroke(); }
}

function box(context, item, look, colors, level) {
  const { selected, hovered, k } = look, left = item.x - item.w / 2, top = item.y - item.h / 2, kind = TONE[item.node.status];
  shape(context, item, 9);
  context.fillStyle = selected ? colors.soft : colors.panel;
  context.fill();
  context.save();
  context.clip();
  context.fillStyle = colors[item.node.color] ?? colors.silver;
  context.fillRect(left, top, level === 'middle' ? 9 : 5, item.h);
  if (level === 'middle' && (kind === 'bad' || kind === 'warn')) { context.fillStyle = colors[kind]; context.fillRect(left + item.w - 10, top, 10, item.h); }
  context.restore();
  shape(context, item, 9);
  context.strokeStyle = selected || hovered ? colors.accent : kind === 'bad' ? colors.bad : colors.strong;
  context.lineWidth = (selected ? 2.4 : hovered ? 2 : 1.1) / Math.min(1, Math.max(k, 0.4));
  context.stroke();
  context.textBaseline = 'middle';
  if (level === 'middle') {
    names(context, item, k, colors, left);
    return;
  }
  const head = item.rows ? BOX.head : item.h;
  context.font = `600 13.5px ${FONT}`;
  context.fillStyle = colors.text;
  context.fillText(fitted(context, item, item.w - 46, 'n'), left + 16, top + head / 2 - 8);
  context.font = `400 11.5px ${FONT}`;
  context.fillStyle = colors.muted;
  context.fillText(`${item.node.kind === 'exposure' ? '' : item.node.layer + ' · '}${item.note}`, left + 16, top + head / 2 + 10, item.w - 30);
  if (kind) sign(context, left + item.w - 16, top + head / 2 - 7, kind, colors);
  if (item.rows?.length) rows(context, item, look, colors, left, top);
}

/** The title as large as the box lets it be: on one line, or on two that part at a `_`. */
function names(context, item, k, colors, left) {
  const size = Math.min(24, 10.5 / k), width = item.w - 28;
  context.font = `600 ${size}px ${FONT}`;
  context.fillStyle = colors.text;
  const lines = item.fits?.lines ?? parted(context, item.title, width);
  (item.fits ??= {}).lines = lines;
  if (lines.length === 1) return context.fillText(fitted(context, item, width, `m${Math.round(size)}`), left + 17, item.y);
  const small = Math.min(20, size);
  context.font = `600 ${small}px ${FONT}`;
  lines.forEach((line, at) => context.fillText(line, left + 17, item.y + (at - 0.5) * small * 1.05, width));
}

function parted(context, title, width) {
  if (context.measureText(title).width <= width) return [title];
  const breaks = [...title.matchAll(/[_\s.-]/g)].map(match => match.index + 1).filter(at => at > 2 && at < title.length - 1);
  const best = breaks.reduce((a, b) => a == null || Math.abs(b - title.length / 2) < Math.abs(a - title.length / 2) ? b : a, null);
  return best == null ? [title] : [title.slice(0, best), title.slice(best)];
}

function rows(context, item, { state }, colors, left, top) {
  context.strokeStyle = colors.line;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(left + 5, top + BOX.head);
  context.lineTo(left + item.w, top + BOX.head);
  context.stroke();
  item.rows.forEach((column, at) => {
    const y = top + BOX.head + at * BOX.row + 4, key = `${item.at}:${column.at}`;
    const own = state.column === key, on = state.hoveredColumn === key;
    if (own || on) {
      context.fillStyle = own ? colors.accent : colors.raised;
      context.beginPath();
      context.roundRect(left + 9, y - 1, item.w - 14, BOX.row - 3, 5);
      context.fill();
    }
    const dim = state.keys && !state.keys.has(key), before = context.globalAlpha;
    if (dim) context.globalAlpha = 0.35;
    context.font = `${own ? 600 : 400} 12px ui-monospace, Menlo, Consolas, monospace`;
    context.fillStyle = own ? colors.panel : colors.text;
    context.fillText(column.name, left + 16, y + BOX.row / 2 - 2, item.w * 0.62);
    context.textAlign = 'right';
    context.font = `400 11px ${FONT}`;
    context.fillStyle = own ? colors.panel : colors.muted;
    context.fillText(column.type, left + item.w - 12, y + BOX.row / 2 - 2, item.w * 0.32);
    context.textAlign = 'left';
    context.globalAlpha = before;
  });
}

/** A tick, an exclamation mark or a cross. */
function sign(context, x, y, kind, colors) {
  context.strokeStyle = colors[kind];
  context.lineWidth = 2;
  context.beginPath();
  if (kind === 'ok') { context.moveTo(x - 4.5, y); context.lineTo(x - 1.5, y + 3.4); context.lineTo(x + 4.5, y - 3.6); }
  else if (kind === 'bad') { context.moveTo(x - 3.8, y - 3.8); context.lineTo(x + 3.8, y + 3.8); context.moveTo(x + 3.8, y - 3.8); context.lineTo(x - 3.8, y + 3.8); }
  else { context.moveTo(x, y - 5); context.lineTo(x, y + 1.2); context.moveTo(x, y + 4.8); context.lineTo(x, y + 5); }
  context.stroke();
}

/** The title of an item, cut to a width; what was measured is kept. */
function fitted(context, item, width, key) {
  item.fits ??= {};
  if (item.fits[key]) return item.fits[key];
  let text = item.title;
  if (context.measureText(text).width > width) {
    let low = 1, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      context.measureText(text.slice(0, middle) + '…').width <= width ? low = middle : high = middle - 1;
    }
    text = text.slice(0, low) + '…';
  }
  return item.fits[key] = text;
}

/** The whole scene in a corner, and what of it is seen. */
export function drawMap(context, scene, view, colors, size, canvas) {
  const k = Math.min(canvas.width / (scene.right - scene.left), canvas.height / (scene.bottom - scene.top)) * 0.92;
  const x = (canvas.width - (scene.right - scene.left) * k) / 2 - scene.left * k, y = (canvas.height - (scene.bottom - scene.top) * k) / 2 - scene.top * k;
  context.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const item of scene.items) {
    const kind = TONE[item.node.status];
    context.fillStyle = kind === 'bad' || kind === 'warn' ? colors[kind] : colors[item.node.color] ?? colors.silver;
    context.fillRect(x + (item.x - item.w / 2) * k, y + (item.y - item.h / 2) * k, Math.max(1.5, item.w * k - 0.5), Math.max(1.2, item.h * k - 0.5));
  }
  context.strokeStyle = colors.accent;
  context.lineWidth = 1.5;
  context.strokeRect(x - view.x / view.k * k, y - view.y / view.k * k, size.width / view.k * k, size.height / view.k * k);
  return { x, y, k };
}
