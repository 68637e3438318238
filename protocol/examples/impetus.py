"""Lists the models of impetusd and streams an answer, in JSON. Usage: impetus.py "What is Impetus?" """
import json, os, socket, struct, sys


def socket_path(env=os.environ):
    data = "~/Library/Application Support/Impetus" if sys.platform == "darwin" else "~/.local/share/impetus"
    runtime = env.get("XDG_RUNTIME_DIR") if "IMPETUS_HOME" not in env else None
    run = f"{runtime}/impetus" if runtime else env.get("IMPETUS_HOME", os.path.expanduser(data)) + "/run"
    return env.get("IMPETUS_SOCKET") or f"{run}/impetus.sock"


def read_frame():
    return json.loads(stream.read(*struct.unpack(">I", stream.read(4))))


def call(verb, **arguments):
    # One call at a time, so the next reply is ours and the id may stay the same.
    body = json.dumps({"Request": {"id": 0, "deadline_ms": 30_000, "verb": {verb: arguments}}}).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()
    result = read_frame()["result"]
    result = result["Ok"][verb] if "Ok" in result else result
    return result["Ok"] if "Ok" in result else sys.exit(result["Err"]["message"])


connection = socket.socket(socket.AF_UNIX)
connection.connect(socket_path())
stream = connection.makefile("rwb")
stream.write(struct.pack("<4sHBB", b"IMPT", 1, 1, 0))  # magic, protocol version, the JSON codec, no status
stream.flush()
if stream.read(8)[7]:
    sys.exit(read_frame()["message"])
print("models:", ", ".join(model["name"] for model in call("Models")))
chat = {"messages": [{"role": "User", "content": " ".join(sys.argv[1:]) or "What is Impetus?"}]}
transcript, page = call("Begin", request={"prompt": {"Chat": chat}}), {"next": 0, "ended": False}
while not page["ended"]:
    page = call("Read", request={"id": transcript, "cursor": page["next"], "wait_ms": 20_000})
    for event in page["events"]:
        print(event.get("Delta", {}).get("text", event.get("Failed", {}).get("message", "")), end="", flush=True)
print()
