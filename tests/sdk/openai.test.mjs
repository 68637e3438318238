// The official OpenAI client for Node against a real service.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const url = process.env.IMPETUS_URL;
const key = process.env.IMPETUS_KEY;
const model = 'impetus-nano';
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, timeout: 120_000 });
const ask = (content) => ({ model, messages: [{ role: 'user', content }], temperature: 0, max_tokens: 48 });
const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Tells the weather of a city.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};

async function idle() {
  const end = Date.now() + 20_000;
  for (;;) {
    const answer = await fetch(`${url}/api/health/status`, { headers: { authorization: `Bearer ${key}` } });
    if ((await answer.json()).active === 0) return;
    assert.ok(Date.now() < end, 'the work did not end within 20 s');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('a stream says what a whole answer says', async () => {
  const whole = await client.chat.completions.create(ask('What is Impetus?'));
  assert.match(whole._request_id, /^req_[0-9a-f]{12}$/);
  let text = '';
  let usage;
  const stream = await client.chat.completions.create({
    ...ask('What is Impetus?'),
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.total_tokens, whole.usage.total_tokens);
});

test('the stream helper accumulates a tool call', async () => {
  const request = { ...ask('What is the weather in Paris?'), max_tokens: 80, tools: [weather] };
  const final = await client.chat.completions.stream(request).finalChatCompletion();
  assert.equal(final.choices[0].finish_reason, 'tool_calls');
  const [call] = final.choices[0].message.tool_calls;
  assert.equal(call.function.name, 'get_weather');
  assert.equal(typeof JSON.parse(call.function.arguments), 'object');
});

test('the tool runner calls the function and goes on', async () => {
  let calls = 0;
  const runner = client.chat.completions.runTools(
    {
      ...ask('What is the weather in Paris?'),
      max_tokens: 80,
      tools: [{ ...weather, function: { ...weather.function, parse: JSON.parse, function: () => `${(calls += 1)} degrees` } }],
    },
    { maxChatCompletions: 2 },
  );
  await runner.done().catch((error) => assert.match(String(error), /tool|content/i));
  assert.ok(calls >= 1);
});

test('completions take several prompts', async () => {
  const answer = await client.completions.create({ model, prompt: ['Impetus is', 'Hello'], max_tokens: 4, temperature: 0 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
});

test('models are listed and shown', async () => {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  assert.ok(names.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
});

test('refusals become the classes of the client', async () => {
  const keyless = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'imp_wrong', maxRetries: 0 });
  await assert.rejects(keyless.models.list(), OpenAI.AuthenticationError);
  await assert.rejects(client.chat.completions.create({ ...ask('Hi'), model: 'nobody' }), OpenAI.NotFoundError);
  const refusal = await client.chat.completions.create({ ...ask('Hi'), temperature: 3 }).catch((error) => error);
  assert.ok(refusal instanceof OpenAI.BadRequestError);
  assert.equal(refusal.param, 'temperature');
  assert.match(refusal.requestID, /^req_[0-9a-f]{12}$/);
  const long = await client.chat.completions.create(ask('word '.repeat(120_000))).catch((error) => error);
  assert.equal(long.code, 'context_length_exceeded');
});

test('an aborted stream ends its work', async () => {
  const stream = await client.chat.completions.create({
    ...ask('Tell me everything'),
    max_tokens: 1500,
    ignore_eos: true,
    stream: true,
  });
  for await (const _chunk of stream) break;
  stream.controller.abort();
  await idle();
});

test('a response streams, is found again, and another goes on from it', async () => {
  const asked = { model, input: 'What is Impetus?', temperature: 0, max_output_tokens: 48 };
  const whole = await client.responses.create(asked);
  assert.ok(whole.output_text);
  const stream = client.responses.stream(asked);
  let text = '';
  stream.on('response.output_text.delta', (event) => (text += event.delta));
  const final = await stream.finalResponse();
  assert.equal(text, whole.output_text);
  assert.equal(final.output_text, whole.output_text);
  assert.equal((await client.responses.retrieve(final.id)).output_text, whole.output_text);
  const second = await client.responses.create({ ...asked, input: 'Why?', previous_response_id: final.id });
  assert.ok(second.usage.input_tokens > final.usage.total_tokens);
  const items = [];
  for await (const item of client.responses.inputItems.list(second.id)) items.push(item);
  assert.equal(items.length, 1);
  await client.responses.delete(final.id);
  await assert.rejects(client.responses.retrieve(final.id), { status: 404 });
});
