//! Answers that come packed although nobody asked for it: some servers and what stands before them do that.
//!
//! Packed answers are small anyway, so they are unpacked once they are whole, into no more than [`ANSWER_LIMIT`].

use std::io::{self, Read};

use bytes::BytesMut;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};

use super::http::{ANSWER_LIMIT, Received, Trouble};

/// Nobody packs an answer more than once, let alone more than twice.
const LAYERS: usize = 2;

/// Leaves in `received` what the host meant to say. A refusal that cannot be read is one all the same: its status tells
/// what to do, so it only loses its text.
///
/// # Errors
/// [`Trouble::Packed`] for what cannot be unpacked, [`Trouble::TooLarge`] for a bomb. `received` keeps what arrived.
pub(super) fn unpack(received: &mut Received) -> Result<(), Trouble> {
    match open(received) {
        Err(_) if !(200..300).contains(&received.status) => {
            received.body.clear();
            Ok(())
        }
        opened => opened,
    }
}

fn open(received: &mut Received) -> Result<(), Trouble> {
    let layers = layers(&received.headers);
    if layers.is_empty() || received.body.is_empty() {
        return Ok(());
    }
    if layers.len() > LAYERS {
        return Err(Trouble::Packed(layers.join(", ")));
    }
    for name in layers.iter().rev() {
        let body = one(name, &received.body).map_err(|_| Trouble::Packed(name.clone()))?;
        received.body = body.ok_or(Trouble::TooLarge)?;
    }
    received.headers.remove(CONTENT_ENCODING);
    received.headers.remove(CONTENT_LENGTH);
    Ok(())
}

/// What was done to the body, in this order.
fn layers(headers: &HeaderMap) -> Vec<String> {
    let named = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let words = named.flat_map(|value| value.split(',')).map(|word| word.trim().to_ascii_lowercase());
    words.filter(|word| !word.is_empty() && word != "identity").collect()
}

/// The unpacked text; `None` if it is larger than an answer may be.
fn one(name: &str, packed: &[u8]) -> io::Result<Option<BytesMut>> {
    match name {
        "gzip" | "x-gzip" => all(MultiGzDecoder::new(packed)),
        // Half of the servers leave out the frame that the standard asks for.
        "deflate" => all(ZlibDecoder::new(packed)).or_else(|_| all(DeflateDecoder::new(packed))),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn all(unpacking: impl Read) -> io::Result<Option<BytesMut>> {
    let mut text = Vec::new();
    unpacking.take(ANSWER_LIMIT as u64 + 1).read_to_end(&mut text)?;
    Ok((text.len() <= ANSWER_LIMIT).then(|| BytesMut::from(&text[..])))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use reqwest::header::HeaderValue;

    use super::*;

    fn answer(encoding: &'static str, body: &[u8]) -> Received {
        let headers = [(CONTENT_ENCODING, HeaderValue::from_static(encoding))].into_iter().collect();
        Received { status: 200, headers, body: BytesMut::from(body) }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packing = GzEncoder::new(Vec::new(), Compression::fast());
        packing.write_all(text).expect("writing to memory");
        packing.finish().expect("writing to memory")
    }

    fn unpacked(encoding: &'static str, body: &[u8]) -> Result<Vec<u8>, Trouble> {
        let mut received = answer(encoding, body);
        unpack(&mut received).map(|()| received.body.to_vec())
    }

    #[test]
    fn what_is_packed_is_unpacked_and_all_else_is_left_alone() {
        let text = br#"{"show_url":"https://h/1"}"#;
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(text).expect("writing to memory");
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(text).expect("writing to memory");
        let packed = [
            ("gzip", gzip(text)),
            ("X-GZip", gzip(text)),
            ("gzip, gzip", gzip(&gzip(text))),
            ("identity", text.to_vec()),
            ("deflate", zlib.finish().expect("writing to memory")),
            ("deflate", raw.finish().expect("writing to memory")),
        ];
        for (encoding, body) in packed {
            assert_eq!(unpacked(encoding, &body).expect(encoding), text, "{encoding}");
        }
        assert_eq!(unpacked("br", b"").expect("nothing is packed in nothing"), b"");
    }

    #[test]
    fn what_cannot_be_unpacked_is_named_and_kept() {
        let (good, mut torn) = (gzip(b"text"), gzip(b"text"));
        torn.truncate(14);
        for (encoding, body) in
            [("br", &good), ("gzip", &torn), ("gzip", &b"plain".to_vec()), ("gzip, gzip, gzip", &good)]
        {
            let mut received = answer(encoding, body);
            let trouble = unpack(&mut received).expect_err(encoding);
            assert!(matches!(trouble, Trouble::Packed(_)), "{encoding}: {trouble:?}");
            received.status = 429;
            assert!(unpack(&mut received).is_ok() && received.body.is_empty(), "the status is understood");
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked_beyond_what_an_answer_may_have() {
        let bomb = gzip(&vec![0; ANSWER_LIMIT + 1]);
        assert!(bomb.len() < ANSWER_LIMIT / 100);
        assert!(matches!(unpacked("gzip", &bomb), Err(Trouble::TooLarge)));
        assert_eq!(unpacked("gzip", &gzip(&vec![0; ANSWER_LIMIT])).expect("as large as allowed").len(), ANSWER_LIMIT);
    }
}
