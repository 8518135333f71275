import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checked, haiku, InvalidInput } from '../src/skill';

test('the haiku is what the model says', () => {
  const asked: string[] = [];
  const chat = (model: string, said: string) => {
    asked.push(model, said);
    return 'Drops on the tin roof\n';
  };
  assert.deepEqual(haiku(checked({ topic: 'rain' }), chat), { haiku: 'Drops on the tin roof' });
  assert.deepEqual(asked, ['llama-3.1-8b-instruct', 'A haiku about rain.']);
});

for (const input of [undefined, {}, { topic: '' }, { topic: 3 }, { topic: 'rain', model: 3 }]) {
  test(`${JSON.stringify(input)} is refused`, () => assert.throws(() => checked(input), InvalidInput));
}
