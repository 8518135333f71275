import { describe, expect, it } from "vitest";
import { describe as described, initial, resolve, variantOf, violations, type Schema } from "../src/schema";

/** As pydantic writes it. */
const ORDER: Schema = {
  $defs: {
    Size: { enum: ["small", "large"], type: "string", title: "Size" },
    Address: {
      type: "object",
      title: "Address",
      properties: { city: { type: "string" }, "a/b": { type: "string" } },
      required: ["city"],
    },
    Tree: {
      type: "object",
      properties: { children: { type: "array", items: { $ref: "#/$defs/Tree" }, minItems: 1 } },
      required: ["children"],
    },
    Card: { type: "object", properties: { kind: { const: "card" }, number: { type: "string" } }, required: ["kind", "number"] },
    Cash: { type: "object", properties: { kind: { const: "cash" } }, required: ["kind"] },
  },
  type: "object",
  title: "Order",
  properties: {
    name: { type: "string", minLength: 1, description: "Who orders" },
    note: { anyOf: [{ type: "string" }, { type: "null" }], default: null },
    amount: { type: "integer", minimum: 1, default: 2 },
    price: { type: ["number", "null"] },
    gift: { type: "boolean", default: false },
    size: { $ref: "#/$defs/Size" },
    address: { allOf: [{ $ref: "#/$defs/Address" }], description: "Where to" },
    tags: { type: "array", items: { type: "string" } },
    extra: { type: "object", additionalProperties: { type: "integer" } },
    payment: { anyOf: [{ $ref: "#/$defs/Card" }, { $ref: "#/$defs/Cash" }] },
    anything: {},
  },
  required: ["name", "size", "address", "payment"],
};

const property = (name: string): Schema =>
  ((ORDER as { properties: Record<string, Schema> }).properties[name] as Schema);

describe("describe", () => {
  it.each([
    ["name", { type: "text", multiline: true, format: null }, false],
    ["note", { type: "text", multiline: true, format: null }, true],
    ["amount", { type: "number", integer: true }, false],
    ["price", { type: "number", integer: false }, true],
    ["gift", { type: "boolean" }, false],
    ["size", { type: "choice", options: ["small", "large"] }, false],
    ["extra", { type: "json" }, false],
    ["anything", { type: "json" }, false],
  ])("%s", (name, field, nullable) => {
    expect(described(ORDER, property(name))).toMatchObject({ field, nullable });
  });

  it("finds the properties of an object behind references", () => {
    const { field, description } = described(ORDER, property("address"));
    expect(description).toBe("Where to");
    expect(field).toMatchObject({ type: "object", properties: [{ name: "city", required: true }, { name: "a/b", required: false }] });
  });

  it("names variants after their references", () => {
    const { field } = described(ORDER, property("payment"));
    expect(field.type === "variant" && field.options.map(({ label }) => label)).toEqual(["Card", "Cash"]);
  });

  it("takes constants as choices", () => {
    expect(described(true, { oneOf: [{ const: 1 }, { const: 2 }] }).field).toEqual({ type: "choice", options: [1, 2] });
  });
});

describe("resolve", () => {
  it("survives references that lead nowhere or in circles", () => {
    expect(resolve({ a: { $ref: "#/b" }, b: { $ref: "#/a" } }, { $ref: "#/a" })).toEqual({});
    expect(resolve({}, { $ref: "https://elsewhere" })).toEqual({});
  });
});

describe("initial", () => {
  it("has defaults and what is required", () => {
    expect(initial(ORDER, ORDER)).toEqual({ note: null, amount: 2, gift: false, address: {}, payment: { kind: "card" } });
  });

  it("ends for schemas that contain themselves", () => {
    expect(JSON.stringify(initial(ORDER, { $ref: "#/$defs/Tree" })).length).toBeLessThan(500);
  });

  it("copies defaults", () => {
    const schema = { default: { list: [] } };
    expect(initial(schema, schema)).not.toBe(schema.default);
  });
});

describe("violations", () => {
  const good = { name: "Ada", size: "small", address: { city: "London" }, payment: { kind: "cash" } };

  it("accepts what is valid", () => {
    expect(violations(ORDER, good)).toEqual([]);
  });

  it("says where something is wrong, once", () => {
    const found = violations(ORDER, { ...good, name: "", amount: 0, address: {}, tags: ["a", 3] });
    expect(found.map(({ path }) => path).sort()).toEqual(["/address/city", "/amount", "/name", "/tags/1"]);
    expect(found.every(({ message }) => message.length > 0)).toBe(true);
  });

  it("shows what is missing where it belongs", () => {
    const { name: _, ...rest } = good;
    expect(violations(ORDER, rest)).toEqual([{ path: "/name", message: "This is required." }]);
  });

  it("knows to which variant a value belongs", () => {
    const { field } = described(ORDER, property("payment"));
    if (field.type !== "variant") throw new Error("not a variant");
    expect(variantOf(ORDER, field.options, { kind: "cash" })).toBe(1);
    expect(variantOf(ORDER, field.options, { kind: "card", number: "1" })).toBe(0);
    expect(variantOf(ORDER, field.options, undefined)).toBe(0);
    expect(variantOf(ORDER, field.options, { kind: "cash", number: 1 })).toBe(1);
  });

  it("speaks of the variant that was chosen, and of no other", () => {
    const found = violations(ORDER, { ...good, payment: { kind: "card" } });
    expect(found).toEqual([{ path: "/payment/number", message: "This is required." }]);
  });

  it("uses no eval, which the page may not", () => {
    const forbidden = globalThis.Function;
    globalThis.Function = (() => {
      throw new Error("eval");
    }) as unknown as FunctionConstructor;
    try {
      expect(violations(ORDER, good)).toEqual([]);
    } finally {
      globalThis.Function = forbidden;
    }
  });
});

describe("schemas of authors who want to break the page", () => {
  it.each<Schema>([
    { allOf: [{ $ref: "#" }] },
    { $defs: { a: { anyOf: [{ $ref: "#/$defs/a" }, { type: "null" }] } }, $ref: "#/$defs/a" },
    { type: "object", properties: { self: { $ref: "#" } }, required: ["self"] },
    { oneOf: [{ $ref: "#" }] },
    { type: "string", pattern: "(" },
    { $ref: "https://elsewhere.example/schema" },
  ])("%j", (schema) => {
    expect(() => [described(schema, schema), initial(schema, schema), violations(schema, "x")]).not.toThrow();
  });
});
