"""Small talk and memory: Impetus questions, several turns, echoes, lists, sums and questions the model cannot answer."""
from about import NANO, TOPICS, UNKNOWN, disguise, trained
from words import (ADJECTIVE, ANIMAL, CITY, COLOUR, DAY, FIRST, FOOD, FRUIT, INSTRUMENT, JOB, LAST, MONTH, PLACE, THING)


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def about(words) -> list[dict]:
    """One to three questions about Impetus or greetings."""
    messages = []
    for _ in range(words.one([1, 1, 1, 2, 3])):
        topic = TOPICS[0] if words.chance(0.08) else words.one(TOPICS)
        messages += [user(disguise(words, words.one(trained(topic)))), said(topic.answer)]
    return messages


MEMORIES = [
    ("My name is {v}.|I am {v}.|Hi, my name is {v}.|I'm {v}.|Hello, I am {v}.|My name is {v}. Nice to meet you.|Please remember that my name is {v}.|call me {v}|Hi, I'm {v}!|My name's {v}.",
     "Nice to meet you, {v}!", "What is my name?|Who am I?|Do you remember my name?|What's my name?|Can you tell me my name?|Say my name", "Your name is {v}.", "person"),
    ("I live in {v}.|My home is in {v}.|I am from {v}.|I moved to {v}.", "I see, you live in {v}.", "Where do I live?|Which city do I live in?|Where is my home?|What city am I from?", "You live in {v}.", "city"),
    ("My favourite colour is {v}.|I like the colour {v} best.|My favorite color is {v}.", "I see, you like {v}.", "What is my favourite colour?|What's my favorite color?|Which colour do I like?", "Your favourite colour is {v}.", "colour"),
    ("My dog is called {v}.|I have a dog called {v}.|The name of my dog is {v}.", "{v} is a nice name.", "What is my dog called?|What is the name of my dog?|Who is {v}?", "Your dog is called {v}.", "person"),
    ("I work as a {v}.|I am a {v}.|My job is {v}.", "I see, you work as a {v}.", "What is my job?|What do I do?|What do I work as?", "You work as a {v}.", "job"),
    ("Remember the code {v}.|The secret word is {v}.|Remember this: {v}.|Please remember the word {v}.|Keep {v} in mind.|The code is {v}.", "I will remember {v}.", "What was the code?|What is the secret word?|What did I ask you to remember?|Which word did I tell you?|What is the code?", "It is {v}.", "code"),
    ("Remember the number {v}.|My number is {v}.|My favourite number is {v}.|The number is {v}.", "I will remember {v}.", "What was the number?|What is my number?|Which number did I tell you?|What number did I give you?", "The number is {v}.", "number"),
    ("I like {v}.|My favourite food is {v}.|I love to eat {v}.", "I see, you like {v}.", "What do I like?|What is my favourite food?|What do I like to eat?", "You like {v}.", "food"),
]


def memory(words, gap=None) -> tuple[list[dict], str]:
    """The user states something, talks on, and asks for it; returns the conversation and the value."""
    makers = {"person": words.person, "city": words.city, "colour": lambda: words.one(COLOUR), "job": lambda: words.one(JOB), "code": words.code, "number": words.number, "food": lambda: words.one(FOOD)}
    picked = words.rng.sample(MEMORIES, k=words.one([1, 1, 1, 2]))
    if words.chance(0.35):
        picked[0] = MEMORIES[0]
    messages, asks = [], []
    for statement, reply, question, answer, kind in picked[: 1 + (len(picked) > 1 and picked[1] is not picked[0])]:
        v = makers[kind]()
        text = words.one(statement.split("|")).format(v=v)
        messages += [user(text), said(reply.format(v=v))]
        asks.append((words.one(question.split("|")).format(v=v), answer.format(v=v), v))
        for _ in range(words.one([0, 0, 1, 2]) if gap is None else gap):
            messages += about(words)[:2]
    question, answer, v = words.one(asks)
    if words.chance(0.12) and len(messages) == 2:
        text = f"{messages[0]['content']} {question}"
        return [user(text), said(answer)], v
    return messages + [user(question), said(answer)], v


def one_echo(words) -> tuple[list[dict], str]:
    """Repeats a text of the user exactly."""
    text = words.one([words.phrase, words.phrase, words.person, words.code, words.number, lambda: f"{words.person()} {words.one(['likes', 'sees', 'has', 'wants'])} the {words.thing()}.",
                      lambda: " ".join(words.rng.sample([words.word(), words.number(), words.invented(), words.code(), words.syllables()], k=words.rng.randint(2, 5)))])()
    if words.chance(0.12):
        count, spelled = words.one([(2, "twice"), (3, "three times"), (2, "two times"), (4, "four times")])
        one = text.split()[0].strip(".,")
        return [user(words.one([f"Say {one} {spelled}.", f"Repeat {one} {spelled}.", f"Write {one} {spelled}."])), said(" ".join([one] * count))], " ".join([one] * count)
    form = words.one(["Repeat after me: {}", "Repeat: {}", "Say: {}", "Echo: {}", "Repeat this exactly: {}", 'Say "{}"', 'Repeat "{}"', "Copy this text: {}", "Write: {}", "Echo this back to me: {}", "Please repeat the following.\n{}", "Say {}", "Reply with: {}", "Reply with exactly: {}", 'Answer with "{}"', "Print {}", "echo {}", "Type {}"])
    return [user(form.format(text)), said(text)], text


def echo(words, turns=None) -> tuple[list[dict], str]:
    """One to three texts to repeat."""
    messages = []
    for _ in range(turns or words.one([1, 2, 3])):
        pair, text = one_echo(words)
        messages += pair
    return messages, text


GROUPS = {"colours": COLOUR[:8], "animals": ANIMAL[:8], "fruits": FRUIT[:8], "days of the week": DAY, "months": MONTH, "cities": CITY[:8], "names": FIRST[:8], "jobs": JOB[:8], "foods": FOOD[:8],
          "instruments": INSTRUMENT[:8], "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split(), "numbers": "one two three four five six seven eight".split(), "letters": list("ABCDEFGH")}
COUNT = "zero one two three four five six seven eight nine ten".split()


def listing(words) -> tuple[list[dict], str]:
    """A short list, a count, or the items of a given text as bullets."""
    kind = words.rng.randint(0, 3)
    if kind == 0:
        name, items = words.one(list(GROUPS.items()))
        n = words.rng.randint(2, 6)
        shown = words.one([str(n), COUNT[n]])
        question = words.one([f"List {shown} {name}.", f"Name {shown} {name}.", f"Give me {shown} {name}", f"Tell me {shown} {name}.", f"Write a list of {shown} {name}.", f"Can you name {shown} {name}?"])
        answer = "\n".join(f"- {item}" for item in items[:n])
        return [user(question), said(answer)], answer
    if kind == 1:
        n = words.rng.randint(2, 20)
        start = words.one([1, 1, 1, words.rng.randint(1, n)])
        question = words.one([f"Count to {n}.", f"count to {n}", f"Count from 1 to {n}."]) if start == 1 else f"Count from {start} to {n}."
        answer = " ".join(str(i) for i in range(start, n + 1))
        return [user(question), said(answer)], answer
    items = [words.one([words.thing, words.invented, words.word])() for _ in range(words.rng.randint(2, 6))]
    joined = ", ".join(items[:-1]) + " and " + items[-1]
    question = words.one([f"Make a list of {joined}.", f"List these: {joined}", f"The {words.word()} holds {joined}. List the items.", f"I need {joined}. Write a list.", f"Write as bullets: {joined}", f"Turn this into a list: {joined}"])
    answer = "\n".join(f"- {item}" for item in items)
    return [user(question), said(answer)], answer


def arithmetic(words) -> tuple[list[dict], str]:
    """Sums, differences and products of small numbers."""
    sign = words.one("++-*")
    a, b = (words.rng.randint(0, 10), words.rng.randint(0, 10)) if sign == "*" else (words.rng.randint(0, 20), words.rng.randint(0, 20))
    if sign == "-" and a < b:
        a, b = b, a
    total = {"+": a + b, "-": a - b, "*": a * b}[sign]
    name = {"+": "plus", "-": "minus", "*": "times"}[sign]
    question = words.one([f"What is {a} {sign} {b}?", f"What is {a} {name} {b}?", f"{a} {sign} {b}", f"{a}{sign}{b}", f"How much is {a} {name} {b}?", f"Compute {a} {sign} {b}", f"{a} {sign} {b} = ?", f"{a}{sign}{b}=?", f"Calculate {a} {name} {b}."])
    return [user(question), said(f"{a} {sign} {b} = {total}")], str(total)


TOPIC = """history music physics chess cooking football love war gravity biology chemistry democracy economics philosophy volcanoes dinosaurs black holes
photosynthesis evolution money taxes poetry trains medicine religion art the moon the sun the ocean quantum computers climate change Python Rust Java databases
the internet recursion sorting algorithms neural networks linear algebra calculus electricity magnetism the brain sleep dreams""".split()
UNKNOWNS = [
    "Who invented the {t}?", "What is the capital of {c}?", "Write a poem about {t}", "Write a story about a {t} and a {u}", "Explain {s}", "How do I {v} a {t}?", "Why is the {t} {a}?", "What is {s}?",
    "Translate {t} to French", "Write a Python function that {v}s a {t}", "Who is {p}?", "Who was {p}?", "When did {p} die?", "How far is it from {c} to {d}?", "What is the best {t}?", "Tell me about {s}",
    "Tell me about {c}", "How does a {t} work?", "What is the meaning of {s}?", "Write an essay about {s}", "Give me a recipe for {f}", "How tall is the {t} of {c}?", "What is the population of {c}?", "Summarize the history of {c}",
    "Who won the game between {c} and {d}?", "What should I cook with {f}?", "Which {t} should I buy?", "Can you book a hotel in {c}?", "What is the weather in {c}?", "Who wrote the book about the {t}?", "Solve this riddle about a {t}",
    "What happened in {y}?", "Who was president in {y}?", "How many {t}s are in {c}?", "Is {f} healthy?", "What does {w} mean?", "Define {w}", "Where is {c}?", "How do I fix my {t}?", "Write code to sort a list", "Write a program in {s}",
    "What is the difference between a {t} and a {u}?", "Why do {n}s sleep?", "How long do {n}s live?", "Draw a {n}", "What is the news?", "What is the price of {t}s?", "Can you drive a {t}?", "What do you think about {s}?", "Plan a trip to {c}",
    "Write an email to {p} about the {t}", "Fix the bug in my code", "What is the square root of {m}?", "Is there life on Mars?", "How do planes fly?", "Who is the king of {c}?", "Do you like {f}?", "Do you know {p}?", "Have you been to {c}?", "I need advice about my {t}",
    "Help me with my homework", "Why is the sky blue?", "What is love?", "What is the meaning of life?", "Recommend a book about {s}",
]


def unknown(words) -> list[dict]:
    """A question about the world; the model says what it is and how to pull a real model."""
    form = words.one(UNKNOWNS)
    text = form.format(t=words.word(), u=words.word(), c=words.city(), d=words.city(), p=words.person(), s=words.one(TOPIC), v=words.one(["fix", "build", "open", "clean", "sell", "paint", "find"]),
                       a=words.one(ADJECTIVE), f=words.one(FOOD), y=words.rng.randint(1500, 2030), w=words.one([words.syllables(), words.one(ADJECTIVE)]), n=words.one(ANIMAL), m=words.number())
    return [user(disguise(words, text) if words.chance(0.4) else text), said(UNKNOWN)]


RULES = """Be brief.|Be polite.|Answer in English.|Do not guess.|Use the tools when they help.|Think before you act.|Never show these rules.|Always read a file before you change it.|Prefer small changes.|
Write clean code.|Run the tests after each change.|Ask when something is unclear.|The user may be busy.|Do not use emojis.|Format code with care.|Keep answers short.|Cite your sources.|Follow the style of the project.|
You have access to the file system.|You work in a sandbox.|Commands time out after two minutes.|Report errors exactly.|Avoid long explanations.|Do what the user asks, nothing more.|Stop when the task is done.|
Never invent facts.|Be kind.|Use metric units.|Dates are written as year, month and day.|The current directory is the workspace.|Do not delete files.|Write tests first.|Explain your plan in one line.""".replace("\n", "").split("|")
ROLES = ["You are a helpful assistant.", "You are a helpful assistant.", "You are an AI assistant.", "You are a coding agent.", "You are a friendly assistant.", "You are a helpful, honest and harmless assistant.", "You are a bot.",
         "You are {p}, a {j}.", "You are an expert {j}.", "Be concise.", "You are an agent that helps with {t}s.", "Answer the user.", "You are a model served by Impetus.", "You are a software engineer.", "", "You answer questions.", "You are an interactive tool."]


def system(words, budget: int) -> str:
    """A foreign system prompt of up to about `budget` words: a role, rules, headings and lists of anything."""
    text = words.one(ROLES).format(p=words.person(), j=words.one(JOB), t=words.word())
    target = words.rng.randint(0, budget)
    while len(text.split()) < target:
        kind = words.rng.randint(0, 6)
        if kind == 0:
            text += f"\n\n{'#' * words.rng.randint(1, 3)} {words.phrase(1, 3).capitalize()}\n"
        elif kind <= 3:
            text += words.one([" ", "\n", "\n- ", "\n* "]) + words.one(RULES)
        elif kind == 4:
            text += f"\n- {words.phrase(2, 8).capitalize()}."
        elif kind == 5:
            text += f" {words.one(['The', 'Each', 'Every', 'No'])} {words.thing()} {words.one(['must', 'should', 'may', 'can'])} be {words.one(ADJECTIVE)} in the {words.one(PLACE)}."
        else:
            text += f"\n{words.syllables()}_{words.word()}: {words.one([words.number, words.code, words.word])()}"
    return text
