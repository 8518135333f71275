// What the skill does, without the component around it, so that it can be tested anywhere.

export interface Input {
  topic: string;
  model: string;
}

export interface Output {
  haiku: string;
}

/** Lets a model answer what a user says. */
export type Chat = (model: string, said: string) => string;

/** The input is not what the skill takes. */
export class InvalidInput extends Error {}

export function checked(value: unknown): Input {
  const { topic, model = 'llama-3.1-8b-instruct' } = (value ?? {}) as Partial<Record<string, unknown>>;
  if (typeof topic !== 'string' || topic === '') throw new InvalidInput('topic: expected a text that is not empty');
  if (typeof model !== 'string') throw new InvalidInput('model: expected a text');
  return { topic, model };
}

export function haiku(input: Input, chat: Chat): Output {
  return { haiku: chat(input.model, `A haiku about ${input.topic}.`).trim() };
}

export const metadata = {
  description: 'Writes a haiku.',
  inputSchema: {
    type: 'object',
    properties: { topic: { type: 'string', minLength: 1 }, model: { type: 'string' } },
    required: ['topic'],
  },
  outputSchema: { type: 'object', properties: { haiku: { type: 'string' } }, required: ['haiku'] },
};
