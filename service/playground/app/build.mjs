// Bundles the playground into ../static under fixed names. The same sources and lock file give the same bytes, so that
// CI can build again and compare. `node build.mjs DIR` writes elsewhere; `--watch` builds again on each change.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
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

// The licence texts of the packages that the bundle holds, by its own list of inputs.
async function licences(inputs) {
  const names = new Set();
  for (const path of Object.keys(inputs)) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path);
    if (found) names.add(found[1]);
  }
  const require = createRequire(join(here, "package.json"));
  const parts = [];
  for (const name of [...names].sort()) {
    const folder = join(here, "node_modules", name);
    const { version, license } = require(join(folder, "package.json"));
    const text = await firstOf(folder, ["LICENSE", "LICENSE.md", "LICENSE.txt", "license"]);
    parts.push(`${name} ${version} (${license})\n\n${text ?? `Its package holds no text of the licence ${license}.`}`);
  }
  return `Packages in playground.js and playground.css\n\n${parts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}

async function firstOf(folder, names) {
  for (const name of names) {
    try {
      return (await readFile(join(folder, name), "utf8")).replaceAll("\r\n", "\n").trim();
    } catch {}
  }
  return null;
}

await mkdir(out, { recursive: true });
await copyFile(join(here, "src", "playground.html"), join(out, "playground.html"));
if (process.argv.includes("--watch")) {
  await (await context(options)).watch();
} else {
  const { metafile } = await build(options);
  await writeFile(join(out, "playground.licences.txt"), await licences(metafile.inputs));
}
