// The official Anthropic client for Node against a real service.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';

const url = process.env.IMPETUS_URL;
const key = process.env.IMPETUS_KEY;
const model = 'impetus-nano';
const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0, timeout: 120_000 });
const ask = (content) => ({ model, messages: [{ role: 'user', content }], temperature: 0, max_tokens: 48 });
const weather = {
  name: 'get_weather',
  description: 'Tells the weather of a city.',
  input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};

test('a stream says what a whole message says', async () => {
  const whole = await client.messages.create(ask('What is Impetus?'));
  assert.match(whole._request_id, /^req_[0-9a-f]{12}$/);
  const kinds = [];
  const stream = client.messages.stream(ask('What is Impetus?')).on('streamEvent', (event) => kinds.push(event.type));
  const final = await stream.finalMessage();
  assert.equal(await stream.finalText(), whole.content[0].text);
  assert.equal(final.stop_reason, whole.stop_reason);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  assert.equal(kinds[0], 'message_start');
  assert.equal(kinds.at(-1), 'message_stop');
});

test('tokens are counted as they are used', async () => {
  const { messages } = ask('What is Impetus?');
  const counted = await client.messages.countTokens({ model, messages });
  const { usage } = await client.messages.create(ask('What is Impetus?'));
  assert.equal(counted.input_tokens, usage.input_tokens + (usage.cache_read_input_tokens ?? 0));
});

test('a forced tool is called, in a stream too, and its result is taken', async () => {
  const request = { ...ask('What is the weather in Paris?'), max_tokens: 200, tools: [weather], tool_choice: { type: 'any' } };
  const whole = await client.messages.create(request);
  const call = whole.content.find((block) => block.type === 'tool_use');
  assert.equal(whole.stop_reason, 'tool_use');
  assert.equal(typeof call.input.city, 'string');
  const final = await client.messages.stream(request).finalMessage();
  assert.deepEqual(final.content.find((block) => block.type === 'tool_use').input, call.input);
  const result = { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: '20 degrees' }] };
  const messages = [...request.messages, { role: 'assistant', content: whole.content }, result];
  const { tool_choice: _, ...free } = request;
  assert.ok((await client.messages.create({ ...free, messages })).content.length > 0);
});

test('the runner of tools sends whole conversations where no threads are kept', async () => {
  const { name, description, input_schema: inputSchema } = weather;
  for (const stream of [false, true]) {
    const asked = [];
    const run = ({ city }) => (asked.push(city), '20 degrees');
    const tool = betaTool({ name, description, inputSchema, run });
    const request = { ...ask('What is the weather in Paris?'), max_tokens: 80, tools: [tool], max_iterations: 2, stream };
    const final = await client.beta.messages.toolRunner(request).runUntilDone();
    assert.ok(['end_turn', 'max_tokens', 'tool_use'].includes(final.stop_reason));
    assert.ok(asked.length > 0, `stream: ${stream}`);
  }
});

test('the beta client, which adds to the address, is answered', async () => {
  const answer = await client.beta.messages.create(ask('What is Impetus?'));
  assert.ok(answer.content[0].text);
  assert.equal((await client.beta.models.retrieve(model)).id, model);
});

test('models are listed page by page, and shown', async () => {
  const names = [];
  for await (const one of client.models.list({ limit: 1 })) names.push(one.id);
  assert.ok(names.includes(model) && names.includes('impetus-nano-embed'));
  assert.equal(new Set(names).size, names.length);
  for await (const one of client.beta.models.list()) assert.ok(names.includes(one.id));
  assert.equal((await client.models.retrieve(model)).display_name, model);
  await assert.rejects(client.models.list({ limit: 0 }), Anthropic.BadRequestError);
});

test('refusals become the classes of the client', async () => {
  const keyless = new Anthropic({ baseURL: url, apiKey: 'imp_wrong', maxRetries: 0 });
  await assert.rejects(keyless.messages.create(ask('Hi')), Anthropic.AuthenticationError);
  await assert.rejects(client.messages.create({ ...ask('Hi'), model: 'nobody' }), Anthropic.NotFoundError);
  const refusal = await client.messages.create({ ...ask('Hi'), temperature: 2 }).catch((error) => error);
  assert.ok(refusal instanceof Anthropic.BadRequestError);
  assert.equal(refusal.error.error.type, 'invalid_request_error');
  assert.match(refusal.requestID, /^req_[0-9a-f]{12}$/);
});

test('an aborted stream ends', async () => {
  const stream = client.messages.stream({ ...ask('Tell me everything'), max_tokens: 1500 });
  for await (const _event of stream) break;
  stream.abort();
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
});
