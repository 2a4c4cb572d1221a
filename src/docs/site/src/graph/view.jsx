// A graph that can be moved, zoomed, clicked, and walked through with the keyboard.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { plural } from '../words.js';
import { word } from '../parts/bits.jsx';
import { draw, drawMap, pathsOf, readColors } from './draw.js';
import { hit, neighbour, related } from './scene.js';

const NEAREST = 2.2, MAP = { width: 168, height: 112 }, MAP_FROM = 60;
const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

/** `selected` is the index of a node in the catalogue, or null; `whole`: the wheel zooms, and all keys work. */
export function Graph({ scene, label, selected, current, onselect, onopen, oncolumn, whole, height }) {
  const canvas = useRef(), map = useRef(), box = useRef(), live = useRef(), [said, setSaid] = useState('');
  const paths = useMemo(() => pathsOf(scene), [scene]);
  const inner = useRef(null);
  inner.current ??= new Inner();
  const own = inner.current;
  Object.assign(own, { scene, paths, onselect, onopen, oncolumn, whole, say: setSaid });

  useEffect(() => own.mount(canvas.current, map.current, box.current), []);
  useEffect(() => own.show(current), [scene]);
  useEffect(() => own.select(selected == null ? null : scene.byNode.get(selected) ?? null), [selected, scene]);

  const many = scene.items.length > MAP_FROM;
  return <div class="graph" ref={box} style={height ? `height:${height}px` : undefined}>
    <canvas ref={canvas} tabIndex={0} role="application" aria-roledescription="graph" aria-label={label} aria-describedby={whole ? 'graph-keys' : undefined}
      data-nodes={scene.items.length} data-edges={scene.edges.length} />
    {whole && <p id="graph-keys" class="hidden">Arrow keys go along the edges and up and down; Enter opens; plus, minus and zero zoom; Escape lets go. The list view has the same nodes as a table.</p>}
    <canvas ref={map} class="map" hidden={!many || !whole} aria-hidden="true" width={MAP.width} height={MAP.height} />
    <div class="zoom"><button type="button" aria-label="Zoom out" onClick={() => own.zoom(0.8)}>−</button><button type="button" aria-label="Zoom in" onClick={() => own.zoom(1.25)}>+</button><button type="button" onClick={() => own.fit(true)}>Fit</button></div>
    <p class="hidden" role="status" ref={live}>{said}</p>
  </div>;
}

/** What does not concern the page: the view, the pointers, frames. */
class Inner {
  view = { x: 0, y: 0, k: 1 };
  state = { selected: null, hovered: null, lit: null, column: null, hoveredColumn: null, keys: null };
  size = { width: 0, height: 0, ratio: 1 };
  pointers = new Map();
  frame = 0;
  touched = false;

  mount(canvas, map, box) {
    Object.assign(this, { canvas, map, box, context: canvas.getContext('2d'), mapContext: map.getContext('2d') });
    const listeners = { pointerdown: 'down', pointermove: 'move', pointerup: 'up', pointercancel: 'up', pointerleave: 'leave', dblclick: 'double', wheel: 'wheel', keydown: 'key' };
    for (const [type, method] of Object.entries(listeners)) canvas.addEventListener(type, event => this[method](event), { passive: false });
    map.addEventListener('pointerdown', event => this.jump(event));
    map.addEventListener('pointermove', event => event.buttons === 1 && this.jump(event));
    const recolor = () => { this.colors = readColors(box); this.paint(); };
    const scheme = matchMedia('(prefers-color-scheme: dark)'), resized = new ResizeObserver(() => this.resize());
    addEventListener('lake-theme', recolor);
    scheme.addEventListener('change', recolor);
    resized.observe(box);
    this.colors = readColors(box);
    this.resize();
    return () => { removeEventListener('lake-theme', recolor); scheme.removeEventListener('change', recolor); resized.disconnect(); cancelAnimationFrame(this.frame); cancelAnimationFrame(this.flight); };
  }

  resize() {
    const { width, height } = this.box.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    if (!width || !height) return;
    const first = !this.size.width;
    this.size = { width, height, ratio };
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.map.width = MAP.width * ratio;
    this.map.height = MAP.height * ratio;
    if (first || !this.touched) this.start(); else this.paint();
  }

  show(current) {
    this.current = current;
    this.touched = false;
    Object.assign(this.state, { hovered: null, hoveredColumn: null, column: this.scene.columns });
    this.light();
    if (this.size.width) this.start();
  }

  /** All of it, or what it is about where all would be too small to read. */
  start() {
    this.fit(false);
    const index = this.scene.byNode.get(this.current);
    if (index != null && this.view.k < 0.55) this.centre(index, 0.85, false);
  }

  fit(smooth) {
    const { left, right, top, bottom } = this.scene, { width, height } = this.size, margin = 28;
    const k = Math.min(1.15, (width - margin * 2) / (right - left), (height - margin * 2) / (bottom - top));
    this.least = Math.min(0.2, k * 0.7);
    this.fly({ k, x: (width - (right + left) * k) / 2, y: (height - (bottom + top) * k) / 2 }, smooth);
  }

  centre(index, k, smooth = true) {
    const item = this.scene.items[index], { width, height } = this.size;
    this.fly({ k, x: width / 2 - item.x * k, y: height / 2 - item.y * k }, smooth);
  }

  fly(to, smooth) {
    cancelAnimationFrame(this.flight);
    if (!smooth || calm()) { this.view = to; return this.paint(); }
    const from = this.view, start = performance.now();
    const step = now => {
      const part = Math.min(1, (now - start) / 260), ease = 1 - (1 - part) ** 3, mix = key => from[key] + (to[key] - from[key]) * ease;
      this.view = { x: mix('x'), y: mix('y'), k: mix('k') };
      this.paint();
      if (part < 1) this.flight = requestAnimationFrame(step);
    };
    this.flight = requestAnimationFrame(step);
  }

  zoom(by, x = this.size.width / 2, y = this.size.height / 2) {
    this.touched = true;
    const k = Math.max(this.least ?? 0.05, Math.min(NEAREST, this.view.k * by)), part = k / this.view.k;
    this.view = { k, x: x - (x - this.view.x) * part, y: y - (y - this.view.y) * part };
    this.paint();
  }

  select(index) {
    if (this.state.selected === index) return;
    this.state.selected = index;
    this.light();
    this.paint();
    const item = index == null ? null : this.scene.items[index];
    this.say(item ? `${item.node.name}, ${item.node.kind}, ${word(item.node.status)}; reads ${plural(this.scene.before[index].length, 'node')}, read by ${plural(this.scene.after[index].length, 'node')}` : '');
    if (!item || !this.size.width) return;
    // Out of sight it would be selected for nobody.
    const { x, y, k } = this.view, left = x + (item.x - item.w / 2) * k, top = y + (item.y - item.h / 2) * k;
    if (left < 0 || top < 0 || left + item.w * k > this.size.width || top + item.h * k > this.size.height) this.centre(index, Math.max(k, 0.6));
  }

  light() {
    const { selected, hovered, hoveredColumn } = this.state, at = hovered ?? selected;
    this.state.lit = at == null || this.scene.columns ? null : related(this.scene, at);
    this.state.keys = hoveredColumn ? this.along(hoveredColumn) : null;
  }

  /** The columns that one comes from and reaches, in this scene. */
  along(key) {
    const found = new Set([key]);
    for (const [from, to] of [[0, 1], [1, 0]]) {
      const pending = [key], seen = new Set(pending);
      while (pending.length) {
        const at = pending.pop();
        for (const edge of this.scene.edges) if (edge.keys[from] === at && !seen.has(edge.keys[to])) { seen.add(edge.keys[to]); found.add(edge.keys[to]); pending.push(edge.keys[to]); }
      }
    }
    return found;
  }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      if (!this.size.width) return;
      draw(this.context, this.scene, this.paths, { ...this.state, view: this.view }, this.colors, this.size);
      if (!this.map.hidden) this.mapView = drawMap(this.mapContext, this.scene, this.view, this.colors, this.size, MAP);
    });
  }

  place(event) {
    const rect = this.canvas.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  }

  at(event) {
    const [x, y] = this.place(event);
    return hit(this.scene, (x - this.view.x) / this.view.k, (y - this.view.y) / this.view.k);
  }

  jump(event) {
    const rect = this.map.getBoundingClientRect(), { x, y, k } = this.mapView, { width, height } = this.size;
    this.touched = true;
    this.view = { ...this.view, x: width / 2 - (event.clientX - rect.left - x) / k * this.view.k, y: height / 2 - (event.clientY - rect.top - y) / k * this.view.k };
    this.paint();
  }

  down(event) {
    if (event.button > 0) return;
    this.pointers.set(event.pointerId, this.place(event));
    this.press = { place: this.place(event), view: this.view, moved: false };
    this.pinch = this.pointers.size === 2 ? { distance: this.spread(), view: this.view } : null;
  }

  spread() {
    const [[ax, ay], [bx, by]] = [...this.pointers.values()];
    return Math.hypot(ax - bx, ay - by);
  }

  move(event) {
    if (!this.pointers.has(event.pointerId)) return this.hover(event);
    this.pointers.set(event.pointerId, this.place(event));
    if (this.pinch && this.pointers.size === 2) {
      const [[ax, ay], [bx, by]] = [...this.pointers.values()], wanted = this.pinch.view.k * this.spread() / this.pinch.distance;
      return this.zoom(wanted / this.view.k, (ax + bx) / 2, (ay + by) / 2);
    }
    const [x, y] = this.place(event), dx = x - this.press.place[0], dy = y - this.press.place[1];
    if (!this.press.moved && Math.hypot(dx, dy) < 4) return;
    if (!this.press.moved) this.canvas.setPointerCapture(event.pointerId);
    this.press.moved = this.touched = true;
    this.canvas.style.cursor = 'grabbing';
    this.view = { ...this.view, x: this.press.view.x + dx, y: this.press.view.y + dy };
    this.paint();
  }

  hover(event) {
    const found = this.at(event), key = found?.column ? `${found.item.at}:${found.column.at}` : null;
    this.canvas.style.cursor = found ? 'pointer' : 'grab';
    this.canvas.title = found && this.view.k < 0.6 ? found.item.node.name : '';
    if ((found?.index ?? null) === this.state.hovered && key === this.state.hoveredColumn) return;
    Object.assign(this.state, { hovered: found?.index ?? null, hoveredColumn: key });
    this.light();
    this.paint();
  }

  leave() {
    if (this.pointers.size) return;
    Object.assign(this.state, { hovered: null, hoveredColumn: null });
    this.light();
    this.paint();
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.canvas.style.cursor = 'grab';
    if (event.type === 'pointercancel' || !this.press || this.press.moved || this.pointers.size) return;
    const found = this.at(event);
    if (found?.column) this.oncolumn?.(found.item.node, found.column);
    else this.onselect?.(found?.item.node ?? null);
  }

  double(event) {
    const found = this.at(event);
    if (found) this.onopen?.(found.item.node);
  }

  wheel(event) {
    if (!this.whole && !event.ctrlKey) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.008 : 0.0016)), ...this.place(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { selected } = this.state, item = this.scene.items[selected];
    const steps = { '+': () => this.zoom(1.25), '=': () => this.zoom(1.25), '-': () => this.zoom(0.8), 0: () => this.fit(true), Escape: () => this.onselect?.(null), Enter: () => item && this.onopen?.(item.node) };
    const arrow = /^Arrow/.test(event.key);
    if (!arrow && !steps[event.key]) return;
    event.preventDefault();
    if (!arrow) return steps[event.key]();
    const next = selected == null ? 0 : neighbour(this.scene, selected, event.key);
    if (next != null && this.scene.items[next]) this.onselect?.(this.scene.items[next].node);
  }
}
