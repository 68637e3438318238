//! What is said of one endpoint: what it is for, what it takes and what it gives. What holds for every endpoint, such as
//! keys and refusals, is added by `document`.

use axum::http::StatusCode;
use serde_json::Value;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{Ref, RefOr, Required, Schema};
use utoipa::{IntoParams, ToSchema};

use super::EVENTS;
use super::schema::{Part, join};

const JSON: &str = "application/json";

/// What is said of one endpoint.
#[derive(Clone)]
pub struct Operation {
    pub(super) summary: &'static str,
    pub(super) description: Option<&'static str>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<RequestBody>,
    pub(super) status: StatusCode,
    pub(super) answer: Response,
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    /// Says what an endpoint does, in one line.
    pub fn new(summary: &'static str) -> Self {
        Self {
            summary,
            description: None,
            parameters: Vec::new(),
            body: None,
            status: StatusCode::OK,
            answer: Response::new("It went well."),
            schemas: Vec::new(),
        }
    }

    /// Says more.
    pub fn more(mut self, description: &'static str) -> Self {
        self.description = Some(description);
        self
    }

    /// Says what a parameter in the path is.
    pub fn path(mut self, name: &str, description: &str) -> Self {
        self.parameters.push(path_parameter(name, Some(description)));
        self
    }

    /// Takes a query of the fields of `T`.
    pub fn query<T: IntoParams>(mut self) -> Self {
        self.parameters.extend(T::into_params(|| Some(ParameterIn::Query)));
        self
    }

    /// Takes a JSON object called `name`, of the members in `known`; `parts` are the types that read them.
    pub fn takes<const N: usize>(self, name: &str, known: &[&[&str]], parts: [Part; N], example: Value) -> Self {
        self.body(name, known, parts.into(), example, Required::True)
    }

    /// Takes the same, or no body at all.
    pub fn may_take<const N: usize>(self, name: &str, known: &[&[&str]], parts: [Part; N], example: Value) -> Self {
        self.body(name, known, parts.into(), example, Required::False)
    }

    fn body(mut self, name: &str, known: &[&[&str]], parts: Vec<Part>, example: Value, required: Required) -> Self {
        let object = join(known, parts, &mut self.schemas);
        self.schemas.push((name.to_owned(), Schema::Object(object).into()));
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).example(Some(example)).build();
        self.body = Some(RequestBodyBuilder::new().content(JSON, content).required(Some(required)).build());
        self
    }

    /// Takes a form with a file, called `name`, of the fields in `known`; `part` is the type that tells of them.
    pub fn takes_form(mut self, name: &str, known: &[&str], part: Part) -> Self {
        let object = join(&[known], vec![part], &mut self.schemas);
        self.schemas.push((name.to_owned(), Schema::Object(object).into()));
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
        let body = RequestBodyBuilder::new().content("multipart/form-data", content).required(Some(Required::True));
        self.body = Some(body.build());
        self
    }

    /// Gives a `T`.
    pub fn gives<T: ToSchema>(mut self, description: &str) -> Self {
        let content = self.content::<T>();
        self.answer.description = description.to_owned();
        self.answer_as(JSON, content)
    }

    /// Gives a `T` of `Of`s, which the document calls `name`: a type that holds others has no name of its own.
    pub fn gives_of<T: ToSchema, Of: ToSchema>(mut self, name: &str, description: &str) -> Self {
        let content = self.content_of::<T, Of>(name);
        self.answer.description = description.to_owned();
        self.answer_as(JSON, content)
    }

    /// Gives a `T`, which was made.
    pub fn makes<T: ToSchema>(mut self, description: &str) -> Self {
        self.status = StatusCode::CREATED;
        self.gives::<T>(description)
    }

    /// Gives an object that is described elsewhere.
    pub fn gives_object(mut self, description: &str) -> Self {
        let object = Object::builder().schema_type(Type::Object).build();
        let content = Content::new(Some(Schema::Object(object)));
        self.answer.description = description.to_owned();
        self.answer_as(JSON, content)
    }

    /// Takes an object whose members are told elsewhere.
    pub fn takes_object(mut self, example: Value) -> Self {
        let object = Object::builder().schema_type(Type::Object).build();
        let content = ContentBuilder::new().schema(Some(Schema::Object(object))).example(Some(example)).build();
        self.body = Some(RequestBodyBuilder::new().content(JSON, content).required(Some(Required::True)).build());
        self
    }

    /// Gives text that is no JSON.
    pub fn gives_text(mut self, media_type: &str, description: &str) -> Self {
        let content = Content::new(Some(Schema::Object(Object::with_type(Type::String))));
        self.answer.description = description.to_owned();
        self.answer_as(media_type, content)
    }

    /// Goes on as another protocol.
    pub fn upgrades(mut self, description: &str) -> Self {
        self.status = StatusCode::SWITCHING_PROTOCOLS;
        self.gives_nothing(description)
    }

    /// Gives nothing but its status.
    pub fn gives_nothing(mut self, description: &str) -> Self {
        self.answer.description = description.to_owned();
        self
    }

    /// Gives `T`s one after another where a stream is asked for.
    pub fn streams<T: ToSchema>(mut self, media_type: &str) -> Self {
        let content = self.content::<T>();
        self.answer_as(media_type, streamed(media_type, content))
    }

    /// Gives `T`s of `Of`s, each called `name`, one after another where a stream is asked for.
    pub fn streams_of<T: ToSchema, Of: ToSchema>(mut self, name: &str, media_type: &str) -> Self {
        let content = self.content_of::<T, Of>(name);
        self.answer_as(media_type, streamed(media_type, content))
    }

    /// Returns a reference to `T`, whose schema it notes down with all that it refers to.
    fn content<T: ToSchema>(&mut self) -> Content {
        T::schemas(&mut self.schemas);
        self.schemas.push((T::name().into_owned(), T::schema()));
        Content::new(Some(Ref::from_schema_name(T::name())))
    }

    /// Returns every parameter; those in `path` that nobody told of are told of by name.
    pub(super) fn all_parameters(&self, path: &str) -> Vec<Parameter> {
        let named = path.split(['{', '}']).skip(1).step_by(2);
        let untold = |name: &&str| !self.parameters.iter().any(|parameter| parameter.name == **name);
        named.filter(untold).map(|name| path_parameter(name, None)).chain(self.parameters.iter().cloned()).collect()
    }

    fn content_of<T: ToSchema, Of: ToSchema>(&mut self, name: &str) -> Content {
        T::schemas(&mut self.schemas);
        Of::schemas(&mut self.schemas);
        self.schemas.extend([(Of::name().into_owned(), Of::schema()), (name.to_owned(), T::schema())]);
        Content::new(Some(Ref::from_schema_name(name)))
    }

    fn answer_as(mut self, media_type: &str, content: Content) -> Self {
        self.answer.content.insert(media_type.to_owned(), content.into());
        self
    }
}

/// Returns what a stream consists of: where it is one of events, `content` is the data of each, as text.
fn streamed(media_type: &str, content: Content) -> Content {
    if media_type != EVENTS {
        return content;
    }
    let mut data = Object::with_type(Type::String);
    data.content_media_type = JSON.to_owned();
    let of = serde_json::to_value(content.schema).unwrap_or_default();
    // The keyword is JSON Schema's, and the only way to say what a text holds.
    data.extensions = Some([("contentSchema", of)].into_iter().collect());
    let event = Object::builder()
        .schema_type(Type::Object)
        .property("event", Object::with_type(Type::String))
        .property("data", data)
        .required("data");
    Content::new(Some(Schema::Object(event.build())))
}

fn path_parameter(name: &str, description: Option<&str>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(description)
        .schema(Some(Object::with_type(Type::String)))
        .build()
}
