// Builds the web client: `node build.mjs` into dist/, which is committed and becomes part of the binary; `node build.mjs FOLDER`
// into another folder, to compare; `node build.mjs tests` builds the tests, and `node build.mjs fuzz` the fuzz target, into build/.
// The build is reproducible.

import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [, , what = join(here, "dist")] = process.argv;
const out = resolve(what);
process.chdir(here);

generate();
await (what === "tests" ? buildTests() : what === "fuzz" ? buildFuzzTarget() : buildWebClient());

/** Generates TypeScript from proto/. */
function generate() {
  const path = `${join(here, "node_modules/.bin")}:${process.env.PATH}`;
  const buf = ["generate", "../proto", "--path", "../proto/parlance", "--path", "../proto/google"];
  execFileSync("node_modules/.bin/buf", buf, { env: { ...process.env, PATH: path }, stdio: "inherit" });
}

async function buildWebClient() {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out);
  const { metafile } = await build({
    entryPoints: ["src/app.tsx", "page/app.css"],
    outdir: out,
    entryNames: "[name]",
    absWorkingDir: here,
    bundle: true,
    minify: true,
    format: "esm",
    // Supported by every browser of the last two years.
    target: ["es2022", "chrome120", "firefox120", "safari17"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "inline",
    banner: { js: "/*! Parlance, Apache-2.0; licences of the included packages: /licenses.txt */" },
    metafile: true,
    logLevel: "warning",
  });
  for (const file of ["index.html", "icon.svg"]) copyFileSync(join("page", file), join(out, file));
  writeFileSync(join(out, "licenses.txt"), licenses(Object.keys(metafile.inputs)));
  for (const file of readdirSync(out)) console.log(`${file}: ${readFileSync(join(out, file)).length} bytes`);
}

async function buildTests() {
  rmSync("build", { recursive: true, force: true });
  const entryPoints = readdirSync("test").map((file) => join("test", file));
  const outExtension = { ".js": ".mjs" };
  await buildForNode({ entryPoints, outdir: "build", outExtension, external: ["playwright-core"] });
}

async function buildFuzzTarget() {
  await buildForNode({ entryPoints: ["fuzz/page.ts"], outfile: "build/fuzz.mjs" });
}

async function buildForNode(options) {
  await build({
    ...options,
    absWorkingDir: here,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    logLevel: "warning",
  });
}

/** Collects the licences of the packages that the files came from: their LICENSE files, and copyright notices in the files. */
function licenses(files) {
  const folders = new Map();
  for (const file of files.sort()) {
    const [folder] = file.match(/^node_modules\/(?:@[^/]+\/)?[^/]+/) ?? [];
    if (folder === undefined) continue;
    const head = readFileSync(file, "utf8").match(/^(?:\/\/.*\n)+/)?.[0].replace(/^\/\/ ?/gm, "").trim() ?? "";
    const heads = folders.get(folder) ?? new Set();
    folders.set(folder, head.includes("Copyright") ? heads.add(head) : heads);
  }
  const texts = [...folders].map(([folder, heads]) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = join(folder, "LICENSE");
    const own = existsSync(file) ? [readFileSync(file, "utf8").trim()] : [];
    return [`${name} ${version}: ${license}`, ...own, ...heads].join("\n\n");
  });
  const apache = readFileSync("../LICENSE", "utf8").trim();
  const head = "Parlance's web client is under the Apache License 2.0, whose text is at the end. It contains the following packages:";
  return `${[head, ...texts, apache].join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}
