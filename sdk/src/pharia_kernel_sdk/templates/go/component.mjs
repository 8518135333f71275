// Usage: node component.mjs CORE.wasm SKILL.wit WORLD OUT.wasm
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { componentEmbed, componentNew, preview1AdapterReactorPath } from '@bytecodealliance/jco';

const [core, wit, world, out] = process.argv.slice(2);
const typed = await componentEmbed({
  binary: await readFile(core),
  witSource: await readFile(wit, 'utf8'),
  world,
});
// Go asks for WASI preview 1. The adapter turns that into the interfaces that components import.
const adapter = await readFile(fileURLToPath(preview1AdapterReactorPath()));
const component = await componentNew(typed, [['wasi_snapshot_preview1', adapter]]);
await writeFile(out, component);
console.log(`${out}: ${(component.length / 1e6).toFixed(1)} MB`);
