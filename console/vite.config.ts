import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "vite";
// @ts-ignore: plain JavaScript
import { sourceHash } from "./sources.js";

const root = import.meta.dirname;
const { dependencies } = JSON.parse(readFileSync(`${root}/package.json`, "utf8"));

/** Of what becomes part of the built files. */
function licenses(): string {
  const texts = Object.keys(dependencies).map((name) => {
    const folder = `${root}/node_modules/${name}`;
    const { version, license, author = "" } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file ? `\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n` : "";
    return `${name} ${version}, license: ${license} ${author.name ?? author}`.trim() + `\n${text}`;
  });
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}

export default defineConfig({
  // The kernel may be reached beneath a path of a reverse proxy.
  base: "./",
  build: {
    outDir: "../src/pharia_kernel/console/static",
    assetsDir: "console",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  plugins: [
    {
      name: "facts-about-the-build",
      generateBundle() {
        this.emitFile({ type: "asset", fileName: "licenses.txt", source: licenses() });
        this.emitFile({
          type: "asset",
          fileName: "sources.sha256",
          source: `${sourceHash(root)}\n`,
        });
      },
    },
  ],
  server: { proxy: { "/v1": "http://127.0.0.1:8081" } },
});
