// The request of the page as curl, Python and JSON.
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
  const url = `${serviceAddress()}/${pathOf(asked)}`;
  const key = '    -H "Authorization: Bearer $DYNREFER_KEY"  # only where the server asks for keys';
  const body = compactJson({ ...imageField(asked), ...fieldsOf(asked) });
  if (asked.image?.remote) {
    return `curl -s ${url} -H 'Content-Type: application/json' \\\n    -d ${quoted(body)}\n\n# with keys:\n${key}`;
  }
  return `curl -s ${url} \\\n    -F ${quoted(`image=@${fileName(asked)}`)} \\\n    -F ${quoted(`request=${body}`)}\n\n# with keys, also:\n${key}`;
}

/** For a POSIX shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

export function pythonOf(asked: Asked): string {
  const fields = fieldsOf(asked);
  const url = serviceAddress();
  return [
    "import json",
    "import httpx  # or any other HTTP library",
    "",
    `request = ${pythonLiteral(fields)}`,
    `with open(${JSON.stringify(fileName(asked))}, "rb") as image:`,
    `    answer = httpx.post("${url}/${pathOf(asked)}", files={"image": image}, data={"request": json.dumps(request)})`,
    'for region in answer.raise_for_status().json()["regions"]:',
    '    print(region["box"], region.get("caption", {}).get("text"))',
  ].join("\n");
}

function pythonLiteral(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "object") {
    const members = Object.entries(value as Fields).map(
      ([name, each]) => `${JSON.stringify(name)}: ${pythonLiteral(each)}`,
    );
    return `{${members.join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** One member of the request a line; lists of numbers stay on one. */
function compactJson(fields: Fields): string {
  const members = Object.entries(fields).map(([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  return `{\n${members.join(",\n")}\n}`;
}
