// The request of the page as curl, Python and JSON.
import { key } from "./api";
import { describeFields, detectFields, type Fields } from "./fields";
import type { Region } from "./geometry";
import type { Settings } from "./settings";
import type { Picture } from "./state";

export interface Asked {
  settings: Settings;
  regions: readonly Region[];
  image: Picture | null;
  finding: boolean;
}

const fieldsOf = ({ settings, regions, finding }: Asked): Fields =>
  finding ? detectFields(settings) : describeFields(settings, regions);

const pathOf = ({ finding }: Asked): string => (finding ? "v1/detect" : "v1/describe");

/** The service's address, without the page's own file name. */
const serviceAddress = (): string => new URL(".", window.location.href).href.replace(/\/$/, "");

const fileName = ({ image }: Asked): string => image?.sample?.file ?? image?.name ?? "image.jpg";

export function jsonOf(asked: Asked): string {
  return compactJson({ ...imageField(asked), ...fieldsOf(asked) });
}

const imageField = ({ image }: Asked): Fields => (image?.remote ? { image: { url: image.remote } } : {});

export function curlOf(asked: Asked): string {
  const lines = [`curl -s ${serviceAddress()}/${pathOf(asked)}`];
  if (key.value) lines.push('-H "Authorization: Bearer $DYNREFER_KEY"');
  const body = compactJson({ ...imageField(asked), ...fieldsOf(asked) });
  if (asked.image?.remote) lines.push("-H 'Content-Type: application/json'", `-d ${quoted(body)}`);
  else lines.push(`-F ${quoted(`image=@${fileName(asked)}`)}`, `-F ${quoted(`request=${body}`)}`);
  return lines.join(" \\\n    ");
}

/** For a POSIX shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** With the client of the package `dynrefer`, whose arguments have the names of the request's fields. */
export function pythonOf(asked: Asked): string {
  const { regions = [], task, explain, names, phrase, describe, ...options } = fieldsOf(asked);
  const values = [pythonLiteral(asked.image?.remote ?? fileName(asked))];
  if (asked.finding) {
    if (names) values.push(pythonLiteral(names));
    if (phrase) values.push(`phrase=${pythonLiteral(phrase)}`);
    values.push(`describe=${pythonLiteral(withPlainExplain(describe as Fields))}`);
  } else {
    // A box is written as its four numbers, any other region as in the request.
    const written = (regions as Fields[]).map((region) => pythonLiteral(region.box ?? region));
    values.push(`[${written.join(", ")}]`);
    if (task) values.push(`task=${pythonLiteral(task)}`);
    if (explain) values.push("explain=True");
  }
  for (const [name, value] of Object.entries(options)) values.push(`${name}=${pythonLiteral(value)}`);
  const address = `"${serviceAddress()}"${key.value ? ', key=os.environ["DYNREFER_KEY"]' : ""}`;
  return [
    ...(key.value ? ["import os", ""] : []),
    "from dynrefer import Client",
    "",
    `with Client(${address}) as client:`,
    `    answer = client.${asked.finding ? "detect" : "describe"}(`,
    ...values.map((value) => `        ${value},`),
    "    )",
    `for region in ${asked.finding ? "answer.regions" : "answer"}:`,
    asked.finding
      ? "    print(region.label, region.box)"
      : "    print(region.box, region.caption and region.caption.text)",
  ].join("\n");
}

const withPlainExplain = (fields: Fields): Fields => (fields.explain ? { ...fields, explain: true } : fields);

function pythonLiteral(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value as Fields);
  return `{${members.map(([name, each]) => `${JSON.stringify(name)}: ${pythonLiteral(each)}`).join(", ")}}`;
}

/** One member of the request a line; what a member holds stays on it. */
function compactJson(fields: Fields): string {
  const members = Object.entries(fields).map(([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  return `{\n${members.join(",\n")}\n}`;
}
