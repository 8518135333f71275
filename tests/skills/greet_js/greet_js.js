const encoder = new TextEncoder();
const decoder = new TextDecoder();
const json = (value) => encoder.encode(JSON.stringify(value));

// A thrown object with `payload` is the error case of a WIT result.
const invalidInput = (text) =>
  Object.assign(new Error(text), { payload: { tag: 'invalid-input', val: text } });

export const skillHandler = {
  run(input) {
    const { name } = JSON.parse(decoder.decode(input)) ?? {};
    if (typeof name !== 'string') throw invalidInput('expected {"name": "..."}');
    return json(`Hello ${name}`);
  },

  metadata() {
    return {
      description: 'Greets a person by name, from JavaScript.',
      inputSchema: json({
        type: 'object',
        properties: { name: { type: 'string' } },
        required: ['name'],
      }),
      outputSchema: json({ type: 'string' }),
    };
  },
};
