//! A custom uploader as a recipe of one step.

use std::collections::{BTreeMap, BTreeSet};

use super::Sxcu;
use super::codes::Code;
use super::expression::{address, link, value};
use super::file::Body;
use super::secrets::is_secret_name;
use super::site::sites;
use super::syntax::{Call, Encoding, Function, Piece, Text};
use crate::host::Limits;
use crate::host::recipe::{BodySpec, Extractor, Field, FileField, OptionSpec, Recipe, ResultSpec, Step, Template};

/// The largest file that is sent inside of a text: it is held in memory, a third larger.
const INSIDE_TEXT_LIMIT: u64 = 16 << 20;

/// `sxcu` as a recipe called `name`.
pub(super) fn recipe(sxcu: &Sxcu, name: &str, answers: &BTreeMap<String, String>) -> Result<Recipe, Vec<String>> {
    if let Some(reason) = sxcu.no_host_for_images() {
        return Err(vec![reason]);
    }
    let options = options(sxcu);
    let mut known: BTreeMap<String, String> = answers.clone();
    for (option, spec) in &options {
        if let Some(default) = &spec.default {
            known.entry(option.clone()).or_insert_with(|| default.clone());
        }
    }
    let texts = &sxcu.texts;
    // An address that cannot be used is a problem of the host's table, where `base_url` can replace it.
    let mut sites = sites(&texts.url, &known).unwrap_or_default();
    let home = (!sites.is_empty()).then(|| sites.remove(0));
    let body = body(sxcu);
    let mut step = Step {
        name: "upload".to_owned(),
        method: sxcu.item.method.unwrap_or("POST").parse().unwrap_or(reqwest::Method::POST),
        url: address(texts.url.clone(), query(&texts.parameters), home.clone()),
        headers: values("Headers", &texts.headers),
        body,
        redirects: true,
        ..Step::default()
    };
    step.headers.retain(|(name, _)| !name.is_empty());
    let whole = || Text(vec![Piece::Call(Call { function: Function::Response, params: Vec::new() })]);
    let optional = |key, text: &Text| (!text.0.is_empty()).then(|| link(key, text.clone()));
    let result = ResultSpec {
        url: vec![link("URL", if texts.link.0.is_empty() { whole() } else { texts.link.clone() })],
        thumb: optional("ThumbnailURL", &texts.thumbnail).into_iter().collect(),
        delete_url: optional("DeletionURL", &texts.deletion),
        ..ResultSpec::default()
    };
    let error = (!texts.error.0.is_empty()).then(|| Extractor::Template(value("ErrorMessage", texts.error.clone())));
    let inside_text = step.has_content();
    Ok(Recipe {
        name: name.to_owned(),
        about: format!("ShareX custom uploader {}, era {}", sxcu.name().escape_default(), sxcu.era.name()),
        site: home.clone().unwrap_or_else(|| "-".to_owned()),
        base_url: home,
        sites,
        limits: Limits { max_bytes: inside_text.then_some(INSIDE_TEXT_LIMIT), ..Limits::default() },
        options,
        inline: sxcu.secrets.clone(),
        steps: vec![step],
        result,
        messages: error.into_iter().collect(),
        ..Recipe::default()
    })
}

fn body(sxcu: &Sxcu) -> BodySpec {
    let texts = &sxcu.texts;
    match sxcu.item.body.unwrap_or(Body::None) {
        Body::None => BodySpec::None,
        Body::Multipart => BodySpec::Multipart {
            fields: values("Arguments", &texts.arguments).into_iter().map(Field::from).collect(),
            file: Some(sxcu.item.file_form_name.clone())
                .filter(|name| !name.is_empty())
                .map(|name| FileField { name, file_name: None }),
        },
        Body::Binary => BodySpec::Raw,
        Body::Form => BodySpec::Text {
            content_type: "application/x-www-form-urlencoded",
            text: value("Arguments", query(&texts.arguments)),
        },
        Body::Json => BodySpec::Text { content_type: "application/json", text: value("Data", texts.data.clone()) },
        Body::Xml => BodySpec::Text { content_type: "application/xml", text: value("Data", texts.data.clone()) },
    }
}

fn values(group: &str, pairs: &[(String, Text)]) -> Vec<(String, Template)> {
    pairs.iter().map(|(name, text)| (name.clone(), value(format!("{group}.{name}"), text.clone()))).collect()
}

/// `a=1&b`: values are form encoded, names stand as they are, and one without a value has no `=`.
fn query(pairs: &[(String, Text)]) -> Text {
    let mut query = Text::default();
    for (name, text) in pairs {
        if !query.0.is_empty() {
            query.0.push(Piece::Literal("&".to_owned()));
        }
        // What would end the name or the query.
        let name = name.replace('%', "%25").replace('&', "%26").replace('#', "%23").replace(' ', "+");
        query.0.push(Piece::Literal(name));
        if !text.0.is_empty() {
            query.0.push(Piece::Literal("=".to_owned()));
            query.0.push(Piece::Encoded(Encoding::Form, text.clone()));
        }
    }
    query
}

/// What the configuration can set: secrets and answers to questions.
fn options(sxcu: &Sxcu) -> BTreeMap<String, OptionSpec> {
    let mut options = BTreeMap::new();
    for name in sxcu.asked_secrets() {
        let inline = sxcu.secrets.contains_key(&name);
        let doc = match inline {
            true => format!("replaces the secret `{name}` that stands in the file"),
            false => format!("the secret that the file asks for with {{secret:{name}}}"),
        };
        options.insert(name, OptionSpec { doc, required: !inline, secret: true, ..OptionSpec::default() });
    }
    let codes = sxcu.texts.texts().into_iter().flat_map(Text::codes);
    let may_stay_empty: BTreeSet<String> = codes.filter_map(Code::option_name).collect();
    for (name, offered) in sxcu.questions() {
        let doc = format!("what ShareX would ask for: {} = \"…\"", quoted_key(&name));
        let offered = offered.filter(|offered| !offered.is_empty());
        let spec = OptionSpec {
            doc,
            required: offered.is_none() && !may_stay_empty.contains(&name),
            secret: is_secret_name(&name),
            default: offered,
            ..OptionSpec::default()
        };
        options.insert(name, spec);
    }
    options
}

/// `prompt."Your key"`, as TOML writes it.
fn quoted_key(name: &str) -> String {
    let (table, title) = name.split_once('.').unwrap_or(("prompt", name));
    let bare = !title.is_empty() && title.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if bare { format!("{table}.{title}") } else { format!("{table}.{title:?}") }
}
