// Builds into a folder of its own and compares with the committed bundle, byte for byte; checks its size.
import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const MOST_BYTES = 300 * 1024; // of the page's script and style together, compressed by gzip
const here = dirname(fileURLToPath(import.meta.url));
const committed = join(here, "..", "static");
const built = await mkdtemp(join(tmpdir(), "playground-"));
let failed = false;
let compressed = 0;
try {
  execFileSync(process.execPath, [join(here, "build.mjs"), built], { stdio: "inherit" });
  for (const name of (await readdir(built)).sort()) {
    const [fresh, kept] = [await readFile(join(built, name)), await readFile(join(committed, name)).catch(() => null)];
    if (/\.(js|css)$/.test(name)) compressed += gzipSync(fresh, { level: 9 }).length;
    if (kept?.equals(fresh)) continue;
    console.error(`static/${name} is not what the sources build: run make playground and commit it`);
    failed = true;
  }
} finally {
  await rm(built, { recursive: true, force: true });
}
console.log(`playground: ${compressed} bytes compressed, of at most ${MOST_BYTES}`);
process.exit(failed || compressed > MOST_BYTES ? 1 : 0);
