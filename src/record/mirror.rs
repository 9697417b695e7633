//! What each host of a mirrored file has: the array `mirrors` of a record.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{RecordError, is_web_address};
use crate::job::Links;

/// One host's part of a file that goes to several. It has either links or an error; neither while it was not asked yet.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// The host's name.
    pub host: String,
    /// The page to link to.
    pub url: Option<String>,
    /// What to show in its place.
    pub thumb: Option<String>,
    /// The image file itself.
    pub image: Option<String>,
    /// Opening it deletes the image.
    pub delete_url: Option<String>,
    /// What the host's delete request needs, on hosts that delete by request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_token: Option<String>,
    /// What was sent is the file without its metadata; left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stripped: bool,
    /// The album's page on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub album_url: Option<String>,
    /// Why it has no link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RecordError>,
}

impl Mirror {
    /// The part of a host that has the file.
    #[must_use]
    pub fn with_links(host: &str, links: Links) -> Self {
        Self {
            host: host.to_owned(),
            url: Some(links.url),
            thumb: links.thumb,
            image: links.image,
            delete_url: links.delete_url,
            delete_token: links.delete_token,
            stripped: links.stripped,
            ..Self::default()
        }
    }

    /// The links; `None` while this host does not have the file.
    #[must_use]
    pub fn links(&self) -> Option<Links> {
        Some(Links {
            url: self.url.clone()?,
            thumb: self.thumb.clone(),
            image: self.image.clone(),
            delete_url: self.delete_url.clone(),
            delete_token: self.delete_token.clone(),
            stripped: self.stripped,
        })
    }

    /// Drops what is no address.
    pub(super) fn check(&mut self) {
        for link in [&mut self.url, &mut self.thumb, &mut self.image, &mut self.delete_url, &mut self.album_url] {
            link.take_if(|link| !is_web_address(link));
        }
    }
}

impl fmt::Debug for Mirror {
    /// Without the links: the one that deletes must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stored, refused) = (self.url.is_some(), self.error.is_some());
        f.debug_struct("Mirror")
            .field("host", &self.host)
            .field("stored", &stored)
            .field("refused", &refused)
            .finish_non_exhaustive()
    }
}
