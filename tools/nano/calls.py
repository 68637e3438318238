"""Tool-call conversations: functions in the OpenAI form, a request in words, the call, its result and the answer."""
import json

from about import TOPICS, disguise, trained
from render import tool_call
from words import ATTRIBUTE, COLOUR, DAY, LANGUAGE, PLACE, THING

# name | description | parameters (name:kind) | requests with the parameters in braces
KNOWN = [
    ("get_weather", "Get the weather of a city", "city:city", "What is the weather in {city}?|How is the weather in {city}?|Weather in {city}|Is it raining in {city}?|What's the weather like in {city}?|Tell me the weather in {city}, please.|Get the weather for {city}|What is the weather in {city} today?"),
    ("get_weather", "Current weather for a location", "location:city", "What is the weather in {location}?|Weather for {location}, please|Is it cold in {location}?|What's the weather like in {location} today?"),
    ("get_forecast", "Weather forecast for some days", "city:city days:small", "Forecast for {city}, {days} days|What will the weather be in {city} for the next {days} days?|Show me the {days} day forecast of {city}"),
    ("add", "Add two numbers", "a:int b:int", "What is {a} plus {b}?|Add {a} and {b}|{a} + {b}|Compute {a} + {b}|What is the sum of {a} and {b}?|Use the tool to add {a} and {b}."),
    ("multiply", "Multiply two numbers", "a:int b:int", "What is {a} times {b}?|Multiply {a} by {b}|{a} * {b}|Compute {a} times {b}"),
    ("subtract", "Subtract b from a", "a:int b:int", "What is {a} minus {b}?|Subtract {b} from {a}|{a} - {b}"),
    ("calculator", "Compute an expression", "expression:sum", "What is {expression}?|Compute {expression}|Calculate {expression}|How much is {expression}?"),
    ("search", "Search for a text", "query:phrase", "Search for {query}|Find {query}|Look up {query}|Search {query}|Can you search for {query}?|Please look for {query}"),
    ("search_web", "Search the web", "query:phrase", "Search the web for {query}|Look on the web for {query}|Find {query} online|Google {query}"),
    ("search_documents", "Search the user's documents", "query:phrase limit:small", "Search my documents for {query}, at most {limit} results|Find {limit} documents about {query}|Show {limit} documents on {query}"),
    ("get_time", "Current time in a city", "city:city", "What time is it in {city}?|What is the time in {city}?|Time in {city}|Tell me the time in {city}."),
    ("get_time", "Current time in a time zone", "timezone:city", "What time is it in {timezone}?|Current time in {timezone}"),
    ("send_email", "Send an email", "to:person body:phrase", "Send an email to {to} that says {body}|Email {to}: {body}|Write to {to}: {body}|Mail {to} the text {body}"),
    ("send_message", "Send a message to a person", "recipient:person text:phrase", "Tell {recipient} {text}|Send {recipient} the message {text}|Message {recipient}: {text}|Send a message to {recipient}: {text}"),
    ("read_file", "Read a file", "path:path", "Read {path}|Open the file {path}|Show me {path}|What is in {path}?|Read the file {path}, please."),
    ("list_files", "List the files of a folder", "path:path", "List the files in {path}|What files are in {path}?|Show the folder {path}"),
    ("write_file", "Write a text to a file", "path:path content:phrase", "Write {content} to {path}|Save {content} in {path}|Create {path} with the text {content}"),
    ("run_command", "Run a shell command", "command:command", "Run {command}|Execute {command}|Run the command {command}|Please run {command}"),
    ("play_music", "Play a song", "song:name", "Play {song}|Play the song {song}|I want to hear {song}|Put on {song}"),
    ("set_timer", "Set a timer", "minutes:small", "Set a timer for {minutes} minutes|Timer for {minutes} minutes|Wake me in {minutes} minutes"),
    ("set_alarm", "Set an alarm", "time:time", "Set an alarm for {time}|Wake me at {time}|Alarm at {time}, please"),
    ("set_light", "Set the colour of a lamp", "room:place color:colour", "Make the light in the {room} {color}|Turn the {room} light {color}|Set the {room} lamp to {color}"),
    ("translate", "Translate a text", "text:phrase language:language", "Translate {text} to {language}|Translate {text} into {language}|What is {text} in {language}?"),
    ("get_stock_price", "Price of a stock", "symbol:symbol", "What is the price of {symbol}?|Stock price of {symbol}|How is {symbol} doing?|Price of {symbol} stock"),
    ("create_event", "Create a calendar event", "title:phrase day:day", "Add {title} to my calendar on {day}|Create an event {title} on {day}|Plan {title} for {day}"),
    ("book_flight", "Book a flight", "origin:city destination:city", "Book a flight from {origin} to {destination}|Fly me from {origin} to {destination}|I need a flight from {origin} to {destination}"),
    ("get_user", "Look up a user", "name:person", "Who is the user {name}?|Look up {name}|Get the user {name}|Find the user {name}"),
    ("get_order", "Look up an order", "id:int", "Where is order {id}?|Show order {id}|What is the status of order {id}?|Look up order {id}"),
    ("get_capital", "Capital of a country", "country:name", "What is the capital of {country}?|Capital of {country}|Tell me the capital of {country}"),
    ("get_population", "Population of a city", "city:city", "How many people live in {city}?|What is the population of {city}?|Population of {city}"),
    ("convert_currency", "Convert an amount of money", "amount:int to:currency", "Convert {amount} to {to}|How much is {amount} in {to}?|Change {amount} into {to}"),
    ("remember", "Store a note", "note:phrase", "Remember {note}|Note: {note}|Take a note: {note}|Write down {note}"),
    ("turn_on", "Turn on a device", "device:thing", "Turn on the {device}|Switch on the {device}|Start the {device}"),
    ("get_temperature", "Temperature in a place", "location:city", "How warm is it in {location}?|What is the temperature in {location}?|Temperature in {location}?"),
]
VERB = "get find show open check send start stop create delete update read list fetch count move copy print lock load save order book call test scan".split()
KINDS = ["city", "person", "name", "int", "phrase", "code", "thing", "day", "colour", "date"]
STRING_NAMES = {"city": ["city", "town", "place", "location"], "person": ["person", "user", "name", "owner", "recipient"], "name": ["name", "title", "label", "item"],
                "int": ["id", "count", "amount", "number", "limit", "size"], "phrase": ["query", "text", "topic", "subject", "note"], "code": ["code", "key", "token"],
                "thing": ["item", "object", "device", "thing"], "day": ["day", "when"], "colour": ["color", "colour"], "date": ["date", "day"]}


def draw(words, kind):
    """An argument value of one kind."""
    rng = words.rng
    makers = {
        "city": words.city, "person": words.person, "name": words.invented, "phrase": words.phrase, "code": words.code, "thing": words.thing, "date": words.date,
        "time": words.time, "int": lambda: int(words.number()), "small": lambda: rng.randint(1, 30), "colour": lambda: words.one(COLOUR), "day": lambda: words.one(DAY),
        "language": lambda: words.one(LANGUAGE), "place": lambda: words.one(PLACE), "currency": lambda: words.one(["euros", "dollars", "pounds", "yen", "francs"]),
        "sum": lambda: f"{words.number()} {words.one('+-*/')} {words.number()}", "symbol": lambda: words.split(lambda: "".join(words.one("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 4)))),
        "path": lambda: words.one(["", "/", "/home/", "src/", "docs/", "./"]) + words.word() + words.one([".txt", ".md", ".rs", ".json", "", ".py", "/" + words.word() + ".txt"]),
        "command": lambda: words.one(["ls {}", "cat {}.txt", "make {}", "git {}", "cargo {}", "rm {}", "echo {}", "mkdir {}"]).format(words.word()),
    }
    return makers[kind]()


class Tool:
    """A function: its name, parameters by kind and requests that call it."""

    def __init__(self, name, description, parameters, requests):
        self.name, self.description, self.parameters, self.requests = name, description, parameters, requests

    def schema(self, words) -> str:
        """The OpenAI form as JSON text, in one of the orders and spacings that servers produce."""
        properties = {}
        for name, kind in self.parameters.items():
            properties[name] = {"type": words.one(["integer", "number"]) if kind in ("int", "small") else "string"}
            if words.chance(0.3):
                properties[name]["description"] = f"The {name}"
        function = {"name": self.name, "description": self.description, "parameters": {"type": "object", "properties": properties, "required": list(properties)}}
        if words.chance(0.15):
            del function["description"]
        if words.chance(0.15):
            function["parameters"]["additionalProperties"] = False
        form = {"type": "function", "function": function}
        return json.dumps(form, sort_keys=words.chance(0.35), separators=(",", ":") if words.chance(0.35) else None)


def known(words) -> Tool:
    name, description, parameters, requests = words.one(KNOWN)
    return Tool(name, description, dict(p.split(":") for p in parameters.split()), requests.split("|"))


def invented(words) -> Tool:
    """A tool of a drawn verb and noun with one to three drawn parameters, requested in plain forms."""
    verb, noun = words.one(VERB), words.one(THING + ATTRIBUTE) if words.chance(0.85) else words.syllables()
    name = words.one([f"{verb}_{noun}"] * 5 + [f"{verb}{noun.capitalize()}", noun, f"{noun}_{verb}"])
    parameters = {}
    for _ in range(words.one([1, 1, 1, 2, 2, 3])):
        kind = words.one(KINDS)
        parameters[words.one(STRING_NAMES[kind]) if words.chance(0.85) else words.one(ATTRIBUTE)] = kind
    slots = [f"{p} {{{p}}}" for p in parameters]
    listed = slots[0] if len(slots) == 1 else ", ".join(slots[:-1]) + " and " + slots[-1]
    requests = [f"{verb.capitalize()} the {noun} with {listed}", f"Please {verb} the {noun}: {listed}", f"Call {name} with {listed}", f"Use {name} with {listed}.", f"{verb.capitalize()} {noun}, {listed}"]
    if len(parameters) == 1:
        slot = "{" + next(iter(parameters)) + "}"
        requests += [f"{verb.capitalize()} the {noun} of {slot}", f"{verb.capitalize()} the {noun} for {slot}.", f"Can you {verb} the {noun} of {slot}?", f"I want to {verb} the {noun} of {slot}"]
    return Tool(name, f"{verb.capitalize()} the {noun}", parameters, requests)


def result(words, arguments) -> tuple[str, str, str]:
    """A tool's result, the answer that tells it, and the value that the answer must contain."""
    kind = words.rng.randint(0, 4)
    if kind == 0:
        weather, degrees = words.one(["sunny", "cloudy", "rainy", "windy", "foggy", "clear", "stormy", "snowy"]), str(words.rng.randint(-20, 45))
        text = words.one([f"{degrees} degrees, {weather}", f"{weather}, {degrees} degrees", f'{{"temperature": {degrees}, "condition": "{weather}"}}', f'{{"condition":"{weather}","temperature":{degrees}}}'])
        city = next((v for k, v in arguments.items() if k in ("city", "location")), None)
        return text, f"It is {weather} and {degrees} degrees" + (f" in {city}." if city else "."), degrees
    if kind == 1:
        v = words.number()
        return words.one([v, f'{{"result": {v}}}', f'{{"result":{v}}}']), f"The result is {v}.", v
    if kind == 2:
        v = words.one([words.person, words.city, words.code, words.phrase])()
        return words.one([v, json.dumps({"result": v})]), f"The result is {v}.", v
    if kind == 3 and words.chance(0.3):
        return words.one(["ok", "done", "success", '{"ok": true}', '{"status": "ok"}', "true"]), "Done.", "Done"
    keys = words.rng.sample(ATTRIBUTE, k=words.one([1, 1, 2]))
    values = {k: words.one([words.invented, words.code, lambda: int(words.number()), words.city])() for k in keys}
    said = " and ".join(f"the {k} is {v}" for k, v in values.items())
    return json.dumps(values, separators=(",", ":") if words.chance(0.4) else None), said[0].upper() + said[1:] + ".", str(values[keys[0]])


def conversation(words, answer_too=None) -> tuple[list[dict], list[str], str]:
    """Messages, tools and the expected last answer: a call, or, after a result, the value that must be in it.

    `answer_too` fixes whether the one call is followed by its result; without it there are one to three requests.
    """
    tools, names = [], set()
    for _ in range(words.one([1, 1, 1, 2, 2, 3])):
        tool = known(words) if words.chance(0.55) else invented(words)
        if tool.name not in names:
            names.add(tool.name)
            tools.append(tool)
    schemas = [tool.schema(words) for tool in tools]
    messages, expected = [], ""
    for _ in range(words.one([1, 2, 2, 3]) if answer_too is None else 1):
        if words.chance(0.15) and answer_too is None:
            topic = words.one(TOPICS)
            expected = topic.answer
            messages += [{"role": "user", "content": disguise(words, words.one(trained(topic)))}, {"role": "assistant", "content": expected}]
            continue
        tool = words.one(tools)
        arguments = {name: draw(words, kind) for name, kind in tool.parameters.items()}
        request = words.one(tool.requests).format(**arguments)
        if words.chance(0.15):
            request = words.one(["Please {}", "Hi! {}", "Can you help? {}", "{} Use a tool.", "{} Thanks!"]).format(request)
        expected = tool_call(tool.name, arguments)
        messages += [{"role": "user", "content": request}, {"role": "assistant", "content": expected}]
        if answer_too or (answer_too is None and words.chance(0.6)):
            text, answer, expected = result(words, arguments)
            messages += [{"role": "tool", "content": text}, {"role": "assistant", "content": answer}]
    return messages, schemas, expected
