"""OpenAI's Responses through its official client for Python, with strict validation of every response and event."""

import json
import unittest

import openai
from test_openai import MODEL, Service

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


class Responses(Service):
    def ask(self, text="What is Impetus?", **options):
        given = {"model": MODEL, "input": text, "temperature": 0, "max_output_tokens": 48}
        return self.client.responses.create(**{**given, **options})

    def test_a_whole_response_has_every_member(self):
        response = self.ask(metadata={"topic": "greeting"}, instructions="Be brief.")
        self.assertRegex(response.id, "^resp_[0-9a-f]{24}$")
        self.assertIn(response.status, ("completed", "incomplete"))
        self.assertTrue(response.output_text)
        self.assertEqual((response.metadata, response.instructions), ({"topic": "greeting"}, "Be brief."))
        self.assertEqual(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens)
        self.assertGreaterEqual(response.usage.input_tokens_details.cached_tokens, 0)
        self.assertEqual((response.tools, response.tool_choice, response.parallel_tool_calls), ([], "auto", True))

    def test_a_stream_says_what_a_whole_response_says(self):
        whole = self.ask()
        events = list(self.ask(stream=True))
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        kinds = [event.type for event in events]
        self.assertEqual(kinds[:4], [f"response.{name}" for name in ("created", "in_progress", "output_item.added", "content_part.added")])
        self.assertIn(kinds[-1], ("response.completed", "response.incomplete"))
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual((text, events[-1].response.output_text), (whole.output_text, whole.output_text))

    def test_the_stream_helper_accumulates(self):
        with self.client.responses.stream(model=MODEL, input="What is Impetus?", temperature=0, max_output_tokens=48) as stream:
            stream.until_done()
            final = stream.get_final_response()
        self.assertEqual(final.output_text, self.ask().output_text)

    def test_a_conversation_goes_on_by_id(self):
        first = self.ask()
        second = self.ask("And who made it?", previous_response_id=first.id)
        self.assertEqual(second.previous_response_id, first.id)
        self.assertGreater(second.usage.input_tokens, first.usage.input_tokens + first.usage.output_tokens)
        self.assertEqual(self.client.responses.retrieve(first.id).output_text, first.output_text)
        items = self.client.responses.input_items.list(second.id)
        self.assertEqual([item.content[0].text for item in items], ["And who made it?"])
        self.client.responses.delete(first.id)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(first.id)

    def test_an_output_may_be_sent_back_as_it_came(self):
        first = self.ask(store=False)
        history = [{"role": "user", "content": "What is Impetus?"}, *first.output, {"role": "user", "content": "Why?"}]
        self.assertTrue(self.ask(history, store=False).output_text)

    def test_a_call_is_whole_and_its_result_is_answered(self):
        options = {"tools": [WEATHER, {"type": "web_search"}], "max_output_tokens": 80}
        response = self.ask("What is the weather in Paris?", **options)
        (call,) = [item for item in response.output if item.type == "function_call"]
        self.assertEqual(call.name, "get_weather")
        self.assertIsInstance(json.loads(call.arguments), dict)
        streamed = list(self.ask("What is the weather in Paris?", stream=True, **options))
        arguments = "".join(event.delta for event in streamed if event.type == "response.function_call_arguments.delta")
        self.assertEqual(json.loads(arguments), json.loads(call.arguments))
        result = [{"type": "function_call_output", "call_id": call.call_id, "output": "It is sunny."}]
        self.assertTrue(self.ask(result, previous_response_id=response.id, **options).output)

    def test_logprobs_come_one_per_token(self):
        response = self.ask(include=["message.output_text.logprobs"], top_logprobs=2)
        entries = response.output[0].content[0].logprobs
        self.assertTrue(entries)
        self.assertTrue(all(len(entry.top_logprobs) == 2 for entry in entries))

    def test_a_response_in_the_background_is_found_streamed_and_cancelled(self):
        response = self.ask(background=True)
        events = list(self.client.responses.retrieve(response.id, stream=True))
        self.assertIn(events[-1].type, ("response.completed", "response.incomplete"))
        self.assertEqual(list(self.client.responses.retrieve(response.id, stream=True, starting_after=1)), events[2:])
        done = self.client.responses.retrieve(response.id)
        self.assertEqual(done.output_text, events[-1].response.output_text)
        long = self.ask("Tell me everything. " * 1000, background=True, max_output_tokens=9000)
        self.assertEqual(self.client.responses.cancel(long.id).status, "cancelled")

    def test_refusals_name_their_parameter(self):
        for param, options in (
            ("truncation", {"truncation": "auto"}),
            ("previous_response_id", {"previous_response_id": "resp_nothing"}),
            ("temperature", {"temperature": 3}),
            ("input[0].content[0]", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}),
        ):
            with self.subTest(param), self.assertRaises(openai.APIStatusError) as refusal:
                self.ask(**options)
            self.assertEqual(refusal.exception.param, param)


if __name__ == "__main__":
    unittest.main()
