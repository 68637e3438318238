"""The official OpenAI client for Python, with strict validation of every response, against a real service."""

import concurrent.futures
import json
import os
import time
import unittest
import urllib.request

from typing import Annotated, Literal

import openai
from openai import OpenAI
from pydantic import BaseModel, Field

URL = os.environ["IMPETUS_URL"]
KEY = os.environ["IMPETUS_KEY"]
MODEL = "impetus-nano"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    name: Annotated[str, Field(max_length=12)]
    age: Annotated[int, Field(ge=0, le=130)]
    role: Literal["admin", "user"]
    tags: Annotated[list[Annotated[str, Field(max_length=8)]], Field(max_length=3)]


def connect(**options):
    given = {"base_url": f"{URL}/v1", "api_key": KEY, "max_retries": 0, "timeout": 120}
    return OpenAI(**{**given, **options}, _strict_response_validation=True)


def ask(text):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 48}


def active():
    request = urllib.request.Request(f"{URL}/api/health/status", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["active"]


class Service(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = connect()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()

    def eventually(self, what, condition, limit_s=20):
        end = time.monotonic() + limit_s
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what} did not happen within {limit_s} s")
            time.sleep(0.02)


class Chat(Service):
    def chat(self, text="What is Impetus?", **options):
        return self.client.chat.completions.create(**{**ask(text), "temperature": 0, **options})

    def test_a_whole_answer_has_every_member(self):
        answer = self.chat()
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        self.assertEqual((answer.object, answer.model), ("chat.completion", MODEL))
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertEqual(answer.usage.completion_tokens_details.reasoning_tokens, 0)
        self.assertGreaterEqual(answer.usage.prompt_tokens_details.cached_tokens, 0)
        self.assertRegex(answer._request_id, "^req_[0-9a-f]{12}$")

    def test_a_begun_answer_goes_on_where_the_request_says_so(self):
        whole = self.chat().choices[0].message.content
        begun = " ".join(whole.split(" ")[:3])
        messages = [*ask("What is Impetus?")["messages"], {"role": "assistant", "content": begun}]
        on = {"continue_final_message": True, "add_generation_prompt": False}
        rest = self.chat(messages=messages, extra_body=on).choices[0].message.content
        self.assertEqual(begun + rest, whole)

    def test_a_stream_says_what_a_whole_answer_says_and_ends_with_the_usage(self):
        whole = self.chat()
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual({chunk.id for chunk in chunks}, {chunks[0].id})
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
        self.assertEqual([reason for reason in reasons if reason], [whole.choices[0].finish_reason])

    def test_the_stream_helper_accumulates(self):
        with self.client.chat.completions.stream(**ask("What is Impetus?"), temperature=0) as stream:
            stream.until_done()
            final = stream.get_final_completion()
        self.assertEqual(final.choices[0].message.content, self.chat().choices[0].message.content)

    def test_messages_may_have_parts_a_developer_and_a_history(self):
        messages = [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "Hello. "}, {"type": "text", "text": "Who are you?"}]},
        ]
        answer = self.chat(messages=messages)
        messages += [answer.choices[0].message, {"role": "user", "content": "And what is Impetus?"}]
        self.assertTrue(self.chat(messages=messages).choices[0].message.content)

    def test_logprobs_come_one_per_token(self):
        answer = self.chat(logprobs=True, top_logprobs=3)
        entries = answer.choices[0].logprobs.content
        # The token that ended the turn is counted and is no part of the answer.
        self.assertEqual(len(entries), answer.usage.completion_tokens - 1)
        said = b"".join(bytes(entry.bytes) for entry in entries).decode()
        self.assertEqual(said.strip(), answer.choices[0].message.content.strip())
        for entry in entries:
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertLessEqual(entry.logprob, 0)
            self.assertAlmostEqual(entry.top_logprobs[0].logprob, entry.logprob, places=4)
        streamed = [
            entry
            for chunk in self.chat(logprobs=True, top_logprobs=3, stream=True)
            if chunk.choices[0].logprobs
            for entry in chunk.choices[0].logprobs.content
        ]
        self.assertEqual([entry.token for entry in streamed], [entry.token for entry in entries])

    def test_n_answers_have_an_index_each(self):
        options = {"n": 2, "temperature": 1, "seed": 3}
        texts = [choice.message.content for choice in self.chat(**options).choices]
        self.assertEqual(len(texts), 2)
        streamed = ["", ""]
        for chunk in self.chat(**options, stream=True):
            streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        self.assertEqual(streamed, texts)

    def test_a_seed_repeats_and_another_does_not(self):
        limit = {"max_tokens": None, "max_completion_tokens": 32}
        text = lambda seed: self.chat(seed=seed, temperature=1.5, **limit).choices[0].message.content
        self.assertEqual(text(11), text(11))
        self.assertEqual(text(-5), text(-5))
        self.assertGreater(len({text(seed) for seed in range(6)}), 1)

    def test_a_stop_string_ends_the_answer_and_is_not_in_it(self):
        whole = self.chat().choices[0].message.content
        stop = whole[len(whole) // 2 :][:4]
        for given in (stop, [stop, "never said"]):
            answer = self.chat(stop=given)
            self.assertEqual(answer.choices[0].message.content, whole[: whole.index(stop)])
            self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_max_tokens_ends_with_length(self):
        answer = self.chat(max_tokens=3)
        self.assertEqual((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 3))

    def test_a_logit_bias_decides(self):
        options = {"model": MODEL, "prompt": "Impetus is", "max_tokens": 4, "temperature": 0, "logprobs": 1}
        forced = [self.client.completions.create(**options, logit_bias={token: 100}).choices[0] for token in ("300", "301")]
        tokens = [set(choice.logprobs.tokens) for choice in forced]
        self.assertEqual([len(one) for one in tokens], [1, 1])
        self.assertNotEqual(*tokens)

    def test_an_answer_that_is_stored_is_found_labelled_and_deleted(self):
        stored = self.client.chat.completions
        whole = self.chat(store=True, metadata={"topic": "greeting"})
        list(self.chat(store=True, metadata={"topic": whole.id}, stream=True))
        kept = stored.retrieve(whole.id)
        self.assertEqual((kept.choices, kept.usage, kept.metadata), (whole.choices, whole.usage, {"topic": "greeting"}))
        (streamed,) = stored.list(metadata={"topic": whole.id}, model=MODEL)
        self.assertEqual(streamed.choices[0].message.content, whole.choices[0].message.content)
        # The client's own type has only an assistant's messages here.
        with connect() as loose:
            loose._strict_response_validation = False
            (said,) = loose.chat.completions.messages.list(whole.id)
        self.assertEqual((said.role, said.content), ("user", "What is Impetus?"))
        self.assertEqual(stored.update(whole.id, metadata={"topic": "other"}).metadata, {"topic": "other"})
        for one in (whole, streamed):
            self.assertTrue(stored.delete(one.id).deleted)
            with self.assertRaises(openai.NotFoundError):
                stored.retrieve(one.id)

    def test_minus_one_token_is_as_many_as_there_is_room_for(self):
        self.assertTrue(self.chat(max_tokens=-1).choices[0].message.content)

    def test_requests_at_once_are_all_answered(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(lambda _: self.chat().choices[0].message.content, range(8)))
        self.assertEqual(len(set(texts)), 1)


class Tools(Service):
    QUESTION = "What is the weather in Paris?"

    def test_a_call_is_whole_and_its_result_is_answered(self):
        messages = [{"role": "user", "content": self.QUESTION}]
        options = {"model": MODEL, "temperature": 0, "max_tokens": 80, "tools": [WEATHER]}
        answer = self.client.chat.completions.create(messages=messages, **options)
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls", answer)
        (call,) = answer.choices[0].message.tool_calls
        self.assertEqual((call.type, call.function.name), ("function", "get_weather"))
        self.assertIsInstance(json.loads(call.function.arguments), dict)
        self.assertRegex(call.id, "^call_[0-9A-Za-z]{24}$")
        messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "clear"}'}]
        reply = self.client.chat.completions.create(messages=messages, **options)
        self.assertIn(reply.choices[0].finish_reason, ("stop", "length", "tool_calls"))

    def test_a_streamed_call_joins_to_the_whole_one(self):
        options = {**ask(self.QUESTION), "temperature": 0, "max_tokens": 80, "tools": [WEATHER]}
        whole = self.client.chat.completions.create(**options)
        name, arguments, ids, reason = "", "", [], None
        for chunk in self.client.chat.completions.create(**options, stream=True):
            choice = chunk.choices[0]
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or []:
                self.assertEqual(call.index, 0)
                ids += [call.id] if call.id else []
                name += call.function.name or ""
                arguments += call.function.arguments or ""
        self.assertEqual(reason, "tool_calls", whole)
        self.assertEqual(len(ids), 1)
        called = whole.choices[0].message.tool_calls[0].function
        self.assertEqual((name, json.loads(arguments)), (called.name, json.loads(called.arguments)))

    def test_no_call_comes_where_none_is_allowed(self):
        answer = self.client.chat.completions.create(**ask(self.QUESTION), temperature=0, tools=[WEATHER], tool_choice="none")
        self.assertIsNone(answer.choices[0].message.tool_calls)

    def test_a_choice_may_allow_some_of_the_tools(self):
        other = {"type": "function", "function": {"name": "telepathy", "parameters": {"type": "object", "properties": {}}}}
        allow = lambda tool: {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool]}}
        options = {**ask(self.QUESTION), "temperature": 0, "tools": [WEATHER, other]}
        answer = self.client.chat.completions.create(**options, tool_choice=allow(other))
        self.assertEqual([call.function.name for call in answer.choices[0].message.tool_calls], ["telepathy"])


class Shapes(Service):
    def test_a_model_of_pydantic_is_parsed(self):
        answer = self.client.chat.completions.parse(**{**ask("Who is Ada?"), "max_tokens": 300}, temperature=0, seed=3, response_format=Person)
        message = answer.choices[0].message
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertIsInstance(message.parsed, Person)
        self.assertIn(message.parsed.role, ("admin", "user"))
        self.assertLessEqual(len(message.parsed.tags), 3)

    def test_a_streamed_model_of_pydantic_is_parsed(self):
        options = {**ask("Who is Ada?"), "max_tokens": 300, "temperature": 0, "seed": 3, "response_format": Person}
        with self.client.chat.completions.stream(**options) as stream:
            final = stream.get_final_completion()
        self.assertEqual(final.choices[0].message.parsed, self.client.chat.completions.parse(**options).choices[0].message.parsed)

    def test_a_tool_of_pydantic_is_called_strictly(self):
        tool = openai.pydantic_function_tool(Person, name="remember")
        for choice in ("required", {"type": "function", "function": {"name": "remember"}}):
            options = {**ask("Say hello."), "max_tokens": 300, "temperature": 1, "seed": 5, "parallel_tool_calls": False}
            answer = self.client.chat.completions.parse(**options, tools=[tool], tool_choice=choice)
            calls = answer.choices[0].message.tool_calls
            self.assertEqual([call.function.name for call in calls], ["remember"])
            self.assertIsInstance(calls[0].function.parsed_arguments, Person)

    def test_a_schema_that_is_not_enforced_is_refused_by_name(self):
        class Unique(BaseModel):
            tags: set[str]

        with self.assertRaises(openai.BadRequestError) as refused:
            self.client.chat.completions.parse(**ask("Hi"), response_format=Unique)
        self.assertEqual(refused.exception.param, "response_format")
        self.assertIn("uniqueItems", str(refused.exception))


class Completions(Service):
    def complete(self, prompt="Impetus is", **options):
        return self.client.completions.create(**{"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 8, **options})

    def test_a_prompt_is_continued(self):
        answer = self.complete()
        self.assertEqual(answer.object, "text_completion")
        self.assertTrue(answer.choices[0].text)
        self.assertLessEqual(answer.usage.completion_tokens, 8)

    def test_a_stream_says_the_same(self):
        # The client's own type has no null for an unfinished choice, which OpenAI sends; only this is read loosely.
        loose = self.client.with_options()
        loose._strict_response_validation = False
        stream = loose.completions.create(model=MODEL, prompt="Impetus is", temperature=0, max_tokens=8, stream=True)
        self.assertEqual("".join(chunk.choices[0].text for chunk in stream), self.complete().choices[0].text)

    def test_logprobs_have_offsets_into_the_text(self):
        choice = self.complete(logprobs=2).choices[0]
        logprobs = choice.logprobs
        self.assertEqual("".join(logprobs.tokens)[: len(choice.text)], choice.text)
        self.assertEqual(logprobs.text_offset[0], 0)
        self.assertEqual(sorted(logprobs.text_offset), logprobs.text_offset)
        self.assertTrue(all(len(top) <= 2 for top in logprobs.top_logprobs))
        self.assertEqual(len(logprobs.token_logprobs), len(logprobs.tokens))

    def test_several_prompts_are_answered_in_order(self):
        prompts = ["Impetus is", "The weather in Paris", "Hello"]
        each = [self.complete(prompt) for prompt in prompts]
        together = self.complete(prompts, n=2)
        self.assertEqual([choice.index for choice in together.choices], list(range(6)))
        self.assertEqual([choice.text for choice in together.choices[::2]], [one.choices[0].text for one in each])
        self.assertEqual(together.usage.prompt_tokens, sum(one.usage.prompt_tokens for one in each))
        loose = self.client.with_options()
        loose._strict_response_validation = False
        texts = [""] * 6
        for chunk in loose.completions.create(model=MODEL, prompt=prompts, n=2, temperature=0, max_tokens=8, stream=True):
            texts[chunk.choices[0].index] += chunk.choices[0].text
        self.assertEqual(texts, [choice.text for choice in together.choices])

    def test_token_lists_are_prompts(self):
        both = self.complete([[5, 6, 7], [5, 6, 7]])
        self.assertEqual(both.choices[0].text, both.choices[1].text)
        self.assertEqual(both.choices[0].text, self.complete([5, 6, 7]).choices[0].text)

    def test_echo_puts_the_prompt_first(self):
        plain = self.complete().choices[0].text
        self.assertEqual(self.complete(echo=True).choices[0].text, "Impetus is" + plain)
        ids = [5, 6, 7]
        echoed = self.complete(ids, echo=True).choices[0].text
        self.assertTrue(echoed.endswith(self.complete(ids).choices[0].text) and len(echoed) > len(self.complete(ids).choices[0].text))

    def test_an_echo_with_logprobs_judges_the_prompt(self):
        # The SDK's types have no null in these lists, and OpenAI's answers have one before each prompt.
        loose = self.client.with_options()
        loose._strict_response_validation = False
        answer = loose.completions.create(model=MODEL, prompt=[[5, 6, 7]], max_tokens=1, logprobs=1, echo=True, seed=1)
        judged = answer.choices[0].logprobs
        self.assertEqual([len(judged.tokens), len(judged.text_offset), judged.token_logprobs[0]], [4, 4, None])
        self.assertTrue(all(logprob <= 0 for logprob in judged.token_logprobs[1:]))
        self.assertIsNone(judged.top_logprobs[0])


class Models(Service):
    def test_models_are_listed_and_shown(self):
        self.assertIn(MODEL, [model.id for model in self.client.models.list()])
        model = self.client.models.retrieve(MODEL)
        self.assertEqual((model.object, model.root), ("model", MODEL))
        self.assertEqual(model.max_model_len, model.context_length)

    def test_the_alias_answers_too(self):
        with connect(base_url=f"{URL}/api/v1") as client:
            self.assertIn(MODEL, [model.id for model in client.models.list()])


class Errors(Service):
    def refused(self, kind, code, param, **options):
        for stream in (False, True):
            with self.subTest(stream=stream, **options), self.assertRaises(kind) as refusal:
                self.client.chat.completions.create(**{**ask("Hi"), "stream": stream, **options})
            error = refusal.exception
            self.assertEqual((error.code, error.param), (code, param), error.body)
            self.assertRegex(error.request_id, "^req_[0-9a-f]{12}$")
            self.assertTrue(error.type)

    def test_a_wrong_key_is_an_authentication_error(self):
        with connect(api_key="imp_wrong") as client, self.assertRaises(openai.AuthenticationError) as refusal:
            client.chat.completions.create(**ask("Hi"))
        self.assertEqual(refusal.exception.code, "AUTH_REQUIRED")

    def test_an_unknown_model_is_not_found(self):
        self.refused(openai.NotFoundError, "MODEL_NOT_FOUND", "model", model="nobody")
        with self.assertRaises(openai.NotFoundError) as refusal:
            self.client.models.retrieve("nobody")
        self.assertEqual(refusal.exception.code, "MODEL_NOT_FOUND")

    def test_bad_values_name_their_parameter(self):
        bad = openai.BadRequestError
        self.refused(bad, "INVALID_REQUEST", "temperature", temperature=3)
        self.refused(bad, "INVALID_REQUEST", "n", n=0)
        self.refused(bad, "INVALID_REQUEST", "top_logprobs", top_logprobs=2)
        self.refused(bad, "INVALID_REQUEST", "logit_bias", logit_bias={"5": 101})
        self.refused(bad, "INVALID_REQUEST", "messages", messages=[])
        self.refused(bad, "INVALID_REQUEST", "user", user=5)
        self.refused(bad, "INVALID_REQUEST", "metadata", metadata={"run": 1})
        self.refused(bad, "INVALID_REQUEST", "prompt_cache_retention", prompt_cache_retention="a year")
        self.refused(bad, "unsupported_parameter", "telepathy", extra_body={"telepathy": True})
        image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
        self.refused(bad, "unsupported_parameter", "messages[0].content[0]", messages=[{"role": "user", "content": image}])

    def test_a_prompt_over_the_context_says_so(self):
        long = [{"role": "user", "content": "word " * 120_000}]
        self.refused(openai.BadRequestError, "context_length_exceeded", "messages", messages=long)

    def test_an_unknown_path_is_not_found(self):
        with self.assertRaises(openai.NotFoundError):
            self.client.moderations.create(input="text")

    def test_a_body_over_the_limit_is_refused_in_our_shape(self):
        with self.assertRaises(openai.APIStatusError) as refusal:
            self.client.chat.completions.create(**ask("x" * (17 << 20)))
        self.assertEqual((refusal.exception.status_code, refusal.exception.code), (413, "INVALID_REQUEST"))


class Endings(Service):
    ENDLESS = {**ask("Tell me everything"), "max_tokens": 1500, "extra_body": {"ignore_eos": True}}

    def test_a_closed_stream_ends_its_work(self):
        stream = self.client.chat.completions.create(**self.ENDLESS, stream=True)
        next(iter(stream))
        stream.close()
        self.eventually("the end of the work", lambda: active() == 0)

    def test_a_timeout_ends_its_work(self):
        with self.assertRaises(openai.APITimeoutError):
            self.client.with_options(timeout=0.3).chat.completions.create(**self.ENDLESS, n=8)
        self.eventually("the end of the work", lambda: active() == 0)


class Embeddings(Service):
    MODEL = "impetus-nano-embed"

    def create(self, texts, **options):
        client = connect()
        # The client asks for base64 by default, and its own strict type holds only the numbers that it decodes later.
        client._strict_response_validation = options.get("encoding_format") == "float"
        return client.embeddings.create(model=self.MODEL, input=texts, **options)

    def test_base64_is_the_default_and_holds_the_same_numbers(self):
        # The client asks for base64 unless told otherwise, and decodes it itself.
        decoded, plain = self.create(["one", "two"]), self.create(["one", "two"], encoding_format="float")
        self.assertEqual([item.index for item in decoded.data], [0, 1])
        for a, b in zip(decoded.data, plain.data):
            self.assertEqual(len(a.embedding), 256)
            self.assertTrue(all(abs(x - y) < 1e-6 for x, y in zip(a.embedding, b.embedding)))
        self.assertEqual((decoded.object, decoded.model), ("list", self.MODEL))
        self.assertEqual(decoded.usage.prompt_tokens, decoded.usage.total_tokens)

    def test_a_shortened_vector_has_length_one(self):
        vector = self.create("one", dimensions=64).data[0].embedding
        self.assertEqual(len(vector), 64)
        self.assertAlmostEqual(sum(x * x for x in vector), 1, places=4)

    def test_tokens_are_taken_too(self):
        self.assertEqual(len(self.create([[5, 6], [7]]).data), 2)

    def test_refusals_are_the_clients_own_errors(self):
        with self.assertRaises(openai.BadRequestError) as refused:
            self.create("one", dimensions=100_000)
        self.assertEqual(refused.exception.param, "dimensions")
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model="nobody", input="one")


if __name__ == "__main__":
    unittest.main()
