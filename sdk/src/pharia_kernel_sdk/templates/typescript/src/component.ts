// The component: the kernel on the one side, the skill on the other.
import { chat } from 'pharia:skill/inference@0.4.0';
import { checked, haiku, InvalidInput, metadata } from './skill';

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

function ask(model: string, said: string): string {
  const [answer] = chat([
    {
      model,
      messages: [{ tag: 'other', val: { role: 'user', content: said } }],
      params: { maxTokens: 100, logprobs: { tag: 'no' } },
    },
  ]);
  return answer?.message.content ?? '';
}

// What is thrown with a `payload` is the error case of the WIT result.
function failure(error: unknown): Error {
  const tag = error instanceof InvalidInput || error instanceof SyntaxError ? 'invalid-input' : 'internal';
  const val = error instanceof Error ? error.message : String(error);
  return Object.assign(new Error(val), { payload: { tag, val } });
}

export const skillHandler = {
  run(input: Uint8Array): Uint8Array {
    try {
      return json(haiku(checked(JSON.parse(new TextDecoder().decode(input))), ask));
    } catch (error) {
      throw failure(error);
    }
  },

  metadata() {
    return {
      description: metadata.description,
      inputSchema: json(metadata.inputSchema),
      outputSchema: json(metadata.outputSchema),
    };
  },
};
