//! What a store would be sent, without sending it.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, USER_AGENT};

use super::name::Key;
use super::{Backend, Object, Outgoing, StoreHost, sha256};
use crate::host::{Preview, Upload, http};

/// What is shown in place of a secret.
const SECRET: &str = "[secret]";

/// What only the thumbnail itself can tell.
const LATER: &str = "[known once the thumbnail is made]";

impl StoreHost {
    /// The requests of an upload that finds nothing in its place.
    pub(super) fn preview_all(&self, upload: &Upload) -> Vec<Preview> {
        let key = match self.naming.key(upload) {
            Ok(key) => key,
            Err(failure) => return vec![refused(&failure.message)],
        };
        let object = Object {
            source: upload.source.clone(),
            hash: upload.image.hash,
            sha256: sha256(&upload.source).unwrap_or_default(),
        };
        let body = format!("the file: {} bytes of {}", object.source.len(), object.source.kind().mime());
        let mut previews = self.one_object("upload", &key, &object, &body);
        if self.thumbnailer.is_some() {
            // Its kind follows from the pixels; a photograph's is this one.
            let thumb = key.thumb(crate::job::ImageKind::Jpeg);
            let mut of_thumb =
                self.one_object("thumbnail", &thumb, &object, "the thumbnail: a JPEG, or a PNG if it has transparency");
            for preview in &mut of_thumb {
                if preview.method == Method::PUT.as_str() {
                    replace(&mut preview.headers, "content-length", LATER);
                    replace(&mut preview.headers, "x-amz-content-sha256", LATER);
                    replace(&mut preview.headers, "content-type", "image/jpeg");
                }
            }
            previews.extend(of_thumb);
        }
        previews
    }

    fn one_object(&self, group: &str, key: &Key, object: &Object, body: &str) -> Vec<Preview> {
        let mut previews = Vec::new();
        let mut show = |step: &str, when: Option<&str>, request: &Outgoing, body: &str| {
            previews.push(self.shown((&format!("{group}: {step}"), when), request, body));
        };
        if self.asks(key, object, false) {
            show("is it there?", None, &self.request_about(Method::HEAD, key), "no body");
        }
        if let Backend::WebDav(dav) = &self.backend {
            for (_, request) in dav.missing(key) {
                show("make the folder", Some("it is not known to be there"), &request, "no body");
            }
        }
        let (request, _) = self.storing(key, object, !key.is_address_of(&object.hash));
        show("store", None, &request, body);
        if let Some(last) = previews.last_mut() {
            last.headers.push(("content-length".to_owned(), object.source.len().to_string()));
        }
        previews
    }

    fn shown(&self, (step, when): (&str, Option<&str>), request: &Outgoing, body: &str) -> Preview {
        let host = request.url.host_str().unwrap_or_default();
        let host = request.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut headers = vec![(HOST.to_string(), host), (USER_AGENT.to_string(), http::AGENT.to_owned())];
        headers.extend(request.headers.iter().map(|(name, value)| (name.to_string(), clean(name, value))));
        Preview {
            step: step.to_owned(),
            when: when.map(str::to_owned),
            method: request.method.to_string(),
            url: request.url.to_string(),
            headers,
            body: vec![body.to_owned()],
        }
    }
}

/// The value with its secrets left out: of a signature that is the key's name and the signature itself.
fn clean(name: &HeaderName, value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    if !value.is_sensitive() {
        return text.into_owned();
    }
    match text.split_once(' ') {
        Some((scheme, rest)) if *name == AUTHORIZATION => {
            let fields = rest.split(',').map(|field| match field.split_once('=') {
                Some(("Credential", scope)) => {
                    format!("Credential={SECRET}{}", scope.find('/').map_or("", |slash| &scope[slash..]))
                }
                Some(("SignedHeaders", _)) => field.to_owned(),
                Some(("Signature", _)) => format!("Signature={SECRET}"),
                _ => SECRET.to_owned(),
            });
            format!("{scheme} {}", fields.collect::<Vec<_>>().join(","))
        }
        _ => SECRET.to_owned(),
    }
}

fn replace(headers: &mut [(String, String)], name: &str, value: &str) {
    headers.iter_mut().filter(|(known, _)| known == name).for_each(|(_, known)| *known = value.to_owned());
}

fn refused(message: &str) -> Preview {
    Preview {
        step: "upload".to_owned(),
        when: None,
        method: "none".to_owned(),
        url: message.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r26_of_what_authorizes_only_the_kind_is_shown() {
        let table = [
            (AUTHORIZATION, "Basic QUdFTlQ6Q0FOQVJZ=", "Basic [secret]"),
            (
                AUTHORIZATION,
                "AWS4-HMAC-SHA256 Credential=AK/20261125/eu/s3/aws4_request,SignedHeaders=host;x-amz-date,Signature=0f",
                "AWS4-HMAC-SHA256 Credential=[secret]/20261125/eu/s3/aws4_request,SignedHeaders=host;x-amz-date,Signature=[secret]",
            ),
            (HeaderName::from_static("x-amz-security-token"), "TO KEN", "[secret]"),
        ];
        for (name, text, expected) in table {
            let mut value = HeaderValue::from_static(text);
            assert_eq!(clean(&name, &value), text);
            value.set_sensitive(true);
            assert_eq!(clean(&name, &value), expected);
        }
    }
}
