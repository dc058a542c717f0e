// Bundles the playground into ../static under fixed names. The same sources and lock file give the same bytes, so that
// CI can build again and compare. `node build.mjs DIR` writes elsewhere; `--watch` builds again on each change.
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build, context } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [target = join(here, "..", "static")] = process.argv.slice(2).filter((each) => !each.startsWith("--"));
const out = resolve(target);

const options = {
  absWorkingDir: here,
  entryPoints: { playground: "src/main.tsx" },
  outdir: out,
  bundle: true,
  format: "esm",
  target: ["chrome109", "firefox115", "safari16"],
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  charset: "utf8",
  legalComments: "none", // the licences of all packages stand in playground.licences.txt
  define: { "process.env.NODE_ENV": '"production"' },
  metafile: true,
  logLevel: "warning",
};

// The licence texts of the packages that the bundle holds: those that esbuild read, and what is compiled into them.
// Annotorious' file holds its own dependencies and the runtime of svelte 4; the texts in licences/ are those of packages
// that carry none, from https://github.com/annotorious/annotorious and https://github.com/sveltejs/svelte.
async function licences(inputs) {
  const names = new Set();
  for (const path of Object.keys(inputs)) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path);
    if (found) await addWithDependencies(found[1], names);
  }
  const parts = [`svelte 4 (MIT)\n\n${await textOf(join(here, "licences", "svelte.txt"))}`];
  for (const name of [...names].sort()) {
    const { version, license } = await manifest(name);
    const own = name.startsWith("@annotorious/") ? join(here, "licences", "annotorious.txt") : null;
    const text = own ? await textOf(own) : await firstOf(join(here, "node_modules", name));
    if (text === null) throw new Error(`${name} carries no text of its licence: add one to licences/`);
    parts.push(`${name} ${version} (${license})\n\n${text}`);
  }
  return `Packages in playground.js and playground.css\n\n${parts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}

async function addWithDependencies(name, names) {
  if (names.has(name)) return;
  names.add(name);
  for (const needed of Object.keys((await manifest(name)).dependencies ?? {})) await addWithDependencies(needed, names);
}

const manifest = async (name) => JSON.parse(await readFile(join(here, "node_modules", name, "package.json"), "utf8"));
const textOf = async (path) => (await readFile(path, "utf8")).replaceAll("\r\n", "\n").trim();

async function firstOf(folder) {
  const names = (await readdir(folder)).filter((name) => /^licen[cs]e(\.\w+)?$/i.test(name)).sort();
  return names.length ? textOf(join(folder, names[0])) : null;
}

await mkdir(out, { recursive: true });
await copyFile(join(here, "src", "playground.html"), join(out, "playground.html"));
if (process.argv.includes("--watch")) {
  await (await context(options)).watch();
} else {
  const { metafile } = await build(options);
  await writeFile(join(out, "playground.licences.txt"), await licences(metafile.inputs));
}
