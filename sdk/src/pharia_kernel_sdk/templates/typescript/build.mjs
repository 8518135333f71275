// Usage: node build.mjs SOURCE.js SKILL.wit WORLD OUT.wasm
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [sourcePath, witPath, worldName, out] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath,
  witPath,
  worldName,
  // A skill has no network: with these, the component would import what no kernel offers.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(out, component);
console.log(`${out}: ${(component.length / 1e6).toFixed(1)} MB`);
