// Vercel's AI SDK with its providers for OpenAI-compatible servers and for OpenAI's responses, against a real service.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const place = { baseURL: `${process.env.IMPETUS_URL}/v1`, apiKey: process.env.IMPETUS_KEY };
const provider = createOpenAICompatible({
    ...place,
    name: "impetus",
    includeUsage: true,
    supportsStructuredOutputs: true,
});
const model = provider("impetus-nano");
const settings = { model, temperature: 0, maxOutputTokens: 48, maxRetries: 0 };
const weather = tool({
    description: "Tells the weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `It is sunny in ${city}.`,
});

test("a stream says what a whole answer says, and how long it was", async () => {
    const whole = await generateText({ ...settings, system: "Be brief.", prompt: "What is Impetus?" });
    assert.ok(whole.text);
    const stream = streamText({ ...settings, system: "Be brief.", prompt: "What is Impetus?" });
    let text = "";
    for await (const part of stream.textStream) text += part;
    assert.equal(text, whole.text);
    const usage = await stream.usage;
    assert.deepEqual([usage.inputTokens, usage.outputTokens], [whole.usage.inputTokens, whole.usage.outputTokens]);
    assert.equal(await stream.finishReason, whole.finishReason);
});

test("a tool is run and its result goes back", async () => {
    const options = { ...settings, maxOutputTokens: 80, tools: { weather }, prompt: "What is the weather in Paris?" };
    const answer = await generateText({ ...options, toolChoice: "required", stopWhen: stepCountIs(1) });
    assert.deepEqual(answer.toolCalls.map((call) => call.toolName), ["weather"]);
    assert.equal(answer.toolResults.length, 1);
    const stream = streamText({ ...options, stopWhen: stepCountIs(2) });
    const kinds = new Set();
    for await (const part of stream.fullStream) kinds.add(part.type);
    assert.ok(!kinds.has("error") && kinds.has("finish"), [...kinds].join());
});

test("a conversation through responses goes on from items that are only referred to", async () => {
    const options = { ...settings, model: createOpenAI(place)("impetus-nano") };
    const asked = { role: "user", content: "What is Impetus?" };
    const again = { role: "user", content: "And what else?" };
    const first = await generateText({ ...options, messages: [asked] });
    const second = await generateText({ ...options, messages: [asked, ...first.response.messages, again] });
    assert.match(JSON.stringify(second.request.body), /item_reference/);
    const told = { role: "assistant", content: first.text };
    assert.equal(second.text, (await generateText({ ...settings, messages: [asked, told, again] })).text);
});

test("an object has the shape that was asked for", async () => {
    const schema = z.object({ name: z.string().max(12), age: z.number().int().min(0).max(130) });
    const options = { ...settings, maxOutputTokens: 300, seed: 3, output: Output.object({ schema }), prompt: "Who is Ada?" };
    const { output } = await generateText(options);
    assert.ok(schema.safeParse(output).success, JSON.stringify(output));
});

test("texts become vectors", async () => {
    const { embeddings } = await embedMany({ model: provider.embeddingModel("impetus-nano-embed"), values: ["one", "two"] });
    assert.deepEqual(embeddings.map((vector) => vector.length), [256, 256]);
});

test("a refusal has its status, and its sentence is the message", async () => {
    const refused = generateText({ ...settings, temperature: 3, prompt: "Hi" });
    await assert.rejects(refused, (error) => APICallError.isInstance(error) && error.statusCode === 400 && /temperature/.test(error.message));
    const unknown = generateText({ ...settings, model: provider("nobody"), prompt: "Hi" });
    await assert.rejects(unknown, (error) => error.statusCode === 404);
});

test("a stream that is given up ends", async () => {
    const stop = new AbortController();
    const stream = streamText({ ...settings, maxOutputTokens: 4000, prompt: "Tell me everything", abortSignal: stop.signal });
    for await (const _ of stream.textStream) {
        stop.abort();
        break;
    }
});
