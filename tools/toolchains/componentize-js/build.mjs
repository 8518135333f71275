// Usage: node build.mjs SOURCE.js SKILL.wit WORLD OUT.wasm
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [sourcePath, witPath, worldName, out] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath,
  witPath,
  worldName,
  // A skill has no network: with these the component would import wasi:http, which the kernel does not offer.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(out, component);
