"""Files and batches through OpenAI's official client for Python, with strict validation of every object."""

import json
import unittest

import openai
from test_openai import MODEL, Service


def lines(*requests, url="/v1/chat/completions"):
    named = ({"custom_id": name, "method": "POST", "url": url, "body": body} for name, body in requests)
    return "\n".join(json.dumps(line) for line in named).encode()


def ask(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 12, **more}


class Batches(Service):
    def upload(self, content):
        return self.client.files.create(file=("in.jsonl", content), purpose="batch")

    def run_batch(self, content, endpoint="/v1/chat/completions", **options):
        file = self.upload(content)
        batch = self.client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options)
        ended = ("completed", "failed", "expired", "cancelled")
        self.eventually("the end of a batch", lambda: self.client.batches.retrieve(batch.id).status in ended, 60)
        return self.client.batches.retrieve(batch.id)

    def output(self, file):
        return {line["custom_id"]: line for line in map(json.loads, self.client.files.content(file).text.splitlines())}

    def test_a_file_is_kept_listed_read_and_deleted(self):
        content = lines(("a", ask("Hi")))
        file = self.client.files.create(
            file=("über.jsonl", content), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        self.assertEqual((file.bytes, file.filename, file.object), (len(content), "über.jsonl", "file"))
        self.assertEqual(file.expires_at - file.created_at, 3600)
        self.assertEqual(self.client.files.retrieve(file.id), file)
        self.assertIn(file.id, [one.id for one in self.client.files.list(purpose="batch", limit=1)])
        self.assertEqual(self.client.files.content(file.id).read(), content)
        self.assertTrue(self.client.files.delete(file.id).deleted)
        with self.assertRaises(openai.NotFoundError):
            self.client.files.retrieve(file.id)
        with self.assertRaises(openai.BadRequestError) as refusal:
            self.client.files.create(file=("a.png", b"\x89PNG"), purpose="vision")
        self.assertEqual(refusal.exception.param, "purpose")

    def test_a_batch_answers_what_can_be_answered(self):
        content = lines(("good", ask("What is Impetus?")), ("bad", ask("Hi", top_logprobs=2)))
        batch = self.run_batch(content, metadata={"run": "1"})
        self.assertEqual((batch.status, batch.metadata), ("completed", {"run": "1"}))
        counts = batch.request_counts
        self.assertEqual((counts.total, counts.completed, counts.failed), (2, 1, 1))
        answer = self.output(batch.output_file_id)["good"]["response"]
        self.assertEqual(answer["status_code"], 200)
        self.assertTrue(answer["body"]["choices"][0]["message"]["content"])
        fault = self.output(batch.error_file_id)["bad"]["response"]
        self.assertEqual((fault["status_code"], fault["body"]["error"]["param"]), (400, "top_logprobs"))
        self.assertIn(batch.id, [one.id for one in self.client.batches.list(limit=1)])

    def test_every_endpoint_is_asked(self):
        for url, body in (
            ("/v1/completions", {"model": MODEL, "prompt": "Impetus is", "max_tokens": 4}),
            ("/v1/embeddings", {"model": "impetus-nano-embed", "input": "a text"}),
            ("/v1/responses", {"model": MODEL, "input": "What is Impetus?", "max_output_tokens": 8}),
        ):
            with self.subTest(url):
                batch = self.run_batch(lines(("a", body), url=url), endpoint=url)
                self.assertEqual(batch.request_counts.completed, 1, batch)
                self.assertEqual(self.output(batch.output_file_id)["a"]["response"]["status_code"], 200)

    def test_a_file_of_other_requests_fails_with_its_lines(self):
        batch = self.run_batch(lines(("a", ask("Hi")), ("a", ask("Hi"))))
        self.assertEqual((batch.status, batch.errors.data[0].line), ("failed", 2))

    def test_a_batch_is_given_up(self):
        file = self.upload(lines(*((f"r{at}", ask("Tell me", max_tokens=400, ignore_eos=True)) for at in range(200))))
        batch = self.client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        self.assertIn(self.client.batches.cancel(batch.id).status, ("cancelling", "cancelled"))
        self.eventually("the end", lambda: self.client.batches.retrieve(batch.id).status == "cancelled")


if __name__ == "__main__":
    unittest.main()
