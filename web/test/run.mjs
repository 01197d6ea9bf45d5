// Runs what is in this folder with nothing but Node and esbuild, which comes with Vite.
//
//   node test/run.mjs             all *.test.ts, by Node's own test runner
//   node test/run.mjs NAME.ts     that one as a program

import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const program = process.argv[2];
const names = program ? [program] : (await readdir(here)).filter((name) => name.endsWith(".test.ts"));
if (names.length === 0) throw new Error("there are no tests");

/** Files as text, as Vite gives them for `?raw`. */
const raw = {
  name: "raw",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /\?raw$/ }, ({ path, resolveDir }) => ({
      path: resolve(resolveDir, path.slice(0, -"?raw".length)),
      namespace: "raw",
    }));
    onLoad({ filter: /.*/, namespace: "raw" }, async ({ path }) => ({
      contents: await readFile(path, "utf8"),
      loader: "text",
    }));
  },
};

const folder = await mkdtemp(join(tmpdir(), "fortress-web-test-"));
try {
  await build({
    entryPoints: names.map((name) => join(here, name)),
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    target: "node18",
    format: "esm",
    sourcemap: "inline",
    logLevel: "warning",
    jsx: "automatic",
    jsxImportSource: "preact",
    plugins: [raw],
  });
  const bundles = names.map((name) => join(folder, name.replace(/\.tsx?$/, ".mjs")));
  const options = program ? ["--enable-source-maps"] : ["--enable-source-maps", "--test"];
  const node = spawn(process.execPath, [...options, ...bundles], { stdio: "inherit" });
  process.exitCode = await new Promise((done, failed) => {
    node.on("error", failed);
    node.on("exit", (code) => done(code ?? 1));
  });
} finally {
  await rm(folder, { recursive: true, force: true });
}
