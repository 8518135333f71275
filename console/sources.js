// Which sources a build was made of. A test of the kernel computes the same without Node.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FILES = ["index.html", "package-lock.json", "package.json", "sources.js", "tsconfig.json", "vite.config.ts"];

/** SHA-256 over the names and contents of all files that the build reads, sorted by name. */
export function sourceHash(root) {
  const sources = readdirSync(join(root, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
  const hash = createHash("sha256");
  for (const name of [...FILES, ...sources].sort()) {
    hash.update(`${name}\0`).update(readFileSync(join(root, name))).update("\0");
  }
  return hash.digest("hex");
}
