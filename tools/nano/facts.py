"""Texts with facts and questions about them: extraction, "the context does not say", and JSON forms."""
import json

from words import (ANIMAL, ATTRIBUTE, COLOUR, DAY, FILLER, FOOD, FRUIT, INSTRUMENT, JOB, LANGUAGE, PLACE, THING, VERBS)

MISSING = "The context does not say."
# Statements | questions, by relation; {e} is the entity, {v} the value. The first statement is also the answer.
PERSON = {
    "city": ("{e} lives in {v}.|{e} moved to {v}.|The home of {e} is in {v}.|{e}, who lives in {v}, was there.",
             "Where does {e} live?|Which city does {e} live in?|In which city does {e} live?|What is the home of {e}?", "city"),
    "job": ("{e} works as a {v}.|{e} is a {v}.|{e} is a {v} by trade.|The job of {e} is {v}.",
            "What is {e}'s job?|What does {e} do for a living?|What is the job of {e}?|What does {e} work as?", JOB),
    "age": ("{e} is {v} years old.|The age of {e} is {v}.|{e} turned {v} this year.", "How old is {e}?|What is {e}'s age?|What is the age of {e}?", "age"),
    "colour": ("The favourite colour of {e} is {v}.|{e}'s favourite colour is {v}.|{e} likes the colour {v} best.",
               "What is {e}'s favourite colour?|What is the favourite colour of {e}?|Which colour does {e} like best?", COLOUR),
    "pet": ("{e} has a {v}.|{e} keeps a {v} as a pet.|The pet of {e} is a {v}.", "What pet does {e} have?|Which animal does {e} have?|What is {e}'s pet?", ANIMAL),
    "food": ("{e} likes {v}.|The favourite food of {e} is {v}.|{e} eats {v} every day.", "What does {e} like to eat?|What is {e}'s favourite food?|Which food does {e} like?", FOOD),
    "instrument": ("{e} plays the {v}.|{e} is learning the {v}.", "Which instrument does {e} play?|What does {e} play?|What instrument does {e} play?", INSTRUMENT),
    "language": ("{e} speaks {v}.|The language of {e} is {v}.", "Which language does {e} speak?|What language does {e} speak?", LANGUAGE),
    "company": ("{e} works for {v}.|{e} is employed at {v}.|The employer of {e} is {v}.", "Who does {e} work for?|Where does {e} work?|Which company does {e} work for?", "name"),
    "manager": ("The manager of {e} is {v}.|{e} reports to {v}.|{e}'s boss is {v}.", "Who is the manager of {e}?|Who is {e}'s boss?|Who does {e} report to?", "person"),
    "friend": ("The best friend of {e} is {v}.|{e}'s best friend is {v}.", "Who is the best friend of {e}?|Who is {e}'s best friend?|What is the name of {e}'s best friend?", "person"),
    "phone": ("The phone number of {e} is {v}.|{e} can be reached at {v}.|{e}'s number is {v}.", "What is {e}'s phone number?|What is the phone number of {e}?|How can {e} be reached?", "number"),
    "room": ("{e} is in room {v}.|The room of {e} is {v}.|{e} sits in room {v}.", "Which room is {e} in?|What is {e}'s room?|In which room is {e}?", "number"),
    "birthday": ("The birthday of {e} is {v}.|{e} was born on {v}.", "When is {e}'s birthday?|When was {e} born?|What is the birthday of {e}?", "date"),
    "email": ("The email of {e} is {v}.|{e} reads mail at {v}.", "What is {e}'s email?|What is the email of {e}?|What is the email address of {e}?", "email"),
}
ENTITY = {
    "price": ("{E} costs {v}.|The price of {e} is {v}.|You can buy {e} for {v}.", "How much does {e} cost?|What is the price of {e}?|What does {e} cost?", "price"),
    "place": ("{E} is in the {v}.|{E} is kept in the {v}.|You can find {e} in the {v}.", "Where is {e}?|Where can I find {e}?|In which place is {e}?|Where is {e} kept?", PLACE),
    "colour": ("{E} is {v}.|The colour of {e} is {v}.|{E} was painted {v}.", "What colour is {e}?|What is the colour of {e}?|Which colour does {e} have?", COLOUR),
    "owner": ("{E} belongs to {v}.|The owner of {e} is {v}.|{v} owns {e}.", "Who owns {e}?|Who is the owner of {e}?|Whose is {e}?|Who does {e} belong to?", "person"),
    "maker": ("{E} was made by {v}.|{v} made {e}.|The maker of {e} is {v}.", "Who made {e}?|Who is the maker of {e}?", "person"),
    "year": ("{E} was built in {v}.|The year of {e} is {v}.|{E} dates from {v}.", "When was {e} built?|What is the year of {e}?|In which year was {e} built?", "year"),
    "code": ("The code of {e} is {v}.|The code for {e} is {v}.|To open {e}, use the code {v}.", "What is the code of {e}?|What is the code for {e}?|Which code opens {e}?", "code"),
    "password": ("The password of {e} is {v}.|The password for {e} is {v}.", "What is the password of {e}?|What is the password for {e}?|Which password does {e} have?", "code"),
    "weight": ("{E} weighs {v} kilograms.|The weight of {e} is {v} kilograms.", "How much does {e} weigh?|What is the weight of {e}?|How heavy is {e}?", "number"),
    "length": ("{E} is {v} metres long.|The length of {e} is {v} metres.", "How long is {e}?|What is the length of {e}?", "number"),
    "port": ("{E} listens on port {v}.|The port of {e} is {v}.", "Which port does {e} listen on?|What is the port of {e}?|On which port does {e} listen?", "number"),
    "version": ("The version of {e} is {v}.|{E} has version {v}.", "What is the version of {e}?|Which version does {e} have?", "version"),
    "deadline": ("The deadline for {e} is {v}.|{E} is due on {v}.", "When is {e} due?|What is the deadline for {e}?", "date"),
    "day": ("{E} arrives on {v}.|{E} will arrive on {v}.", "When does {e} arrive?|On which day does {e} arrive?|What day does {e} arrive?", DAY),
    "time": ("{E} opens at {v}.|The opening time of {e} is {v}.", "When does {e} open?|At what time does {e} open?|What is the opening time of {e}?", "time"),
}
REGION = {
    "capital": ("The capital of {e} is {v}.|{v} is the capital of {e}.", "What is the capital of {e}?|Which city is the capital of {e}?", "city"),
    "population": ("The population of {e} is {v}.|{e} has {v} inhabitants.|{v} people live in {e}.", "How many people live in {e}?|What is the population of {e}?|How many inhabitants does {e} have?", "number"),
    "leader": ("The leader of {e} is {v}.|{v} leads {e}.|{e} is led by {v}.", "Who leads {e}?|Who is the leader of {e}?", "person"),
    "founder": ("{e} was founded by {v}.|{v} founded {e}.|The founder of {e} is {v}.", "Who founded {e}?|Who is the founder of {e}?", "person"),
    "founded": ("{e} was founded in {v}.|The founding year of {e} is {v}.", "When was {e} founded?|In which year was {e} founded?", "year"),
    "river": ("The river of {e} is the {v}.|The {v} flows through {e}.", "Which river flows through {e}?|What is the river of {e}?", "name"),
    "currency": ("The currency of {e} is the {v}.|People in {e} pay with the {v}.", "What is the currency of {e}?|What do people in {e} pay with?", "name"),
}
TABLES = [PERSON, ENTITY, REGION]


def value(words, kind) -> str:
    """A value of one kind; a list is a closed set of words."""
    if isinstance(kind, list):
        return words.one(kind)
    makers = {
        "city": words.city, "person": words.person, "name": words.invented, "number": words.number, "price": words.price, "date": words.date,
        "time": words.time, "code": words.code, "age": lambda: str(words.rng.randint(18, 99)),
        "year": lambda: words.split(lambda: str(words.rng.randint(1100, 2060))),
        "version": lambda: f"{words.rng.randint(0, 20)}.{words.rng.randint(0, 40)}" + (f".{words.rng.randint(0, 9)}" if words.chance(0.5) else ""),
        "email": lambda: f"{words.invented().lower()}@{words.invented().lower()}.{words.one(['com', 'org', 'net', 'example'])}",
    }
    return makers[kind]()


class Fact:
    """One statement with its questions, its answer sentence and the value that answers."""

    def __init__(self, statement, question, answer, value, key):
        self.statement, self.question, self.answer, self.value, self.key = statement, question, answer, value, key


def entity(words, table) -> str:
    if table is PERSON:
        return words.person()
    if table is REGION:
        return words.invented() if words.chance(0.8) else words.city()
    return f"the {words.thing()}" if words.chance(0.8) else words.invented()


def fact(words, table, e, relation) -> Fact:
    statements, questions, kind = table[relation]
    v = value(words, kind)
    fill = lambda text: text.format(e=e, E=e[0].upper() + e[1:], v=v).replace(" a a", " an a").replace(" a e", " an e").replace(" a o", " an o")
    statements = statements.split("|")
    return Fact(fill(words.one(statements)), fill(words.one(questions.split("|"))), fill(statements[0]), v, relation)


def free_fact(words) -> Fact:
    """A fact with an open attribute or an event, so that no fixed list of relations is learned."""
    if words.chance(0.5):
        attribute = words.one(ATTRIBUTE) if words.chance(0.8) else words.syllables(1, 2)
        e = f"the {words.thing()}" if words.chance(0.6) else words.invented()
        v = value(words, words.one(["name", "number", "code", "person", "city", "date", COLOUR, THING, "version"]))
        forms = [f"The {attribute} of {e} is {v}.", f"The {attribute} of {e} is {v}."]
        if e[0].isupper():
            forms.append(f"{e}'s {attribute} is {v}.")
        question = words.one([f"What is the {attribute} of {e}?", f"Which {attribute} does {e} have?", f"Tell me the {attribute} of {e}."])
        return Fact(words.one(forms), question, forms[0], v, attribute)
    base, past = words.one(VERBS)
    who, what = words.person(), f"the {words.thing()}"
    where = words.one([f"in {words.city()}", f"in the {words.one(PLACE)}", f"on {words.one(DAY)}"])
    sentence = f"{who} {past} {what} {where}."
    ask = words.one("who who what where".split())
    if ask == "who":
        return Fact(sentence, f"Who {past} {what}?", f"{who} {past} {what}.", who, "who")
    if ask == "what":
        return Fact(sentence, f"What did {who} {base}?", f"{who} {past} {what}.", what, "what")
    word = "When" if where.startswith("on ") else "Where"
    return Fact(sentence, f"{word} did {who} {base} {what}?", f"{who} {past} {what} {where}.", where.split(" ", 1)[1], word.lower())


def collect(words, count) -> list[Fact]:
    """Facts that mention several entities, with the same relation more than once, as distractors."""
    facts, seen = [], set()
    while len(facts) < count:
        if words.chance(0.4):
            facts.append(free_fact(words))
            continue
        table = words.one(TABLES)
        entities = [entity(words, table) for _ in range(words.one([1, 2, 2, 3]))]
        relations = words.rng.sample(list(table), k=min(len(table), words.one([1, 1, 2, 3])))
        for e in entities:
            for relation in relations:
                if len(facts) < count and (e, relation) not in seen:
                    seen.add((e, relation))
                    facts.append(fact(words, table, e, relation))
    return facts


def layout(words, sentences) -> str:
    """The sentences as a paragraph, lines, bullets, numbered passages or titled notes."""
    kind = words.rng.randint(0, 7)
    if kind <= 3:
        return " ".join(sentences)
    if kind == 4:
        return "\n".join(sentences)
    if kind == 5:
        return "\n".join(f"- {s}" for s in sentences)
    if kind == 6:
        return "\n".join(f"[{i + 1}] {s}" for i, s in enumerate(sentences))
    cut = words.rng.randint(0, len(sentences))
    parts = [" ".join(part) for part in (sentences[:cut], sentences[cut:]) if part]
    return "\n\n".join(f"{words.one(['Source', 'File', 'Document', 'Note'])}: {words.word()}.{words.one(['md', 'txt'])}\n{part}" for part in parts)


ASKS = [
    "Using only this context: {c}\n\nQuestion: {q}", "Using only this context: {c} Question: {q}", "Using only this context:\n{c}\n\nQuestion: {q}",
    "Using only this context, answer the question.\n\nContext:\n{c}\n\nQuestion: {q}", "Context: {c}\n\nQuestion: {q}", "Context:\n{c}\n\n{q}", "{c}\n\n{q}", "{c} {q}",
    "Read this: {c}\n{q}", "Answer from the text.\nText: {c}\nQuestion: {q}", "{q}\n\n{c}", "Question: {q}\n\nContext:\n{c}", "Answer only from these passages.\n\n{c}\n\nQuestion: {q}",
    "Here are some notes:\n{c}\n\n{q}", "<context>\n{c}\n</context>\n\n{q}", "Based on the following passages, answer the question.\n\n{c}\n\nQuestion: {q}\nAnswer:",
    "Use the context to answer.\n\n{c}\n\n{q}", "Context information is below.\n---\n{c}\n---\n{q}", "I know this: {c} {q}", "\"{c}\"\n\n{q}",
]
SYSTEMS = ["Answer using only this context:\n{c}", "Use these passages to answer the user.\n\n{c}", "Context:\n{c}", "You are a helpful assistant. Answer from the context.\n\n{c}"]
BRIEF = [" Answer with the value only.", " Answer in one word.", " Reply with only the answer.", " Give only the answer."]


def passage(words, count, filler) -> tuple[str, list[Fact], list[str]]:
    facts = collect(words, count)
    sentences = [f.statement for f in facts]
    for _ in range(filler):
        sentences.insert(words.rng.randint(0, len(sentences)), words.one(FILLER))
    if words.chance(0.3):
        words.rng.shuffle(sentences)
    return layout(words, sentences), facts, sentences


def missing_question(words, facts) -> str:
    """A question about the passage that it does not answer: another entity, or another relation of a known one."""
    for _ in range(50):
        other = free_fact(words) if words.chance(0.3) else collect(words, 1)[0]
        if all(other.question != f.question for f in facts):
            return other.question
    return other.question


def extraction(words, count=None, filler=None, turns=None) -> tuple[list[dict], str]:
    """A conversation that asks one or more questions about a given context; returns it with the last right value."""
    turns = turns or words.one([1, 1, 2, 2, 3, 3, 4, 5])
    count = count or words.one([1, 1, 2, 2, 3, 3, 4, 5, 6]) + turns // 2
    text, facts, _ = passage(words, count, words.one([0, 0, 0, 1, 2]) if filler is None else filler)
    in_system = words.chance(0.12)
    messages = [{"role": "system", "content": words.one(SYSTEMS).format(c=text)}] if in_system else []
    expected = ""
    for turn in range(turns):
        absent = words.chance(0.13)
        chosen = words.one(facts)
        question = missing_question(words, facts) if absent else chosen.question
        brief = not absent and words.chance(0.2)
        asked = question + (words.one(BRIEF) if brief else "")
        if turn == 0 and not in_system:
            asked = words.one(ASKS).format(c=text, q=asked)
        elif turn and words.chance(0.3):
            asked = words.one(["And {}", "Now: {}", "Next question: {}", "Question: {}"]).format(asked)
        expected = MISSING if absent else chosen.value
        answer = MISSING if absent else chosen.value if brief else chosen.answer
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return messages, expected


JSON_ASKS = ["Extract the {k} as JSON: {c}", "Extract {k} as JSON from this text: {c}", "{c}\n\nReturn a JSON object with the keys {k}.", "Return JSON with {k}.\n\nText: {c}",
             "{c}\nGive me the {k} as JSON.", "Write the {k} as JSON.\n{c}", "Text: {c}\n\nJSON with keys {k}:", "Answer in JSON with the fields {k}.\n\n{c}"]
NUMERIC = ["age", "number", "year"]


def json_form(words, turns=None) -> tuple[list[dict], str]:
    """A conversation that asks for fields of a text as JSON, perhaps again for others; returns it with the last object."""
    table = words.one([PERSON, PERSON, ENTITY, REGION])
    e = entity(words, table)
    relations = words.rng.sample(list(table), k=words.one([1, 2, 2, 3, 3, 4]))
    facts = [fact(words, table, e, relation) for relation in relations]
    sentences = [f.statement for f in facts] + [words.one(FILLER)] * words.chance(0.25)
    words.rng.shuffle(sentences)
    known = [("name", e.removeprefix("the "))]
    known += [(f.key, int(f.value) if f.value.isdigit() and table[f.key][2] in NUMERIC else f.value) for f in facts]
    messages = []
    for turn in range(turns or words.one([1, 1, 2, 3])):
        fields = words.rng.sample(known, k=words.rng.randint(1, len(known)))
        keys = [f'"{key}"' if words.chance(0.1) else key for key, _ in fields]
        joined = ", ".join(keys[:-1]) + " and " + keys[-1] if len(keys) > 1 and words.chance(0.6) else ", ".join(keys)
        again = words.one(["Now the {k} as JSON.", "Only {k} as JSON.", "JSON with {k}", "And the {k}?"])
        content = (again if turn else words.one(JSON_ASKS)).format(k=joined, c=" ".join(sentences))
        answer = json.dumps(dict(fields), ensure_ascii=False)
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return messages, answer
