//! The options of a store, checked, → [`StoreHost`].

use std::sync::Arc;

use super::super::http::{Client, Times};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use url::Url;

use super::name::Naming;
use super::s3::S3;
use super::sigv4::Signer;
use super::webdav::WebDav;
use super::{Backend, StoreHost};
use crate::clock::Clock;
use crate::config::{Config, HostConfig, Problem};
use crate::host::options::Options;
use crate::host::recipe::{Protocol, Recipe};
use crate::host::redact::Redactor;
use crate::host::thumb::Thumbnailer;

/// The longest name of a bucket: S3 has 63, some stores more.
const BUCKET_LIMIT: usize = 255;

/// The host of a recipe whose protocol is that of a store. `thumbnailer` makes the thumbnails that are stored beside the
/// images, if any are wanted.
///
/// # Errors
/// Everything that is wrong with the options.
pub(crate) fn build(
    config: &Config,
    host: &HostConfig,
    (recipe, base_url, options): (Recipe, Url, &Options),
    client: Client,
    thumbnailer: Option<Thumbnailer>,
) -> Result<StoreHost, Vec<Problem>> {
    let text = |name: &str| options.get(name).map_or("", |value| value.expose_secret());
    let problem = |name: &str, message: String| Problem {
        span: host.options.get(name).map_or(host.span.clone(), |setting| setting.span.clone()),
        key: format!("host.{}.{name}", host.name),
        message,
        help: recipe.options.get(name).map(|spec| spec.doc.clone()),
    };
    let mut problems = Vec::new();
    let naming = Naming::new(text("key"), text("public_url"))
        .map_err(|(name, message)| problems.push(problem(name, message)))
        .ok();
    let mut secrets: Vec<SecretString> = options
        .iter()
        .filter(|(name, _)| recipe.options.get(*name).is_some_and(|spec| spec.secret))
        .map(|(_, value)| value.clone())
        .collect();
    let backend = match recipe.protocol {
        Protocol::S3 => {
            let bucket = text("bucket");
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if bucket.len() > BUCKET_LIMIT || !bucket.chars().all(allowed) {
                problems
                    .push(problem("bucket", "is not the name of a bucket: letters, digits, `-`, `.` and `_`".into()));
            }
            s3(base_url, options).map(Backend::S3).map_err(|name| {
                problems.push(problem(name, "cannot be sent in a header: it has characters that are not ASCII".into()));
            })
        }
        Protocol::WebDav | Protocol::Steps => {
            let authorization = basic(text("user"), text("password"));
            secrets.extend(authorization.iter().map(|(secret, _)| secret.clone()));
            Ok(Backend::WebDav(WebDav::new(base_url, authorization.map(|(_, header)| header))))
        }
    };
    match (naming, backend) {
        (Some(naming), Ok(backend)) if problems.is_empty() => Ok(StoreHost {
            name: host.name.clone(),
            redactor: Redactor::new(secrets.iter()),
            recipe: Arc::new(recipe),
            client,
            times: Times::new(&config.pool, &host.flow),
            retry: config.retry.clone(),
            flow: host.flow.clone(),
            clock: Clock::System,
            naming,
            backend,
            thumbnailer,
            turns: std::array::from_fn(|_| Mutex::new(())),
        }),
        _ => Err(problems),
    }
}

/// The address of the store that `options` name, if they do.
pub(crate) fn endpoint(options: &Options) -> Option<String> {
    let text = |name: &str| options.get(name).map(|value| value.expose_secret()).filter(|text| !text.is_empty());
    let aws = |region: &str| format!("https://s3.{region}.amazonaws.com");
    text("endpoint").map(str::to_owned).or_else(|| text("region").map(aws))
}

/// # Errors
/// The option that cannot be sent.
fn s3(endpoint: Url, options: &Options) -> Result<S3, &'static str> {
    let secret = |name: &str| options.get(name).cloned().unwrap_or_default();
    let text = |name: &str| options.get(name).map_or("", |value| value.expose_secret()).to_owned();
    let header = |name: &'static str| {
        let value = Some(text(name)).filter(|value| !value.is_empty());
        let ascii = |value: String| HeaderValue::from_str(&value).ok().filter(|_| value.is_ascii()).ok_or(name);
        value.map(ascii).transpose()
    };
    for name in ["access_key", "region"] {
        header(name)?;
    }
    let bucket = text("bucket");
    let of_aws = endpoint.host_str().is_some_and(|host| host.ends_with(".amazonaws.com"));
    // The certificates of AWS do not cover buckets with a dot in their name.
    let path_style = match text("path_style").as_str() {
        "true" => true,
        "false" => false,
        _ => !of_aws || bucket.contains('.'),
    };
    let object_headers = [
        (HeaderName::from_static("x-amz-acl"), header("acl")?),
        (HeaderName::from_static("x-amz-storage-class"), header("storage_class")?),
        (CACHE_CONTROL, header("cache_control")?),
    ];
    let session_token = header("session_token")?.map(|mut token| {
        token.set_sensitive(true);
        token
    });
    Ok(S3 {
        endpoint,
        bucket,
        path_style,
        signer: Signer {
            access_key: secret("access_key"),
            secret_key: secret("secret_key"),
            region: text("region"),
            service: "s3",
        },
        session_token,
        object_headers: object_headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    })
}

/// The header of Basic authentication, and the part of it that is a secret.
fn basic(user: &str, password: &str) -> Option<(SecretString, HeaderValue)> {
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let secret = STANDARD.encode(format!("{user}:{password}"));
    let mut header = HeaderValue::from_str(&format!("Basic {secret}")).ok()?;
    header.set_sensitive(true);
    Some((secret.into(), header))
}
