//! The OpenAPI document: every endpoint of the table, with what holds for all of them, which is how keys are shown and how
//! refusals look. What a path asks of a key is taken from `access`, and the shape of its refusals from `dialect`.

use std::collections::BTreeMap;

use utoipa::openapi::header::Header;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{Components, Object, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{Content, Info, License, OpenApi, Paths, Ref, RefOr, Schema, Server};
use utoipa::{PartialSchema, ToSchema};

use super::Endpoint;
use crate::access::role_needed;
use crate::dialect::Dialect;
use crate::{anthropic, error, login, ollama};

/// What stands at the head of the document.
const ABOUT: &str = "\
Private AI on this machine, in the dialects that programs already speak: OpenAI's, Anthropic's and Ollama's.

**Keys.** Send `Authorization: Bearer KEY`, or `x-api-key: KEY`. `impetusctl key show` prints the first key; \
`impetusctl key create` makes more. A page that must keep no key logs in at `/api/auth/login`. A key is `readonly`, `user` or `admin`, and each endpoint says which it needs.

**Refusals.** A parameter that would have no effect is a 400 that names it, and a prompt is never cut. Every answer carries \
`x-request-id`; refusals of limits carry `Retry-After`. Keys with limits hear of them in `X-RateLimit-Limit`, \
`X-RateLimit-Remaining` and `X-RateLimit-Reset`.

**Streams.** With `stream` true an answer comes as server-sent events, or as lines of JSON in Ollama's dialect.

`/api/v1` is another name for `/v1`. `/chat/completions`, `/completions`, `/responses`, `/embeddings` and `/models` answer \
without it too.";

/// What endpoints belong to.
const TAGS: &[(&str, &str)] = &[
    ("OpenAI", "Chat completions, completions, responses, embeddings and models, as OpenAI's clients know them."),
    ("Anthropic", "Messages, as Anthropic's clients know them."),
    ("Llama", "What llama-server's own clients know, besides OpenAI's dialect."),
    ("Ollama", "What Ollama's clients know."),
    ("Batches", "Many requests in a file, answered when there is time, as OpenAI's clients know them."),
    ("Rerank", "Documents in the order of how well they answer a query, as Jina and Cohere shape it."),
    ("Score", "How well texts go together, as vLLM shapes it."),
    ("Cohere", "Vectors, as Cohere's clients know them."),
    ("Tokens", "Tokens and templates, as llama-server shapes them."),
    ("Sessions", "Conversations that the daemon remembers."),
    ("Keys", "Keys of the bridge."),
    ("Login", "A key becomes a cookie for a while, for pages of the bridge."),
    ("Journal", "What was asked, and who changed what."),
    ("Models", "Models, brought into memory, taken out and fetched, for those who run the service."),
    ("Machine", "Memory, its budget, and the hardware."),
    ("Settings", "What may be changed while the daemon runs."),
    ("Watching", "Figures for Prometheus, and news over a WebSocket."),
    ("Health", "For supervisors."),
    ("Document", "This document."),
];

/// Returns the document of `endpoints`, as JSON.
pub fn write(endpoints: Vec<Endpoint>) -> String {
    let mut components = Components::new();
    components.security_schemes = schemes();
    components.responses = refusals();
    let dialects = [
        (error::ErrorBody::name(), error::ErrorBody::schema()),
        (anthropic::error::ErrorBody::name(), anthropic::error::ErrorBody::schema()),
        (ollama::error::ErrorBody::name(), ollama::error::ErrorBody::schema()),
    ];
    components.schemas.extend(dialects.map(|(name, schema)| (name.into_owned(), schema)));
    let mut nested = Vec::new();
    error::ErrorBody::schemas(&mut nested);
    anthropic::error::ErrorBody::schemas(&mut nested);
    components.schemas.extend(nested);
    let mut paths = Paths::new();
    for endpoint in endpoints {
        components.schemas.extend(endpoint.operation.schemas.iter().cloned());
        let (path, item) = shown(&endpoint);
        match paths.paths.get_mut(&path) {
            Some(known) => known.merge_operations(item),
            None => drop(paths.paths.insert(path, item)),
        }
    }
    let mut info = Info::new("Impetus", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.to_owned());
    info.license = Some(License::builder().name("Apache-2.0").identifier(Some("Apache-2.0")).build());
    let mut document = OpenApi::new(info, paths);
    document.components = Some(components);
    document.tags = Some(TAGS.iter().map(|(name, text)| tag(name, text)).collect());
    document.servers = Some(vec![Server::new("/")]);
    let text = document.to_json().expect("documents have string keys and no failing serialisers");
    // The registry of formats calls them uint32 and uint64.
    text.replace("\"format\":\"u-int", "\"format\":\"uint")
}

fn tag(name: &str, text: &str) -> Tag {
    TagBuilder::new().name(name).description(Some(text)).build()
}

/// Returns an endpoint's path and what the document says of it.
fn shown(endpoint: &Endpoint) -> (String, PathItem) {
    let Endpoint { tag, method, path, operation, open } = endpoint;
    let mut built = OperationBuilder::new()
        .tag(*tag)
        .summary(Some(operation.summary))
        .operation_id(Some(id(method.as_str(), path)))
        .parameters(Some(operation.all_parameters(path)))
        .request_body(operation.body.clone())
        .response(operation.status.as_str(), operation.answer.clone());
    for class in ["4XX", "5XX"] {
        built = built.response(class, Ref::from_response_name(format!("{:?}{class}", Dialect::of(path))));
    }
    let mut description = operation.description.unwrap_or_default().to_owned();
    if *open {
        built = built.securities(Some([]));
    } else {
        let needs = format!("Needs a key of the role `{}`.", role_needed(method, path));
        let gap = if description.is_empty() { "" } else { " " };
        description = format!("{description}{gap}{needs}");
        built = built.securities(Some(["bearer", "header", "login"].map(requirement)));
    }
    if !description.is_empty() {
        built = built.description(Some(description));
    }
    let method = match method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    };
    (path.clone(), PathItem::new(method, built))
}

fn requirement(scheme: &str) -> SecurityRequirement {
    SecurityRequirement::new(scheme, [] as [&str; 0])
}

/// Returns an operation's name, such as `postV1ChatCompletions`.
fn id(method: &str, path: &str) -> String {
    let words = path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    words.fold(method.to_ascii_lowercase(), |id, word| id + &capital(word))
}

/// How keys are shown.
fn schemes() -> BTreeMap<String, RefOr<SecurityScheme>> {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key, as in `Authorization: Bearer imp_…`."))
        .build();
    let login = ApiKeyValue::with_description(login::COOKIE, "A login, as `/api/auth/login` gives it to browsers.");
    let header = ApiKeyValue::with_description("x-api-key", "A key, as Anthropic's clients send it.");
    BTreeMap::from([
        ("bearer".to_owned(), RefOr::T(SecurityScheme::Http(bearer))),
        ("header".to_owned(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(header)))),
        ("login".to_owned(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Cookie(login)))),
    ])
}

/// How each dialect refuses and fails.
fn refusals() -> BTreeMap<String, RefOr<Response>> {
    let dialects = [
        (Dialect::OpenAi, error::ErrorBody::name()),
        (Dialect::Anthropic, anthropic::error::ErrorBody::name()),
        (Dialect::Ollama, ollama::error::ErrorBody::name()),
    ];
    let classes = [("4XX", REFUSED), ("5XX", FAILED)];
    let each = |(dialect, body): (Dialect, std::borrow::Cow<'static, str>)| {
        classes.map(|(class, text)| (format!("{dialect:?}{class}"), RefOr::T(refusal(&body, text))))
    };
    dialects.into_iter().flat_map(each).collect()
}

const REFUSED: &str = "\
400: a parameter is wrong, unknown or without effect here, or the prompt does not fit. 401: no key, or none that is known. \
403: the key may not do this. 404: no such model or object. 405: not with this method. 408: the body came too slowly. \
409: something else came first. 413: the body is too large. 429: too many requests; `Retry-After` says for how long.";

const FAILED: &str = "\
500: a defect. 502: the daemon or a hub cannot be reached. 503: busy, not loaded or shutting down. 504: the time was up. \
507: not enough memory, with the figures. 529: busy, as Anthropic's clients know it.";

fn refusal(body: &str, description: &str) -> Response {
    let header = |kind: Type, text: &str| {
        let mut header = Header::new(Schema::Object(Object::with_type(kind)));
        header.description = Some(text.to_owned());
        header
    };
    ResponseBuilder::new()
        .description(description)
        .header("x-request-id", header(Type::String, "Names the request in logs and reports."))
        .header("retry-after", header(Type::Integer, "Seconds after which the same may work."))
        .content("application/json", Content::new(Some(Ref::from_schema_name(body))))
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::id;
    use crate::app;

    #[test]
    fn no_two_shapes_share_a_name() {
        let mut known = BTreeMap::new();
        for endpoint in app::keyed().merge(app::open()).endpoints() {
            for (name, schema) in endpoint.operation.schemas {
                let shape = serde_json::to_value(schema).unwrap();
                let before = known.insert(name.clone(), shape.clone());
                assert!(before.is_none_or(|before| before == shape), "{name} at {}", endpoint.path);
            }
        }
        assert!(known.len() > 50);
    }

    #[test]
    fn an_operation_is_named_after_its_method_and_path() {
        assert_eq!(id("POST", "/v1/chat/completions"), "postV1ChatCompletions");
        assert_eq!(id("GET", "/v1/models/{id}/capabilities"), "getV1ModelsIdCapabilities");
        assert_eq!(id("GET", "/openapi.json"), "getOpenapiJson");
        assert_eq!(id("GET", "/"), "get");
    }
}
