// The explorer: shows the document at /openapi.json and tries its operations out with a key that stays in this tab.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
let api;

/** Makes an element; text is always text and never markup. */
function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Makes paragraphs of the little markdown that descriptions use: `code` and **strong**. */
function prose(text) {
  return (text || "").split("\n\n").filter(Boolean).map((part) => {
    const pieces = part.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((piece) => {
      if (piece.startsWith("`")) return make("code", { textContent: piece.slice(1, -1) });
      if (piece.startsWith("**")) return make("strong", { textContent: piece.slice(2, -2) });
      return piece;
    });
    return make("p", {}, ...pieces);
  });
}

/** Follows a reference inside the document. */
function follow(value) {
  if (!value || !value.$ref) return value;
  return value.$ref.slice(2).split("/").reduce((at, key) => at[key.replace(/~1/g, "/").replace(/~0/g, "~")], api);
}

/** Names a schema in a few words. */
function kind(schema) {
  if (!schema || Object.keys(schema).length === 0) return "anything";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.contentSchema) return `text of ${kind(schema.contentSchema)}`;
  const choices = schema.oneOf || schema.anyOf || schema.allOf;
  if (choices) return [...new Set(choices.map(kind))].join(schema.allOf ? " and " : " or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return [schema.type || "anything"].flat().join(" or ");
}

/** Finds the schemas of objects that a schema speaks of. */
function inner(schema) {
  if (!schema) return [];
  if (schema.$ref) return [schema];
  return [schema.items, schema.contentSchema, ...(schema.oneOf || schema.anyOf || schema.allOf || [])].flatMap(inner);
}

/** Shows what an object holds; what its members hold opens on demand. */
function members(schema, depth) {
  const whole = follow(schema) || {};
  const parts = whole.allOf ? whole.allOf.map(follow) : [whole];
  const rows = parts.flatMap((part) => Object.entries(part.properties || {}).map(([name, member]) => {
    const needed = (part.required || []).includes(name);
    const cell = make("td", {}, make("span", { className: "type", textContent: kind(member) }), ...prose(member.description));
    for (const ref of depth < 6 ? inner(member) : []) cell.append(opens(ref, depth + 1));
    return make("tr", {}, make("td", {}, make("code", { className: needed ? "needed" : "", textContent: name })), cell);
  }));
  const others = inner({ oneOf: whole.oneOf || whole.anyOf, items: whole.items }).map((ref) => opens(ref, depth + 1));
  if (rows.length === 0) return make("div", {}, make("p", { className: "type", textContent: kind(whole) }), ...others);
  return make("div", {}, make("table", {}, make("tbody", {}, ...rows)), ...others);
}

/** Shows a schema once it is opened. */
function opens(schema, depth) {
  const details = make("details", { className: "schema" }, make("summary", { textContent: kind(schema) }));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(members(schema, depth));
  });
  return details;
}

/** Writes a command for a shell. */
function curl(method, url, body, keyed) {
  const quote = (text) => `'${text.replace(/'/g, "'\\''")}'`;
  const lines = [`curl ${method === "GET" ? "" : `-X ${method} `}${quote(location.origin + url)}`];
  if (keyed) lines.push(`-H "Authorization: Bearer $(impetusctl key show)"`);
  if (body) lines.push(`-H 'Content-Type: application/json'`, `-d ${quote(body)}`);
  return lines.join(" \\\n  ");
}

/** Shows the fields that an operation takes, and sends what they hold. */
function trial(method, path, operation) {
  const parameters = (operation.parameters || []).map(follow);
  const inputs = new Map(parameters.map((parameter) => [parameter, make("input", { ariaLabel: parameter.name })]));
  const content = follow(operation.requestBody)?.content?.["application/json"];
  const example = content?.example ? JSON.stringify(content.example, null, 2) : "";
  const text = content ? make("textarea", { value: example, spellcheck: false, ariaLabel: "body" }) : null;
  const command = make("pre");
  const answer = make("div");
  const keyed = operation.security === undefined || operation.security.length > 0;
  const url = () => {
    const query = new URLSearchParams();
    let filled = path;
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.set(parameter.name, input.value);
    }
    return query.size ? `${filled}?${query}` : filled;
  };
  const refresh = () => { command.textContent = curl(method, url(), text?.value, keyed); };
  const stop = make("button", { type: "button", textContent: "Stop", hidden: true });
  const send = make("button", { type: "button", textContent: "Send" });
  send.addEventListener("click", () => ask({ method, url: url(), body: text?.value, keyed }, answer, send, stop));
  const rows = [...inputs].map(([parameter, input]) => make("tr", {},
    make("td", {}, make("code", { className: parameter.required ? "needed" : "", textContent: parameter.name })),
    make("td", {}, input, " ", make("span", { className: "type", textContent: `${kind(parameter.schema)}, in the ${parameter.in}` }), ...prose(parameter.description))));
  const whole = make("div", {}, rows.length ? make("table", {}, make("tbody", {}, ...rows)) : null, text, make("div", { className: "bar" }, send, stop), command, answer);
  whole.addEventListener("input", refresh);
  refresh();
  return whole;
}

/** Asks, and shows what is answered as it comes. */
async function ask({ method, url, body, keyed }, answer, send, stop) {
  const headers = {};
  const key = document.getElementById("key").value.trim();
  if (keyed && key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  const control = new AbortController();
  stop.onclick = () => control.abort();
  stop.hidden = false;
  send.disabled = true;
  const status = make("p", { textContent: "…" });
  const shown = make("pre");
  answer.replaceChildren(status, shown);
  const began = performance.now();
  try {
    const response = await fetch(url, { method, headers, body: body || undefined, signal: control.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      shown.append(value);
    }
    status.textContent = `${response.status} ${response.statusText} · ${Math.round(performance.now() - began)} ms · ${response.headers.get("x-request-id") || ""}`;
    if ((response.headers.get("content-type") || "").startsWith("application/json") && shown.textContent) {
      shown.textContent = JSON.stringify(JSON.parse(shown.textContent), null, 2);
    }
  } catch (error) {
    status.textContent = control.signal.aborted ? "Stopped." : `Failed: ${error.message}`;
  }
  stop.hidden = true;
  send.disabled = false;
}

/** Shows one operation; its inside is made when it is opened. */
function shown(method, path, operation) {
  const verb = method.toUpperCase();
  const details = make("details", { className: "operation", id: operation.operationId },
    make("summary", {}, make("span", { className: `method ${verb}`, textContent: verb }), make("code", { className: "path", textContent: path }), make("span", { className: "summary", textContent: operation.summary || "" })));
  details.dataset.words = `${verb} ${path} ${operation.summary} ${operation.description || ""}`.toLowerCase();
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    const inside = make("div", {}, ...prose(operation.description));
    const body = follow(operation.requestBody)?.content?.["application/json"];
    if (body) inside.append(make("h3", { textContent: "It takes" }), members(body.schema, 0));
    inside.append(make("h3", { textContent: "It gives" }));
    for (const [status, given] of Object.entries(operation.responses || {})) {
      const response = follow(given);
      inside.append(make("p", {}, make("strong", { textContent: `${status} ` }), ...prose(response.description).flatMap((part) => [...part.childNodes])));
      for (const [type, content] of Object.entries(response.content || {})) {
        inside.append(make("span", { className: "type", textContent: type }), opens(content.schema, 0));
      }
    }
    inside.append(make("h3", { textContent: "Try it" }), trial(verb, path, operation));
    details.append(inside);
  });
  return details;
}

/** Shows the whole document. */
function render() {
  document.getElementById("version").textContent = api.info.version;
  const main = document.getElementById("main");
  main.replaceChildren(...prose(api.info.description));
  for (const tag of api.tags) {
    const operations = Object.entries(api.paths).flatMap(([path, item]) => METHODS
      .filter((method) => item[method]?.tags?.includes(tag.name))
      .map((method) => shown(method, path, item[method])));
    if (operations.length) main.append(make("section", {}, make("h2", { textContent: tag.name }), ...prose(tag.description), ...operations));
  }
  const named = location.hash && document.getElementById(location.hash.slice(1));
  if (named) { named.open = true; named.scrollIntoView(); }
}

document.getElementById("find").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const operation of document.querySelectorAll("details.operation")) {
    operation.hidden = !words.every((word) => operation.dataset.words.includes(word));
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = !section.querySelector("details.operation:not([hidden])");
  }
});

fetch("/openapi.json")
  .then((response) => response.json())
  .then((document) => { api = document; render(); })
  .catch((error) => document.getElementById("main").replaceChildren(make("p", { textContent: `The document did not come: ${error.message}` })));
