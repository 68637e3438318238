"""The official Ollama client for Python against a real service; its types are checked as it builds them."""

import os
import unittest

from ollama import Client, ResponseError

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
GREEDY = {"temperature": 0, "num_predict": 48}


def connect(key=KEY):
    return Client(host=URL, headers={"Authorization": f"Bearer {key}"}, timeout=120)


class Service(unittest.TestCase):
    client = connect()

    def chat(self, text="What is Impetus?", **options):
        return self.client.chat(**{"model": MODEL, "messages": [{"role": "user", "content": text}], "options": GREEDY, **options})


class Chat(Service):
    def test_a_whole_answer_has_every_figure(self):
        answer = self.chat()
        self.assertEqual((answer.model, answer.done, answer.message.role), (MODEL, True, "assistant"))
        self.assertIn("Impetus", answer.message.content)
        self.assertIn(answer.done_reason, ("stop", "length"))
        for figure in (answer.total_duration, answer.prompt_eval_count, answer.eval_count, answer.eval_duration):
            self.assertGreater(figure, 0)

    def test_a_stream_says_what_a_whole_answer_says(self):
        parts = list(self.chat(stream=True))
        self.assertEqual("".join(part.message.content or "" for part in parts), self.chat().message.content)
        self.assertEqual([part.done for part in parts], [False] * (len(parts) - 1) + [True])

    def test_logprobs_come_one_per_token_whole_and_streamed(self):
        options = {"logprobs": True, "top_logprobs": 2}
        whole = self.chat(**options).logprobs
        self.assertTrue(all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in whole))
        streamed = [entry.token for part in self.chat(stream=True, **options) for entry in part.logprobs or []]
        self.assertEqual(streamed, [entry.token for entry in whole])
        with self.assertRaises(ResponseError):
            self.chat(top_logprobs=2)

    def test_a_context_and_a_begun_answer_have_a_conversation_go_on(self):
        first = self.client.generate(model=MODEL, prompt="What is Impetus?", options=GREEDY)
        second = self.client.generate(model=MODEL, prompt="Why?", context=first.context, options={**GREEDY, "num_gpu": 1})
        turns = [("user", "What is Impetus?"), ("assistant", first.response), ("user", "Why?")]
        messages = [{"role": role, "content": content} for role, content in turns]
        self.assertEqual(self.chat(messages=messages).message.content, second.response)
        begun = " ".join(first.response.split(" ")[:3])
        messages = [{"role": "user", "content": "What is Impetus?"}, {"role": "assistant", "content": begun}]
        self.assertEqual(self.chat(messages=messages).message.content, first.response[len(begun):])

    def test_a_tag_and_a_history_are_taken(self):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
        answer = self.client.chat(model=f"{MODEL}:latest", messages=messages, options=GREEDY)
        messages += [answer.message, {"role": "user", "content": "And what is Impetus?"}]
        self.assertTrue(self.client.chat(model=MODEL, messages=messages, options=GREEDY).message.content)

    def test_a_call_is_whole_and_its_result_is_answered(self):
        question = "What is the weather in Paris?"
        answer = self.chat(question, tools=[WEATHER], options={"temperature": 0, "num_predict": 80})
        (call,) = answer.message.tool_calls
        self.assertEqual(call.function.name, "get_weather")
        self.assertEqual(dict(call.function.arguments), {"city": "Paris"})
        messages = [{"role": "user", "content": question}, answer.message, {"role": "tool", "content": '{"sky": "clear"}', "tool_name": "get_weather"}]
        self.assertTrue(self.client.chat(model=MODEL, messages=messages, tools=[WEATHER], options=GREEDY).done)
        streamed = [call for part in self.chat(question, tools=[WEATHER], stream=True) for call in part.message.tool_calls or []]
        self.assertEqual([(one.function.name, one.function.arguments) for one in streamed], [(call.function.name, call.function.arguments)])

    def test_options_work(self):
        self.assertEqual(self.chat(options={**GREEDY, "num_predict": 3}).eval_count, 3)
        whole = self.chat().message.content
        stop = whole[len(whole) // 2 :][:4]
        self.assertEqual(self.chat(options={**GREEDY, "stop": [stop]}).message.content, whole[: whole.index(stop)])
        text = lambda seed: self.chat(options={"temperature": 1.5, "seed": seed, "num_predict": 32}).message.content
        self.assertEqual(text(5), text(5))


class Generate(Service):
    def test_a_prompt_is_answered_whole_and_in_parts(self):
        whole = self.client.generate(model=MODEL, prompt="What is Impetus?", options=GREEDY)
        self.assertIn("Impetus", whole.response)
        parts = list(self.client.generate(model=MODEL, prompt="What is Impetus?", options=GREEDY, stream=True))
        self.assertEqual("".join(part.response for part in parts), whole.response)

    def test_a_raw_prompt_is_continued(self):
        self.assertTrue(self.client.generate(model=MODEL, prompt="Impetus is", raw=True, options=GREEDY).response)


class Models(Service):
    def test_models_are_listed_and_shown(self):
        self.assertIn(MODEL, [model.model.removesuffix(":latest") for model in self.client.list().models])
        shown = self.client.show(MODEL)
        self.assertTrue(shown.details.quantization_level)
        self.assertIn("completion", shown.capabilities)
        self.assertIn("messages", shown.template)
        self.assertTrue(shown.modelfile.startswith(f"FROM {MODEL}\n"))
        self.assertIsInstance(shown.parameters, str)
        self.assertIn("general.architecture", shown.modelinfo)

    def test_what_is_in_memory_is_told(self):
        self.chat()
        self.assertIn(MODEL, [model.model.removesuffix(":latest") for model in self.client.ps().models])


class Errors(Service):
    def refused(self, status, words, call):
        with self.assertRaises(ResponseError) as refusal:
            call()
        self.assertEqual(refusal.exception.status_code, status, refusal.exception)
        self.assertIn(words, refusal.exception.error)

    def test_refusals_name_what_is_wrong(self):
        self.refused(404, "nobody", lambda: self.chat(model="nobody"))
        self.refused(404, "nobody", lambda: list(self.chat(model="nobody", stream=True)))
        self.refused(404, "nobody", lambda: self.client.show("nobody"))
        self.refused(400, "temperature", lambda: self.chat(options={"temperature": 3}))
        self.refused(400, "telepathy", lambda: self.chat(options={"telepathy": 1}))
        self.refused(401, "key", lambda: connect("imp_wrong").list())


if __name__ == "__main__":
    unittest.main()
