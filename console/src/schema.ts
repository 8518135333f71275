// From a JSON Schema to the fields of a form, and to what is wrong with an input.
import { Validator, type OutputUnit, type Schema as ValidatedSchema, type SchemaDraft } from "@cfworker/json-schema";
import { isObject, type Json, type JsonObject } from "./json";

export type Schema = JsonObject | boolean;

/** What a form shows for a schema. Whatever has no field of its own is edited as JSON. */
export type Field =
  | { type: "text"; multiline: boolean; format: string | null }
  | { type: "number"; integer: boolean }
  | { type: "boolean" }
  | { type: "choice"; options: Json[] }
  | { type: "constant"; value: Json }
  | { type: "object"; properties: Property[] }
  | { type: "array"; items: Schema; min: number; max: number }
  | { type: "variant"; options: Variant[] }
  | { type: "json" };

export interface Property {
  name: string;
  schema: Schema;
  required: boolean;
}

export interface Variant {
  label: string;
  schema: Schema;
}

export interface Described {
  field: Field;
  title: string | null;
  description: string | null;
  nullable: boolean;
  fallback: Json | undefined;
}

export interface Violation {
  /** JSON Pointer into the input. */
  path: string;
  message: string;
}

/** Follows references within the document; annotations beside a reference win. */
export function resolve(root: Schema, schema: Schema): JsonObject {
  let current: Schema = schema;
  const seen = new Set<string>();
  while (isObject(current) && typeof current.$ref === "string") {
    const { $ref, ...beside }: JsonObject = current;
    if (seen.has(String($ref))) return {};
    seen.add(String($ref));
    const target = at(root, String($ref));
    if (!isObject(target)) return {};
    current = { ...target, ...beside };
  }
  return isObject(current) ? current : {};
}

function at(root: Schema, reference: string): unknown {
  if (!reference.startsWith("#")) return undefined;
  let current: unknown = root;
  for (const part of decodeURIComponent(reference.slice(1)).split("/").slice(1)) {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    current = isObject(current) || Array.isArray(current) ? (current as JsonObject)[key] : undefined;
  }
  return current;
}

const text = (value: Json | undefined): string | null => (typeof value === "string" ? value : null);
const count = (value: Json | undefined, otherwise: number): number =>
  typeof value === "number" ? value : otherwise;

export function describe(root: Schema, schema: Schema): Described {
  const { schema: resolved, nullable } = withoutNull(root, resolve(root, schema));
  return {
    field: fieldOf(root, resolved),
    title: text(resolved.title),
    description: text(resolved.description),
    nullable,
    fallback: resolved.default,
  };
}

/** `anyOf: [T, null]` and `type: [T, "null"]` are an optional `T`. */
function withoutNull(root: Schema, schema: JsonObject): { schema: JsonObject; nullable: boolean } {
  const { type, ...rest } = schema;
  if (Array.isArray(type) && type.includes("null")) {
    const others = type.filter((name) => name !== "null");
    return { schema: { ...rest, type: others.length === 1 ? (others[0] as Json) : others }, nullable: true };
  }
  for (const key of ["anyOf", "oneOf"]) {
    const options = schema[key];
    if (!Array.isArray(options)) continue;
    const others = options.filter((option) => !isObject(option) || option.type !== "null");
    if (others.length === options.length) continue;
    const { [key]: _, ...beside } = schema;
    const single = others.length === 1 ? resolve(root, others[0] as Schema) : { [key]: others };
    return { schema: { ...single, ...beside }, nullable: true };
  }
  return { schema, nullable: false };
}

function fieldOf(root: Schema, schema: JsonObject, depth = 0): Field {
  if (schema.const !== undefined) return { type: "constant", value: schema.const };
  if (Array.isArray(schema.enum)) return { type: "choice", options: schema.enum };
  const options = schema.oneOf ?? schema.anyOf;
  if (Array.isArray(options)) return variants(root, options as Schema[]);
  if (Array.isArray(schema.allOf) && schema.allOf.length === 1 && depth < DEEPEST) {
    const only = resolve(root, schema.allOf[0] as Schema);
    return fieldOf(root, { ...only, ...omit(schema, "allOf"), ...pick(only, "allOf") }, depth + 1);
  }
  switch (schema.type) {
    case "string":
      return {
        type: "text",
        multiline: schema.format === undefined && count(schema.maxLength, Infinity) > 100,
        format: text(schema.format),
      };
    case "integer":
    case "number":
      return { type: "number", integer: schema.type === "integer" };
    case "boolean":
      return { type: "boolean" };
    case "array":
      return arrayField(schema);
    case "object":
      return objectField(schema);
    default:
      return isObject(schema.properties) ? objectField(schema) : { type: "json" };
  }
}

/** Levels of a schema that contains itself without end. */
export const DEEPEST = 8;

function pick(schema: JsonObject, key: string): JsonObject {
  return schema[key] === undefined ? {} : { [key]: schema[key] };
}

function omit(schema: JsonObject, key: string): JsonObject {
  const { [key]: _, ...rest } = schema;
  return rest;
}

function arrayField(schema: JsonObject): Field {
  if (!isObject(schema.items)) return { type: "json" };
  return {
    type: "array",
    items: schema.items,
    min: count(schema.minItems, 0),
    max: count(schema.maxItems, Infinity),
  };
}

function objectField(schema: JsonObject): Field {
  // Maps have keys that only whoever fills in the form knows.
  if (!isObject(schema.properties)) return { type: "json" };
  const required = Array.isArray(schema.required) ? schema.required : [];
  const properties = Object.entries(schema.properties).map(([name, property]) => ({
    name,
    schema: property as Schema,
    required: required.includes(name),
  }));
  return { type: "object", properties };
}

function variants(root: Schema, options: Schema[]): Field {
  const resolved = options.map((option) => resolve(root, option));
  if (resolved.length > 0 && resolved.every((option) => option.const !== undefined)) {
    return { type: "choice", options: resolved.map((option) => option.const as Json) };
  }
  return {
    type: "variant",
    options: options.map((schema, index) => {
      const option = resolved[index] as JsonObject;
      const reference = isObject(schema) ? text(schema.$ref)?.split("/").pop() : undefined;
      const label = text(option.title) ?? reference ?? text(option.type) ?? `Option ${index + 1}`;
      return { label, schema };
    }),
  };
}

/** What a form begins with: defaults, and the members that have to be there. */
export function initial(root: Schema, schema: Schema, depth = 0): Json | undefined {
  const { field, fallback, nullable } = describe(root, schema);
  if (fallback !== undefined) return structuredClone(fallback);
  if (nullable || depth > DEEPEST) return nullable ? null : undefined;
  switch (field.type) {
    case "object": {
      const value: JsonObject = {};
      for (const property of field.properties) {
        const { fallback: own } = describe(root, property.schema);
        const begin = property.required || own !== undefined;
        const member = begin ? initial(root, property.schema, depth + 1) : undefined;
        if (member !== undefined) value[property.name] = member;
      }
      return value;
    }
    case "array":
      return Array.from({ length: Math.min(field.min, 20) }, () => initial(root, field.items, depth + 1) ?? null);
    case "constant":
      return field.value;
    case "boolean":
      return false;
    case "variant":
      return field.options[0] ? initial(root, field.options[0].schema, depth + 1) : undefined;
    default:
      return undefined;
  }
}

/** Which of the options a value belongs to: the one that it is nearest to. */
export function variantOf(root: Schema, options: Variant[], value: Json | undefined): number {
  const found = options.map(({ schema }) => distance(check(root, value ?? null, schema)));
  return Math.max(found.indexOf(Math.min(...found)), 0);
}

/** How far a value is from a schema. Another constant or type means that it is meant for another. */
function distance(errors: OutputUnit[]): number {
  const kinds = errors.filter(({ keyword }) => keyword === "const" || keyword === "type");
  return 100 * kinds.length + errors.length;
}

const DRAFTS: [string, SchemaDraft][] = [
  ["2019-09", "2019-09"],
  ["draft-07", "7"],
  ["draft-06", "7"],
  ["draft-04", "4"],
];

function draftOf(root: Schema): SchemaDraft {
  const dialect = isObject(root) ? (text(root.$schema) ?? "") : "";
  return DRAFTS.find(([name]) => dialect.includes(name))?.[1] ?? "2020-12";
}

/** What is wrong with the input, by place: of nested messages only the innermost, and of options
 * only those of the nearest. */
export function violations(root: Schema, value: Json, schema: Schema = root): Violation[] {
  const found = ofNearestOptions(check(root, value, schema)).map(({ instanceLocation, keyword, error }) =>
    placed(instanceLocation.replace(/^#/, ""), keyword, error),
  );
  const explained = ({ path, keyword }: Placed): boolean =>
    SUMMARIES.includes(keyword) && found.some((other) => other.path.startsWith(`${path}/`));
  return unique(found.filter((violation) => !explained(violation)));
}

function check(root: Schema, value: Json, schema: Schema): OutputUnit[] {
  const document = schema === root ? root : within(root, schema);
  try {
    return new Validator(document as ValidatedSchema, draftOf(root), false).validate(value).errors;
  } catch {
    return []; // a schema that the library can't work with; the kernel will tell
  }
}

function ofNearestOptions(errors: OutputUnit[]): OutputUnit[] {
  let kept = errors;
  for (const choice of errors.filter(({ keyword }) => keyword === "anyOf" || keyword === "oneOf")) {
    const within = `${choice.keywordLocation}/`;
    const option = (error: OutputUnit): string | undefined =>
      error.keywordLocation.startsWith(within) && error.instanceLocation.startsWith(choice.instanceLocation)
        ? error.keywordLocation.slice(within.length).split("/")[0]
        : undefined;
    const names = [...new Set(errors.map(option))].filter((name) => name !== undefined);
    const far = (name: string): number => distance(errors.filter((error) => option(error) === name));
    const [nearest] = names.sort((a, b) => far(a) - far(b));
    kept = kept.filter((error) => option(error) === undefined || option(error) === nearest);
  }
  return kept;
}

function within(root: Schema, schema: Schema): Schema {
  const { $defs, definitions } = isObject(root) ? root : {};
  const shared = { ...($defs ? { $defs } : {}), ...(definitions ? { definitions } : {}) };
  return isObject(schema) ? { ...shared, ...schema } : schema;
}

/** Say only that something within is wrong. */
const SUMMARIES = ["properties", "items", "prefixItems", "$ref", "anyOf", "allOf", "oneOf", "additionalProperties"];

interface Placed extends Violation {
  keyword: string;
}

/** A missing member is shown where it would be. */
function placed(path: string, keyword: string, message: string): Placed {
  const missing = keyword === "required" ? /"([^"]+)"/.exec(message)?.[1] : undefined;
  if (missing === undefined) return { path, keyword, message };
  return { path: `${path}/${pointer(missing)}`, keyword, message: "This is required." };
}

export function pointer(key: string | number): string {
  return String(key).replaceAll("~", "~0").replaceAll("/", "~1");
}

function unique(found: Placed[]): Violation[] {
  const byPath = new Map<string, Violation>();
  for (const { path, message } of found) if (!byPath.has(path)) byPath.set(path, { path, message });
  return [...byPath.values()];
}
