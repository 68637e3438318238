"""The official Anthropic client for Python, with strict validation of every response, against a real service."""

import json
import os
import time
import unittest
import urllib.request

import anthropic
from anthropic import Anthropic

URL = os.environ["IMPETUS_URL"]
KEY = os.environ["IMPETUS_KEY"]
MODEL = "impetus-nano"
WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def connect(**options):
    given = {"base_url": URL, "api_key": KEY, "max_retries": 0, "timeout": 120}
    return Anthropic(**{**given, **options}, _strict_response_validation=True)


def ask(text, temperature=0, extra_body=None, **options):
    # The client has no argument for a temperature any more; the API takes it still.
    body = {"temperature": temperature, **(extra_body or {})}
    return {"model": MODEL, "max_tokens": 48, "messages": [{"role": "user", "content": text}], "extra_body": body, **options}


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

    def say(self, text="What is Impetus?", **options):
        return self.client.messages.create(**ask(text, **options))


class Messages(Service):
    def test_a_whole_message_has_every_member(self):
        message = self.say()
        self.assertEqual((message.type, message.role, message.model), ("message", "assistant", MODEL))
        self.assertTrue(message.id.startswith("msg_"))
        self.assertIn(message.stop_reason, ("end_turn", "max_tokens"))
        self.assertIn("Impetus", message.content[0].text)
        self.assertGreater(message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0), 0)
        self.assertGreater(message.usage.output_tokens, 0)
        self.assertRegex(message._request_id, "^req_[0-9a-f]{12}$")

    def test_a_begun_message_goes_on_and_only_the_rest_is_said(self):
        whole = self.say().content[0].text
        begun = " ".join(whole.split(" ")[:3])
        messages = [{"role": "user", "content": "What is Impetus?"}, {"role": "assistant", "content": begun}]
        self.assertEqual(self.say(messages=messages).content[0].text, whole[len(begun):])

    def test_a_stream_accumulates_to_the_whole_message(self):
        whole = self.say()
        with self.client.messages.stream(**ask("What is Impetus?")) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, whole.content[0].text)
        self.assertEqual((final.content[0].text, final.stop_reason), (text, whole.stop_reason))
        self.assertEqual(final.usage.output_tokens, whole.usage.output_tokens)

    def test_raw_events_come_in_order(self):
        kinds = [event.type for event in self.client.messages.create(**ask("Hello"), stream=True)]
        self.assertEqual((kinds[0], kinds[-1]), ("message_start", "message_stop"))
        self.assertEqual(kinds.count("content_block_start"), kinds.count("content_block_stop"))
        self.assertEqual(kinds[-2], "message_delta")

    def test_a_system_prompt_parts_and_a_history_are_taken(self):
        first = self.say([{"type": "text", "text": "Hello. "}, {"type": "text", "text": "Who are you?"}], system="Be brief.")
        messages = [
            {"role": "user", "content": "Hello. Who are you?"},
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": "And what is Impetus?"},
        ]
        system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        self.assertTrue(self.say(messages=messages, system=system).content[0].text)

    def test_a_stop_sequence_is_named_and_not_in_the_text(self):
        whole = self.say().content[0].text
        stop = whole[len(whole) // 2 :][:4]
        message = self.say(stop_sequences=[stop])
        self.assertEqual((message.stop_reason, message.stop_sequence), ("stop_sequence", stop))
        self.assertEqual(message.content[0].text, whole[: whole.index(stop)])

    def test_max_tokens_is_the_reason_where_it_ends_an_answer(self):
        message = self.say(max_tokens=3)
        self.assertEqual((message.stop_reason, message.usage.output_tokens), ("max_tokens", 3))


class Tools(Service):
    QUESTION = "What is the weather in Paris?"

    def test_a_call_is_whole_and_its_result_is_answered(self):
        options = {"tools": [WEATHER], "max_tokens": 80}
        message = self.say(self.QUESTION, **options)
        self.assertEqual(message.stop_reason, "tool_use", message)
        call = message.content[-1]
        self.assertEqual((call.type, call.name), ("tool_use", "get_weather"))
        self.assertIsInstance(call.input, dict)
        result = [{"type": "tool_result", "tool_use_id": call.id, "content": '{"sky": "clear"}'}]
        messages = [
            {"role": "user", "content": self.QUESTION},
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": result},
        ]
        self.assertIn(self.say(messages=messages, **options).stop_reason, ("end_turn", "max_tokens", "tool_use"))

    def test_a_streamed_call_joins_to_the_whole_one(self):
        options = ask(self.QUESTION, tools=[WEATHER], max_tokens=80)
        whole = self.client.messages.create(**options).content[-1]
        with self.client.messages.stream(**options) as stream:
            final = stream.get_final_message()
        self.assertEqual(final.stop_reason, "tool_use")
        self.assertEqual((final.content[-1].name, final.content[-1].input), (whole.name, whole.input))

    def test_the_runner_of_tools_sends_whole_conversations_where_no_threads_are_kept(self):
        asked = []

        @anthropic.beta_tool
        def get_weather(city: str) -> str:
            """Tells the weather of a city."""
            asked.append(city)
            return '{"sky": "clear"}'

        for stream in (False, True):
            asked.clear()
            options = ask(self.QUESTION, tools=[get_weather], max_tokens=80)
            runner = self.client.beta.messages.tool_runner(**options, stream=stream, max_iterations=2)
            self.assertIn(runner.until_done().stop_reason, ("end_turn", "max_tokens", "tool_use"))
            self.assertTrue(asked, f"stream={stream}")

    def test_a_thread_goes_on_without_being_kept_where_its_client_allows_that(self):
        options = ask("Hello")
        first = options.pop("messages")
        with self.assertRaises(anthropic.BadRequestError) as refusal:
            self.client.beta.messages.thread(**options).send(*first)
        self.assertEqual(refusal.exception.body["error"]["details"]["unsupported"], ["thread"])
        thread = self.client.beta.messages.thread(**options, unsupported_request_behavior="continue_unthreaded")
        self.assertTrue(thread.send(*first).content[0].text)
        self.assertTrue(thread.send({"role": "user", "content": "What is Impetus?"}).content[0].text)

    def test_no_call_comes_where_none_is_allowed(self):
        message = self.say(self.QUESTION, tools=[WEATHER], tool_choice={"type": "none"})
        self.assertEqual([block.type for block in message.content], ["text"])

    def test_a_deferred_tool_is_told_of_once_a_result_refers_to_it(self):
        search = {"name": "search", "description": "Finds tools.", "input_schema": {"type": "object"}}
        tools = [search, {**WEATHER, "defer_loading": True}]
        found = [
            {"role": "user", "content": "Find a tool."},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "search", "input": {}}]},
        ]
        tell = lambda content: found + [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": content}]}
        ]
        count = lambda content: self.client.messages.count_tokens(model=MODEL, tools=tools, messages=tell(content)).input_tokens
        known = count([{"type": "tool_reference", "tool_name": "get_weather"}])
        self.assertGreater(known, count([{"type": "text", "text": "The tool get_weather can be called now."}]))
        with self.assertRaises(anthropic.BadRequestError) as refusal:
            count([{"type": "tool_reference", "tool_name": "telepathy"}])
        self.assertIn("telepathy", refusal.exception.body["error"]["message"])


class Errors(Service):
    def refused(self, kind, words, **options):
        for stream in (False, True):
            with self.subTest(stream=stream, **options), self.assertRaises(kind) as refusal:
                self.client.messages.create(**ask("Hi", **options), stream=stream)
            body = refusal.exception.body
            self.assertEqual(body["type"], "error")
            self.assertIn(words, body["error"]["message"])
            self.assertRegex(refusal.exception.request_id, "^req_[0-9a-f]{12}$")

    def test_a_wrong_key_is_an_authentication_error(self):
        with connect(api_key="imp_wrong") as client, self.assertRaises(anthropic.AuthenticationError) as refusal:
            client.messages.create(**ask("Hi"))
        self.assertEqual(refusal.exception.body["error"]["type"], "authentication_error")

    def test_refusals_name_what_is_wrong(self):
        self.refused(anthropic.NotFoundError, "nobody", model="nobody")
        self.refused(anthropic.BadRequestError, "temperature", temperature=3)
        self.refused(anthropic.BadRequestError, "max_tokens", max_tokens=0)
        self.refused(anthropic.BadRequestError, "messages", messages=[])
        self.refused(anthropic.BadRequestError, "telepathy", extra_body={"telepathy": True})
        self.refused(anthropic.BadRequestError, "metadata.user_id", metadata={"user_id": 1})
        self.refused(anthropic.BadRequestError, "service_tier", service_tier="fastest")
        self.refused(anthropic.BadRequestError, "input_examples", tools=[{**WEATHER, "input_examples": [{"city": "Paris"}]}])

    def test_models_are_listed_at_the_path_they_share_with_openai(self):
        self.assertIn(MODEL, [model.id for model in self.client.models.list()])
        self.assertEqual(self.client.models.retrieve(MODEL).display_name, MODEL)

    def test_a_document_of_text_is_read(self):
        source = {"type": "text", "media_type": "text/plain", "data": "Impetus serves models."}
        content = [{"type": "document", "source": source, "title": "Notes"}, {"type": "text", "text": "What does it say?"}]
        self.assertTrue(self.say(messages=[{"role": "user", "content": content}]).content)

    def test_a_prompt_over_the_context_says_so(self):
        self.refused(anthropic.BadRequestError, "context length", messages=[{"role": "user", "content": "word " * 120_000}])


class Endings(Service):
    def test_a_closed_stream_ends_its_work(self):
        stream = self.client.messages.create(**ask("Tell me everything", max_tokens=1500), stream=True)
        next(iter(stream))
        stream.close()
        end = time.monotonic() + 20
        while active() != 0:
            self.assertLess(time.monotonic(), end, "the work did not end")
            time.sleep(0.02)


if __name__ == "__main__":
    unittest.main()
