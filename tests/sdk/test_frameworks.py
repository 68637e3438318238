"""Frameworks that programs are built on, each told another base URL and nothing else: LangChain, LiteLLM, Pydantic AI,
Hugging Face's client."""

import asyncio
import os
import unittest
import warnings

# Everything it would fetch lies in its package too.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
warnings.filterwarnings("ignore", module="pydantic")

import litellm
from huggingface_hub import InferenceClient
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, ToolOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from test_openai import KEY, MODEL, URL, Person

QUESTION = "What is Impetus?"
WEATHER = "What is the weather in Paris?"


def get_weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"It is sunny in {city}."


class LangChain(unittest.TestCase):
    def chat(self, **options):
        given = {"model": MODEL, "base_url": f"{URL}/v1", "api_key": KEY, "temperature": 0, "max_tokens": 48, "max_retries": 0}
        return ChatOpenAI(**{**given, **options})

    def test_an_answer_and_its_stream_are_the_same(self):
        messages = [SystemMessage("Be brief."), HumanMessage(QUESTION)]
        whole = self.chat().invoke(messages)
        self.assertTrue(whole.content)
        self.assertEqual(whole.usage_metadata["total_tokens"], whole.usage_metadata["input_tokens"] + whole.usage_metadata["output_tokens"])
        chunks = list(self.chat(stream_usage=True).stream(messages))
        self.assertEqual("".join(chunk.content for chunk in chunks), whole.content)
        self.assertEqual(sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata), whole.usage_metadata["output_tokens"])

    def test_a_tool_is_called_and_its_result_is_answered(self):
        bound = self.chat(max_tokens=80).bind_tools([get_weather], tool_choice="any")
        asked = bound.invoke(WEATHER)
        (call,) = asked.tool_calls
        self.assertEqual(call["name"], "get_weather")
        result = ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])
        reply = self.chat().bind_tools([get_weather]).invoke([HumanMessage(WEATHER), asked, result])
        self.assertIsNotNone(reply.content)

    def test_a_structured_answer_is_parsed_by_each_of_its_ways(self):
        for method in ("json_schema", "function_calling"):
            with self.subTest(method):
                structured = self.chat(max_tokens=300, seed=3).with_structured_output(Person, method=method)
                self.assertIsInstance(structured.invoke("Who is Ada?"), Person)

    def test_responses_go_on_by_id(self):
        chat = self.chat(use_responses_api=True, use_previous_response_id=True)
        first = chat.invoke(QUESTION)
        second = chat.invoke([HumanMessage(QUESTION), first, HumanMessage("And who made it?")])
        self.assertTrue(first.text and second.text)

    def test_a_raw_prompt_and_a_batch_are_answered(self):
        llm = OpenAI(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, temperature=0, max_tokens=8, max_retries=0)
        one, two = llm.batch(["Impetus is", "The weather in Paris"])
        self.assertTrue(one and two)
        self.assertEqual(llm.invoke("Impetus is"), one)

    def test_texts_become_vectors(self):
        # LangChain sends token ids of OpenAI's own vocabulary unless it is told that the server reads texts.
        embed = OpenAIEmbeddings(model="impetus-nano-embed", base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False)
        vectors = embed.embed_documents(["one", "two"])
        self.assertEqual([len(vector) for vector in vectors], [256, 256])
        self.assertTrue(all(abs(a - b) < 1e-5 for a, b in zip(vectors[0], embed.embed_query("one"))))


class LiteLLM(unittest.TestCase):
    def complete(self, text=QUESTION, **options):
        given = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": KEY, "temperature": 0, "max_tokens": 48}
        return litellm.completion(messages=[{"role": "user", "content": text}], **{**given, **options})

    def test_every_dialect_gives_an_answer_and_the_same_stream(self):
        for name, base in ((f"openai/{MODEL}", f"{URL}/v1"), (f"anthropic/{MODEL}", URL), (f"hosted_vllm/{MODEL}", f"{URL}/v1")):
            with self.subTest(name):
                whole = self.complete(model=name, api_base=base)
                self.assertTrue(whole.choices[0].message.content)
                stream = self.complete(model=name, api_base=base, stream=True)
                streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
                self.assertEqual(streamed, whole.choices[0].message.content)

    def test_ollamas_dialect_is_spoken_with_a_key(self):
        options = {"model": f"ollama_chat/{MODEL}", "api_base": URL}
        self.assertTrue(self.complete(**options).choices[0].message.content)
        self.assertTrue("".join(chunk.choices[0].delta.content or "" for chunk in self.complete(**options, stream=True)))

    def test_a_prompt_over_the_context_is_known_by_its_words(self):
        for name, base in ((f"openai/{MODEL}", f"{URL}/v1"), (f"anthropic/{MODEL}", URL)):
            with self.subTest(name), self.assertRaises(litellm.ContextWindowExceededError):
                self.complete("word " * 120_000, model=name, api_base=base)

    def test_refusals_are_its_own_errors(self):
        with self.assertRaises(litellm.NotFoundError):
            self.complete(model="openai/nobody")
        with self.assertRaises(litellm.AuthenticationError):
            self.complete(api_key="imp_wrong")
        with self.assertRaises(litellm.BadRequestError):
            self.complete(temperature=3)

    def test_tools_vectors_and_responses_are_served(self):
        tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
        answer = self.complete(WEATHER, tools=[tool], tool_choice="required", max_tokens=80)
        self.assertEqual(answer.choices[0].message.tool_calls[0].function.name, "get_weather")
        vectors = litellm.embedding(model="openai/impetus-nano-embed", input=["one", "two"], api_base=f"{URL}/v1", api_key=KEY)
        self.assertEqual(len(vectors.data), 2)
        response = litellm.responses(model=f"openai/{MODEL}", input=QUESTION, max_output_tokens=32, api_base=f"{URL}/v1", api_key=KEY)
        self.assertTrue(response.output)


class HuggingFace(unittest.TestCase):
    # It closes its streams with itself.
    client = InferenceClient(base_url=f"{URL}/v1", api_key=KEY)

    def chat(self, **options):
        messages = [{"role": "user", "content": "Who is Ada?"}]
        return self.client.chat_completion(messages, **{"model": MODEL, "max_tokens": 300, "seed": 3, **options})

    def test_an_answer_and_its_stream_are_the_same(self):
        whole = self.chat(temperature=0.0)
        chunks = list(self.chat(temperature=0.0, stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices), whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.total_tokens, whole.usage.total_tokens)

    def test_a_shape_is_kept_though_it_is_sent_under_another_name(self):
        schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema(), "strict": True}}
        self.assertIsInstance(Person.model_validate_json(self.chat(response_format=schema).choices[0].message.content), Person)


class Capital(BaseModel):
    city: str


class PydanticAI(unittest.TestCase):
    def models(self):
        openai, anthropic = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY), AnthropicProvider(base_url=URL, api_key=KEY)
        return (
            OpenAIChatModel(MODEL, provider=openai),
            OpenAIResponsesModel(MODEL, provider=openai),
            AnthropicModel(MODEL, provider=anthropic),
        )

    def test_every_model_answers_whole_and_streamed(self):
        async def streamed(agent):
            async with agent.run_stream(QUESTION) as result:
                return await result.get_output()

        for model in self.models():
            with self.subTest(type(model).__name__):
                agent = Agent(model, model_settings={"temperature": 0, "max_tokens": 48}, instructions="Be brief.")
                whole = agent.run_sync(QUESTION)
                self.assertTrue(whole.output)
                self.assertGreater(whole.usage.output_tokens, 0)
                self.assertEqual(asyncio.run(streamed(agent)), whole.output)

    def test_an_answer_has_the_type_that_was_asked_for(self):
        for model in self.models():
            with self.subTest(type(model).__name__):
                settings = {"temperature": 0, "max_tokens": 300}
                agent = Agent(model, model_settings=settings, output_type=ToolOutput(Capital), retries=3)
                self.assertIsInstance(agent.run_sync("Name the capital of France.").output, Capital)

    def test_a_tool_is_called(self):
        called = []
        agent = Agent(self.models()[0], model_settings={"temperature": 0, "max_tokens": 80})

        @agent.tool_plain
        def get_weather(city: str) -> str:
            """Tells the weather of a city."""
            called.append(city)
            return "It is sunny."

        self.assertTrue(agent.run_sync(WEATHER).all_messages_json())
        self.assertTrue(called)

    def test_a_refusal_names_its_parameter(self):
        agent = Agent(self.models()[0], model_settings={"temperature": 3})
        with self.assertRaises(ModelHTTPError) as refusal:
            agent.run_sync("Hi")
        self.assertEqual((refusal.exception.status_code, refusal.exception.body["param"]), (400, "temperature"))


if __name__ == "__main__":
    unittest.main()
