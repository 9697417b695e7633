//! What the user wants of a host beyond its recipe: a thumbnail where it makes none, and names that tell the true type.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::local::Site;
use super::thumb::{Thumb, Thumbnailer};
use super::wrapper::Wrapper;
use super::{Host, Progress, Sending, Source, Upload};
use crate::job::{ContentHash, Failure, ImageFacts, ImageKind, Links};

/// How long a thumbnail may hold up the link of an image that is on the host already.
const THUMBNAIL_TIME: Duration = Duration::from_secs(30);

/// What is left of the attempt's deadline for telling the link.
const MARGIN: Duration = Duration::from_secs(1);

/// Where thumbnails go that the host itself does not make.
pub(super) enum Thumbs {
    /// To the host, as an image of their own.
    Upload,
    /// Into the store of this machine.
    Local(Site),
}

/// A host, and what is wanted beyond it.
pub(super) struct Dressed {
    pub(super) inner: Arc<dyn Host>,
    pub(super) thumbs: Option<(Thumbs, Thumbnailer)>,
    /// The sent name's extension follows the content.
    pub(super) fix_extension: bool,
}

impl Dressed {
    async fn run(&self, upload: &Upload) -> Result<Links, Failure> {
        let renamed = if self.fix_extension { renamed(upload) } else { None };
        let mut links = self.inner.upload(renamed.as_ref().unwrap_or(upload)).await?;
        if links.thumb.is_none() {
            let limit = upload.deadline.checked_sub(MARGIN).unwrap_or(upload.deadline);
            let limit = limit.min(Instant::now() + THUMBNAIL_TIME);
            links.thumb = timeout_at(limit, self.thumb(upload, limit)).await.ok().flatten();
        }
        Ok(links)
    }

    /// The link to a thumbnail; `None` if there is none, for whatever reason: the image's own link counts more.
    async fn thumb(&self, upload: &Upload, limit: Instant) -> Option<String> {
        let (to, thumbnailer) = self.thumbs.as_ref()?;
        let thumb = thumbnailer.of(&upload.source, &upload.image).await?;
        match to {
            Thumbs::Local(site) => site.keep_thumb(&upload.image, thumb).await,
            Thumbs::Upload => {
                let upload = small(upload, thumb, limit);
                if self.inner.limits().refuses(&upload.image, upload.source.len()).is_some() {
                    return None;
                }
                let links = self.inner.upload(&upload).await.ok()?;
                links.image.or(Some(links.url).filter(|url| is_image(url)))
            }
        }
    }
}

impl Wrapper for Dressed {
    fn inner(&self) -> &dyn Host {
        &*self.inner
    }

    fn send<'a>(&'a self, upload: &'a Upload) -> Sending<'a> {
        Box::pin(self.run(upload))
    }
}

/// The thumbnail as an upload of its own: not part of the gallery, and with a progress of its own.
fn small(upload: &Upload, thumb: Thumb, deadline: Instant) -> Upload {
    let name = upload.source.name();
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let image = ImageFacts {
        kind: thumb.kind,
        width: thumb.size.0,
        height: thumb.size.1,
        animated: false,
        hash: ContentHash(*blake3::hash(&thumb.bytes).as_bytes()),
    };
    let name = format!("{stem}_thumb.{}", extension_of(thumb.kind));
    Upload {
        job: upload.job,
        source: Arc::new(Source::in_memory(thumb.bytes.into(), name, thumb.kind)),
        image,
        progress: Arc::new(Progress::new()),
        doubtful: false,
        deadline,
        gallery: None,
    }
}

/// The upload under a name whose extension is that of its content; `None` if it is already.
fn renamed(upload: &Upload) -> Option<Upload> {
    let name = true_name(upload.source.name(), upload.image.kind)?;
    Some(Upload {
        job: upload.job,
        // If the descriptor cannot be doubled, the name is the smaller loss.
        source: Arc::new(upload.source.renamed(name).ok()?),
        image: upload.image,
        progress: Arc::clone(&upload.progress),
        doubtful: upload.doubtful,
        deadline: upload.deadline,
        gallery: upload.gallery.clone(),
    })
}

/// `name` with the extension of `kind`; `None` if it has one that says the same.
fn true_name(name: &str, kind: ImageKind) -> Option<String> {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let usual: &[&str] = match kind {
        ImageKind::Jpeg => &["jpg", "jpeg", "jpe", "jfif"],
        ImageKind::Png => &["png", "apng"],
        ImageKind::Tiff => &["tif", "tiff"],
        ImageKind::Heic => &["heic", "heif", "hif"],
        other => &[other.name()],
    };
    let says_so = usual.iter().any(|usual| extension.eq_ignore_ascii_case(usual));
    // What is no image's extension is part of the name: `v1.2`.
    let is_other = ImageKind::ALL.iter().any(|kind| extension.eq_ignore_ascii_case(kind.name()))
        || ["jpg", "jpe", "tif"].iter().any(|other| extension.eq_ignore_ascii_case(other));
    let stem = if is_other { stem } else { name };
    (!says_so).then(|| format!("{stem}.{}", extension_of(kind)))
}

fn extension_of(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Jpeg => "jpg",
        other => other.name(),
    }
}

/// Whether the link leads to an image file, by its name.
fn is_image(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    [".jpg", ".jpeg", ".png"].iter().any(|ending| path.to_ascii_lowercase().ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r30_the_sent_name_follows_the_true_type() {
        let table = [
            ("x.png", ImageKind::Jpeg, Some("x.jpg")),
            ("x.JPEG", ImageKind::Jpeg, None),
            ("x.jfif", ImageKind::Jpeg, None),
            ("x", ImageKind::Png, Some("x.png")),
            ("release v1.2", ImageKind::Webp, Some("release v1.2.webp")),
            ("a.b.jpg", ImageKind::Gif, Some("a.b.gif")),
            ("x.heif", ImageKind::Heic, None),
        ];
        for (name, kind, expected) in table {
            assert_eq!(true_name(name, kind).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn only_a_link_to_a_file_can_be_a_thumbnail() {
        assert!(is_image("https://h.example/a.JPG?x=1#y"));
        assert!(!is_image("https://h.example/show/a") && !is_image("https://h.example/?a.jpg"));
    }
}
