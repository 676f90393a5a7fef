//! The files of the web client, as `web/` builds them.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;

/// A file of the web client.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) content: Bytes,
    /// Changes with the content.
    pub(super) etag: String,
}

macro_rules! file {
    ($path:literal, $name:literal, $content_type:literal) => {
        File::new($path, $content_type, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../web/dist/", $name)))
    };
}

/// Returns all files.
pub(super) fn all() -> Vec<File> {
    vec![
        file!("/", "index.html", "text/html; charset=utf-8"),
        file!("/app.css", "app.css", "text/css; charset=utf-8"),
        file!("/app.js", "app.js", "text/javascript; charset=utf-8"),
        file!("/icon.svg", "icon.svg", "image/svg+xml"),
        file!("/licenses.txt", "licenses.txt", "text/plain; charset=utf-8"),
    ]
}

impl File {
    fn new(path: &'static str, content_type: &'static str, content: &'static [u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(content);
        Self { path, content_type, content: Bytes::from_static(content), etag: format!("\"{:016x}\"", hasher.finish()) }
    }
}
