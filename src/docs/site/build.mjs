// Bundles the site into dist/index.html: one file with its code and style inside, and a place for the data.
import { build } from 'esbuild';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, 'dist/index.html');

const bundled = await build({
  absWorkingDir: here,
  entryPoints: { site: 'src/main.jsx' },
  bundle: true,
  write: false,
  outdir: 'dist',
  minify: true,
  format: 'iife',
  target: 'esnext',
  charset: 'utf8',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  logLevel: 'warning',
});
const text = ending => bundled.outputFiles.find(file => file.path.endsWith(ending)).text.trim();

// What is bundled comes with its licence.
const licences = [];
for (const [name, file] of [['preact', 'LICENSE'], ['minisearch', 'LICENSE.txt']]) {
  const { version } = JSON.parse(await readFile(join(here, 'node_modules', name, 'package.json'), 'utf8'));
  licences.push(`${name} ${version}\n\n${(await readFile(join(here, 'node_modules', name, file), 'utf8')).trim()}`);
}

// Only a closing tag could end a script or style element.
const inside = code => code.replace(/<\/(script|style)/gi, '<\\/$1');
const page = (await readFile(join(here, 'src/index.html'), 'utf8'))
  .replace('__LAKE_LICENCES__', () => licences.join('\n\n').replace(/--/g, '- -'))
  .replace('__LAKE_STYLE__', () => inside(text('.css')))
  .replace('__LAKE_CODE__', () => inside(text('.js')));
await mkdir(dirname(out), { recursive: true });
await writeFile(out, page);
console.log(`${out}: ${Math.round(page.length / 1000)} kB`);
