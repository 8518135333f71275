// A form for a value that a JSON Schema describes. The value is the only state.
import type { ComponentChildren, JSX } from "preact";
import { useId, useState } from "preact/hooks";
import { isObject, pretty, type Json, type JsonObject } from "./json";
import {
  DEEPEST,
  describe,
  initial,
  pointer,
  variantOf,
  type Described,
  type Field,
  type Schema,
  type Violation,
} from "./schema";

type Value = Json | undefined;

interface NodeProps {
  root: Schema;
  schema: Schema;
  value: Value;
  /** `undefined` takes the value out. */
  onChange: (value: Value) => void;
  /** JSON Pointer. */
  path: string;
  label: string;
  required: boolean;
  /** What contains it says already whether it is required. */
  embedded?: boolean;
  errors: Violation[];
}

/** By which the summary of errors leads to a field. */
export function fieldId(path: string): string {
  return `field-${encodeURIComponent(path)}`;
}

export function SchemaForm(props: Omit<NodeProps, "path" | "label" | "required">): JSX.Element {
  return <Node {...props} path="" label="Input" required />;
}

function Node(props: NodeProps): JSX.Element {
  const described = describe(props.root, props.schema);
  const deep = props.path.split("/").length > DEEPEST;
  const field: Field = deep ? { type: "json" } : described.field;
  if (canBeAbsent(props, { ...described, field }) && (props.value === undefined || props.value === null)) {
    return <Absent {...props} described={described} />;
  }
  switch (field.type) {
    case "object":
      return <ObjectNode {...props} described={described} field={field} />;
    case "array":
      return <ArrayNode {...props} described={described} field={field} />;
    case "variant":
      return <VariantNode {...props} described={described} field={field} />;
    default:
      return <Leaf {...props} described={{ ...described, field }} />;
  }
}

/** Whether it takes a button to say anything at all. A list can say nothing by being empty. */
function canBeAbsent({ required, path }: NodeProps, { field, nullable }: Described): boolean {
  if (path === "") return nullable;
  return field.type === "array" ? nullable : !isLeaf(field) && (!required || nullable);
}

type Inner<T extends Field["type"]> = NodeProps & {
  described: Described;
  field: Extract<Field, { type: T }>;
};

// --- what contains others

/** Takes a value out again: null where that is the only way to say nothing. */
function without(props: NodeProps, described: Described): Value {
  return props.required && described.nullable ? null : undefined;
}

function Absent(props: NodeProps & { described: Described }): JSX.Element {
  const add = (): void => {
    const { nullable: _, ...bare } = props.described;
    props.onChange(startOf(props.root, props.schema, bare.field));
  };
  return (
    <div class="field" id={fieldId(props.path)}>
      <span class="label">{labelOf(props, props.described)}</span>
      <Hint {...props.described} />
      <button type="button" class="small" onClick={add}>
        Add {props.label}
      </button>
      <Errors {...props} />
    </div>
  );
}

function startOf(root: Schema, schema: Schema, field: Field): Json {
  const begun = initial(root, schema);
  if (begun !== undefined && begun !== null) return begun;
  switch (field.type) {
    case "array":
      return [];
    case "variant":
      return field.options[0] ? (initial(root, field.options[0].schema) ?? "") : "";
    case "object":
      return Object.fromEntries(
        field.properties
          .filter(({ required }) => required)
          .map(({ name, schema: inner }) => [name, initial(root, inner)])
          .filter(([, value]) => value !== undefined),
      ) as JsonObject;
    default:
      return {};
  }
}

function Group(
  props: NodeProps & { described: Described; children: ComponentChildren },
): JSX.Element {
  const { described } = props;
  const removable = canBeAbsent(props, described);
  const hint = `${fieldId(props.path)}-about`;
  return (
    <fieldset id={fieldId(props.path)} tabIndex={-1} aria-describedby={hint} class={props.path ? "" : "outer"}>
      <legend>{labelOf(props, described)}</legend>
      <div id={hint}>
        <Hint {...described} />
        <Errors {...props} />
      </div>
      {props.children}
      {removable && (
        <button type="button" class="small" onClick={() => props.onChange(without(props, described))}>
          Remove {props.label}
        </button>
      )}
    </fieldset>
  );
}

function ObjectNode(props: Inner<"object">): JSX.Element {
  const value = isObject(props.value) ? props.value : {};
  const change = (name: string, member: Value): void => {
    const { [name]: _, ...others } = value;
    props.onChange(member === undefined ? others : { ...value, [name]: member });
  };
  return (
    <Group {...props}>
      {props.field.properties.map(({ name, schema, required }) => (
        <Node
          key={name}
          root={props.root}
          schema={schema}
          value={value[name]}
          onChange={(member) => change(name, member)}
          path={`${props.path}/${pointer(name)}`}
          label={name}
          required={required}
          errors={props.errors}
        />
      ))}
    </Group>
  );
}

function ArrayNode(props: Inner<"array">): JSX.Element {
  const items = Array.isArray(props.value) ? props.value : [];
  const { min, max, items: schema } = props.field;
  const replace = (index: number, item: Value): void =>
    props.onChange(items.map((old, i) => (i === index ? (item ?? null) : old)));
  const remove = (index: number): void => props.onChange(items.filter((_, i) => i !== index));
  const add = (): void => {
    const { field } = describe(props.root, schema);
    const plain = field.type === "text" ? "" : startOf(props.root, schema, field);
    props.onChange([...items, initial(props.root, schema) ?? (isLeaf(field) && field.type !== "text" ? null : plain)]);
  };
  return (
    <Group {...props}>
      <ol class="items">
        {items.map((item, index) => (
          <li key={index}>
            <Node
              root={props.root}
              schema={schema}
              value={item}
              onChange={(changed) => replace(index, changed)}
              path={`${props.path}/${index}`}
              label={`${props.label} ${index + 1}`}
              required
              errors={props.errors}
            />
            {items.length > min && (
              <button type="button" class="small" onClick={() => remove(index)}>
                Remove {props.label} {index + 1}
              </button>
            )}
          </li>
        ))}
      </ol>
      {items.length < max && (
        <button type="button" class="small" onClick={add}>
          Add to {props.label}
        </button>
      )}
    </Group>
  );
}

function isLeaf(field: Field): boolean {
  return !["object", "array", "variant"].includes(field.type);
}

function VariantNode(props: Inner<"variant">): JSX.Element {
  const { options } = props.field;
  const [chosen, choose] = useState(() => variantOf(props.root, options, props.value));
  const id = useId();
  const option = options[chosen] ?? options[0];
  const select = (index: number): void => {
    choose(index);
    const schema = options[index]?.schema ?? true;
    props.onChange(initial(props.root, schema) ?? startOf(props.root, schema, describe(props.root, schema).field));
  };
  return (
    <Group {...props}>
      <div class="field">
        <label for={id}>Form of {props.label}</label>
        <select id={id} value={String(chosen)} onChange={(e) => select(Number(e.currentTarget.value))}>
          {options.map(({ label }, index) => (
            <option key={index} value={String(index)}>
              {label}
            </option>
          ))}
        </select>
      </div>
      {option && (
        <Node
          key={chosen}
          {...props}
          schema={option.schema}
          path={props.path}
          label={option.label}
          required
          embedded
          errors={props.errors.filter(({ path }) => path !== props.path)}
        />
      )}
    </Group>
  );
}

// --- fields

function Leaf(props: NodeProps & { described: Described }): JSX.Element {
  const { described, path } = props;
  const id = fieldId(path);
  const error = props.errors.find((violation) => violation.path === path);
  const control = {
    id,
    "aria-invalid": error ? ("true" as const) : undefined,
    "aria-describedby": `${id}-hint ${id}-error`,
    "aria-required": props.required && !described.nullable ? ("true" as const) : undefined,
  };
  return (
    <div class="field">
      <label for={id}>{labelOf(props, described)}</label>
      <div id={`${id}-hint`}>
        <Hint {...described} />
      </div>
      <Control {...props} control={control} />
      <div id={`${id}-error`}>
        <Errors {...props} />
      </div>
    </div>
  );
}

type ControlProps = NodeProps & { described: Described; control: Record<string, string | undefined> };

function Control(props: ControlProps): JSX.Element {
  const { described, value, control, onChange } = props;
  const { field } = described;
  const optional = !props.required || described.nullable;
  const nothing = without(props, described);
  switch (field.type) {
    case "constant":
      return <input {...control} readOnly value={JSON.stringify(field.value)} />;
    case "boolean":
      return optional && described.fallback === undefined ? (
        <Choice {...props} options={[true, false]} />
      ) : (
        <input
          {...control}
          type="checkbox"
          checked={value === true}
          onChange={(event) => onChange(event.currentTarget.checked)}
        />
      );
    case "choice":
      return <Choice {...props} options={field.options} />;
    case "number":
      return <NumberInput {...props} integer={field.integer} />;
    case "text": {
      const change = (text: string): void => onChange(text === "" && optional ? nothing : text);
      const shown = typeof value === "string" ? value : "";
      return field.multiline ? (
        <textarea {...control} rows={1} value={shown} onInput={(e) => change(e.currentTarget.value)} />
      ) : (
        <input
          {...control}
          type="text"
          inputMode={INPUT_MODES[field.format ?? ""] ?? "text"}
          value={shown}
          onInput={(e) => change(e.currentTarget.value)}
        />
      );
    }
    default:
      return <JsonInput {...props} />;
  }
}

/** Keyboards of telephones; what was typed is checked by the schema alone. */
const INPUT_MODES: Record<string, "email" | "url"> = { email: "email", uri: "url" };

function Choice(props: ControlProps & { options: Json[] }): JSX.Element {
  const { options, value, control, onChange, described } = props;
  const optional = !props.required || described.nullable;
  const chosen = options.findIndex((option) => JSON.stringify(option) === JSON.stringify(value));
  const select = (index: number): void => onChange(index < 0 ? without(props, described) : options[index]);
  return (
    <select {...control} value={String(chosen)} onChange={(e) => select(Number(e.currentTarget.value))}>
      {(optional || chosen < 0) && <option value="-1">{optional ? "not set" : "choose…"}</option>}
      {options.map((option, index) => (
        <option key={index} value={String(index)}>
          {typeof option === "string" ? option : JSON.stringify(option)}
        </option>
      ))}
    </select>
  );
}

/** Keeps what was typed: a number that is not complete is no value yet. */
function NumberInput(props: ControlProps & { integer: boolean }): JSX.Element {
  const [typed, setTyped] = useState<string | null>(null);
  const shown = typeof props.value === "number" ? String(props.value) : "";
  const change = (text: string): void => {
    setTyped(text);
    const number = Number(text);
    const empty = text.trim() === "";
    // What is no number stays text, so that validation says so.
    props.onChange(empty ? without(props, props.described) : Number.isFinite(number) ? number : text);
  };
  return (
    <input
      {...props.control}
      type="text"
      inputMode={props.integer ? "numeric" : "decimal"}
      value={typed ?? shown}
      onInput={(event) => change(event.currentTarget.value)}
      onBlur={() => typeof props.value === "number" && setTyped(null)}
    />
  );
}

function JsonInput(props: ControlProps): JSX.Element {
  const [typed, setTyped] = useState<string | null>(null);
  const shown = typed ?? (props.value === undefined ? "" : pretty(props.value));
  const change = (text: string): void => {
    setTyped(text);
    if (text.trim() === "") return props.onChange(without(props, props.described));
    try {
      props.onChange(JSON.parse(text) as Json);
    } catch {
      props.onChange(text);
    }
  };
  return (
    <textarea
      {...props.control}
      class="code"
      rows={4}
      spellcheck={false}
      placeholder="JSON"
      value={shown}
      onInput={(event) => change(event.currentTarget.value)}
    />
  );
}

// --- words

function labelOf({ label, required, embedded, path }: NodeProps, { title, nullable }: Described): ComponentChildren {
  const other = title && title.toLowerCase().replaceAll(" ", "_") !== label.toLowerCase() ? title : null;
  return (
    <>
      {path ? label : (title ?? label)}
      {path && other && <span class="quiet"> {other}</span>}
      {path && required && !embedded && !nullable && <span class="quiet"> (required)</span>}
    </>
  );
}

function Hint({ description }: { description: string | null }): JSX.Element | null {
  return description ? <p class="hint">{description}</p> : null;
}

function Errors({ errors, path }: { errors: Violation[]; path: string }): JSX.Element | null {
  const error = errors.find((violation) => violation.path === path);
  return error ? (
    <p class="error">
      <span class="visually-hidden">Error: </span>
      {error.message}
    </p>
  ) : null;
}
