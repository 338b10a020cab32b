// Builds the page into ../static: index.html, and all else under assets/ with a hash in its name.
// `node build.mjs --watch` builds again whenever a source changes.

import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const target = path.join(here, "..", "static");
const assets = path.join(target, "assets");

/** What scripts and workers have in common. */
const common = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  sourcemap: false,
  metafile: true,
  target: ["chrome111", "firefox115", "safari16.4"],
  format: "esm",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none", // Their packages' licences stand in licences.txt, whole.
  outdir: assets,
  logLevel: "warning",
};

/** Builds each `*.worker.ts`; gives the name of each file by that of its worker. */
async function buildWorkers() {
  const sources = readdirSync(path.join(here, "src"), { recursive: true })
    .filter((name) => name.endsWith(".worker.ts"))
    .map((name) => path.join("src", name))
    .sort();
  if (sources.length === 0) return { names: {}, inputs: [] };
  const { metafile } = await esbuild.build({
    ...common,
    entryPoints: sources,
    entryNames: "[name]-[hash]",
  });
  const names = {};
  for (const [file, { entryPoint }] of Object.entries(metafile.outputs))
    if (entryPoint) names[path.basename(entryPoint, ".worker.ts")] = path.basename(file);
  return { names, inputs: Object.keys(metafile.inputs) };
}

/** Writes a file that is taken over as it stands, named by its content; gives that name. */
async function writeHashed(source, content) {
  const { name, ext } = path.parse(source);
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 8);
  const file = `${name}-${hash}${ext}`;
  await writeFile(path.join(assets, file), content);
  return file;
}

/** Writes the licences of all packages of which something was taken. */
async function writeLicences(inputs, others) {
  const packages = new Set(others);
  for (const input of inputs) {
    const found = input.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//);
    if (found) packages.add(found[1]);
  }
  let text = "";
  for (const name of [...packages].sort()) {
    const folder = path.join(here, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json")));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} has no licence file`);
    text += `${name} ${version} (${license})\n\n`;
    text += `${(await readFile(path.join(folder, file), "utf8")).trim()}\n\n\n`;
  }
  await writeFile(path.join(target, "licences.txt"), text);
}

async function build() {
  await rm(target, { recursive: true, force: true });
  await mkdir(assets, { recursive: true });
  const workers = await buildWorkers();
  const world = await readFile(path.join(here, "node_modules/world-atlas/land-50m.json"));
  const { metafile } = await esbuild.build({
    ...common,
    entryPoints: ["src/main.tsx", "src/style/main.css"],
    splitting: true,
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    define: {
      WORKERS: JSON.stringify(workers.names),
      WORLD: JSON.stringify(await writeHashed("world.json", world)),
    },
  });
  const entry = (source) =>
    path.basename(
      Object.entries(metafile.outputs).find(([, output]) => output.entryPoint === source)[0],
    );
  const page = await readFile(path.join(here, "index.html"), "utf8");
  await writeFile(
    path.join(target, "index.html"),
    page
      .replace("main.css", `assets/${entry("src/style/main.css")}`)
      .replace("main.js", `assets/${entry("src/main.tsx")}`),
  );
  await copyFile(path.join(here, "icon.svg"), path.join(target, "icon.svg"));
  await writeLicences([...workers.inputs, ...Object.keys(metafile.inputs)], ["world-atlas"]);
}

await build();
if (process.argv.includes("--watch")) {
  const { watch } = await import("node:fs");
  let timer;
  watch(path.join(here, "src"), { recursive: true }, () => {
    clearTimeout(timer);
    timer = setTimeout(() => build().catch(() => {}), 100);
  });
}
